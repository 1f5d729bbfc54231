"""The schemas in the OpenAPI document: those of arguments with their defaults, and those of results."""

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial, wraps
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from naming import shown
from openapi_reader import (
    Box,
    Cat,
    Dog,
    Level,
    Loud,
    Pair,
    Reading,
    Switch,
    body,
    fits,
    of_command,
    read,
    result,
    returns,
)
from openapi_spec_validator import validate

from rpiserve import App
from rpiserve.data import encoding


def test_every_kind_of_argument_is_told_of() -> None:
    """An argument of any type that a command can have, or with a mere description, is in a valid document."""

    def command(
        a: datetime,
        b: date,
        c: time,
        d: timedelta,
        e: Decimal,
        f: bytes,
        g: tuple[int, str],
        h: frozenset[Level],
        i: Box[int],
        j: Pair,
        k: Switch,
        l: Cat | Dog | None,  # noqa: E741
        m: Annotated[int, msgspec.Meta(ge=1, title="A number", extra_json_schema={"x-odd": {1, 2}})],
        n: "how long, in seconds",  # noqa: F722
        o: Any,
        p,  # type: ignore[no-untyped-def]
        q: list[Reading] = [],  # noqa: B006
        r: Literal["a", 1, None] = None,
        **others: str,
    ) -> None: ...

    whole, arguments, _ = of_command(command)
    validate(whole)
    assert arguments["required"] == list("abcdefghijklmnop")
    assert set(arguments["properties"]) == set("abcdefghijklmnopqr")
    assert arguments["additionalProperties"] is True
    assert arguments["properties"]["n"] == {"description": "how long, in seconds"}
    assert arguments["properties"]["r"]["default"] is None
    animal = arguments["properties"]["l"]
    assert fits(whole, animal, {"type": "Dog", "friend": {"type": "Cat"}})
    assert not fits(whole, animal, {"type": "Cow"})


@pytest.mark.parametrize(
    ("annotation", "default", "told"),
    [
        (int, 3, [3]),
        (int, None, []),
        (int, True, []),
        (float, 3, [3]),
        (float, float("nan"), []),
        (bool, False, [False]),
        (str, "a", ["a"]),
        (str, object(), []),
        (int | None, None, [None]),
        (Decimal, Decimal("1.5"), []),
        (datetime, datetime(2024, 2, 29), ["2024-02-29T00:00:00"]),
        (Level, Level.HIGH, [2]),
        (Level, 3, []),
        (Literal["a", 1], 1, [1]),
        (Literal["a", 1], True, []),
        (Annotated[int, msgspec.Meta(ge=1, le=3)], 3, [3]),
        (Annotated[int, msgspec.Meta(ge=1, le=3)], 0, []),
        (Annotated[int, msgspec.Meta(ge=1, le=3)], 4, []),
        (Annotated[float, msgspec.Meta(gt=1, lt=3)], 2.5, [2.5]),
        (Annotated[float, msgspec.Meta(gt=1, lt=3)], 1, []),
        (Annotated[float, msgspec.Meta(gt=1, lt=3)], 3, []),
        (Annotated[int | None, msgspec.Meta(extra_json_schema={"minimum": 1})], None, [None]),
        (Annotated[str, msgspec.Meta(pattern="a+")], "b", []),
        (list[int], [1], [[1]]),
        (list[int], ["a"], []),
        (list[int], 1, []),
        (dict[str, int], {"a": 1}, [{"a": 1}]),
        (dict[str, int], {"a": "b"}, []),
        (Reading, Reading(1.0), [{"value": 1.0, "level": 1, "at": None, "notes": []}]),
        (Switch, {"on": 1}, []),
        (Switch, {}, [{}]),
        (Box[int], {}, []),
        (Cat | Dog, {"type": "Cat"}, [{"type": "Cat"}]),
    ],
)
def test_a_default_is_told_if_it_fits(annotation: Any, default: Any, told: list[Any]) -> None:
    """A default that is of another type than the annotation, as None often is, would make the document invalid."""

    def command(a: Any = default) -> None: ...

    command.__annotations__["a"] = annotation
    whole, arguments, _ = of_command(command)
    argument = arguments["properties"]["a"]
    assert [argument[key] for key in argument if key == "default"] == told
    assert all(fits(whole, argument, value) for value in told)


def test_fields_that_are_called_like_keywords() -> None:
    """They are fields all the same, and what they refer to is there."""
    fields: list[Any] = [("default", Level), ("enum", Switch), ("type", float), ("properties", list[Level])]
    odd = dataclasses.make_dataclass("Odd", fields)
    whole, _, schema = of_command(returns(odd))
    validate(whole)
    good = {"default": 1, "enum": {"on": True}, "type": None, "properties": [2]}
    assert fits(whole, schema, good)
    assert not any(fits(whole, schema, {**good, key: "a"}) for key in good)


def test_classes_that_share_a_name() -> None:
    """Each is a component of its own, also if the document has one of that name itself, and each is there once."""
    inner = dataclasses.make_dataclass("Inner", [("x", int)])
    other_inner = dataclasses.make_dataclass("Inner", [("y", str)])
    one = dataclasses.make_dataclass("Problem", [("inner", inner)])
    other = dataclasses.make_dataclass("Problem", [("inner", other_inner)])
    app = App("test")
    for number, kind in enumerate([one, other, one, other]):

        def handler(payload: Any) -> None: ...

        handler.__annotations__["payload"] = kind
        app.action(f"action{number}")(handler)
    whole = read(app)
    bodies = [body(whole["paths"][f"/actions/action{number}"]["post"]) for number in range(4)]
    assert bodies[0] == bodies[2] != bodies[1] == bodies[3]
    for schema, good, bad in ((bodies[0], {"x": 1}, {"y": "a"}), (bodies[1], {"y": "a"}, {"x": 1})):
        assert fits(whole, schema, {"inner": good})
        assert not fits(whole, schema, {"inner": bad})
    assert [name for name in whole["components"]["schemas"] if name.startswith(("Problem", "Inner"))] == [
        "Problem",
        "Problem_2",
        "Inner",
        "Problem_3",
        "Inner_2",
    ]
    assert whole["components"]["schemas"]["Problem"]["description"] == "What went wrong (RFC 9457)."


def test_classes_that_share_name_and_module_in_one_command() -> None:
    """Each argument keeps the schema of its own class."""

    def command(a: Any, b: Any) -> None: ...

    command.__annotations__ |= {name: dataclasses.make_dataclass("Inner", [(name, int)]) for name in "ab"}
    whole, arguments, _ = of_command(command)
    validate(whole)
    assert fits(whole, arguments, {"a": {"a": 1}, "b": {"b": 2}})
    assert not fits(whole, arguments, {"a": {"b": 1}, "b": {"a": 2}})


class Maker:
    """A command that is a class: what it makes is not what its ``__init__`` returns."""

    def __init__(self) -> None: ...


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate ``function``; only its text remains what it was."""

    @wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return 1, function(*arguments, **named)

    return wrapper


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 1.5),
        (float, float("nan")),
        ("float | str", float("inf")),
        (Decimal, Decimal("1.5")),
        (None, None),
        (Reading, Reading(float("nan"), Level.HIGH, datetime(2024, 2, 29), {"a"})),
        (list[Reading], [Reading(1.0)]),
        (set[float], {float("nan"), float("inf")}),
        (dict[str, datetime], {"a": datetime(2024, 2, 29)}),
        (date, date(2024, 2, 29)),
        (UUID, UUID(int=7)),
        (tuple[int, str], (1, "a")),
        (Pair, Pair(1, 2)),
        (Loud, Loud.YES),
        (Switch, {"on": True}),
        (Box[float], Box(float("inf"))),
        (Literal["a", 1], 1),
    ],
    ids=shown,
)
def test_the_schema_of_a_result_is_true(annotation: Any, value: object) -> None:
    """What a command returns that keeps to its annotation fits the document as it is served; something else does not.

    The codec serves NaN as null, and of two such in a set both.
    """
    whole, _, schema = of_command(returns(annotation))
    assert fits(whole, schema, msgspec.json.decode(encoding.encode(encoding.to_wire(value, ""))))
    assert not fits(whole, schema, {"on": 0, "item": "x"})


@pytest.mark.parametrize(
    "function",
    [
        returns(Any),
        returns(object),
        returns(App),
        returns("no type at all"),
        lambda: 1,
        Maker,
        counted(returns(int)),
        partial(counted(returns(int))),
        [].copy,
    ],
)
def test_a_result_of_which_nothing_is_certain(function: Callable[..., Any]) -> None:
    """Without an annotation, and where it may not be that of what comes back, the schema is open."""
    assert of_command(function)[2] == {}


def test_a_class_is_another_component_as_a_result_only_where_it_differs() -> None:
    """A number is null as a result where it is not as an argument; a class without numbers is the same."""
    app = App("test")

    @app.action("one")
    def one(reading: Reading) -> Reading:
        return reading

    @app.action("two")
    def two(switch: Switch) -> Switch:
        return switch

    whole = read(app)
    one_, two_ = (whole["paths"][f"/actions/{name}"]["post"] for name in ("one", "two"))
    assert (body(one_)["$ref"], result(one_)["$ref"]) == (
        "#/components/schemas/Reading",
        "#/components/schemas/Reading.Result",
    )
    assert body(two_) == result(two_) == {"$ref": "#/components/schemas/Switch"}
