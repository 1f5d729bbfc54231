"""The user's own pages: what is served, and that nothing else is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_peer import Client, make_command_site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import _producer_helpers
from twisted.internet.task import Clock, Cooperator

from rpiserve import App
from rpiserve.errors import StartError
from rpiserve.web.endpoints.pages import PageEndpoints

FILES = {
    "index.html": b"<!doctype html><title>Home</title>",
    "style.css": b"main {}",
    "commands.js": b"export {}",
    "data.json": b"{}",
    "picture.png": b"\x89PNG",
    "drawing.svg": b"<svg/>",
    "notes.TXT": "Überlauf".encode(),
    "LICENSE": b"<script>alert(1)</script>",
    "strange.extension": b"<script>alert(1)</script>",
    "log.txt.gz": b"\x1f\x8b",
    "empty.txt": b"",
    "with space & ü.txt": b"named",
    "digits.bin": b"0123456789",
    "sub/index.html": b"sub",
    "sub/page.html": b"page",
    "bare/page.html": b"page",
    "a:b/index.html": b"colon",
    ".hidden": b"secret",
    ".git/config": b"secret",
    "sub/.env": b"secret",
}
TIME = 1_000_000_000
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pages, and a secret beside it."""
    folder = tmp_path / "www"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, (TIME, TIME))
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (tmp_path / "www-secret").mkdir()
    (tmp_path / "www-secret" / "secret.txt").write_bytes(b"secret")
    return folder


class Answer:
    """An answer as it was read."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


class Browser:
    """Asks for pages.

    Args:
        folder: the folder with the pages, if there is one.
        clock: the reactor's clock.
    """

    def __init__(self, folder: Path | str | None, clock: Clock) -> None:
        www = None if folder is None else str(folder)
        self._clock = clock
        self._client = Client(make_command_site(App("test"), clock, www=www))

    def get(self, path: str | bytes, *headers: str, method: str = "GET") -> Answer:
        """Ask for a page, and return all of the answer."""
        peer = self._client.send(path, method, *headers)
        read = -1
        while len(peer.received) > read:
            read = len(peer.received)
            self._clock.advance(0)
        answer = Answer(peer.received)
        assert answer.headers["x-content-type-options"] == "nosniff"
        if method == "HEAD":
            assert answer.body == b""
        elif answer.status != 304:
            assert len(answer.body) == int(answer.headers["content-length"])
        if answer.status in (400, 404, 405):
            assert answer.headers["content-type"] == "application/problem+json"
        return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The reactor's clock, on which files are sent, too."""
    clock = Clock()
    cooperator = Cooperator(scheduler=lambda turn: clock.callLater(0, turn))
    monkeypatch.setattr(_producer_helpers, "cooperate", cooperator.cooperate)
    return clock


@pytest.fixture
def browser(folder: Path, clock: Clock) -> Browser:
    """A browser on the folder."""
    return Browser(folder, clock)


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("", "index.html", "text/html; charset=utf-8"),
        ("index.html", "index.html", "text/html; charset=utf-8"),
        ("style.css", "style.css", "text/css; charset=utf-8"),
        ("commands.js", "commands.js", "text/javascript; charset=utf-8|application/javascript"),
        ("data.json", "data.json", "application/json"),
        ("picture.png", "picture.png", "image/png"),
        ("drawing.svg", "drawing.svg", "image/svg+xml"),
        ("notes.TXT", "notes.TXT", "text/plain; charset=utf-8"),
        ("LICENSE", "LICENSE", "application/octet-stream"),
        ("strange.extension", "strange.extension", "application/octet-stream"),
        ("empty.txt", "empty.txt", "text/plain; charset=utf-8"),
        ("with%20space%20%26%20%C3%BC.txt", "with space & ü.txt", "text/plain; charset=utf-8"),
        ("%69ndex.html?x=1", "index.html", "text/html; charset=utf-8"),
        ("sub/", "sub/index.html", "text/html; charset=utf-8"),
        ("sub/page.html", "sub/page.html", "text/html; charset=utf-8"),
        ("a:b/", "a:b/index.html", "text/html; charset=utf-8"),
    ],
)
def test_pages(browser: Browser, path: str, name: str, kind: str) -> None:
    """A file is served with its type, which is never guessed to be HTML, and to be asked for again each time.

    HEAD has the same headers, and the time of the file is that of its last change.
    """
    answer = browser.get(f"/www/{path}")
    assert answer.status == 200
    assert answer.body == FILES[name]
    assert answer.headers["content-type"] in kind.split("|")
    assert answer.headers["last-modified"] == DATE
    assert answer.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in answer.headers
    head = browser.get(f"/www/{path}", method="HEAD")
    assert head.status == 200
    assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}


def test_compressed_pages(browser: Browser) -> None:
    """A compressed file is what it is when decompressed."""
    answer = browser.get("/www/log.txt.gz")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (DATE, 304),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 304),
        ("Sun, 09 Sep 2001 01:46:39 GMT", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("Sun, 09 Sep 0000 01:46:40 GMT", 200),
        ("Sun, 99 Xyz 2001 01:46:40 GMT", 200),
        ("Sun, 09 Sep 99999999999999999999 01:46:40 GMT", 200),
        (";", 200),
        ("yesterday", 200),
        ("\xff", 200),
    ],
)
def test_if_modified_since(browser: Browser, value: str, status: int) -> None:
    """A page that the browser has already is not sent again; a date that is none is ignored."""
    answer = browser.get("/www/index.html", f"If-Modified-Since: {value}")
    assert answer.status == status
    assert answer.body == (FILES["index.html"] if status == 200 else b"")
    assert ("content-type" in answer.headers) == (status == 200)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("bytes=0-0", b"0"),
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=5-99999", b"56789"),
    ],
)
def test_range(browser: Browser, value: str, body: bytes) -> None:
    """A part of a file is served as such, as a video player asks for it."""
    answer = browser.get("/www/digits.bin", f"Range: {value}")
    assert answer.status == 206
    assert answer.body == body
    start = b"0123456789".index(body)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(body) - 1}/10"


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=99-100", "bytes=999999999999999999-"])
def test_range_beyond_the_end(browser: Browser, value: str) -> None:
    """A part that the file does not have is refused."""
    answer = browser.get("/www/digits.bin", f"Range: {value}")
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "value",
    [
        *("bytes=0-1,3-4", "bytes=" + "0-," * 500 + "0-", "bytes=4-2", "bytes=-", "bytes=-2", "bytes=-99", "bytes=x-y"),
        *("lines=1-2", "bytes", "bytes=" + "9" * 5000 + "-", "\xff"),
    ],
)
def test_ranges_that_are_ignored(browser: Browser, value: str) -> None:
    """Several parts at once, which would make much of little, and what is no range get the whole file.

    So does a part that is counted from the end.
    """
    answer = browser.get("/www/digits.bin", f"Range: {value}")
    assert (answer.status, answer.body) == (200, FILES["digits.bin"])


def test_range_of_a_changed_file(browser: Browser) -> None:
    """A part on the condition that the file has not changed is served if it has not, and else the whole file."""
    tag = browser.get("/www/digits.bin").headers["etag"]
    answer = browser.get("/www/digits.bin", "Range: bytes=2-4", f"If-Range: {tag}")
    assert (answer.status, answer.body) == (206, b"234")
    for condition in ('"x"', "Sat, 01 Jan 2000 00:00:00 GMT"):
        answer = browser.get("/www/digits.bin", "Range: bytes=2-4", f"If-Range: {condition}")
        assert (answer.status, answer.body) == (200, FILES["digits.bin"])


def test_entity_tags(folder: Path, browser: Browser) -> None:
    """Who has a file is told so until it changes, be it within the same second; no date counts beside a tag."""
    tag = browser.get("/www/digits.bin").headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        answer = browser.get("/www/digits.bin", f"If-None-Match: {known}")
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    file = folder / "digits.bin"
    modified = file.stat().st_mtime_ns
    file.write_bytes(b"9876543210")
    os.utime(file, ns=(modified, modified + 1000))
    late = "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT"
    answer = browser.get("/www/digits.bin", f"If-None-Match: {tag}", late)
    assert (answer.status, answer.body) == (200, b"9876543210")
    assert answer.headers["etag"] != tag


@pytest.mark.parametrize(
    ("path", "location"),
    [("/www", "./www/"), ("/www/sub", "./sub/"), ("/www/sub?x=1", "./sub/"), ("/www/a:b", "./a:b/")],
)
def test_folder_without_a_slash(browser: Browser, path: str, location: str) -> None:
    """A folder without a slash is redirected to itself with one, relative to where it is and not to what Host says."""
    answer = browser.get(path)
    assert answer.status == 308
    assert answer.headers["location"] == location
    absolute = browser.get(f"http://localhost{path}")
    assert absolute.headers["location"] == location


@pytest.mark.parametrize(
    "path",
    [
        "nothing.html",
        "sub/nothing",
        "index.html/",
        "index.html/x",
        "bare/",
        "INDEX.HTML",
        "..",
        "../",
        "../secret.txt",
        "sub/../index.html",
        "sub/../../secret.txt",
        "%2e%2e/secret.txt",
        "%2e%2e%2fsecret.txt",
        "..%2fsecret.txt",
        "../www-secret/secret.txt",
        "sub%2fpage.html",
        "sub%2Fpage.html",
        "%2fetc%2fpasswd",
        ".",
        "./index.html",
        "sub//page.html",
        "sub//",
        ".hidden",
        "%2ehidden",
        ".git/config",
        "sub/.env",
        "..\\secret.txt",
        "%5c..%5csecret.txt",
        "x" * 300,
        "x/" * 3000,
        "index.html%0a",
        "index.html%20",
    ],
)
def test_what_is_not_served(browser: Browser, path: str) -> None:
    """Nothing that is hidden, outside, not there, or spelt in a way to get at these; no folder is listed."""
    answer = browser.get(f"/www/{path}")
    assert answer.status == 404
    assert b"there is no" in answer.body
    assert b"secret" not in answer.body
    assert browser.get(f"/www//{path}").status == 404


@pytest.mark.parametrize("path", ["%00", "index.html%00", "index.html%00.txt", "%ff"])
def test_malformed_paths(browser: Browser, path: str) -> None:
    """A path with a NUL, or that is not UTF-8, is refused before it comes near the folder."""
    assert browser.get(f"/www/{path}").status == 400


def test_links(folder: Path, browser: Browser) -> None:
    """A link within the folder is followed; one that leads out of it or to what is hidden is not."""
    (folder / "again.html").symlink_to("sub/page.html")
    (folder / "again").symlink_to("sub", target_is_directory=True)
    for path in ("again.html", "again/page.html", "again/"):
        assert browser.get(f"/www/{path}").status == 200
    (folder / "out.txt").symlink_to("../secret.txt")
    (folder / "absolute.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "out").symlink_to("../www-secret", target_is_directory=True)
    (folder / "bare" / "index.html").symlink_to(folder.parent / "secret.txt")
    (folder / ".secret").write_bytes(b"secret")
    (folder / "hidden.txt").symlink_to(".secret")
    (folder / "nowhere").symlink_to("nothing")
    (folder / "circle").symlink_to("circle")
    for path in (
        "out.txt",
        "hidden.txt",
        "absolute.txt",
        "out",
        "out/",
        "out/secret.txt",
        "bare/",
        "nowhere",
        "circle",
        "circle/x",
    ):
        answer = browser.get(f"/www/{path}")
        assert answer.status == 404
        assert b"secret" not in answer.body


def test_folder_that_is_a_link(folder: Path, clock: Clock) -> None:
    """The folder itself may be a link."""
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert Browser(link, clock).get("/www/index.html").status == 200


def test_what_is_no_file(folder: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, which would make whoever opens it wait, and a file that may not be read are no pages."""
    os.mkfifo(folder / "pipe")
    assert browser.get("/www/pipe").status == 404
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert browser.get("/www/index.html").status == 404


def test_changes_are_seen(folder: Path, browser: Browser) -> None:
    """A page that is written while the daemon runs is served as it is now."""
    (folder / "new.html").write_bytes(b"1")
    assert browser.get("/www/new.html").body == b"1"
    (folder / "new.html").write_bytes(b"22")
    assert browser.get("/www/new.html").body == b"22"
    (folder / "new.html").unlink()
    assert browser.get("/www/new.html").status == 404


def test_large_file(folder: Path, browser: Browser) -> None:
    """A file of some megabytes arrives whole."""
    content = os.urandom(1 << 20) * 3
    (folder / "large.bin").write_bytes(content)
    assert browser.get("/www/large.bin").body == content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods(browser: Browser, method: str) -> None:
    """Pages can only be read."""
    for path in ("/www", "/www/index.html", "/www/new.html"):
        answer = browser.get(path, method=method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_without_a_folder(clock: Clock) -> None:
    """Without --www there are no pages, which is said."""
    browser = Browser(None, clock)
    for path in ("/www", "/www/", "/www/index.html"):
        answer = browser.get(path)
        assert answer.status == 404
        assert b"--www DIR" in answer.body


@pytest.mark.parametrize("name", ["nothing", "index.html", "\0"])
def test_folder_that_is_none(folder: Path, name: str) -> None:
    """A folder that is not there, or is none, fails the start."""
    with pytest.raises(StartError, match=f"--www .*{name}: there is no such folder"):
        PageEndpoints(str(folder / name))


def test_folder_relative_to_where_it_was_started(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A relative folder stays what it was at the start, wherever the process goes."""
    monkeypatch.chdir(folder.parent)
    browser = Browser("www", clock)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert browser.get("/www/index.html").status == 200


@pytest.fixture
def answers() -> Iterator[set[int]]:
    """The statuses that were seen."""
    seen: set[int] = set()
    yield seen
    assert seen <= {200, 308, 400, 404}


PIECES = [
    "sub",
    "index.html",
    "page.html",
    "..",
    ".",
    "%2e",
    "%2f",
    "/",
    "//",
    "%00",
    "%ff",
    "%5c",
    "secret.txt",
    "~",
    "x",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=6))
def test_whatever_path(browser: Browser, answers: set[int], pieces: list[str]) -> None:
    """However a path is put together, what is served is one of the pages."""
    answer = browser.get("/www/" + "".join(pieces))
    answers.add(answer.status)
    if answer.status == 200:
        assert answer.body in FILES.values()
        assert answer.body != b"secret"
