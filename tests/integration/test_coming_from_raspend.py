"""docs/raspend.md: its names exist, its application runs, and each row of its table of answers is so.

What raspend itself answers is not tried here, but by ``benchmarks/raspend_compare.py``.
"""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from daemon import PATIENCE, Daemon, running_daemon, until

from rpiserve import App, Handler, Repeat

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "raspend.md").read_text(encoding="utf-8")
JSON = {"Content-Type": "application/json"}
FOREIGN = "evil.example"

FLAT = """
import threading
import time

from rpiserve import App, Handler

app = App("flat")
app.data.update({"kitchen": 23.5, "wine cellar": {"red": 12.5}})

class Lamp:
    def __init__(self):
        self.may_end = threading.Event()

    def switch(self, onoff: "on or off"):
        return onoff

    def dim(self, level: float):
        "Set how bright it is."
        return level

    def state(self):
        return 1

    def name_of(self, rooms="none"):
        return rooms

    def fuse(self):
        raise OSError("secret.key")

    def broken(self):
        return object()

    def slowly(self):
        app.data["slowly"] = "runs"
        self.may_end.wait(20)

lamp = Lamp()
for method in (lamp.switch, lamp.dim, lamp.state, lamp.name_of, lamp.fuse, lamp.broken, lamp.slowly):
    app.add_command(method)
app.add_command(lamp.may_end.set, name="end", concurrent=True)

class Hanging(Handler):
    def invoke(self):
        self.data["hanging"] = True
        while not self.stopping:
            time.sleep(0.01)

class Broken(Handler):
    def invoke(self):
        self.runs = getattr(self, "runs", 0) + 1
        self.data.set(f"runs/{self.runs}", True)
        raise OSError("unplugged")

class Odd(Handler):
    def invoke(self):
        self.data["not a number"] = float("nan")
        self.data["odd"] = object()

app.every(60, Hanging())
app.every(0.05, Broken())
app.every(60, Odd())
"""


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def value(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


def anything(_: Answer) -> bool:
    """Let any answer be right that has the status."""
    return True


def is_problem(answer: Answer) -> bool:
    """Tell whether it is an error as ours are."""
    problem = answer.value
    return (
        answer.headers["content-type"] == "application/problem+json"
        and problem["status"] == answer.status
        and bool(problem["detail"])
    )


def names(argument: str) -> Callable[[Answer], bool]:
    """Return what tells whether an error names ``argument``."""
    return lambda answer: is_problem(answer) and [error["argument"] for error in answer.value["errors"]] == [argument]


def has_incident(answer: Answer) -> bool:
    """Tell whether an error has an incident id and tells nothing else."""
    return is_problem(answer) and bool(answer.value["incident"]) and "secret" not in answer.body


def allows(*methods: str) -> Callable[[Answer], bool]:
    """Return what tells whether an answer allows just ``methods``, and says nothing of CORS."""
    return lambda answer: answer.headers["allow"].split(", ") == list(methods) and not has_cors(answer)


def has_cors(answer: Answer) -> bool:
    """Tell whether it has headers for CORS."""
    return any(name.startswith("access-control") for name in answer.headers)


def is_value(value: object) -> Callable[[Answer], bool]:
    """Return what tells whether an answer is ``value`` as JSON."""
    return lambda answer: bool(answer.value == value)


@attrs.frozen
class Case:
    """A request, and what its answer shows.

    Attributes:
        target: the target.
        status: the status of the answer.
        shows: tells whether the answer is right.
        method: the method.
        body: the body.
        headers: the headers.
        after: a target that has to answer 200 before.
        without_commands: send it to an app that has no commands.
    """

    target: str
    status: int = 200
    shows: Callable[[Answer], bool] = anything
    method: str = "GET"
    body: bytes | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    after: str = ""
    without_commands: bool = False


def post(body: object, status: int, shows: Callable[[Answer], bool] = is_problem, **headers: str) -> Case:
    """Return the case of a ``POST`` of JSON, or of bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Case("/", status, shows, "POST", content, {**JSON, **headers})


def call(name: object, **more: object) -> dict[str, object]:
    """Return the envelope of a call of a command of the lamp's."""
    return {"Command": {"Name": f"lamp.{name}", **more}}


CASES: dict[str, list[Case]] = {
    "any": [Case("/data", 200, lambda answer: int(answer.headers["content-length"]) == len(answer.body.encode()))],
    "any that goes well": [
        Case("/data", 200, lambda answer: not has_cors(answer)),
        Case("/data", 200, lambda answer: answer.headers["content-type"] == "application/json"),
    ],
    "any that fails": [Case("/nothing", 404, is_problem), Case("/cmd?name=lamp.explode", 404, is_problem)],
    "`GET /data/attic`, not there": [Case("/data/attic", 404, is_problem)],
    "`GET /data/kitchen/attic`, not there": [Case("/data/kitchen/attic", 404, is_problem)],
    "`GET /data//kitchen`": [Case("/data//kitchen", 404, is_problem), Case("/data/kitchen/", 200, is_value(23.5))],
    "`GET /data/wine%20cellar`": [Case("/data/wine%20cellar", 200, is_value({"red": 12.5}))],
    "`GET /data/kitchen?x=1`": [Case("/data/kitchen?x=1", 200, is_value(23.5))],
    "`GET /DATA`": [Case("/DATA", 404, is_problem)],
    "`GET /CMDS`": [Case("/CMDS", 404, is_problem)],
    "`GET /`": [Case("/", 200, lambda answer: answer.headers["content-type"].startswith("text/html"))],
    "`HEAD /data`": [Case("/data", 200, lambda answer: answer.body == "", "HEAD")],
    "`DELETE /data`": [Case("/data", 405, allows("GET", "HEAD", "OPTIONS"), "DELETE")],
    "`OPTIONS /data`": [Case("/data", 204, allows("GET", "HEAD", "OPTIONS"), "OPTIONS")],
    "`OPTIONS /nothing`": [Case("/nothing", 404, is_problem, "OPTIONS")],
    "`POST /lamp` with a command": [Case("/lamp", 404, is_problem, "POST", json.dumps(call("state")).encode(), JSON)],
    "`GET /cmds`": [
        Case(
            "/cmds",
            200,
            lambda answer: {*answer.value["Commands"][0]["Command"]} == {"Name", "Args", "URL", "Doc", "Schema"},
        )
    ],
    "`GET /cmds`, there are none": [Case("/cmds", 200, is_value({"Commands": []}), without_commands=True)],
    "`GET /cmds`, an argument is annotated with a type": [
        Case("/cmds", 200, lambda answer: answer.value["Commands"][1]["Command"]["Args"] == {"level": "float"})
    ],
    "`GET /cmd?name=lamp.dim&level=0.5`": [Case("/cmd?name=lamp.dim&level=0.5", 200, is_value(0.5))],
    "`GET /cmd?name=lamp.dim&level=bright`": [Case("/cmd?name=lamp.dim&level=bright", 422, names("level"))],
    "`GET /cmd?name=lamp.dim`, an argument is missing": [Case("/cmd?name=lamp.dim", 422, names("level"))],
    "`GET /cmd?name=lamp.dim&level=1&colour=red`, one is unknown": [
        Case("/cmd?name=lamp.dim&level=1&colour=red", 422, names("colour"))
    ],
    "`GET /cmd?name=lamp.name_of&rooms=`": [Case("/cmd?name=lamp.name_of&rooms=", 200, is_value(""))],
    "`GET /cmd?name=lamp.name_of&rooms=a&rooms=b`": [
        Case("/cmd?name=lamp.name_of&rooms=a&rooms=b", 200, is_value(["a", "b"]))
    ],
    "`GET /cmd`, no name": [Case("/cmd", 400, is_problem)],
    "`GET /cmd?name=`": [Case("/cmd?name=", 404, is_problem)],
    "a name that is not Latin-1, unknown": [Case("/cmd?name=%E2%82%AC", 404, is_problem), post(call("€"), 404)],
    "a name with a line break, unknown": [
        Case("/cmd?name=x%0D%0AX-Injected:%201", 404, lambda answer: "x-injected" not in answer.headers)
    ],
    "`HEAD /cmd?name=lamp.state`": [Case("/cmd?name=lamp.state", 405, allows("GET", "OPTIONS", "POST"), "HEAD")],
    "a command that raises": [Case("/cmd?name=lamp.fuse", 500, has_incident), post(call("fuse"), 500, has_incident)],
    "a result that is no JSON, by `GET`": [Case("/cmd?name=lamp.broken", 500, has_incident)],
    "a result that is no JSON, by `POST`": [post(call("broken"), 500, has_incident)],
    "`POST /`, broken JSON or none": [post(b'{"Command":', 400), post(b"", 400)],
    "`POST /`, not UTF-8": [post(b"\xff\xfe", 400)],
    "`POST /`, `Command` is no object": [post({"Command": None}, 400), post({"Command": [1]}, 400)],
    "`POST /`, `Args` is no object": [post(call("state", Args=[]), 400), post(call("state", Args=None), 400)],
    "`POST /`, `Name` is a number": [post({"Command": {"Name": 5}}, 400)],
    "`POST /`, with `NaN`": [post(call("name_of", Args={"rooms": float("nan")}), 400)],
    "`POST /`, JSON nested 40 deep": [post(b"[" * 40 + b"]" * 40, 400)],
    "`POST /`, more than 1 MiB": [post(call("state", pad="x" * (1 << 20)), 413)],
    "`POST /`, `Content-Length` is a word": [post(b"", 400, **{"Content-Length": "much"})],
    "`POST /`, `application/json ;charset=utf-8`": [
        post(
            {**call("state"), "Id": [1, None]},
            200,
            is_value({**call("state", Result=1), "Id": [1, None]}),
            **{"Content-Type": "application/json ;charset=utf-8"},
        )
    ],
    "`GET` or `POST` of a command, `Origin` of another site": [
        Case("/cmd?name=lamp.state", 403, is_problem, headers={"Origin": f"http://{FOREIGN}"}),
        post(call("state"), 403, Origin=f"http://{FOREIGN}"),
    ],
    "any, `Host` of another site": [Case("/data", 421, is_problem, headers={"Host": FOREIGN})],
    "`/data`, while a sensor hangs": [Case("/data", after="/data/hanging")],
    "`/data`, while a command runs": [],  # test_data_is_served_while_a_command_runs
    "`/data`, after a handler has raised": [Case("/data", after="/data/runs/2")],
    "`/data`, after an object was stored that is no JSON": [
        Case("/data", 200, lambda answer: "odd" not in answer.value, after="/data/not%20a%20number")
    ],
    "`/data`, with a NaN in it": [Case("/data/not%20a%20number", 200, is_value(None), after="/data/not%20a%20number")],
}


def rows(header: str) -> list[list[str]]:
    """Return the rows of the page's table whose first row is ``header``."""
    lines = PAGE.splitlines()
    first = lines.index(header) + 2
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def block(first_line: str) -> str:
    """Return the page's Python block that begins with ``first_line``."""
    [found] = re.findall(rf"^```python\n({re.escape(first_line)}\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


NAMES = rows("| raspend | rpiserve |")
ANSWERS = {row[0]: row for row in rows("| Request | raspend 2.0.4 | rpiserve | Why |")}


def ask(port: int, case: Case) -> Answer:
    """Send the request of ``case`` and return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.putrequest(case.method, case.target, skip_host="Host" in case.headers)
    headers = dict(case.headers)
    if case.body is not None:
        headers.setdefault("Content-Length", str(len(case.body)))
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(case.body)
    return finish(connection)


def finish(connection: http.client.HTTPConnection) -> Answer:
    """Read the answer that ``connection`` waits for, and close it."""
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    answer = Answer(response.status, headers, response.read().decode())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the lamp, and with sensors that hang, raise, and write what is no JSON."""
    with running_daemon(tmp_path_factory.mktemp("flat"), FLAT) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with nothing in its app."""
    with running_daemon(tmp_path_factory.mktemp("bare")) as daemon:
        yield daemon


def test_each_row_of_the_table_is_tried() -> None:
    """No row was added, removed or renamed without this file."""
    assert list(ANSWERS) == list(dict.fromkeys(ANSWERS))
    assert set(ANSWERS) == set(CASES)


@pytest.mark.parametrize("row", CASES)
def test_a_row_of_the_table(row: str, flat: Daemon, bare: Daemon) -> None:
    """The answer is what the row says, its status first of all."""
    said = re.match(r"\d{3}", ANSWERS[row][2])
    for case in CASES[row]:
        port = (bare if case.without_commands else flat).port
        if case.after:
            before = Case(case.after)
            until(lambda port=port, before=before: ask(port, before).status == 200)
        answer = ask(port, case)
        assert answer.status == case.status, answer.body
        assert said is None or int(said[0]) in {each.status for each in CASES[row]}
        assert case.shows(answer), answer


def test_data_is_served_while_a_command_runs(flat: Daemon) -> None:
    """The command has begun, and ends only after the answer."""
    caller = http.client.HTTPConnection("127.0.0.1", flat.port, timeout=PATIENCE)
    caller.request("GET", "/cmd?name=lamp.slowly")
    try:
        until(lambda: ask(flat.port, Case("/data/slowly")).status == 200)
        assert ask(flat.port, Case("/data")).value["slowly"] == "runs"
    finally:
        ask(flat.port, Case("/cmd?name=end"))
    assert finish(caller).status == 200


def test_the_connection_is_kept(flat: Daemon) -> None:
    """A second request goes over the same connection."""
    connection = http.client.HTTPConnection("127.0.0.1", flat.port, timeout=PATIENCE)
    connection.request("GET", "/data")
    response = connection.getresponse()
    response.read()
    used = connection.sock
    connection.request("GET", "/data/kitchen")
    assert (response.version, connection.sock) == (11, used)
    assert used is not None
    assert finish(connection).value == 23.5


def test_the_names_exist() -> None:
    """Each name of ours in the table of names is one that there is."""
    text = "\n".join(row[1] for row in NAMES)
    for owner, found in {App: r"`app\.(\w+)\(", Handler: r"`self\.(\w+)`"}.items():
        names_there = re.findall(found, text)
        assert names_there
        assert [name for name in names_there if not hasattr(owner, name)] == []
    [repeats] = [row[1] for row in NAMES if "Repeat." in row[1]]
    assert re.findall(r"[A-Z]{5,}", repeats) == list(Repeat.__members__)


def test_the_application_runs(tmp_path: Path) -> None:
    """The one that came from raspend reads its sensor, and has its command."""
    with running_daemon(tmp_path, block("# formerly raspend")) as daemon:
        until(lambda: ask(daemon.port, Case("/data/cpu/load")).status == 200)
        assert isinstance(ask(daemon.port, Case("/data/cpu/load")).value, float)
        assert ask(daemon.port, Case("/cmd?name=lamp.switch&onoff=off")).value == "off"
