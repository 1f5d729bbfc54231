"""Pages of other origins in a real browser: what they cannot do, and what they can where they are allowed to.

Browsers say where a request comes from in ``Origin`` and ``Sec-Fetch-Site``, but not always: with an image that a page
loads by plain HTTP from a name on the local network they say neither. So the attacks are made on a daemon under such a
name as well as on loopback.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, OPTIONS
from daemon import Daemon, running_daemon
from playwright.sync_api import Browser, Page, Playwright

from rpiserve.core.tokens import TokenFile

NAME = "pi.lan"
EVIL = "evil.example"

SOURCE = """
from rpiserve import App

app = App("test")
calls = []


@app.command
def act():
    calls.append(1)
    return len(calls)


@app.route("/own", methods=["POST"])
def own():
    calls.append(1)


@app.route("/calls", role="public")
def count():
    return len(calls)
"""

ATTACKS = """
async ([target, token]) => {
    const envelope = JSON.stringify({ Command: { Name: "act" } });
    const image = (url) => new Promise((done) => {
        const element = new Image();
        element.onload = element.onerror = done;
        element.src = url;
    });
    const form = (url, type, fields) => new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.name = `frame${Math.random()}`;
        document.body.append(frame);
        const element = document.createElement("form");
        Object.assign(element, { method: "post", action: url, enctype: type, target: frame.name });
        for (const [name, value] of Object.entries(fields)) {
            const input = document.createElement("input");
            Object.assign(input, { type: "hidden", name, value });
            element.append(input);
        }
        document.body.append(element);
        frame.onload = done;
        element.submit();
    });
    const script = (url) => new Promise((done) => {
        const element = document.createElement("script");
        element.onload = element.onerror = done;
        element.src = url;
        document.body.append(element);
    });
    const send = (url, options) => fetch(url, options).catch(() => null);
    const query = `${target}/cmd?name=act`;
    await image(query);
    await script(query);
    await form(`${target}/cmd`, "text/plain", { [envelope.slice(0, -1) + ',"x":"']: '"}' });
    await form(`${target}/`, "application/x-www-form-urlencoded", { Command: "act" });
    await form(`${target}/own`, "multipart/form-data", { a: "b" });
    for (const credentials of ["omit", "include"]) {
        await send(query, { mode: "no-cors", credentials });
        await send(query, { mode: "cors", credentials });
        await send(`${target}/cmd`, { method: "POST", mode: "no-cors", body: envelope, credentials });
        await send(`${target}/own`, { method: "POST", mode: "no-cors", body: "{}", credentials });
        const headers = { "Content-Type": "application/json" };
        await send(`${target}/cmd`, { method: "POST", mode: "cors", body: envelope, headers, credentials });
        await send(`${target}/own`, { method: "DELETE", mode: "cors", credentials });
        const beacon = new Blob([envelope], { type: "text/plain" });
        navigator.sendBeacon(`${target}/cmd`, beacon);
    }
    await send(query, { mode: "no-cors", referrerPolicy: "no-referrer" });
}
"""

OWN = """
async () => {
    const body = JSON.stringify({ Command: { Name: "act" } });
    const answer = await fetch("/cmd", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    return (await answer.json()).Command.Result;
}
"""


class _Page(BaseHTTPRequestHandler):
    """Serves an empty page, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page of somebody else</title><body>")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Stage:
    """Where the attacks take place.

    Attributes:
        browser: the browser.
        foreign: the port of the server of foreign pages.
        address: the address that `NAME` leads to.
    """

    browser: Browser
    foreign: int
    address: str

    def page(self, url: str) -> Page:
        """Return a page of a browser that has never been anywhere, at ``url``."""
        page = self.browser.new_context().new_page()
        page.goto(url)
        return page


def own_address() -> str:
    """Return an address of this machine beyond loopback, or, where it has none, another one of loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses an address
        return str(probe.getsockname()[0])
    return "127.0.0.2"


@pytest.fixture(scope="module")
def stage(playwright: Playwright) -> Iterator[Stage]:
    """A browser for which our names lead where they should, and a server of foreign pages."""
    address = own_address()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True)
    thread.start()
    rules = f"--host-resolver-rules=MAP {NAME} {address}, MAP {EVIL} 127.0.0.1"
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, rules])
    yield Stage(browser, server.server_address[1], address)
    browser.close()
    server.shutdown()
    server.server_close()
    thread.join()


def calls(daemon: Daemon, stage: Stage) -> int:
    """Return how often something was done, as the app counts."""
    page = stage.page(f"http://127.0.0.1:{daemon.port}/calls")
    count = int(page.inner_text("body"))
    page.context.close()
    return count


def attack(stage: Stage, daemon: Daemon, target: str, page: Page | None = None) -> None:
    """Have a foreign page try all it can on ``target``, in the browser of ``page`` if one is given."""
    context = stage.browser.new_context() if page is None else page.context
    foreign = context.new_page()
    foreign.goto(f"http://{EVIL}:{stage.foreign}/")
    foreign.evaluate(ATTACKS, [target, ""])
    foreign.close()


def test_loopback(stage: Stage, tmp_path: Path) -> None:
    """On loopback, where everybody is let in, no foreign page gets anything done; a page of our own does."""
    with running_daemon(tmp_path, SOURCE) as daemon:
        for host in ("127.0.0.1", "localhost"):
            target = f"http://{host}:{daemon.port}"
            attack(stage, daemon, target)
            assert calls(daemon, stage) == 0
        assert stage.page(f"http://127.0.0.1:{daemon.port}/").evaluate(OWN) == 1


def test_names_that_lead_to_loopback(stage: Stage, tmp_path: Path) -> None:
    """By a name that leads to loopback, or by 0.0.0.0, where browsers say nothing, nothing is done either."""
    with running_daemon(tmp_path, SOURCE, "--allowed-host", EVIL) as daemon:
        for host in (EVIL, "0.0.0.0"):
            attack(stage, daemon, f"http://{host}:{daemon.port}")
        # The first of them has our own name, but another port: to a browser that is the same site.
        assert calls(daemon, stage) == 0


def test_on_the_network_and_open(stage: Stage, tmp_path: Path) -> None:
    """With ``--open``, under a name on the local network, no foreign page gets anything done; one of our own does."""
    options = ("--host", "0.0.0.0", "--open", "--allowed-host", NAME)
    with running_daemon(tmp_path, SOURCE, *options) as daemon:
        for host in (NAME, stage.address):
            attack(stage, daemon, f"http://{host}:{daemon.port}")
            assert calls(daemon, stage) == 0
        assert stage.page(f"http://{NAME}:{daemon.port}/").evaluate(OWN) == 1


def test_the_attacks_are_real(stage: Stage, tmp_path: Path) -> None:
    """Where the user has let ``GET`` run commands beyond loopback, a foreign page does so: the attacks do arrive."""
    options = ("--host", "0.0.0.0", "--open", "--get-commands", "--allowed-host", NAME)
    with running_daemon(tmp_path, SOURCE, *options) as daemon:
        attack(stage, daemon, f"http://{NAME}:{daemon.port}")
        assert calls(daemon, stage) > 0


def test_on_the_network_with_tokens(stage: Stage, tmp_path: Path) -> None:
    """With tokens a foreign page gets nothing done in the browser of somebody who has logged in; our own page does."""
    secret = TokenFile(tmp_path / "tokens", lambda: 0.0).add("me", "control")
    options = ("--host", "0.0.0.0", "--token-file", "tokens", "--allowed-host", NAME)
    with running_daemon(tmp_path, SOURCE, *options) as daemon:
        for number, host in enumerate((NAME, "127.0.0.1"), 1):
            target = f"http://{host}:{daemon.port}"
            page = stage.page(f"{target}/")
            page.get_by_label("Token").fill(secret)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{target}/")
            attack(stage, daemon, target, page)
            assert calls(daemon, stage) == number - 1
            assert page.evaluate(OWN) == number
            page.context.close()


def read(page: Page, url: str, options: dict[str, Any]) -> str | None:
    """Return what a page gets to see of the answer to a request; None if nothing."""
    script = "([url, options]) => fetch(url, options).then((answer) => answer.text(), () => null)"
    text: str | None = page.evaluate(script, [url, options])
    return text


POST = {
    "method": "POST",
    "headers": {"Content-Type": "application/json"},
    "body": '{"Command":{"Name":"act"}}',
}


def test_reading_by_default(stage: Stage, tmp_path: Path) -> None:
    """A foreign page sees nothing of our answers, and its preflights are in vain."""
    with running_daemon(tmp_path, SOURCE) as daemon:
        page = stage.page(f"http://127.0.0.1:{stage.foreign}/")
        assert read(page, f"{daemon.url}/calls", {}) is None
        assert read(page, f"{daemon.url}/cmd", POST) is None
        assert calls(daemon, stage) == 0


def test_an_origin_that_is_allowed(stage: Stage, tmp_path: Path) -> None:
    """A page of an origin that is named may read and act, as who has logged in; no other page may."""
    secret = TokenFile(tmp_path / "tokens", lambda: 0.0).add("me", "control")
    origin = f"http://127.0.0.1:{stage.foreign}"
    options = ("--token-file", "tokens", "--cors-origin", origin, "--cors-credentials")
    with running_daemon(tmp_path, SOURCE, *options) as daemon:
        page = stage.page(daemon.url)
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{daemon.url}/")
        page.goto(origin)
        assert read(page, f"{daemon.url}/data", {"credentials": "include"}) == "{}"
        assert read(page, f"{daemon.url}/cmd", {**POST, "credentials": "include"}) == (
            '{"Command":{"Name":"act","Result":1}}'
        )
        assert "this needs a token" in str(read(page, f"{daemon.url}/data", {"credentials": "omit"}))
        page.goto(f"http://localhost:{stage.foreign}/")
        assert read(page, f"{daemon.url}/data", {"credentials": "include"}) is None
        assert read(page, f"{daemon.url}/cmd", {**POST, "credentials": "include"}) is None
        assert calls(daemon, stage) == 1


def test_all_origins(stage: Stage, tmp_path: Path) -> None:
    """With ``*`` any page may read, and none may act."""
    with running_daemon(tmp_path, SOURCE, "--cors-origin", "*") as daemon:
        page = stage.page(f"http://127.0.0.1:{stage.foreign}/")
        assert read(page, f"{daemon.url}/data", {}) == "{}"
        assert "may not do that" in str(read(page, f"{daemon.url}/cmd", POST))
        assert calls(daemon, stage) == 0
