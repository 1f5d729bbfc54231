"""What rpiserve answers otherwise than raspend 2.0.4, and why: the same flat on both, the same requests to both.

    python -m benchmarks.raspend_compare

It prints each request whose answers differ in the status, the kind of content, the content itself (JSON by its value,
not its spaces) or the headers named below, with the reason. It fails if an answer differs without a reason, or has a
reason and does not differ. Headers that differ in every answer come first, and count there only.
"""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for python benchmarks/raspend_compare.py

from benchmarks.peers import RASPEND, end_on_sigterm, free_port, peers_python, running, twistd

PATIENCE = 1.5
"""Seconds to wait for an answer."""

PER_CASE = ("allow", "access-control-allow-methods", "x-injected")
"""The headers that count in each case."""

JSON = "application/json"

# The reasons, each of which may be that of several cases.
UNKNOWN_PATH = "a client with a wrong path learns of it, instead of taking another value for the one it wants"
PROBLEM = "an error is JSON too (RFC 9457), so that one parser serves a client for all"
BAD_ARGUMENTS = "wrong arguments are the client's fault, not the server's (RFC 9110); the answer names each"
NO_CORS = "any page on the web could read the data and call commands through a visitor's browser"
SECRET = "the text of an exception is nobody's business; it is in the log, under the incident id in the answer"
UNFORESEEN = "every request is answered, with what was wrong in it"
DEPTH = "JSON may nest 32 levels: no client needs more, and parsers fall over it"
LOCK = "no lock is held while user code runs or JSON is made: nothing that a handler does delays an answer"


@attrs.frozen
class Case:
    """A request to both.

    Attributes:
        name: what it is, beyond the request.
        method: its method.
        target: its target.
        reason: why the answers differ; empty if they do not.
        headers: its headers, beyond ``Host`` and ``Content-Length``.
        body: its body.
        scene: what the apps do meanwhile.
        before: a target that is got first, the answer to which does not count.
        meanwhile: a target that is got at the same time, the answer to which does not count.
    """

    name: str
    method: str
    target: str
    reason: str = ""
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes | None = None
    scene: str = "plain"
    before: str = ""
    meanwhile: str = ""


@attrs.frozen
class Answer:
    """What came back: a status, or what happened instead."""

    status: str
    version: str = ""
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""

    @property
    def kind(self) -> str:
        """The media type."""
        return self.headers.get("content-type", "").split(";")[0].lower()

    @property
    def value(self) -> Any:
        """The content: parsed if it is JSON, else as it is."""
        try:
            return json.loads(self.body, parse_constant=lambda text: f"{text}, which is no JSON")
        except ValueError:
            return self.body.decode(errors="replace")

    def text(self, limit: int = 160) -> str:
        """Return it as a line."""
        found = {name: self.headers[name] for name in PER_CASE if name in self.headers}
        extra = "".join(f"{name}: {value}; " for name, value in found.items())
        body = re.sub(r"\s+", " ", self.body.decode(errors="replace"))
        return f"{self.status} {self.kind}; {extra}{body[:limit]}{'…' if len(body) > limit else ''}"


def get(target: str, reason: str = "", *, name: str = "", scene: str = "plain", **headers: str) -> Case:
    """Return the case of a ``GET``."""
    return Case(
        name, "GET", target, reason, {key.replace("_", "-"): value for key, value in headers.items()}, None, scene
    )


def post(
    body: object, reason: str = "", *, name: str = "", target: str = "/", kind: str | None = JSON, **headers: str
) -> Case:
    """Return the case of a ``POST`` of JSON, or of bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    types = {} if kind is None else {"Content-Type": kind}
    return Case(name, "POST", target, reason, {**types, **headers}, content)


def call(command: object, arguments: object = None, **more: object) -> dict[str, object]:
    """Return the envelope of a call."""
    return {"Command": {"Name": command, **({} if arguments is None else {"Args": arguments})}, **more}


CASES = [
    # --- data
    get("/data"),
    get("/data/basement"),
    get("/data/kitchen"),
    get("/data/light"),
    get("/data/windows"),
    get("/data/"),
    get("/data/attic", UNKNOWN_PATH),
    get("/data/basement/attic", UNKNOWN_PATH),
    get("/data/kitchen/attic", UNKNOWN_PATH),
    get("/data/windows/0", UNKNOWN_PATH),
    get("/data/basement/", name="a slash at the end"),
    get("/data//basement", "an empty segment is no key; only a slash at the very end is left out"),
    get("/data/wine%20cellar", "segments are percent-decoded: keys with spaces and umlauts can be reached"),
    get("/data/basement?x=1", "the query is no part of the path"),
    get("/DATA", "paths are as they are written (RFC 3986)"),
    get("/Data/kitchen", PROBLEM),
    get("/", "the route is there, for POST, and says so"),
    get("/nothing", PROBLEM),
    Case("", "HEAD", "/data", "HEAD is GET without the body (RFC 9110)"),
    Case("", "DELETE", "/data", "501 would mean that the server knows no such method anywhere"),
    Case("", "OPTIONS", "/data", NO_CORS),
    Case("", "OPTIONS", "/cmd", NO_CORS),
    Case("", "OPTIONS", "/nothing", UNKNOWN_PATH),
    # --- commands by GET
    get("/cmds", "each command also has its docstring and a JSON Schema of its arguments; the order is the same"),
    get("/CMDS", "paths are as they are written (RFC 3986)"),
    get("/cmd?name=lamp.state"),
    get("/cmd?name=lamp.switch&onoff=off"),
    get("/cmd?name=lamp.dim&level=0.5", "arguments are converted by the annotations; raspend's are always text"),
    get("/cmd?name=lamp.dim&level=bright", "arguments are checked against the annotations"),
    get("/cmd?name=lamp.switch", BAD_ARGUMENTS, name="missing argument"),
    get("/cmd?name=lamp.switch&onoff=on&colour=red", BAD_ARGUMENTS, name="unknown argument"),
    get("/cmd?name=lamp.name_of&rooms=", "an empty text is a text; raspend drops the argument"),
    get("/cmd?name=lamp.name_of&rooms=a&rooms=b", "what is given twice is a list; raspend drops all but the first"),
    get("/cmd?name=lamp.explode", PROBLEM, name="unknown command"),
    get("/cmd?name=", UNFORESEEN, name="empty name"),
    get("/cmd", UNFORESEEN, name="no name"),
    get("/cmd?name=lamp.fuse", SECRET, name="a command that raises"),
    get("/cmd?name=lamp.broken", UNFORESEEN, name="a result that is no JSON"),
    get("/cmd?name=x%0D%0AX-Injected:%201", "nothing that a client sends stands in a header", name="CR LF"),
    get("/cmd?name=lamp.%E2%82%AC", UNFORESEEN, name="a command with a euro sign"),
    get("/cmd?name=lamp.state", "no other page than our own may call commands", Origin="http://evil.example"),
    get("/data", "a page cannot reach us by a name of its own (DNS rebinding)", Host="evil.example"),
    Case("", "HEAD", "/cmd?name=lamp.state", "HEAD may not do anything"),
    # --- commands by POST
    post(call("lamp.switch", {"onoff": "on"})),
    post(call("lamp.switch", {"onoff": "on"}), target="/cmd", name="to /cmd"),
    post(call("lamp.switch", {"onoff": "on"}), PROBLEM + "; commands are at / and /cmd only", target="/lamp"),
    post(call("lamp.switch", {"onoff": "on"}, Id=[1, {"a": None}]), name="further members"),
    post(call("lamp.state"), name="no Args"),
    post(call("lamp.state", {}), name="Args empty"),
    post(call("lamp.state", []), "the envelope is wrong, not the server", name="Args is a list"),
    post(
        {"Command": {"Name": "lamp.state", "Args": None}}, "the envelope is wrong, not the server", name="Args is null"
    ),
    post(call("lamp.dim", {"level": 1})),
    post(call("lamp.dim", {"level": "0.5"}), "arguments are converted by the annotations"),
    post(call("lamp.switch", {}), BAD_ARGUMENTS, name="missing argument"),
    post(call("lamp.switch", {"onoff": 1, "colour": 2}), BAD_ARGUMENTS, name="unknown argument"),
    post(call("lamp.explode"), PROBLEM, name="unknown command"),
    post(call("lamp.fuse"), SECRET, name="a command that raises"),
    post(call("lamp.broken"), "no 200 without a result", name="a result that is no JSON"),
    post(call("x\r\nX-Injected: 1"), "nothing that a client sends stands in a header", name="CR LF"),
    post(call(5), "the envelope is wrong, not the command unknown", name="Name is a number"),
    post(call({}), UNFORESEEN, name="Name is an object"),
    post({}, PROBLEM, name="no Command"),
    post({"Command": {}}, PROBLEM, name="no Name"),
    post({"Command": None}, UNFORESEEN, name="Command is null"),
    post([1], PROBLEM, name="a list"),
    post(b'{"Command": ', "broken JSON is the client's fault: 400", name="broken JSON"),
    post(b"\xff\xfe", UNFORESEEN, name="not UTF-8"),
    post(b"[" * 5000, UNFORESEEN, name="5000 brackets"),
    post(call("lamp.name_of", {"rooms": json.loads("[" * 40 + "]" * 40)}), DEPTH, name="40 brackets"),
    post(b'{"Command": {"Name": "lamp.name_of", "Args": {"rooms": NaN}}}', "NaN is no JSON (RFC 8259)", name="NaN"),
    post(b"", "broken JSON is the client's fault: 400", name="empty"),
    post(call("lamp.state"), PROBLEM, kind="text/plain", name="text/plain"),
    post(call("lamp.state"), PROBLEM, kind=None, name="no content type"),
    post(call("lamp.state"), kind="application/json; charset=utf-8", name="with charset"),
    post(call("lamp.state"), kind="APPLICATION/JSON", name="content type in capitals"),
    post(call("lamp.state"), "RFC 9110 allows the space", kind="application/json ;charset=utf-8", name="with a space"),
    post(call("lamp.state"), "no other page than our own may call commands", Origin="http://evil.example"),
    post(call("lamp.state"), UNFORESEEN, name="Content-Length is a word", **{"Content-Length": "much"}),
    post(call("lamp.state", pad="x" * (1 << 20)), "a body may have 1 MiB; --max-body", name="a body of 1 MiB"),
    Case("", "PUT", "/cmd", "501 would mean that the server knows no such method anywhere", {}, b"{}"),
    # --- scenes
    Case("while a command runs", "GET", "/data", LOCK, meanwhile="/cmd?name=lamp.slowly"),
    get("/cmds", PROBLEM + "; no commands is an empty list, not an error", scene="no commands"),
    get("/data", LOCK, scene="hanging", name="while a sensor hangs"),
    get("/cmds", LOCK + "; and as above", scene="hanging", name="while a sensor hangs"),
    get("/data", "a handler that raises is logged and run again; the lock of raspend's stays taken", scene="unplugged"),
    get("/data/odd", "what is no JSON is refused where it is written, and the log says so", scene="odd"),
    Case("afterwards", "GET", "/data", LOCK, scene="odd", before="/data"),
    get(
        "/data/odd", "NaN is no JSON (RFC 8259), and browsers refuse all of an answer that has it", scene="not a number"
    ),
    get("/cmds", "the annotation is shown as text", scene="typed"),
    Case("after /cmds", "GET", "/data", LOCK, scene="typed", before="/cmds"),
    get("/cmd?name=typed.dim&level=0.5", "arguments are converted by the annotations", scene="typed"),
]


def ask_with_others(port: int, case: Case) -> Answer:
    """Send a request, and those that go with it, and return what came back."""
    if case.before:
        ask(port, get(case.before))
    if not case.meanwhile:
        return ask(port, case)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as other:
        other.sendall(f"GET {case.meanwhile} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        time.sleep(0.2)
        return ask(port, case)


def ask(port: int, case: Case) -> Answer:
    """Send a request and return what came back."""
    headers = {"Host": f"127.0.0.1:{port}", **case.headers}
    if case.body is not None:
        headers.setdefault("Content-Length", str(len(case.body)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{case.method} {case.target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode() + (case.body or b"")
    answer = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        try:
            connection.sendall(request)
            while data := connection.recv(1 << 16):
                answer += data
        except TimeoutError:
            return Answer(f"no answer within {PATIENCE:g} s")
        except ConnectionError:
            pass
    if not answer:
        return Answer("closed without an answer")
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    pairs = (line.partition(":")[::2] for line in rest)
    return Answer(status, version, {name.lower(): value.strip() for name, value in pairs}, body)


@contextmanager
def both(scene: str) -> Iterator[dict[str, int]]:
    """Run the flat on both, and yield their ports by their names."""
    theirs, ours = free_port(), free_port()
    command = [peers_python(RASPEND), "flat_raspend.py", str(theirs)]
    with (
        running(command, theirs, SCENE=scene),
        running(twistd("flat_rpiserve", ours), ours, SCENE=scene),
    ):
        yield {"raspend": theirs, "rpiserve": ours}


def differences(theirs: Answer, ours: Answer) -> list[str]:
    """Return in what two answers differ."""
    pairs = {
        "status": (theirs.status, ours.status),
        "kind": (theirs.kind, ours.kind),
        "content": (theirs.value, ours.value),
        **{name: (theirs.headers.get(name), ours.headers.get(name)) for name in PER_CASE},
    }
    return [name for name, (one, other) in pairs.items() if one != other]


def compare(port: dict[str, int], case: Case) -> bool:
    """Send a request to both, print how the answers differ, and return whether that was to be expected."""
    theirs, ours = (ask_with_others(port[name], case) for name in ("raspend", "rpiserve"))
    found = differences(theirs, ours)
    if found or case.reason:
        body = "" if case.body is None or len(case.body) > 100 else f" {case.body.decode(errors='replace')}"
        scene = "" if case.scene == "plain" else f"[{case.scene}] "
        print(f"\n{scene}{case.method} {case.target}{body}{f' ({case.name})' if case.name else ''}")
        print(f"    raspend   {theirs.text()}")
        print(f"    rpiserve  {ours.text()}")
        print(f"    differs in {', '.join(found) or 'NOTHING'}: {case.reason or 'NO REASON GIVEN'}")
    return bool(found) == bool(case.reason)


def compare_headers(port: dict[str, int]) -> None:
    """Print the version and the headers of an answer of each."""
    for name, each in port.items():
        answer = ask(each, get("/data/kitchen"))
        print(f"{name}: {answer.version}")
        for header, value in answer.headers.items():
            print(f"    {header}: {value}")


def main() -> None:
    """Compare all, and fail if there is something new."""
    end_on_sigterm()
    wrong = 0
    for scene, cases in groupby(CASES, lambda case: case.scene):
        with both(scene) as port:
            if scene == "plain":
                compare_headers(port)
            wrong += sum(not compare(port, case) for case in cases)
    print(f"\n{len(CASES)} requests; {wrong} of them not as described here")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
