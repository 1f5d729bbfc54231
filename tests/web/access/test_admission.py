"""The gate: which requests are let in, for whom they have to be meant, and what their path is taken apart into."""

import pytest
from http_peer import Peer, make_site, request
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from rpiserve.data.paths import check_key
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_target import decode_segment
from rpiserve.web.server.site import LimitedSite


class Seen(Resource):
    """Notes the path of each request that is let in."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[list[bytes]] = []

    def render(self, request: LimitedRequest) -> bytes:
        self.paths.append(request.postpath)
        request.setHeader(b"Content-Type", b"application/json")
        return b"1"


@pytest.fixture
def seen() -> Seen:
    """What stands behind the gate."""
    return Seen()


@pytest.fixture
def site(seen: Seen) -> LimitedSite:
    """A site with nothing but the gate and `seen`."""
    return make_site(Clock(), resource=seen, hosts=["extra.example"])


def status(site: LimitedSite, raw: bytes) -> int:
    """Return the status of the answer to one request, whose connection stays open."""
    peer = Peer(site).send(raw)
    assert peer.end is None
    return peer.answer().status


# --- for whom --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "machine:80", "MACHINE.local", "127.0.0.1:8080", "[::1]", "extra.example."]
)
def test_our_names(site: LimitedSite, host: str) -> None:
    """Requests for a name of ours are let in."""
    assert status(site, request("/", host=host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "",
        "a..b",
        "x" * 64,
        "x" * 8000,
        "user@localhost",
        "localhost,localhost",
        "\xe9",
        "[::1",
        "*",
        "a b",
    ],
)
def test_foreign_names(site: LimitedSite, seen: Seen, host: str) -> None:
    """Requests for anybody else are 421; nothing behind the gate sees them, and nothing is logged."""
    assert status(site, request("/", host=host)) == 421
    assert seen.paths == []


def test_one_host(site: LimitedSite, seen: Seen) -> None:
    """A request without Host, or with two, is 400, even if both are the same."""
    assert status(site, b"GET / HTTP/1.1\r\n\r\n") == 400
    assert status(site, request("/", "GET", "Host: localhost")) == 400
    assert status(site, request("/", "GET", "host: evil.example")) == 400
    assert seen.paths == []


@pytest.mark.parametrize("name", ["Authorization", "Origin", "Sec-Fetch-Site"])
def test_what_decides_comes_once(site: LimitedSite, seen: Seen, name: str) -> None:
    """Of two headers that decide who may do what, a proxy could have looked at one, and we at the other."""
    assert status(site, request("/", "GET", f"{name}: none", f"{name.lower()}: none")) == 400
    assert seen.paths == []


ABSOLUTE = [
    ("http://localhost/data/a", 200),
    ("HTTP://LOCALHOST:80/data/a", 200),
    ("https://[::1]/data/a", 200),
    ("http://evil.example/data/a", 421),
    ("http://localhost@evil.example/data/a", 421),
    ("http://evil.example@localhost/data/a", 421),
    ("http://localhost:80:80/data/a", 421),
    ("http:///data/a", 421),
    ("http:/data/a", 421),
    ("http:data/a", 421),
    ("http://[::1/data/a", 400),
    ("http://\xb0/data/a", 400),
    ("ftp://localhost/data/a", 400),
    ("file:///etc/passwd", 400),
    ("localhost:80", 400),
    ("data/a", 400),
    ("?", 400),
    ("#", 400),
    ("*", 400),
    ("\\data", 400),
]


@pytest.mark.parametrize(("target", "expected"), ABSOLUTE)
def test_absolute_targets(site: LimitedSite, seen: Seen, target: str, expected: int) -> None:
    """A target that names a host is for that host; one that is neither that nor a path is 400."""
    assert status(site, request(target.encode("latin-1"))) == expected
    assert seen.paths == ([[b"data", b"a"]] if expected == 200 else [])


def test_absolute_target_and_foreign_host(site: LimitedSite) -> None:
    """A target that names us does not excuse a Host that does not."""
    assert status(site, request("http://localhost/", host="evil.example")) == 421


def test_absolute_target_without_a_path(site: LimitedSite, seen: Seen) -> None:
    """A target may end with its host; what stands behind a question mark is no path."""
    for target in ("http://localhost", "http://localhost?a=/b"):
        assert status(site, request(target)) == 200
    assert seen.paths == [[b""], [b""]]


@pytest.mark.parametrize("method", ["get", "Get", "head", "gET", "options"])
def test_methods_are_capitals(site: LimitedSite, method: str) -> None:
    """Methods are told apart by their case: one that is nearly GET is not taken for it, and gets no answer to it."""
    assert status(site, request("/", method)) == 400


def test_asterisk(site: LimitedSite) -> None:
    """A question about the server as a whole has no answer here; nothing of it is logged."""
    assert status(site, request("*", "OPTIONS")) == 400


# --- the path --------------------------------------------------------------------------------------------------------

PATHS = [
    ("/", [""]),
    ("/?/a", [""]),
    ("/a", ["a"]),
    ("/a/", ["a"]),
    ("/a/b", ["a", "b"]),
    ("/a%2Fb", ["a/b"]),
    ("/a%2fb/c", ["a/b", "c"]),
    ("/%61", ["a"]),
    ("/a%20b+c", ["a b+c"]),
    ("/a%25", ["a%"]),
    ("/a%252Fb", ["a%2Fb"]),
    ("/100%", ["100%"]),
    ("/%zz%", ["%zz%"]),
    ("/%0D%0AX:%20y", ["\r\nX: y"]),
    ("/..", [".."]),
    ("/a/../b", ["a", "..", "b"]),
    ("/%2e%2e/b", ["..", "b"]),
    ("/..%2F..%2Fetc", ["../../etc"]),
    ("/a;b=c", ["a;b=c"]),
    ("/a%3Fb%23c", ["a?b#c"]),
    ("/a#b", ["a#b"]),
    ("/a\\b", ["a\\b"]),
    ("/%C2%B0", ["°"]),
    ("/%F0%9F%8C%A1", ["🌡"]),
    ("/%E2%80%AE", ["\u202e"]),
]


@pytest.mark.parametrize(("target", "segments"), PATHS)
def test_paths(site: LimitedSite, seen: Seen, target: str, segments: list[str]) -> None:
    """A path is split at its slashes, then each segment is decoded, once; a slash at the end does not count."""
    assert status(site, request(target)) == 200
    (path,) = seen.paths
    assert [decode_segment(segment) for segment in path] == segments


@pytest.mark.parametrize("target", ["//", "//a", "///a", "/a//b", "/a//", "//evil.example/a", "//evil.example"])
def test_empty_segments(site: LimitedSite, seen: Seen, target: str) -> None:
    """Nothing has an empty name: a path with two slashes in a row leads nowhere, and not to another path."""
    assert status(site, request(target)) == 404
    assert seen.paths == []


@pytest.mark.parametrize(
    "target",
    ["/%00", "/a%00b", "/a/%00/b", "/%FF", "/%C0%80", "/%ED%A0%80", "/a/%C3", "/%C3/%A9", "/%F5%80%80%80", "/\x80"],
)
def test_what_is_no_text(site: LimitedSite, seen: Seen, target: str) -> None:
    """A NUL character, and bytes that are not UTF-8 (a surrogate, an overlong form), are 400."""
    assert status(site, request(target.encode("latin-1"))) == 400
    assert seen.paths == []


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_keys(path: list[str]) -> None:
    """Keys of any characters, percent-encoded by a client as far as it likes, arrive as they are."""
    seen = Seen()
    target = "/" + "/".join("".join(f"%{byte:02x}" for byte in key.encode()) for key in path)
    assert status(make_site(Clock(), resource=seen), request(target)) == 200
    (segments,) = seen.paths
    assert [decode_segment(segment) for segment in segments] == path
    assert all(segment.isascii() and b"/" not in segment for segment in segments)


def test_keys_fit(site: LimitedSite, seen: Seen) -> None:
    """What the gate lets in as a segment, but for the two dots, can be a key."""
    for target, segments in PATHS[2:]:
        assert status(site, request(target)) == 200
        for segment in segments:
            assert segment == ".." or check_key(segment) == segment
