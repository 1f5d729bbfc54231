"""The messages as bytes: whatever is sent arrives as it was, and whatever else arrives is refused in one way."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rpiserve.core import wire
from rpiserve.core.wire import BrokenMessage
from rpiserve.data import encoding
from rpiserve.declare.names import LONGEST_CHANNEL, NAME, checked_bus_name, checked_channel
from rpiserve.errors import CallTimeout, MessageError, RemoteError, RemoteTimeout

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
plain = st.none() | st.booleans() | numbers | texts
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
names = st.from_regex(NAME, fullmatch=True)
ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=LONGEST_CHANNEL)


def message(**members: Any) -> bytes:
    """Return an object as bytes."""
    return msgspec.json.encode(members)


def refusal(data: bytes) -> str:
    """Return why ``data`` is no request."""
    with pytest.raises(BrokenMessage) as caught:
        wire.parse_request(data)
    return str(caught.value)


# --- there and back ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(names, names, values, ids, names, st.floats(1e-3, 1e8))
def test_a_request_there_and_back(
    service: str, action: str, payload: Any, request_id: str, sender: str, timeout: float
) -> None:
    """What a request says is what its receiver reads."""
    data = wire.request(service, action, payload, reply_to="a.b", request_id=request_id, sender=sender, timeout=timeout)
    request = wire.parse_request(data)
    assert (request.action, request.payload, request.request_id) == (action, payload, request_id)
    assert (request.reply_to, request.timeout, request.sender) == ("a.b", timeout, sender)
    assert request.raw["service"] == service


@settings(deadline=None)
@given(ids, st.sampled_from(["success", "error", "progress"]), values, st.booleans())
def test_a_reply_there_and_back(request_id: str, status: str, payload: Any, final: bool) -> None:
    """What a reply says is what its receiver reads."""
    reply = wire.parse_reply(wire.reply(request_id, status, payload, final=final))
    assert reply == wire.Reply(request_id, status, payload, final)


@settings(deadline=None)
@given(st.dictionaries(texts, values, max_size=5))
def test_an_object_there_and_back(members: dict[str, Any]) -> None:
    """Any object that JSON can have arrives as it was sent."""
    assert wire.parse(wire.encode(members)) == members


def test_json_inside_a_message() -> None:
    """A payload that is JSON already goes into a message as it is."""
    data = wire.reply("1", "success", encoding.raw(b'{"a":[1, 2]}'), final=True)
    assert data == b'{"status":"success","payload":{"a":[1, 2]},"request_id":"1","final":true}'


@settings(deadline=None)
@given(st.integers(-(10**40), 10**40))
def test_a_number_as_an_id(request_id: int) -> None:
    """A request may have a whole number as its id, and the answer has the same."""
    request = wire.parse_request(message(action="a")[:-1] + b',"request_id":%d}' % request_id)
    assert request.request_id == request_id
    assert wire.parse(wire.reply(request_id, "success", None, final=True))["request_id"] == request_id


@settings(deadline=None)
@given(
    texts, st.none() | names, st.none() | names, st.lists(st.fixed_dictionaries({"argument": texts, "message": texts}))
)
def test_an_error_there_and_back(
    text: str, code: str | None, incident: str | None, errors: list[dict[str, str]]
) -> None:
    """What an error says is what its receiver is told, with control characters escaped."""
    error = wire.parse_error(wire.parse(wire.encode(wire.error(text, code, incident, errors))))
    assert (str(error), error.code, error.incident) == (encoding.printable(text), code, incident)
    assert error.errors == errors


# --- what is no message -----------------------------------------------------------------------------------------------

json_like = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\u", b"d800", b"1e9", b"9" * 400, b"nul", b"true", b" "]
    )
    | st.binary(max_size=3)
).map(b"".join)


@settings(deadline=None)
@given(st.binary(max_size=200) | json_like | values.map(msgspec.json.encode))
@example(b"")
@example(b"\xff")
@example(b'{"a":"\xff"}')
@example(b'{"\\ud800":1}')
@example(b'{"a":1e999}')
@example(b'{"a":' + b"9" * 5000 + b"}")
@example(b'{"a":-' + b"9" * 5000 + b"}")
@example(b'{"a":NaN}')
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
def test_any_bytes(data: bytes) -> None:
    """No bytes whatever make the parsers raise anything but `BrokenMessage`, whose text UTF-8 can express."""
    for parse in (wire.parse, wire.parse_request, wire.parse_reply):
        try:
            parse(data)
        except BrokenMessage as error:
            str(error).encode()


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("action", "payload", "request_id", "reply_to", "timeout", "sender", "service", "status", "final"), values
        ),
    )
)
def test_any_members(members: dict[str, Any]) -> None:
    """No members whatever make the parsers raise anything but `BrokenMessage`, and none is read in a wrong type."""
    data = wire.encode(members)
    try:
        request = wire.parse_request(data)
    except BrokenMessage:
        pass
    else:
        assert isinstance(request.request_id, str | int | None)
        assert not isinstance(request.request_id, bool)
        assert request.reply_to is None or request.reply_to
        assert request.timeout is None or request.timeout > 0
        assert isinstance(request.sender, str | None)
        assert request.raw == members
    try:
        reply = wire.parse_reply(data)
    except BrokenMessage:
        pass
    else:
        assert (type(reply.request_id), type(reply.status), type(reply.final)) == (str, str, bool)


@settings(deadline=None)
@given(values)
def test_any_error_payload(payload: Any) -> None:
    """Whatever an error reply holds, it is an error with a text that can be shown."""
    error = wire.parse_error(payload)
    str(error).encode()
    assert len(str(error)) < 10_000
    assert isinstance(error.code, str | None)
    assert isinstance(error.incident, str | None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[]", "it is no JSON object: "),
        (b"7", "it is no JSON object: "),
        (b'{"a"', "it is no JSON object: "),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "it nests deeper than 32 levels"),
        (b'{"a":"' + b"x" * wire.LARGEST + b'"}', f"it has {wire.LARGEST + 8} bytes, more than {wire.LARGEST}"),
        (b"{}", "it has no action"),
        (b'{"action":"a","request_id":true}', "its request_id is neither a text nor a whole number"),
        (b'{"action":"a","request_id":1.5}', "its request_id is neither a text nor a whole number"),
        (b'{"action":"a","request_id":["1"]}', "its request_id is neither a text nor a whole number"),
        (b'{"action":"a","request_id":"' + b"x" * 257 + b'"}', "its request_id has more than 256 characters"),
        (b'{"action":"a","reply_to":""}', "its reply_to is no name of a channel"),
        (b'{"action":"a","reply_to":7}', "its reply_to is no name of a channel"),
        (b'{"action":"a","reply_to":"' + b"x" * 257 + b'"}', "its reply_to is no name of a channel"),
    ],
)
def test_no_request(data: bytes, reason: str) -> None:
    """What is no request, or could not be answered, is refused with the reason."""
    assert refusal(data).startswith(reason)


@pytest.mark.parametrize(
    "members", [{}, {"request_id": "1"}, {"status": "success"}, {"request_id": 1, "status": "success"}]
)
def test_no_reply(members: dict[str, Any]) -> None:
    """A reply has an id and a status, both of them texts."""
    with pytest.raises(BrokenMessage, match="a reply has a request_id and a status"):
        wire.parse_reply(wire.encode(members))


# --- what is read into a message --------------------------------------------------------------------------------------


def test_payload_of_a_direct_message() -> None:
    """A message without a payload is its own, but for the action."""
    assert wire.parse_request(message(action="a", x=1, y=2)).payload == {"x": 1, "y": 2}
    assert wire.parse_request(message(action="a", payload=None, x=1)).payload is None


@pytest.mark.parametrize(
    ("timeout", "read"),
    [(2, 2.0), (0.5, 0.5), (0, None), (-1, None), (True, None), ("5", None), (1e9, None), (None, None), ([1], None)],
)
def test_timeout(timeout: Any, read: float | None) -> None:
    """A time limit that is no sensible number is none."""
    assert wire.parse_request(message(action="a", timeout=timeout)).timeout == read


def test_sender_that_is_no_text() -> None:
    """A sender that is no text is none."""
    assert wire.parse_request(message(action="a", sender=7)).sender is None


@pytest.mark.parametrize(
    ("members", "final"), [({}, True), ({"final": True}, True), ({"final": False}, False), ({"final": None}, True)]
)
def test_final(members: dict[str, Any], final: bool) -> None:
    """A reply that does not say that more comes is final, whatever its status."""
    assert wire.parse_reply(message(request_id="1", status="progress", **members)).final is final


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_leaves_out_what_it_has_not() -> None:
    """The payload of an error has no empty members."""
    assert wire.error("no", None) == {"error": "no"}
    assert wire.error("no", "busy", "1f", [{"argument": "a", "message": "b"}]) == {
        "error": "no",
        "code": "busy",
        "incident": "1f",
        "errors": [{"argument": "a", "message": "b"}],
    }


def test_errors_of_other_services() -> None:
    """Of an error of another make what can be understood is taken, and the rest is left out."""
    of_daebus = wire.parse_error({"error": "no such thing"})
    assert (str(of_daebus), of_daebus.code, of_daebus.incident, of_daebus.errors) == ("no such thing", None, None, [])
    odd = wire.parse_error({"error": {"a": 1}, "code": 7, "incident": [], "errors": [{"argument": "a"}, 7]})
    assert (str(odd), odd.code, odd.incident, odd.errors) == ("{'a': 1}", None, None, [])
    assert str(wire.parse_error({})) == "an error without a text"
    assert str(wire.parse_error("a\x1b[2J")) == r"a\x1b[2J"
    assert len(str(wire.parse_error({"error": "x" * 5000}))) == 1000
    fields = wire.parse_error({"errors": [{"argument": "a", "message": 7}, {"argument": "a", "message": "b"}]})
    assert fields.errors == [{"argument": "a", "message": "b"}]
    assert wire.parse_error({"errors": {"a": 1}}).errors == []


def test_a_timeout_is_an_error_of_its_own() -> None:
    """A service's time limit that has passed is what a caller's own is, too."""
    assert isinstance(wire.parse_error(wire.error("late", wire.TIMEOUT)), RemoteTimeout)
    assert issubclass(RemoteTimeout, CallTimeout)
    assert type(wire.parse_error(wire.error("no", wire.BUSY))) is RemoteError


# --- what may be sent -------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_not_made() -> None:
    """A message that no receiver would take is refused where it is made."""
    room = wire.LARGEST - len(b'{"a":""}')
    assert len(wire.encode({"a": "x" * room})) == wire.LARGEST
    wire.parse(wire.encode({"a": "x" * room}))
    with pytest.raises(MessageError, match=f"a message may have {wire.LARGEST} bytes, and this one has"):
        wire.encode({"a": "x" * (room + 1)})


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 64])
def test_names(name: str) -> None:
    """The name of a service or an action has letters, digits and a few signs."""
    assert checked_bus_name(name, "a service") == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, "a\n", 7, None])
def test_bad_names(name: Any) -> None:
    """Any other name is refused, with what it is to be."""
    with pytest.raises(MessageError, match="is no name of an action: it has 1 to 64 letters"):
        checked_bus_name(name, "an action")


@pytest.mark.parametrize("channel", ["a", "sensors.*", "ä ö", "x" * 256])
def test_channels(channel: str) -> None:
    """A channel is any text of a bearable length."""
    assert checked_channel(channel) == channel


@pytest.mark.parametrize("channel", ["", "x" * 257, "a\0b", 7, None, "\ud800"])
def test_bad_channels(channel: Any) -> None:
    """What is no text, or too long, or cannot be sent, is refused."""
    with pytest.raises(MessageError, match="is no channel"):
        checked_channel(channel)
