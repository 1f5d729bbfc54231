"""What a handler of messages is given: nothing, the request, or a payload that was checked field by field."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Generic, Literal, NotRequired, Optional, TypedDict, TypeVar, Union

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpiserve import PubSubRequest
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.payload import Payload, payload_of
from rpiserve.errors import DeclarationError

Item = TypeVar("Item")


@dataclass
class Zone:
    """A dataclass."""

    number: int
    seconds: float = 10.0


@dataclass
class Garden:
    """A dataclass that holds others."""

    name: str
    zone: Zone
    zones: list[Zone] = field(default_factory=list)
    named: dict[str, Zone] = field(default_factory=dict)
    by_number: dict[int, str] = field(default_factory=dict)


class ZoneStruct(msgspec.Struct):
    """A Struct."""

    number: int
    seconds: float = 10.0


class RenamedStruct(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A Struct with other names outside, which takes no others."""

    zone_number: int


class ZoneDict(TypedDict):
    """A TypedDict."""

    number: int
    seconds: NotRequired[float]


@attrs.define
class ZoneAttrs:
    """A class of attrs'."""

    number: int
    seconds: float = 10.0


@dataclass
class Box(Generic[Item]):
    """A dataclass of any type."""

    number: Item


@dataclass
class Picky:
    """A dataclass with a mind of its own."""

    error: str

    def __post_init__(self) -> None:
        raise {"value": ValueError("not so"), "type": TypeError("not so"), "key": KeyError("a secret")}.get(
            self.error, RuntimeError("a secret")
        )


def taking(annotation: Any) -> Callable[[Any], None]:
    """Return a function with an argument of that annotation."""

    def handler(it: Any) -> None: ...

    handler.__annotations__["it"] = annotation
    return handler


def payload(annotation: Any) -> Payload:
    """Return what a function with an argument of that annotation wants."""
    return payload_of(taking(annotation), "it")


def errors(annotation: Any, value: Any) -> list[dict[str, str]]:
    """Return why ``value`` is refused as a payload of that annotation."""
    with pytest.raises(BadArguments) as caught:
        payload(annotation).convert(value)
    return caught.value.errors


# --- what is wanted ---------------------------------------------------------------------------------------------------

structured = pytest.mark.parametrize("kind", [Zone, ZoneStruct, ZoneDict, ZoneAttrs])


@structured
@pytest.mark.parametrize("quoted", [False, True])
def test_classes_with_fields(kind: Any, quoted: bool) -> None:
    """A dataclass, a Struct, a TypedDict and a class of attrs', in quotes or not, is what the payload becomes."""
    converted = payload(kind.__name__ if quoted else kind).convert({"number": "3", "seconds": 2})
    if kind is ZoneDict:
        assert converted == {"number": 3, "seconds": 2.0}
    else:
        assert converted == kind(number=3, seconds=2.0)


@structured
def test_schema(kind: Any) -> None:
    """The schema of a payload is that of its class."""
    schema = payload(kind).schema()
    assert schema is not None
    (described,) = schema["$defs"].values()
    assert described["properties"]["number"] == {"type": "integer"}
    assert described["required"] == ["number"]


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[Zone, msgspec.Meta(description="a zone")],
        Annotated[Zone, "a zone"],
        Zone | None,
        Optional[Zone],  # noqa: UP045 - it is another object than the one above
        Union[Zone, int],  # noqa: UP007 - as above
        "Zone | None",
        "Annotated[Zone, 1]",
        Box[int],
        "Box[int]",
    ],
    ids=str,
)
def test_classes_with_fields_in_other_clothes(annotation: Any) -> None:
    """A note on such a class, a choice that includes one and a generic one count as such a class, too."""
    assert payload(annotation).convert({"number": "3"}).number == 3


def test_payload_or_nothing() -> None:
    """Where null is allowed it may be the payload."""
    assert payload(Zone | None).convert(None) is None
    assert errors(Zone, None) == [{"argument": "payload", "message": "expected an object, got null"}]


@pytest.mark.parametrize(
    "annotation",
    [
        PubSubRequest,
        "PubSubRequest",
        PubSubRequest | None,
        dict,
        dict[str, Zone],
        list[Zone],
        int,
        str | None,
        Any,
        object,
        Callable[[], None],
        "a message",
        "nowhere.Unknown",
        Annotated[int, 1],
        7,
        None,
        TypeVar("T"),
    ],
    ids=str,
)
def test_other_annotations(annotation: Any) -> None:
    """With any other annotation, that of a request above all, the argument is the request."""
    wanted = payload(annotation)
    assert (wanted.wanted, wanted.parameter, wanted.schema()) == (True, None, None)


class Methods:
    """What has methods."""

    def one(self, it: Zone) -> None: ...
    def none(self) -> None: ...
    def __call__(self, it: Zone) -> None: ...

    @classmethod
    def of_class(cls, it: Zone) -> None: ...


def bound_default(it: Any = 3) -> None: ...
def keyword_default(*, it: Any = 3) -> None: ...
def only_arguments(*arguments: Any) -> None: ...
def only_keywords(**fields: Any) -> None: ...
def positional_only(it: Zone, /) -> None: ...
def and_more(it: Zone, more: int = 1, *others: Any, **fields: Any) -> None: ...
def plain(it) -> None: ...  # type: ignore[no-untyped-def]
def nothing() -> None: ...


@pytest.mark.parametrize(
    "function",
    [nothing, bound_default, keyword_default, only_arguments, only_keywords, Methods().none, partial(plain, 1)],
)
def test_functions_that_are_given_nothing(function: Callable[..., Any]) -> None:
    """A function that needs no argument gets none: a default is its own affair."""
    assert payload_of(function, "it") == Payload(False, None)


@pytest.mark.parametrize(
    "function", [positional_only, and_more, Methods().one, Methods(), Methods.of_class, partial(Methods.one, Methods())]
)
def test_functions_that_are_given_a_payload(function: Callable[..., Any]) -> None:
    """A function of whatever kind that needs one argument gets it, of the class that it is annotated with."""
    assert payload_of(function, "it").convert({"number": 1}) == Zone(1)


def test_functions_that_are_given_the_request() -> None:
    """A function whose argument has no annotation gets the request."""
    assert payload_of(plain, "it") == Payload(True, None)


@pytest.mark.parametrize(
    ("function", "needed"),
    [
        (lambda one, two: None, "one, two"),
        (lambda one, *, two: None, "one, two"),
        (lambda *, one: None, "one"),
        (lambda one=1, *, two: None, "two"),
        (lambda one, two, /, *others: None, "one, two"),
    ],
)
def test_too_many_arguments(function: Callable[..., Any], needed: str) -> None:
    """A function that needs more than one argument, or one by name, is refused with their names."""
    with pytest.raises(DeclarationError, match=f"^it: it is given one argument at most, and needs {needed}$"):
        payload_of(function, "it")


def test_a_function_that_does_not_tell() -> None:
    """A function of which Python cannot tell the arguments is refused with what to do."""
    with pytest.raises(DeclarationError, match="it: Python does not tell its arguments; wrap it in a def"):
        payload_of(dict, "it")


@dataclass
class Impossible:
    """A dataclass that no message can hold."""

    what: Callable[[], None]


@pytest.mark.parametrize("annotation", [Impossible, "Impossible", Impossible | None, Box[Impossible]], ids=str)
def test_a_payload_that_no_message_can_have(annotation: Any) -> None:
    """A class with a field that JSON cannot be converted to is refused where it is declared."""
    with pytest.raises(DeclarationError, match=r"it: no client can send a .*Impossible"):
        payload(annotation)


# --- what does not fit ------------------------------------------------------------------------------------------------

ZONE = {"number": 1}


@structured
def test_a_wrong_field_is_named(kind: Any) -> None:
    """A field of another type is named, with what it should be."""
    assert errors(kind, {"number": "three"}) == [{"argument": "number", "message": 'expected an integer, got "three"'}]


@structured
def test_a_missing_field_is_named(kind: Any) -> None:
    """A field that is not there is named."""
    assert errors(kind, {"seconds": 1}) == [{"argument": "number", "message": "it is missing"}]


@structured
@pytest.mark.parametrize("value", [[], "text", 7, True, None])
def test_no_object(kind: Any, value: Any) -> None:
    """A payload that is no object is refused as a whole."""
    (error,) = errors(kind, value)
    assert error["argument"] == "payload"
    assert error["message"].startswith("expected an object, got ")


@pytest.mark.parametrize(
    ("value", "argument", "message"),
    [
        ({"name": "a"}, "zone", "it is missing"),
        ({"name": "a", "zone": {}}, "zone.number", "it is missing"),
        ({"name": "a", "zone": {"number": []}}, "zone.number", "expected an integer, got a list"),
        (
            {"name": "a", "zone": ZONE, "zones": [ZONE, {"number": "x"}]},
            "zones[1].number",
            'expected an integer, got "x"',
        ),
        ({"name": "a", "zone": ZONE, "zones": [ZONE, {}]}, "zones[1].number", "it is missing"),
        ({"name": "a", "zone": ZONE, "named": {"b": {}}}, 'named["b"].number', "it is missing"),
        ({"name": 7, "zone": ZONE}, "name", "expected a text, got 7"),
    ],
)
def test_a_field_within_is_named_by_its_path(value: Any, argument: str, message: str) -> None:
    """A field deep inside is named with the way there."""
    assert errors(Garden, value) == [{"argument": argument, "message": message}]


def test_a_wrong_key_is_told_of() -> None:
    """A key that cannot be converted is told of with the place of its mapping."""
    (error,) = errors(Garden, {"name": "a", "zone": ZONE, "by_number": {"x": "y"}})
    assert error == {"argument": "by_number", "message": 'expected an integer as a key, got "x"'}


def test_fields_have_their_names_outside() -> None:
    """A field that is called otherwise in JSON is named so, and what there is no field for is told of."""
    assert payload(RenamedStruct).convert({"zoneNumber": "3"}) == RenamedStruct(3)
    assert errors(RenamedStruct, {}) == [{"argument": "zoneNumber", "message": "it is missing"}]
    (error,) = errors(RenamedStruct, {"zoneNumber": 3, "more": 1})
    assert error == {"argument": "more", "message": "there is no such field"}


def test_a_long_path_is_cut() -> None:
    """The name of a field in an error is of a bearable length."""
    long = dataclasses.make_dataclass("Long", [("x" * 200, int)])
    assert errors(long, {}) == [{"argument": "x" * 100, "message": "it is missing"}]


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity", float("nan"), float("inf"), -float("inf")])
@structured
def test_numbers_are_finite(kind: Any, number: Any) -> None:
    """No field can be a number that is none, which a text could otherwise smuggle in."""
    (error,) = errors(kind, {"number": 1, "seconds": number})
    assert error["message"] == "it is not a finite number, or holds one that is not"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("value", "not so"),
        ("type", "not so"),
        ("key", "it was refused with a KeyError"),
        ("other", "it was refused with a RuntimeError"),
    ],
)
def test_a_class_that_refuses(error: str, message: str) -> None:
    """What a class itself raises is a refusal: with its text if it is meant for that, else with no more than a name."""
    assert errors(Picky, {"error": error}) == [{"argument": "payload", "message": message}]


def test_lenient_as_commands_are() -> None:
    """The fields are converted as the arguments of commands are: words are true, JSON in a text is read."""

    @dataclass
    class Lenient:
        on: bool
        zones: list[int]
        mode: Literal["a", "b"] = "a"
        zone: Zone | None = None

    value = {"on": "yes", "zones": "[1, 2]", "mode": "b", "zone": '{"number": "3"}', "unknown": 7}
    assert payload(Lenient).convert(value) == Lenient(True, [1, 2], "b", Zone(3))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
fields = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("name", "zone", "zones", "named", "by_number", "number", "seconds"), values)
)


@settings(deadline=None)
@given(values | fields, st.sampled_from([Garden, Zone, ZoneStruct, ZoneDict, ZoneAttrs, RenamedStruct, Zone | None]))
def test_any_payload(value: Any, kind: Any) -> None:
    """Whatever the payload is, it fits or is refused with errors that say where and why."""
    errors: list[dict[str, str]] = []
    try:
        payload(kind).convert(value)
    except BadArguments as error:
        errors = error.errors
    assert all(set(each) == {"argument", "message"} and all(each.values()) for each in errors)
