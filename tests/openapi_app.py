"""An app with something of every kind that the OpenAPI document tells of; `twistd` runs it, too.

Whatever fits the document is accepted by it: it has no argument that is a date, say, for which that cannot be said.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec

from rpiserve import App, Blueprint

app = App("station")
app.data.update({"host": {"name": "pi", "load": [0.5, 1.0]}, "a/b": 1, "°C": float("nan")})


class Mode(Enum):
    """How the heating runs."""

    DAY = "day"
    NIGHT = "night"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Plan:
    """What to do."""

    mode: Mode
    points: list[Point] = field(default_factory=list)
    next: "Plan | None" = None


class Options(TypedDict):
    loud: bool


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
    level: Literal["info", "warning"] = "info"


@app.sensor("room/temperature", every=60, unit="°C")
def temperature() -> float:
    return 21.5


class Bell:
    def ring(self, times: int, loud: bool = False, *, tone: Literal["ding", "dong"] = "ding") -> dict[str, int]:
        """Ring the bell.

        Args:
            times: how often.
        """
        return {"times": times}


the_bell = Bell()
app.add_command(the_bell.ring, name="theBell.ring")


@app.command
def every_kind(
    a: int,
    b: float,
    c: bool,
    d: str,
    e: Mode,
    f: int | None,
    g: list[int],
    h: dict[str, float],
    i: Point,
    j: Options,
    k: Note,
    l: UUID,  # noqa: E741
    m,
    n: "what it is for" = 3,  # noqa: F722
) -> Plan:
    """Take one argument of every kind."""
    return Plan(e, [i])


@app.command
def divide(a: float, b: float = 1.0) -> float:
    """Divide, where what is no number is null."""
    return a / b if b else float("nan")


@app.command
async def anything(**arguments: Any) -> Any:
    return arguments


@app.action("a.b-c")
def plain(request) -> str:
    """Say hello."""
    return "hello"


@app.action("plan")
async def plan(plan: Plan) -> Plan:
    """Give the plan back."""
    return plan


@app.action("lost")
def lost() -> float:
    """Read a sensor that has come off: no number."""
    return float("nan")


@app.action("nothing")
def nothing() -> None: ...


@app.route("/pins/<int:pin>", methods=["GET"])
def read_pin(pin: int) -> dict[str, int]:
    """Read a pin."""
    return {"pin": pin}


@app.route("/pins/<name>", methods=["PUT"])
def name_pin(note: Note, name: str) -> Note:
    return {"text": note.text}


@app.route("/notes", methods=["GET", "POST"])
def notes(note: Note) -> Options:
    """Keep a note."""
    return {"loud": note.level == "warning"}


@app.route("/convert/<float:value>/<any(celsius,kelvin):unit>")
def convert(value, unit) -> float:
    return value


@app.route("/of/<uuid:id>", methods=["DELETE"])
def of(id: UUID):
    return {"id": str(id)}, 202


@app.route("/read/<int:page>")
def page(page: int) -> int:
    """Read a page."""
    return page


@app.route("/read/<title>")
def title(title: str) -> str:
    """Read by title.

    The first one that has it.
    """
    return title


@app.route("/{odd}/größe", role="public")
def odd() -> tuple[int, int]:
    return 1, 2


@app.route("/files/<path:name>")
def files(request, name):
    return b"bytes"


house = Blueprint("house", url_prefix="/house")


@house.route("/rooms/<room>", methods=["PATCH"])
async def room(request, room: str) -> list[str]:
    """A room."""
    return [room]


app.register_blueprint(house)
