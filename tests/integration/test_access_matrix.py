"""Every route, with every kind of credentials, from every kind of page: what is let in, and that nothing else acts."""

import http.client
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from daemon import Daemon, running_daemon, until

from rpiserve.core.tokens import TokenFile

SOURCE = """
from rpiserve import App

app = App("test")
effects = []


@app.sensor("a", every=3600)
def read():
    return 1


@app.command
def act():
    effects.append("command")


@app.action("act")
def action():
    effects.append("action")


@app.listen("channel")
def heard(payload):
    effects.append("broadcast")


@app.route("/own")
def get():
    return "read"


@app.route("/own", methods=["POST", "PUT", "PATCH", "DELETE"])
def post():
    effects.append("route")


@app.route("/own/for-all", methods=["GET", "POST"], role="public")
def public():
    return "public"


@app.route("/own/guarded", role="control")
def guarded():
    return "guarded"


@app.route("/own/readable", methods=["POST"], role="read")
def readable():
    return "readable"


@app.route("/own/effects", role="public")
def count():
    return len(effects)
"""

JSON = {"Content-Type": "application/json"}
ENVELOPE = b'{"Command":{"Name":"act"}}'
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# What each route needs, as the documentation has it: a role, and whether a page of another origin is refused.
ROUTES: list[tuple[str, str, bytes, str, bool]] = [
    ("GET", "/", b"", "read", False),
    ("GET", "/dashboard/main.js", b"", "public", False),
    ("GET", "/data", b"", "read", False),
    ("HEAD", "/data/a", b"", "read", False),
    ("GET", "/cmds", b"", "read", False),
    ("GET", "/sensors", b"", "read", False),
    ("GET", "/services", b"", "read", False),
    ("GET", "/openapi.json", b"", "read", False),
    ("GET", "/metrics", b"", "read", False),
    ("GET", "/ready", b"", "read", False),
    ("GET", "/health", b"", "public", False),
    ("GET", "/www/index.html", b"", "read", False),
    ("GET", "/events", b"", "read", True),
    ("GET", "/cmd?name=act", b"", "control", True),
    ("POST", "/cmd", ENVELOPE, "control", True),
    ("POST", "/", ENVELOPE, "control", True),
    ("POST", "/actions/act", b"{}", "control", True),
    ("POST", "/services/test/act", b"{}", "control", True),
    ("POST", "/broadcasts/channel", b"{}", "control", True),
    ("GET", "/login", b"", "public", False),
    ("POST", "/logout", b"", "public", True),
    ("GET", "/own", b"", "read", False),
    ("HEAD", "/own", b"", "read", False),
    ("POST", "/own", b"{}", "control", True),
    ("PUT", "/own", b"{}", "control", True),
    ("PATCH", "/own", b"{}", "control", True),
    ("DELETE", "/own", b"", "control", True),
    ("GET", "/own/for-all", b"", "public", False),
    ("POST", "/own/for-all", b"{}", "public", True),
    ("GET", "/own/guarded", b"", "control", False),
    ("POST", "/own/readable", b"{}", "read", True),
    ("DELETE", "/data", b"", "control", False),
    ("GET", "/nothing/here", b"", "read", False),
    ("GET", "/history", b"", "read", False),
]
ACTING = [route for route in ROUTES if route[3] == "control" and route[:2] != ("DELETE", "/data")]
ORIGINS = ("none", "same", "foreign")
ALLOWED = {"none": {"public"}, "read": {"public", "read"}, "control": {"public", "read", "control"}}
ROLES = {"read": "read", "control": "control", "read session": "read", "control session": "control"}
ADDRESSES = (f"127.0.{third}.{last}" for third, last in itertools.product(range(1, 255), range(1, 255)))
"""Where wrong tokens come from: one each, since several from the same address are soon refused in another way."""


class Site:
    """A daemon with tokens, and one of each kind of credentials.

    Args:
        daemon: the daemon.
        headers: for each kind, the headers that show it.
    """

    def __init__(self, daemon: Daemon, headers: dict[str, dict[str, str]]) -> None:
        self.daemon = daemon
        self.headers = headers

    def status(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
        """Return the status of the answer to a request, from an address of its own."""
        with connection(self.daemon) as client:
            client.request(method, target, body or None, headers)
            return client.getresponse().status

    def effects(self) -> int:
        """Return how often something was done so far."""
        with connection(self.daemon) as client:
            client.request("GET", "/own/effects")
            return int(client.getresponse().read())


@contextmanager
def connection(daemon: Daemon) -> Iterator[http.client.HTTPConnection]:
    """Run the block with a connection to ``daemon``."""
    client = http.client.HTTPConnection(daemon.host, daemon.port, 30, source_address=(next(ADDRESSES), 0))
    try:
        yield client
    finally:
        client.close()


def logged_in(daemon: Daemon, secret: str) -> str:
    """Return the cookie of a new session."""
    with connection(daemon) as client:
        client.request("POST", "/login", f"token={secret}", FORM)
        cookie = client.getresponse().headers["Set-Cookie"]
        return str(cookie).partition(";")[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon with tokens of both roles, one that was revoked with its session open, and a session that was ended."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<h1>Mine</h1>")
    clock = itertools.count(0.0, 10.0)
    file = TokenFile(folder / "tokens", lambda: next(clock))
    secrets = {name: file.add(name, role) for name, role in (("r", "read"), ("c", "control"), ("gone", "control"))}
    options = ("--token-file", "tokens", "--www", "www", "--max-streams", "1000")
    with running_daemon(folder, SOURCE, *options) as daemon:
        cookies = {name: logged_in(daemon, secret) for name, secret in secrets.items()}
        out = logged_in(daemon, secrets["c"])
        with connection(daemon) as client:
            client.request("POST", "/logout", headers={"Cookie": out})
            assert client.getresponse().status == 303
        file.revoke("gone")
        daemon.process.send_signal(1)  # SIGHUP: it counts at once
        daemon.wait_for("reloaded")
        yield Site(
            daemon,
            {
                "nothing": {},
                "wrong": {"Authorization": "Bearer rpi_wrong"},
                "revoked": {"Authorization": f"Bearer {secrets['gone']}"},
                "revoked session": {"Cookie": cookies["gone"]},
                "ended session": {"Cookie": out},
                "made-up session": {"Cookie": f"rpiserve-{daemon.port}=x"},
                "read": {"Authorization": f"Bearer {secrets['r']}"},
                "control": {"Authorization": f"Bearer {secrets['c']}"},
                "read session": {"Cookie": cookies["r"]},
                "control session": {"Cookie": cookies["c"]},
            },
        )


CREDENTIALS = (
    "nothing",
    "wrong",
    "revoked",
    "revoked session",
    "ended session",
    "made-up session",
    "read",
    "control",
    "read session",
    "control session",
)


def expected(role: str, foreign_is_refused: bool, credentials: str, origin: str) -> set[int]:
    """Return what the answer may be: the one status of a refusal, or any that is none."""
    allowed = ALLOWED[ROLES.get(credentials, "none")]
    if role not in allowed:
        return {403} if credentials in ROLES else {401}
    return {403} if foreign_is_refused and origin == "foreign" else {200, 303, 404, 405}


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_every_route(site: Site, credentials: str) -> None:
    """Each route answers each kind of credentials, from its own page, a foreign one and none, as the table says.

    What is refused has no effect: the app counts.
    """
    origins = {"none": None, "same": f"http://localhost:{site.daemon.port}", "foreign": "http://evil.example"}
    wrong = []
    for method, target, body, role, foreign_is_refused in ROUTES:
        for origin in ORIGINS:
            headers = {**JSON, "Host": f"localhost:{site.daemon.port}", **site.headers[credentials]}
            if origins[origin] is not None:
                headers["Origin"] = str(origins[origin])
            before = site.effects()
            if target == "/logout" and credentials.endswith("session") and origin != "foreign":
                continue  # which would end it
            status = site.status(method, target, body, headers)
            if status == 200 and target.startswith("/broadcasts/"):  # answered before its listener has run
                until(lambda before=before: site.effects() > before)
            allowed = expected(role, foreign_is_refused, credentials, origin)
            if status not in allowed:
                wrong.append((method, target, origin, status, allowed))
            if status in (401, 403) and site.effects() != before:
                wrong.append((method, target, origin, "acted", status))
    assert wrong == []


def test_what_is_allowed_acts(site: Site) -> None:
    """With the role it needs each of the routes that act does so: the counter that shows no effect can count."""
    for method, target, body, *_ in ACTING:
        if target == "/own/guarded":
            continue
        before = site.effects()
        headers = {**JSON, **site.headers["control"]}
        assert site.status(method, target, body, headers) == 200
        until(lambda before=before: site.effects() > before)
        assert site.effects() == before + 1, target


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
def test_methods_that_never_act(site: Site, method: str) -> None:
    """OPTIONS and HEAD have no effect anywhere, whoever sends them."""
    before = site.effects()
    for _, target, body, *_ in ACTING:
        site.status(method, target, body, {**JSON, **site.headers["control"]})
    assert site.effects() == before
