"""The dashboard in a real browser: it shows what the daemon knows, does what it is told, and survives a restart."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import GREENHOUSE
from daemon import Daemon, running_daemon
from playwright.sync_api import Locator, Page, expect

from rpiserve.core.tokens import TokenFile

OpenPage = Callable[..., tuple[Page, Any]]

LOST = "Connection lost, trying again"
ONLY_READ = "This token may only read"
NO_CONNECTION = r"net::ERR_(CONNECTION_(REFUSED|RESET)|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)"

BEFORE = """
from rpiserve import App
app = App("before")
app.data.set("kept/number", 1)
app.data.set("gone/text", "soon gone")
@app.command
def early(): ...
"""

AFTER = """
from rpiserve import App
app = App("after")
app.data.set("kept/number", 2)
app.data.set("new/text", "just come")
@app.command
def late(): ...
@app.sensor("new/sensor", every=60)
def sensor(): return 1
"""

EMPTY = """
from rpiserve import App
app = App("empty")
"""

NOT_READY = """
from rpiserve import App
app = App("late")
@app.on_start()
def open_the_gate():
    raise OSError("not to be shown")
"""

ODD = """
from itertools import count
from rpiserve import App
app = App("odd." * 12)
app.data.update({
    "__proto__": {"constructor": 1, "__proto__": "p"},
    "constructor": 2,
    "a/b": {"50%/x": "escaped"},
    "x" * 200: {"y" * 300: 1, "<i>" * 20: 2},
    "long": {"word": "x" * 10_000, "unicode": "žluťoučký 🌡️ 日本語 العربية \u202e rtl"},
    "numbers": {"zero": -0.0, "huge": 1.7976931348623157e308, "tiny": 5e-324, "whole": 10**30, "none": None},
    "deep": [[[[[[[[[[[[1]]]]]]]]]]]],
    "nothing": {},
})

numbers = count(1)

@app.background("many", 0.1)
def many():
    number = next(numbers)
    with app.data.batch():
        for each in range(500):
            app.data.set(f"many/{each}", number * each)
        app.data.set("kind", [number, str(number), None, True, [number]][number % 5])
        if number % 2:
            app.data.set("comes/and/goes", number)
        elif "comes" in app.data:
            del app.data["comes"]

@app.command(name="<b>bold</b>")
def bold(a0: int, a1: int, a2: int, a3: int, a4: int, a5: int, a6: int, a7: int, a8: int, a9: int, b0="<i>",
         b1=1, b2=2, b3=3, b4=4, b5=5, b6=6, b7=7, b8=8, an_argument_with_a_name_that_is_long_beyond_measure: int = 9):
    '<img src=x onerror=alert(1)>'

@app.command
def proto(__proto__: int, constructor: str = "c", **more):
    return {"__proto__": __proto__, "constructor": constructor, **more}
"""


def tile(page: Page, path: str) -> Locator:
    """Return what shows the value at a path."""
    return page.locator(".tile", has=page.locator(f'h4[title="{path}"]'))


def command(page: Page, name: str) -> Locator:
    """Return the form of a command."""
    return page.get_by_role("article", name=name, exact=True)


def tab_to(page: Page, goal: Locator) -> None:
    """Press Tab until the focus is there, as who has no mouse does."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if goal.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"Tab never leads to {goal}")


def test_complaints_are_heard(open_page: OpenPage, greenhouse: Daemon) -> None:
    """What fails all the other tests is noticed: errors, warnings, exceptions, what the policy refuses, other hosts."""
    page, complaints = open_page(greenhouse)
    page.evaluate("console.error('an error'); console.warn('a warning')")
    page.evaluate("setTimeout(() => { throw new Error('an exception'); })")
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.evaluate("fetch('http://192.0.2.1/other').catch(() => window.refused = true)")
    page.wait_for_function("window.refused")
    heard = "\n".join(complaints.unexpected())
    for each in ("an error", "a warning", "exception: an exception", "refused by the policy: style-src-attr"):
        assert each in heard
    assert "192.0.2.1" in heard
    complaints.expect("")


# --- values ----------------------------------------------------------------------------------------------------------


def test_changing_value_without_reload(page: Page) -> None:
    """A value that changes in the daemon changes on the page, which is not loaded again, and neither is the element."""
    figure = tile(page, "inside/count").locator(".figure")
    expect(figure).to_have_text(re.compile(r"\d+"))
    before = figure.text_content()
    figure.evaluate("element => { element.seenBefore = true; }")
    expect(figure).not_to_have_text(before or "")
    assert figure.evaluate("element => element.seenBefore")


def test_value_unit_age_and_kinds(page: Page) -> None:
    """Numbers have their unit, large ones a larger unit, and what is no number is shown in words; each has its age."""
    used = tile(page, "memory/used")
    expect(used.locator(".reading")).to_have_text("27.25 GB")
    expect(used.locator(".reading")).to_have_attribute("title", "27250937856 B")
    expect(used.locator(".age")).to_have_text(re.compile(r"^(just now|\d+ (s|min) ago)$"))
    expect(tile(page, "door/open").locator(".figure")).to_have_text("off")
    expect(tile(page, "memory/limits").locator(".figure")).to_have_text('[1, 2, {"soft": true}]')
    expect(tile(page, "__proto__/constructor").locator(".figure")).to_have_text("1.25")


def test_stale_and_error_differ_by_text(page: Page) -> None:
    """A stale value and one with an error say so in words, have different pictures, and the error tells its reason."""
    stale, error, good = (tile(page, path) for path in ("outside/temperature", "outside/wind", "inside/temperature"))
    expect(stale.locator(".state")).to_have_text("Stale")
    expect(error.locator(".state")).to_have_text("Error")
    expect(error.locator(".problem")).to_have_text("no answer from the anemometer")
    expect(error.locator(".figure")).to_have_text("3.9")
    expect(good.locator(".state")).to_have_text("OK")
    expect(stale.locator(".problem")).to_have_count(0)
    pictures = [each.locator(".icon path").get_attribute("d") for each in (stale, error)]
    borders = [each.evaluate("element => getComputedStyle(element).borderStyle") for each in (stale, error)]
    assert len({*pictures}) == len({*borders}) == 2
    expect(page.locator("#values-summary")).to_contain_text("1 stale · 1 with an error")


def test_markup_is_text(page: Page) -> None:
    """Markup in values and keys is shown as it is, makes no element and runs nothing: an alert would fail this."""
    expect(tile(page, "notes/markup").locator(".figure")).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.get_by_text("<b>key</b>", exact=True)).to_be_visible()
    expect(page.locator("main img, main b")).to_have_count(0)


def test_long_text_in_full(page: Page) -> None:
    """A long text is cut short on the page, and there is a button for all of it."""
    long = tile(page, "notes/long")
    expect(long.locator(".figure")).to_have_text(re.compile("…$"))
    long.get_by_role("button", name="Show all of notes/long").click()
    dialog = page.get_by_role("dialog", name="notes / long")
    assert len(dialog.locator("pre").text_content() or "") == 9600


def test_order(page: Page) -> None:
    """Groups and the values in them stand in the order of their names, whichever sensor was the first to be read."""
    expect(tile(page, "outside/wind")).to_be_visible()
    expect(tile(page, "inside/temperature")).to_be_visible()
    headings = [heading for heading in page.locator("h3[title]").all_text_contents() if heading != "lamp"]
    assert headings == ["__proto__", "door", "inside", "memory", "notes", "outside"]
    inside = page.locator(".group", has=page.get_by_role("heading", name="inside", exact=True))
    expect(inside.locator("h4")).to_have_text(["count", "humidity", "temperature"])


def test_filter(page: Page) -> None:
    """The filter leaves what has all its words in the path or the state."""
    expect(tile(page, "outside/wind").locator(".state")).to_have_text("Error")
    page.get_by_label("Filter the values").fill("OUT error")
    expect(page.locator(".tile:visible")).to_have_count(1)
    expect(tile(page, "outside/wind")).to_be_visible()
    page.get_by_label("Filter the values").fill("")
    expect(tile(page, "door/visitor")).to_be_visible()


def test_large_chart_grows(page: Page) -> None:
    """A click on a small chart opens a large one with axes, in which readings arrive while it is open."""
    tile(page, "inside/count").get_by_role("button", name="Chart of inside/count").click()
    dialog = page.get_by_role("dialog", name="inside / count")
    expect(dialog.locator(".large-chart .grid text").first).to_be_visible()
    latest = dialog.locator("dd").first
    before = latest.text_content()
    expect(latest).not_to_have_text(before or "")
    expect(dialog.locator("dt")).to_have_text(["Latest", "Lowest", "Highest", "Since"])
    dialog.locator(".plot").hover()
    expect(dialog.locator(".readout")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d: \d+"))
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize("width", [320, 1280])
def test_odd_data(open_page: OpenPage, tmp_path: Path, width: int) -> None:
    """Hundreds of values that change all the time, odd keys, texts and numbers: all is shown, nothing overflows."""
    with running_daemon(tmp_path, ODD) as daemon:
        page, _ = open_page(daemon, viewport={"width": width, "height": 640})
        expect(tile(page, "many/499")).to_have_count(1)
        expect(tile(page, "__proto__/__proto__").locator(".figure")).to_have_text("p")
        expect(tile(page, "constructor").locator(".figure")).to_have_text("2")
        expect(tile(page, "a%2Fb/50%25%2Fx").locator(".name")).to_have_text("50%/x")
        expect(tile(page, "numbers/zero").locator(".figure")).to_have_text("0")
        expect(tile(page, "nothing").locator(".figure")).to_have_text("empty")
        last = tile(page, "many/499").locator(".figure")
        last.scroll_into_view_if_needed()
        before = last.text_content()
        expect(last).not_to_have_text(before or "")
        form = command(page, "proto")
        form.get_by_label("__proto__").fill("5")
        form.get_by_label("More arguments").fill('{"toString": 6}')
        form.get_by_role("button", name="Run").click()
        result = form.get_by_role("region", name="Result")
        expect(result).to_have_text('{ "__proto__": 5, "constructor": "c", "toString": 6 }')
        expect(page.locator("main img")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.context.close()


# --- commands --------------------------------------------------------------------------------------------------------


def test_command_switches_something(page: Page) -> None:
    """A form with a checkbox calls its command, shows the result, and what the command did is seen among the values."""
    form = command(page, "lamp.switch")
    form.get_by_label("on").check()
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("region", name="Result")).to_have_text("the lamp is on")
    expect(tile(page, "lamp/on").locator(".figure")).to_have_text("on")
    form.get_by_label("on").uncheck()
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("region", name="Result")).to_have_text("the lamp is off")
    expect(tile(page, "lamp/on").locator(".figure")).to_have_text("off")


def test_fields_by_type(page: Page) -> None:
    """Each type has its field; what is left empty is not sent, so that the defaults of the command hold."""
    form = command(page, "water")
    expect(form.get_by_label("seconds")).to_have_attribute("type", "number")
    form.get_by_label("zone").fill("3")
    form.get_by_label("mode").select_option(label="strong")
    form.get_by_role("button", name="Run").click()
    result = form.get_by_role("region", name="Result")
    expect(result).to_have_text('{ "zone": 3, "seconds": 10, "mode": "strong", "note": null }')
    expect(form.locator(".outcome .line")).to_have_text(re.compile(r"^Done in [\d.]+ m?s\.$"))


def test_object_and_anything_as_json(page: Page) -> None:
    """An object is entered as JSON, with its shape as a hint; an argument without a type takes JSON and plain text."""
    form = command(page, "aim")
    expect(form.get_by_label("at")).to_have_accessible_description(re.compile(r'"x": number, "y"\?: number'))
    form.get_by_label("at").fill('{"x": 1}')
    form.get_by_label("how").select_option("slow")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("region", name="Result")).to_have_text('[ 1, 2, "slow" ]')
    echo = command(page, "echo")
    for entered, answered in (("plain text", "plain text"), ("[1]", "[ 1 ]")):
        echo.get_by_label("anything").fill(entered)
        echo.get_by_role("button", name="Run").click()
        expect(echo.get_by_role("region", name="Result")).to_have_text(answered)


def test_wrong_argument_at_its_field(open_page: OpenPage, greenhouse: Daemon) -> None:
    """What the daemon has against an argument stands at its field, is tied to it, and has the focus."""
    page, complaints = open_page(greenhouse)
    complaints.expect("status of 422")
    form = command(page, "water")
    zone = form.get_by_label("zone")
    zone.fill("1.5")
    form.get_by_role("button", name="Run").click()
    expect(zone).to_have_attribute("aria-invalid", "true")
    expect(zone).to_have_accessible_description(re.compile("expected an integer"))
    expect(zone).to_be_focused()
    expect(form.locator(".outcome")).to_contain_text("422")
    zone.fill("1")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("region", name="Result")).to_be_visible()
    expect(zone).not_to_have_attribute("aria-invalid", "true")


def test_missing_and_malformed_arguments_are_not_sent(page: Page) -> None:
    """What is missing or no JSON is said at once; nothing is sent (an answer of 422 would fail this)."""
    form = command(page, "aim")
    form.get_by_label("at").fill("{x: 1")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_label("at")).to_have_accessible_description(re.compile("this is not JSON"))
    expect(form.get_by_label("how")).to_have_accessible_description(re.compile("it is missing"))
    expect(form.get_by_label("at")).to_be_focused()


def test_failing_command(open_page: OpenPage, greenhouse: Daemon) -> None:
    """A command that raises shows the incident to look for in the log, and nothing of the exception."""
    page, complaints = open_page(greenhouse)
    complaints.expect("status of 500")
    form = command(page, "explode")
    form.get_by_role("button", name="Run").click()
    outcome = form.locator(".outcome")
    expect(outcome).to_contain_text(re.compile(r"Incident [0-9a-f]+, see the log"))
    expect(outcome).not_to_contain_text("not to be shown")


def test_entering_while_values_change(page: Page) -> None:
    """What is being entered keeps its text and the focus while values arrive."""
    zone = command(page, "water").get_by_label("zone")
    zone.press_sequentially("12")
    figure = tile(page, "inside/count").locator(".figure")
    before = figure.text_content()
    expect(figure).not_to_have_text(before or "")
    expect(zone).to_be_focused()
    expect(zone).to_have_value("12")


# --- tokens ----------------------------------------------------------------------------------------------------------


def log_in(page: Page, secret: str) -> None:
    """Fill in the form, which is what is shown."""
    page.get_by_label("Token").fill(secret)
    page.keyboard.press("Enter")


def test_token_that_may_only_read(open_page: OpenPage, tmp_path: Path) -> None:
    """With a token that may only read no command can be sent, and it is said why; the next one to log in may."""
    file = TokenFile(tmp_path / "tokens", lambda: 0.0)
    reader, controller = file.add("reader", "read"), file.add("controller", "control")
    with running_daemon(tmp_path, GREENHOUSE, "--token-file", "tokens") as daemon:
        page, _ = open_page(daemon)
        log_in(page, reader)
        form = command(page, "water")
        run = form.get_by_role("button", name="Run")
        expect(run).to_be_disabled()
        for button in page.get_by_role("button", name="Run").all():
            expect(button).to_be_disabled()
        expect(run).to_have_accessible_description(ONLY_READ)
        expect(page.locator("#commands")).to_contain_text(ONLY_READ)
        form.get_by_label("zone").fill("3")
        form.get_by_label("zone").press("Enter")  # an answer of 403 would fail this
        expect(form.locator(".outcome")).to_be_empty()

        page.get_by_role("button", name="Log out").click()
        log_in(page, controller)
        expect(run).to_be_enabled()
        expect(run).to_have_accessible_description("")
        expect(page.locator("#commands")).not_to_contain_text(ONLY_READ, use_inner_text=True)
        form.get_by_label("zone").fill("3")
        form.get_by_label("zone").press("Enter")
        expect(form.get_by_role("region", name="Result")).to_contain_text('"zone": 3')
        page.context.close()


def test_another_token_in_another_tab(open_page: OpenPage, tmp_path: Path) -> None:
    """A page that is open learns of the role that is the browser's by now, and keeps what was entered."""
    file = TokenFile(tmp_path / "tokens", lambda: 0.0)
    reader, controller = file.add("reader", "read"), file.add("controller", "control")
    with running_daemon(tmp_path, GREENHOUSE, "--token-file", "tokens") as daemon:
        page, complaints = open_page(daemon)
        complaints.expect(NO_CONNECTION)  # the stream of the session that has ended
        log_in(page, controller)
        form = command(page, "water")
        form.get_by_label("zone").fill("3")
        expect(form.get_by_role("button", name="Run")).to_be_enabled()
        other = page.context.new_page()
        other.goto(f"{daemon.url}/login")
        log_in(other, reader)
        expect(command(other, "water").get_by_role("button", name="Run")).to_be_disabled()
        expect(form.get_by_role("button", name="Run")).to_be_disabled(timeout=30_000)
        expect(form.get_by_label("zone")).to_have_value("3")
        page.context.close()


def test_no_tokens(page: Page) -> None:
    """Where there are no tokens everybody may run the commands, and nothing is said of it."""
    expect(command(page, "water").get_by_role("button", name="Run")).to_be_enabled()
    expect(page.locator("#commands")).not_to_contain_text(ONLY_READ, use_inner_text=True)


# --- sensors and services --------------------------------------------------------------------------------------------


def test_sensors(page: Page) -> None:
    """Each handler has a row with its last and next run; a failing one has its error and a count of its failures."""
    wind = page.get_by_role("row").filter(has_text="outside/wind")
    expect(wind.locator(".problem")).to_have_text("no answer from the anemometer")
    expect(wind.locator('[data-label="Failures"]')).to_have_text(re.compile(r"^[1-9]\d*$"))
    blinds = page.get_by_role("row").filter(has_text="open_blinds")
    expect(blinds.locator('[data-label="Runs when"]')).to_contain_text("0 6 * * mon-fri")
    expect(blinds.locator('[data-label="Last run"]')).to_have_text("never")
    expect(blinds.locator('[data-label="Next run"]')).to_have_text(re.compile(r"^in \d+ (d|h|min|s)$"))
    runs = page.get_by_role("row").filter(has_text="inside/count").locator('[data-label="Runs"]')
    before = runs.text_content()
    expect(runs).not_to_have_text(before or "")


def test_services(page: Page) -> None:
    """The services on the bus are shown with their actions; title and heading are the name of this one."""
    expect(page.locator("#services-list")).to_contain_text("get_status")
    expect(page.locator("#services-list")).to_contain_text("Say how the greenhouse is.")
    expect(page).to_have_title("greenhouse")
    expect(page.get_by_role("heading", level=1)).to_have_text("greenhouse")


def test_nothing_declared(open_page: OpenPage, tmp_path: Path) -> None:
    """A service that has nothing yet says how to go on."""
    with running_daemon(tmp_path, EMPTY) as daemon:
        page, _ = open_page(daemon)
        expect(page.locator("#values-empty")).to_contain_text("No values yet")
        expect(page.locator("#commands-empty")).to_contain_text("@app.command")
        expect(page.locator("#sensors-empty")).to_contain_text("@app.sensor")
        page.context.close()


def test_not_ready(open_page: OpenPage, tmp_path: Path) -> None:
    """A service that is not ready says why."""
    with running_daemon(tmp_path, NOT_READY) as daemon:
        page, complaints = open_page(daemon)
        complaints.expect("status of 503")
        expect(page.locator("#readiness")).to_contain_text("not ready")
        expect(page.locator("#readiness li")).to_contain_text("open_the_gate")
        expect(page.locator("#readiness")).not_to_contain_text("not to be shown")
        page.context.close()


# --- the connection --------------------------------------------------------------------------------------------------


def test_recovers_from_a_restart(open_page: OpenPage, tmp_path: Path) -> None:
    """The page says that the daemon is gone, finds it again by itself, and shows all that is different now."""
    with running_daemon(tmp_path, BEFORE) as daemon:
        page, complaints = open_page(daemon)
        status = page.get_by_role("status").first
        expect(status).to_have_text("Live")
        expect(command(page, "early")).to_be_visible()
        page.evaluate("window.loadedOnce = true")
        complaints.expect(NO_CONNECTION)
        port = daemon.port
    expect(status).to_have_text(LOST)
    expect(page).to_have_title("Connection lost: before")
    expect(tile(page, "gone/text")).to_be_visible()

    with running_daemon(tmp_path, AFTER, port=str(port)):
        expect(status).to_have_text("Live", timeout=30_000)
        expect(tile(page, "kept/number").locator(".figure")).to_have_text("2")
        expect(tile(page, "new/text").locator(".figure")).to_have_text("just come")
        expect(tile(page, "gone/text")).to_have_count(0)
        expect(command(page, "late")).to_be_visible()
        expect(command(page, "early")).to_have_count(0)
        expect(page.get_by_role("row").filter(has_text="new/sensor")).to_be_visible()
        expect(page).to_have_title("after")
        assert page.evaluate("window.loadedOnce")
        page.context.close()


def test_refused_stream_is_asked_for_again(open_page: OpenPage, greenhouse: Daemon) -> None:
    """After an answer that makes a browser give up a stream for good, the page asks for a new one by itself."""
    page, complaints = open_page(greenhouse)
    complaints.expect("status of 503")
    answers = [503, 503]

    def refuse(route: Any) -> None:
        if answers:
            route.fulfill(status=answers.pop(), body="{}")
        else:
            route.continue_()

    page.route("**/events*", refuse)
    page.reload()
    expect(page.get_by_role("status").first).to_have_text(LOST)
    expect(page.get_by_role("status").first).to_have_text("Live", timeout=30_000)
    expect(tile(page, "door/visitor")).to_be_visible()


def test_logged_out(open_page: OpenPage, greenhouse: Daemon) -> None:
    """Who is not let in any more is shown the way to log in, for as long as it is so."""
    page, complaints = open_page(greenhouse)
    complaints.expect("status of 401")
    page.route(re.compile(r"/(events\?|sensors$)"), lambda route: route.fulfill(status=401, body="{}"))
    page.reload()
    link = page.get_by_role("link", name="Log in")
    expect(link).to_have_attribute("href", "/login?next=/")
    page.unroute_all()
    expect(page.get_by_role("status").first).to_have_text("Live", timeout=30_000)
    expect(link).to_be_hidden()


def test_silent_connection_is_given_up(open_page: OpenPage, tmp_path: Path) -> None:
    """A stream that has fallen silent is taken for dead once nothing else is answered either, and is opened anew."""
    with running_daemon(tmp_path, BEFORE) as daemon:
        page, complaints = open_page(daemon)
        complaints.expect("net::ERR_FAILED")
        page.clock.install()
        page.reload()
        status = page.get_by_role("status").first
        expect(status).to_have_text("Live")
        page.route(re.compile(r"/(events\?|services$)"), lambda route: route.abort())
        page.clock.fast_forward("00:20")
        expect(status).to_have_text(LOST)
        page.unroute_all()
        page.clock.fast_forward("00:20")
        expect(status).to_have_text("Live")
        page.context.close()


# --- the keyboard ----------------------------------------------------------------------------------------------------


def test_by_keyboard_alone(page: Page) -> None:
    """Tab, Enter and Escape are enough to skip the head, open and close a chart, and call a command."""
    chart = tile(page, "inside/count").get_by_role("button")
    expect(chart).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()

    tab_to(page, chart)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(chart).to_be_focused()

    form = command(page, "water")
    tab_to(page, form.get_by_label("zone"))
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    expect(form.get_by_role("region", name="Result")).to_contain_text('"zone": 7')
    expect(form.get_by_label("zone")).to_be_focused()
