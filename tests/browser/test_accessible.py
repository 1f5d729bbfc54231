"""The dashboard for everybody: labels, landmarks, contrast, small pages, and pictures of it to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from playwright.sync_api import Page, expect

OpenPage = Callable[..., tuple[Page, Any]]

SCREENSHOTS = Path(__file__).with_name("screenshots")
SCHEMES = ("light", "dark")

LOW_CONTRASTS = """
() => {
    const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => {
        const [r, g, b] = [red, green, blue].map((each) => channel(each / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const color = parts(getComputedStyle(each).backgroundColor);
            if (color.length === 3 || color[3] === 1) {
                return color;
            }
        }
        throw new Error("no background");
    };
    const ratio = (element) => {
        const lights = [parts(getComputedStyle(element).color), ground(element)].map(luminance);
        return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    };
    const written = (element) =>
        element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const texts = [...document.querySelectorAll("body *")].filter((each) => !each.closest("svg") && written(each));
    if (texts.length < 50) {
        throw new Error("there is hardly any text");
    }
    return texts.filter((each) => ratio(each) < 4.5).map((each) => `${ratio(each).toFixed(2)} ${each.outerHTML}`);
}
"""

SMALL_TARGETS = """
() => [...document.querySelectorAll("main button, main input, main select, main textarea, main summary, nav a")]
    .filter((each) => each.checkVisibility())
    .map((each) => each.type === "checkbox" ? each.parentElement : each)
    .filter((each) => each.getBoundingClientRect().height < 44)
    .map((each) => each.outerHTML)
"""


def wait_until_all_is_shown(page: Page) -> None:
    """Wait for what takes longest: the values that go wrong, and what is asked for after the stream has come."""
    expect(page.locator('.tile[data-state="stale"]')).to_have_count(1)
    expect(page.locator('.tile[data-state="error"]')).to_have_count(1)
    expect(page.locator(".command").first).to_be_visible()
    expect(page.locator(".service").first).to_be_visible()
    expect(page.locator("tbody tr").first).to_be_visible()


def test_landmarks_and_headings(page: Page) -> None:
    """There is one h1; banner, navigation and main are landmarks; each section is named, and the way to each works."""
    wait_until_all_is_shown(page)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    for role in ("banner", "navigation", "main"):
        expect(page.get_by_role(role)).to_have_count(1)
    for link in page.get_by_role("navigation").get_by_role("link").all():
        section = page.locator(link.get_attribute("href") or "")
        expect(section).to_have_attribute("aria-labelledby", f"{section.get_attribute('id')}-title")
    assert page.locator("html").get_attribute("lang") == "en"


def test_every_control_has_a_name(page: Page) -> None:
    """Each field has a label, each button and link a text, and the ids that tie them together are unique."""
    wait_until_all_is_shown(page)
    unnamed = page.locator("input, select, textarea").evaluate_all(
        "all => all.filter((each) => ![...each.labels].some((label) => label.textContent.trim())).length"
    )
    assert unnamed == 0
    for control in page.locator("button, a").all():
        assert (control.get_attribute("aria-label") or control.text_content() or "").strip()
    ids = page.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    assert len(ids) == len(set(ids))
    for references in page.locator("[aria-describedby]").evaluate_all(
        "all => all.map((e) => e.ariaDescribedByElements.length)"
    ):
        assert references > 0


def test_only_status_and_results_are_announced(page: Page) -> None:
    """Values, which change all the time, are in no live region; the connection and the results of commands are."""
    wait_until_all_is_shown(page)
    live = page.locator("[role=status], [role=alert], [aria-live]")
    assert set(live.evaluate_all("all => all.map((each) => each.className)")) == {"connection", "outcome"}


def test_dialog_is_named_and_modal(page: Page) -> None:
    """The dialog of a chart has the name of the value, and what is behind it is out of reach."""
    page.get_by_role("button", name="Chart of inside/count").click()
    expect(page.get_by_role("dialog")).to_have_accessible_name("inside / count")
    assert page.locator("dialog").evaluate("dialog => dialog.matches(':modal')")
    expect(page.get_by_role("img", name="inside / count")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contrast(open_page: OpenPage, greenhouse: Daemon, scheme: str) -> None:
    """Every text, those of stale values, errors and results included, has a contrast of 4.5 to 1 at least."""
    page, complaints = open_page(greenhouse, color_scheme=scheme)
    complaints.expect("status of 500")
    wait_until_all_is_shown(page)
    for name in ("explode", "lamp.switch", "aim"):
        form = page.get_by_role("article", name=name, exact=True)
        form.get_by_role("button", name="Run").click()
        expect(form.locator(".outcome .line")).to_be_visible()
    assert page.evaluate(LOW_CONTRASTS) == []
    page.locator("button").evaluate_all("all => all.forEach((each) => { each.disabled = true; })")
    page.locator("#connection").evaluate("element => { element.dataset.state = 'lost'; }")
    assert page.evaluate(LOW_CONTRASTS) == []


def test_a_narrow_page_does_not_scroll_sideways(open_page: OpenPage, greenhouse: Daemon) -> None:
    """At a width of 320 px all is there without scrolling sideways, and what is touched is 44 px high."""
    page, _ = open_page(greenhouse, viewport={"width": 320, "height": 640})
    wait_until_all_is_shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.evaluate(SMALL_TARGETS) == []


def test_no_motion_for_who_wants_none(open_page: OpenPage, greenhouse: Daemon) -> None:
    """With reduced motion asked for, nothing on the page is animated."""
    page, _ = open_page(greenhouse, reduced_motion="reduce")
    wait_until_all_is_shown(page)
    page.locator("#connection").evaluate("element => { element.dataset.state = 'lost'; }")
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1280])
def test_pictures(open_page: OpenPage, greenhouse: Daemon, width: int, scheme: str) -> None:
    """The page and a large chart can be drawn at this width; the pictures are kept for who wants to look at them."""
    page, _ = open_page(greenhouse, viewport={"width": width, "height": 844}, color_scheme=scheme)
    wait_until_all_is_shown(page)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"page-{width}-{scheme}.png", full_page=True)
    page.get_by_role("button", name="Chart of inside/temperature").click()
    expect(page.locator(".large-chart .line")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"chart-{width}-{scheme}.png")
