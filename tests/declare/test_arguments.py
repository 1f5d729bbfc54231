"""The arguments of commands: which annotations are types, what is taken for their values, how they are described."""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import msgspec
import pytest
import quoted_commands as quoted
from hypothesis import given
from hypothesis import strategies as st
from naming import shown
from quoted_commands import Colour, Level, Machine, Point, Tree

from rpiserve.declare.arguments import MOST_ERRORS, BadArguments, Signature
from rpiserve.errors import DeclarationError


def evaluated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of ``function`` whose annotations are no texts."""
    copy = types.FunctionType(function.__code__, function.__globals__)  # type: ignore[attr-defined]
    copy.__annotations__ = typing.get_type_hints(function, include_extras=True)
    return copy


def convert(function: Callable[..., Any], value: object) -> Any:
    """Return what becomes of ``value``, if the same does however the annotation is written."""
    outcomes = []
    for each in (function, evaluated(function)):
        try:
            outcomes.append(Signature.of(each, "it").convert({"it": value})["it"])
        except BadArguments as error:
            outcomes.append(error.errors)
    assert outcomes[0] == outcomes[1]
    assert type(outcomes[0]) is type(outcomes[1])
    return outcomes[0]


def refusal(function: Callable[..., Any], value: object) -> str:
    """Return the message with which ``value`` is refused."""
    (error,) = convert(function, value)
    assert error["argument"] == "it"
    return str(error["message"])


GOOD = [
    (quoted.an_int, 3, 3),
    (quoted.an_int, "3", 3),
    (quoted.an_int, "-3", -3),
    (quoted.an_int, 3.0, 3),
    (quoted.an_int, 10**30, 10**30),
    (quoted.a_float, 3, 3.0),
    (quoted.a_float, "3.25", 3.25),
    (quoted.a_float, "1e3", 1000.0),
    (quoted.a_decimal, "1.10", Decimal("1.10")),
    (quoted.a_decimal, 2, Decimal(2)),
    *((quoted.a_bool, word, True) for word in (True, 1, "1", "on", "ON", "yes", "Yes", "true", "TRUE", " on ")),
    *((quoted.a_bool, word, False) for word in (False, 0, "0", "off", "Off", "no", "NO", "false", "False")),
    (quoted.a_str, "3", "3"),
    (quoted.a_str, "", ""),
    (quoted.a_str, "nan", "nan"),
    (quoted.a_literal, "on", "on"),
    (quoted.a_literal, 3, 3),
    (quoted.a_literal, "3", 3),
    (quoted.an_enum, "red", Colour.RED),
    (quoted.a_numbered_enum, 2, Level.HIGH),
    (quoted.a_numbered_enum, "2", Level.HIGH),
    (quoted.an_optional, None, None),
    (quoted.an_optional, "null", None),
    (quoted.an_optional, "4", 4),
    (quoted.a_union, "on", True),
    (quoted.a_union, "2.5", 2.5),
    (quoted.a_union_with_text, "on", "on"),
    (quoted.a_union_with_text, False, False),
    (quoted.ints, [1, "2"], [1, 2]),
    (quoted.ints, ["1", "2"], [1, 2]),
    (quoted.ints, "1", [1]),
    (quoted.ints, "[1, 2]", [1, 2]),
    (quoted.ints, " []", []),
    (quoted.floats, ["1.5"], (1.5,)),
    (quoted.bools, ["on", "off", 1], [True, False, True]),
    (quoted.bools, "yes", [True]),
    (quoted.texts, "a", ["a"]),
    (quoted.texts, '["a", "[b"]', ["a", "[b"]),
    (quoted.texts, ["nan"], ["nan"]),
    (quoted.a_list, "[[" * 16 + "]]" * 16, eval("[[" * 16 + "]]" * 16)),
    (quoted.a_set, ["1", 1, 2], frozenset({1, 2})),
    (quoted.a_set, "1", frozenset({1})),
    (quoted.a_pair, ["1", "off"], (1, False)),
    (quoted.a_pair, '[1, "on"]', (1, True)),
    (quoted.perhaps_ints, None, None),
    (quoted.perhaps_ints, "1", [1]),
    (quoted.perhaps_ints, "[1]", [1]),
    (quoted.a_mapping, {"a": "1"}, {"a": 1.0}),
    (quoted.a_mapping, '{"a": 1}', {"a": 1.0}),
    (quoted.by_number, {"1.5": 2}, {1.5: 2}),
    (quoted.a_dataclass, {"x": 1, "y": "2"}, Point(1.0, 2.0)),
    (quoted.a_dataclass, {"x": "1", "shown": "off"}, Point(1.0, 0.0, False)),
    (quoted.a_dataclass, '{"x": 1, "more": 2}', Point(1.0)),
    (quoted.a_recursive_dataclass, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
    (quoted.a_typed_dict, {"fast": "on", "zones": "1"}, {"fast": True, "zones": [1]}),
    (quoted.a_typed_dict, "{}", {}),
    (quoted.a_percentage, "100", 100),
    (quoted.an_annotated_bool, "on", True),
    (quoted.anything, [1, "2", None], [1, "2", None]),
    (quoted.in_further_quotes, "3", 3),
]
BAD = [
    (quoted.an_int, "x"),
    (quoted.an_int, ""),
    (quoted.an_int, "1.5"),
    (quoted.an_int, 1.5),
    (quoted.an_int, True),
    (quoted.an_int, None),
    (quoted.an_int, [1]),
    (quoted.an_int, ["1", "2"]),
    (quoted.an_int, "9" * 5000),
    (quoted.an_int, "٣"),
    (quoted.a_float, "nan"),
    (quoted.a_float, "inf"),
    (quoted.a_float, "-Infinity"),
    (quoted.a_float, "1e999"),
    (quoted.a_float, 10**400),
    (quoted.a_float, "1,5"),
    (quoted.a_decimal, "NaN"),
    (quoted.a_decimal, "sNaN"),
    (quoted.a_decimal, "Infinity"),
    (quoted.a_bool, 2),
    (quoted.a_bool, "maybe"),
    (quoted.a_bool, None),
    (quoted.a_bool, ["on"]),
    (quoted.a_str, 3),
    (quoted.a_literal, "ON"),
    (quoted.a_literal, 4),
    (quoted.an_enum, "RED"),
    (quoted.a_numbered_enum, 3),
    (quoted.an_optional, "x"),
    (quoted.a_union, "inf"),
    (quoted.a_union, "maybe"),
    (quoted.ints, 1),
    (quoted.ints, "[1"),
    (quoted.ints, ["x"]),
    (quoted.ints, "[" * 15000),
    (quoted.ints, "[" * 33 + "]" * 33),
    (quoted.a_mapping, '{"a":' * 33 + "1" + "}" * 33),
    (quoted.floats, ["1", "nan"]),
    (quoted.bools, ["on", "maybe"]),
    (quoted.a_pair, ["1"]),
    (quoted.a_pair, ["1", "on", "more"]),
    (quoted.a_pair, "1"),
    (quoted.a_mapping, {"a": "nan"}),
    (quoted.a_mapping, "{"),
    (quoted.a_mapping, "a"),
    (quoted.by_number, {"nan": 1}),
    (quoted.a_dataclass, {"y": 1}),
    (quoted.a_dataclass, {"x": "inf"}),
    (quoted.a_dataclass, [1, 2]),
    (quoted.a_recursive_dataclass, {"name": "a", "children": [{"name": 1}]}),
    (quoted.a_typed_dict, {"zones": ["x"]}),
    (quoted.a_percentage, 101),
    (quoted.a_percentage, "-1"),
]


def named(value: object) -> str:
    """Return what a case is called."""
    return value.__name__ if callable(value) and not isinstance(value, type) else repr(value)[:20]


@pytest.mark.parametrize(("function", "value", "expected"), GOOD, ids=named)
def test_conversion(function: Callable[..., Any], value: object, expected: object) -> None:
    """What fits becomes a value of the annotated type, the same whether the annotation is a type or its name."""
    converted = convert(function, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(("function", "value"), BAD, ids=named)
def test_refusal(function: Callable[..., Any], value: object) -> None:
    """What does not fit is refused with a message, NaN and infinities inside of it included."""
    assert refusal(function, value)


def test_words_are_no_numbers_and_numbers_no_words() -> None:
    """In a union the text that is a number is the number; only what fits nothing is read as a word."""
    assert convert(quoted.a_union, "0") == 0
    assert convert(quoted.a_union, "off") is False

    def either(it: bool | Literal["on"]) -> None: ...

    assert Signature.of(either, "either").convert({"it": "on"}) == {"it": "on"}


KINDS: list[tuple[Callable[..., Any], Callable[[Any], bool]]] = [
    (quoted.an_int, lambda it: type(it) is int),
    (quoted.a_float, lambda it: type(it) is float and abs(it) < float("inf")),
    (quoted.a_decimal, lambda it: type(it) is Decimal and it.is_finite()),
    (quoted.a_bool, lambda it: it is True or it is False),
    (quoted.a_str, lambda it: type(it) is str),
    (quoted.a_literal, lambda it: it in ("on", "off", 3)),
    (quoted.an_enum, lambda it: it in list(Colour)),
    (quoted.a_numbered_enum, lambda it: it in list(Level)),
    (quoted.an_optional, lambda it: it is None or type(it) is int),
    (quoted.a_union, lambda it: type(it) in (bool, float) and abs(it) < float("inf")),
    (quoted.a_union_with_text, lambda it: type(it) in (bool, str)),
    (quoted.ints, lambda it: type(it) is list and all(type(item) is int for item in it)),
    (quoted.floats, lambda it: type(it) is tuple and all(abs(item) < float("inf") for item in it)),
    (quoted.bools, lambda it: type(it) is list and all(type(item) is bool for item in it)),
    (quoted.a_set, lambda it: type(it) is frozenset and all(type(item) is int for item in it)),
    (quoted.a_pair, lambda it: list(map(type, it)) == [int, bool]),
    (quoted.a_mapping, lambda it: type(it) is dict and all(abs(item) < float("inf") for item in it.values())),
    (quoted.by_number, lambda it: type(it) is dict and all(abs(key) < float("inf") for key in it)),
    (quoted.a_dataclass, lambda it: type(it) is Point and type(it.shown) is bool and abs(it.x) < float("inf")),
    (quoted.a_recursive_dataclass, lambda it: type(it) is Tree and all(type(each) is Tree for each in it.children)),
    (quoted.a_typed_dict, lambda it: type(it) is dict and type(it.get("fast", False)) is bool),
    (quoted.a_percentage, lambda it: type(it) is int and 0 <= it <= 100),
    (quoted.anything, lambda it: True),
]
SIGNATURES = [(Signature.of(function, "it"), holds) for function, holds in KINDS]
WORDS = ["on", "off", "yes", "red", "nan", "inf", "-inf", "NaN", "1", "3", "1.5", "1e400", "null", "[", "[1]", "{}", ""]
NAMES = ["x", "y", "shown", "name", "children", "fast", "zones", "1.5", "nan"]
TEXTS = st.sampled_from([*WORDS, '["on"]', '{"x": "nan"}', '{"name": "a", "children": [{}]}']) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_whatever_is_sent(value: object) -> None:
    """Whatever a client sends becomes a value of the annotated type, or is refused as an argument: nothing else."""
    for signature, holds in SIGNATURES:
        try:
            converted = signature.convert({"it": value})
        except BadArguments:
            continue
        assert holds(converted["it"])


@given(st.dictionaries(st.sampled_from(["it", "self", "name"]) | st.text(max_size=5), VALUES, max_size=4))
def test_whatever_names_are_sent(arguments: dict[str, Any]) -> None:
    """What passes can be given to the function, which then has exactly the arguments that were sent."""
    machine = Machine()
    for signature, call in ((Signature.of(machine.open, "open"), machine.open), (SIGNATURES[0][0], quoted.an_int)):
        try:
            converted = signature.convert(arguments)
        except BadArguments:
            continue
        assert converted.keys() == arguments.keys()
        call(**converted)


# --- which annotations are types ------------------------------------------------------------------------------------


def test_descriptions() -> None:
    """A text that is no type is a description; anything may be sent for it, and comes as it is."""
    signature = Signature.of(quoted.described, "described")
    assert signature.texts() == {"zone": "in the garden", "seconds": "10 to 60", "plain": "Unknown"}
    sent: dict[str, object] = {"zone": [1, {"a": None}], "seconds": "10", "plain": float("inf")}
    assert signature.convert(sent) == sent


@pytest.mark.parametrize("description", ["on or off", "the zone's number", "", "1/0", "0", "print", "[", "\0", "a.b"])
def test_description_is_never_an_error(description: str) -> None:
    """However a description reads as Python, it is a description."""

    def water(zone: int) -> None: ...

    water.__annotations__["zone"] = description
    signature = Signature.of(water, "water")
    assert signature.texts() == {"zone": description}
    assert signature.convert({"zone": "back"}) == {"zone": "back"}


@pytest.mark.parametrize("annotation", [5, 1.5, ["a"], {"a": 1}, len, object(), (int, str)])
def test_annotations_that_are_no_types(annotation: object) -> None:
    """An annotation that is something else than a type or a text is a description, too."""

    def water(zone: int) -> None: ...

    water.__annotations__["zone"] = annotation
    signature = Signature.of(water, "water")
    assert signature.texts()["zone"]
    assert signature.convert({"zone": "back"}) == {"zone": "back"}
    assert signature.schema()["properties"] == {"zone": {"description": signature.texts()["zone"]}}


def test_no_annotation() -> None:
    """A parameter without an annotation takes what comes."""

    def water(zone, seconds=10): ...  # type: ignore[no-untyped-def]

    signature = Signature.of(water, "water")
    assert signature.texts() == {"zone": "", "seconds": ""}
    assert signature.convert({"zone": {"any": [None]}, "seconds": "x"}) == {"zone": {"any": [None]}, "seconds": "x"}
    assert signature.schema()["properties"] == {"zone": {}, "seconds": {"default": 10}}


class Socket:
    """A class of which no client can send an object."""


@pytest.mark.parametrize(
    "annotation",
    [Socket, list[Socket], dict[str, Socket], Socket | None, Literal[1.5], Callable[[], int], type, Point | Tree],
    ids=repr,
)
def test_types_that_nobody_can_send(annotation: object) -> None:
    """A type that no client can send is refused where the command is declared, and named."""

    def water(zone: int) -> None: ...

    water.__annotations__["zone"] = annotation
    with pytest.raises(DeclarationError, match=r"^garden: no client can send a .* for 'zone': "):
        Signature.of(water, "garden")


@pytest.mark.parametrize("function", [quoted.unknown_class, quoted.unknown_class_inside])
def test_types_that_nobody_can_send_in_quotes(function: Callable[..., Any]) -> None:
    """So it is when its name stands there instead."""
    with pytest.raises(DeclarationError, match="no client can send"):
        Signature.of(function, "it")


@pytest.mark.parametrize(
    "function",
    [
        Machine().method,
        Machine.of_the_class,
        Machine.static,
        Machine(),
        partial(quoted.an_enum),
        partial(Machine.method, Machine()),
        partial(partial(Machine().method)),
        quoted.decorated,
        quoted.noted(Machine().method),
    ],
    ids=shown,
)
def test_where_quoted_types_are_looked_up(function: Callable[..., Any]) -> None:
    """The names in an annotation are those of the module of the function that was written, whatever is around it."""
    signature = Signature.of(function, "it")
    assert signature.texts() == {"it": "Colour"}
    assert signature.convert({"it": "red"}) == {"it": Colour.RED}


def test_functions_without_a_module() -> None:
    """Where there is no module to look in, the types that Python knows by itself are known all the same."""

    class Foreign:
        __call__ = print
        __signature__ = inspect.signature(quoted.an_int)

    assert Signature.of(Foreign(), "foreign").convert({"it": "1"}) == {"it": 1}


# --- which functions can be called by name ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["lambda *args: 0", "lambda a, /: 0", "lambda a, /, b: 0", "lambda a=1, /: 0"])
def test_arguments_without_a_name(source: str) -> None:
    """An argument that cannot be given by name is refused where the command is declared."""
    with pytest.raises(DeclarationError, match=r"^water: the argument '\*?a.*' has no name to give it by"):
        Signature.of(eval(source), "water")


def test_argument_called_name() -> None:
    """An argument called ``name`` is refused, since the query names the command so."""
    with pytest.raises(DeclarationError, match="no argument may be called 'name'"):
        Signature.of(lambda zone, name: 0, "water")


def test_functions_that_do_not_tell_their_arguments() -> None:
    """A function of which Python does not know the arguments is refused."""
    with pytest.raises(DeclarationError, match="water: Python does not tell its arguments; wrap it in a def"):
        Signature.of(dict, "water")


def test_what_a_partial_has_given_already() -> None:
    """What a partial gives by position is no argument any more; what it gives by name is a default."""

    def water(zone: int, seconds: float, pump: str = "main") -> None: ...

    signature = Signature.of(partial(water, 1, seconds=2.0), "water")
    assert signature.texts() == {"seconds": "float", "pump": "str"}
    assert signature.convert({}) == {}
    assert signature.schema()["properties"]["seconds"] == {"type": "number", "default": 2.0}


def test_keyword_only_and_defaults() -> None:
    """A keyword-only argument is one as any other, and one with a default may be left out."""

    def water(zone: int, *, seconds: float = 10, pump: str) -> None: ...

    signature = Signature.of(water, "water")
    assert signature.convert({"zone": "1", "pump": "main"}) == {"zone": 1, "pump": "main"}
    assert signature.schema()["required"] == ["zone", "pump"]
    with pytest.raises(BadArguments, match="pump: it is missing"):
        signature.convert({"zone": 1, "seconds": 2})


def test_further_arguments() -> None:
    """``**kwargs`` takes further arguments as they come, but none that have their value or name the command."""
    machine = Machine()
    signature = Signature.of(machine.open, "open")
    assert signature.schema()["additionalProperties"] is True
    assert signature.convert({"it": "1", "others": "2", "cls": None}) == {"it": 1, "others": "2", "cls": None}
    for reserved in ("self", "name"):
        with pytest.raises(BadArguments, match=f"{reserved}: there is no such argument; there are: it"):
            signature.convert({reserved: 1})

    def water(zone, seconds, **others): ...  # type: ignore[no-untyped-def]

    with pytest.raises(BadArguments, match="zone: there is no such argument; there are: seconds"):
        Signature.of(partial(water, 1), "water").convert({"zone": 2, "seconds": 1})
    assert Signature.of(partial(water, zone=1), "water").convert({"zone": 2, "seconds": 1}) == {"zone": 2, "seconds": 1}


def test_every_error_is_named() -> None:
    """All that is wrong is told at once, each with the argument that it is about."""

    def water(zone: int, seconds: float, pump: str) -> None: ...

    with pytest.raises(BadArguments) as raised:
        Signature.of(water, "water").convert({"zone": "x", "pmup": "main", "pump": "main"})
    assert raised.value.errors == [
        {"argument": "zone", "message": 'expected an integer, got "x"'},
        {"argument": "pmup", "message": "there is no such argument; there are: zone, seconds, pump"},
        {"argument": "seconds", "message": "it is missing"},
    ]
    assert str(raised.value).startswith('zone: expected an integer, got "x"; pmup: there is no such argument')
    with pytest.raises(BadArguments, match="x: there is no such argument; there are: none"):
        Signature.of(lambda: None, "nothing").convert({"x": 1})


def test_errors_do_not_outgrow_what_was_sent() -> None:
    """However many wrong arguments a client sends, and however long their names are, it is not told of all of them."""
    many: dict[str, object] = {f"{number}": 1 for number in range(10 * MOST_ERRORS)}
    with pytest.raises(BadArguments) as raised:
        SIGNATURES[0][0].convert({"x" * 10_000: 1, **many})
    assert len(raised.value.errors) == MOST_ERRORS + 1
    assert raised.value.errors[0]["argument"] == "x" * 100
    assert raised.value.errors[-1] == {"argument": "it", "message": "it is missing"}


# --- the schema -------------------------------------------------------------------------------------------------------

JSON_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
KEYWORDS = {
    *("type", "properties", "required", "additionalProperties", "$ref", "$defs", "anyOf", "enum", "const", "default"),
    *(
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "uniqueItems",
        "format",
        "pattern",
        "title",
    ),
    *("description", "propertyNames", "pattern", "title"),
}


def check_schema(schema: Any, definitions: dict[str, Any]) -> None:
    """Check that ``schema`` is one: with keywords that there are, types that JSON has, and references that lead on."""
    if isinstance(schema, bool):
        return
    assert schema.keys() <= KEYWORDS
    kinds = schema.get("type", [])
    assert {kinds} if isinstance(kinds, str) else set(kinds) <= JSON_TYPES
    if "$ref" in schema:
        assert schema["$ref"].removeprefix("#/$defs/") in definitions
    assert set(schema.get("required", [])) <= schema.get("properties", {}).keys()
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("prefixItems", [])]
    for keyword in ("items", "additionalProperties", "propertyNames"):
        inner += [schema[keyword]] if keyword in schema else []
    for each in [*inner, *schema.get("$defs", {}).values()]:
        check_schema(each, definitions)


@pytest.mark.parametrize("function", [*(function for function, _ in KINDS), quoted.described], ids=named)
def test_schema(function: Callable[..., Any]) -> None:
    """Every annotation has a schema, of which all references lead somewhere within the schema of the arguments."""
    for each in (function, evaluated(function)) if function is not quoted.described else (function,):
        schema = Signature.of(each, "it").schema()
        check_schema(schema, schema.get("$defs", {}))
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
        msgspec.json.encode(schema)


def test_what_a_schema_says() -> None:
    """The schema says what can be filled in, what for, and what is there by default."""

    def water(zone: Level, spread: Point, pump: "main, or spare", mode: Literal["a", "b"] = "a") -> None: ...  # type: ignore # noqa: F722

    schema = Signature.of(water, "water").schema()
    assert schema["properties"] == {
        "zone": {"$ref": "#/$defs/Level"},
        "spread": {"$ref": "#/$defs/Point"},
        "pump": {"description": "main, or spare"},
        "mode": {"enum": ["a", "b"], "default": "a"},
    }
    assert schema["required"] == ["zone", "spread", "pump"]
    assert schema["$defs"]["Level"]["enum"] == [1, 2]
    assert schema["$defs"]["Point"]["required"] == ["x"]


def test_schema_of_a_recursive_type() -> None:
    """A dataclass that holds others of its kind refers to itself."""
    schema = Signature.of(quoted.a_recursive_dataclass, "it").schema()
    assert schema["properties"] == {"it": {"$ref": "#/$defs/Tree"}}
    assert schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


@dataclass
class Unsendable:
    """What cannot be a default in JSON."""

    socket: Socket


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        (None, {"default": None}),
        (Colour.RED, {"default": "red"}),
        (Point(1), {"default": {"x": 1, "y": 0.0, "shown": True}}),
        ((1, 2), {"default": [1, 2]}),
        (float("inf"), {"default": None}),
        (object(), {}),
        (b"x", {}),
        ("\ud800", {}),
        ({(1, 2): 3}, {}),
        (Unsendable(Socket()), {}),
    ],
    ids=shown,
)
def test_defaults_in_the_schema(default: object, shown: dict[str, Any]) -> None:
    """A default that JSON can express is shown; any other is left out, and does not spoil the rest."""

    def water(zone=default): ...  # type: ignore[no-untyped-def]

    schema = Signature.of(water, "water").schema()
    assert schema["properties"] == {"zone": shown}
    msgspec.json.encode(schema)
