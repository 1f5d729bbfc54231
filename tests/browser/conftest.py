"""A real browser, Debian's Chromium, that shows the dashboard of a real daemon.

Whatever a page has to complain of fails the test that opened it: an error or a warning on the console, an exception, a
violation of the content security policy, a request to anywhere but the daemon.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import CHROMIUM, GREENHOUSE, OPTIONS
from daemon import Daemon, running_daemon
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, sync_playwright

REPORT_VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


class Complaints:
    """What a page complains of, and which of that the test expects."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._heard: list[str] = []
        self._expected: list[str] = []

    def expect(self, pattern: str) -> None:
        """Let complaints that match this pattern pass."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        """Return all others."""
        return [each for each in self._heard if not any(re.search(pattern, each) for pattern in self._expected)]

    def listen(self, page: Page) -> None:
        """Hear what this page complains of."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._heard.append(f"exception: {error}"))
        page.on("request", self._requested)
        page.on("dialog", lambda dialog: (self._heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self._heard.append(f"{message.type}: {message.text}")

    def _requested(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._host:
            self._heard.append(f"a request to {request.url}")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """What drives browsers; a process can have only one."""
    assert CHROMIUM is not None, "there is no chromium: make test-browser gets it, or says how to"
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium, for all tests."""
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def greenhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with something of everything, for all tests that only look at it or call its commands."""
    with running_daemon(tmp_path_factory.mktemp("greenhouse"), GREENHOUSE) as daemon:
        yield daemon


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, Complaints]]]:
    """Open the dashboard of a daemon in a browser of its own; fails the test for what it complains of."""
    opened: list[tuple[Page, Complaints]] = []

    def open_page(daemon: Daemon, **options: Any) -> tuple[Page, Complaints]:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}).new_page()
        complaints = Complaints(daemon.url)
        opened.append((page, complaints))
        complaints.listen(page)
        page.add_init_script(REPORT_VIOLATIONS)
        page.goto(daemon.url)
        return page, complaints

    yield open_page
    for page, _ in opened:
        page.context.close()
    heard = [each for _, complaints in opened for each in complaints.unexpected()]
    if heard:
        pytest.fail("\n".join(heard), pytrace=False)


@pytest.fixture
def page(open_page: Callable[..., tuple[Page, Complaints]], greenhouse: Daemon) -> Page:
    """The dashboard of `greenhouse`."""
    return open_page(greenhouse)[0]
