"""A request as a route's handler sees it, and the answers that it can give; without a server around them."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from rpiserve import HttpRequest, HttpResponse, UploadedFile
from rpiserve.data.encoding import JSON_DEPTH
from rpiserve.errors import AlreadyAnswered, DataError, HttpError
from rpiserve.web.app_request import MOST_FIELDS, Answer, answer_from, answer_of, phrase_of

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=B"


def request(
    body: bytes = b"", kind: str | None = None, *, query: bytes = b"", variables: dict[str, Any] | None = None
) -> HttpRequest:
    """Return a request with ``body``, which it says is of ``kind``."""
    headers = Headers() if kind is None else Headers({"Content-Type": kind})
    return HttpRequest("POST", "/here", query, headers, body, variables or {})


def part(head: bytes, value: bytes = b"v") -> bytes:
    """Return a part of a multipart form."""
    return b"--B\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


FIELD = b'Content-Disposition: form-data; name="a"'
END = b"--B--\r\n"


def refused(which: HttpRequest, *texts: str, what: str = "payload") -> None:
    """Assert that to ask for ``what`` is a 400, with all of ``texts`` in its text."""
    with pytest.raises(HttpError) as caught:
        getattr(which, what)
    assert caught.value.status == 400
    for text in texts:
        assert text in str(caught.value)


def outcome_of(ask: Callable[[], Any]) -> Any:
    """Return what ``ask`` brings, or the status of the error that it raises, whose text can be sent."""
    try:
        return ask()
    except HttpError as error:
        str(error).encode()
        return error.status


# --- the query --------------------------------------------------------------------------------------------------------


def test_query() -> None:
    """Each field of the query has its value, or a list of them; one without a value has an empty one."""
    query = request(query=b"a=1&b=2&a=3&c&d=%C3%A9+%2B&e=x;f=y").query
    assert query == {"a": ["1", "3"], "b": "2", "c": "", "d": "é +", "e": "x;f=y"}


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=3), max_size=5))
def test_any_query(fields: dict[str, list[str]]) -> None:
    """Whatever text a client encodes into a query or a form arrives as it was."""
    encoded = urlencode(fields, doseq=True).encode()
    expected = {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
    assert request(query=encoded).query == expected
    if encoded:
        assert request(encoded, FORM).payload == expected


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_query(query: bytes) -> None:
    """Any bytes at all are a query, or a 400."""
    outcome = outcome_of(lambda: request(query=query).query)
    assert outcome == 400 or isinstance(outcome, dict)


def test_wrong_queries() -> None:
    """A query that is not UTF-8, or has too many fields, is a 400 when it is asked for, and not before."""
    refused(request(query=b"a=%ff"), "the query is not UTF-8", what="query")
    refused(request(query=b"a=%ed%a0%80"), "not UTF-8", what="params")
    refused(request(query=b"&".join([b"a=1"] * (MOST_FIELDS + 1))), f"more than {MOST_FIELDS}")
    assert request(b"[1]", JSON, query=b"a=%ff").payload == [1]


def test_params() -> None:
    """``params`` has the fields of the query, overlaid by the variables of the path."""
    asked = request(query=b"pin=1&pin=2&x=y", variables={"pin": 5})
    assert asked.params == {"pin": 5, "x": "y"}
    assert asked.query == {"pin": ["1", "2"], "x": "y"}
    assert asked.path_params == {"pin": 5}


# --- the payload ------------------------------------------------------------------------------------------------------


def test_no_body() -> None:
    """Without a body the payload is the query, whatever the type is said to be, and ``json`` is None."""
    for kind in (None, JSON, FORM, MULTIPART):
        assert request(kind=kind, query=b"a=1").payload == {"a": "1"}
    assert request(kind=JSON).json is None
    assert request(kind=MULTIPART.replace("B", "")).body == b""


@pytest.mark.parametrize(
    "kind", [JSON, "Application/JSON", "application/json; charset=utf-8", " application/json ;x", "application/a+JSON"]
)
def test_json(kind: str) -> None:
    """A body that is said to be JSON, in any case and with any parameters, is the value."""
    assert request(b'{"a": [1, null]}', kind).payload == {"a": [1, None]}


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_as_json(body: bytes) -> None:
    """Any bytes at all are JSON, or a 400 that can be sent."""
    outcome = outcome_of(lambda: request(body, JSON).payload)
    assert outcome == 400 or outcome == msgspec.json.decode(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "no JSON"),
        (b"   ", "no JSON"),
        (b"NaN", "no JSON"),
        (b"1e999", "no JSON"),
        (b"1" * 5000, "no JSON"),
        (b'"\\ud800"', "no JSON"),
        (b"\xff", "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 10_000 + b"]" * 10_000, f"deeper than {JSON_DEPTH} levels"),
    ],
)
def test_wrong_json(body: bytes, text: str) -> None:
    """JSON that is none, or that nests too deeply, is a 400 by ``payload`` as well as by ``json``."""
    refused(request(body, JSON), text)
    refused(request(body), text, what="json")


def test_json_of_another_type() -> None:
    """``json`` reads the body as JSON whatever it is said to be; ``payload`` goes by that."""
    asked = request(b"[1]", "text/plain")
    assert asked.json == [1]
    assert asked.payload == b"[1]"


@pytest.mark.parametrize("kind", [None, "", "text/plain", ";;=,", "application/\xff", "a/b;" + 'a="\\";' * 2000])
def test_other_bodies(kind: str | None) -> None:
    """A body of any other type, even one that is no type, is given as it came."""
    asked = request(b"\x00\xff", kind)
    assert asked.payload == asked.body == b"\x00\xff"
    assert asked.files == {}


@pytest.mark.parametrize("kind", [FORM, "Application/X-WWW-Form-URLencoded; charset=UTF-8"])
def test_form(kind: str) -> None:
    """A form is its fields, in the same way as a query."""
    assert request(b"a=1&b=x+y&a=%C3%A9&c", kind).payload == {"a": ["1", "é"], "b": "x y", "c": ""}


def test_wrong_forms() -> None:
    """A form that is not UTF-8, or has 100,000 fields, is a 400."""
    refused(request(b"a=%ff", FORM), "the form is not UTF-8")
    refused(request(b"a=\xff", FORM), "the form is not UTF-8")
    refused(request(b"&".join(b"f%d=1" % number for number in range(100_000)), FORM), f"more than {MOST_FIELDS}")


# --- multipart forms --------------------------------------------------------------------------------------------------


def test_multipart() -> None:
    """The fields of a multipart form are the payload, and its files are beside it."""
    image = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
    body = part(FIELD, "é".encode()) + part(image, b"\x89\r\n--\x00") + part(FIELD.replace(b'"a"', b'"b"'), b"")
    asked = request(body + END, "Multipart/Form-DATA; Boundary=B")
    assert asked.payload == {"a": "é", "b": ""}
    assert asked.files == {"image": UploadedFile("a.png", "image/png", b"\x89\r\n--\x00")}


def test_repeated_parts() -> None:
    """A field that is given twice is a list; of files with one name there is the last."""
    files = part(FIELD + b'; filename="x"', b"1") + part(FIELD + b'; filename="y"', b"2")
    asked = request(part(FIELD, b"1") + part(FIELD, b"2") + files + END, MULTIPART)
    assert asked.payload == {"a": ["1", "2"]}
    assert asked.files == {"a": UploadedFile("y", "", b"2")}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (b'"../../etc/passwd"', "../../etc/passwd"),
        (b'"C:\\\\x"', "C:\\x"),
        (b'""', ""),
        (b'"a\\"b"', 'a"b'),
        (b'"a%0d%0ab"', "a%0d%0ab"),
    ],
)
def test_file_names(name: bytes, given: str) -> None:
    """The name of a file is what the client says, tricks and all: nothing here uses it."""
    asked = request(part(FIELD + b"; filename=" + name) + END, MULTIPART)
    assert asked.files["a"].filename == given


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", 'multipart/form-data; boundary=""', 'multipart/form-data; boundary="é"', MULTIPART + "x"],
)
def test_wrong_boundaries(kind: str) -> None:
    """A form without a boundary, or with one that is not in it, is a 400."""
    refused(request(part(FIELD) + END, kind), "the form is broken")


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        part(FIELD),
        part(b"X: y") + END,
        part(b"Content-Disposition: form-data") + END,
        part(b"Content-Disposition: form-data; filename=x") + END,
        part(b'Content-Disposition: form-data; name="\xff"') + END,
        part(FIELD + b"\r\nX: \xff") + END,
        b"--B\r\n" + b"y" * 1_000_000,
        b"\r" * 1_000_000,
        b"\n" * 1_000_000,
        b"-" * 1_000_000,
        b"--B" + b" " * 1_000_000,
        b"--A\r\n" * 200_000,
    ],
    ids=repr,
)
def test_broken_multipart(body: bytes) -> None:
    """A form that is cut off, has a part without a name, or is made to keep a parser busy, is a 400."""
    refused(request(body, MULTIPART), "the form is broken")
    refused(request(body, MULTIPART), "the form is broken", what="files")


def test_many_parts() -> None:
    """A form may have so many parts and no more."""
    assert len(request(part(FIELD) * MOST_FIELDS + END, MULTIPART).payload["a"]) == MOST_FIELDS
    refused(request(part(FIELD) * (MOST_FIELDS + 1) + END, MULTIPART), f"more than {MOST_FIELDS} fields")


def test_nested_multipart() -> None:
    """What is a form itself, inside a form, is a field like any other."""
    inner = b"--C\r\nContent-Disposition: file; filename=x\r\n\r\nz\r\n--C--"
    head = FIELD + b"\r\nContent-Type: multipart/mixed; boundary=C"
    assert request(part(head, inner) + END, MULTIPART).payload == {"a": inner.decode()}


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", part(FIELD), b"--B\r\n", b"--B\r\n" + FIELD + b"\r\n"]))
def test_any_bytes_as_multipart(body: bytes, before: bytes) -> None:
    """Any bytes at all are a form with names that are texts, or a 400 that can be sent."""
    asked = request(before + body + b"\r\n" + END, MULTIPART)
    outcome = outcome_of(lambda: {**asked.payload, **asked.files})
    assert outcome == 400 or all(isinstance(name, str) for name in outcome)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x85"), max_size=100))
def test_any_content_type(kind: str) -> None:
    """Whatever a client says the body is, it is given, or it is a 400."""
    for said in (kind, f"multipart/form-data;{kind}", f"application/json;{kind}"):
        assert outcome_of(lambda said=said: request(b"abc", said).payload) is not None


# --- answers ----------------------------------------------------------------------------------------------------------


def test_json_answers() -> None:
    """A value is sent as JSON: None, a text and a tuple that is no pair are values, too."""
    for value, body in [(None, b"null"), ("é", '"é"'.encode()), ((1, 2, 3), b"[1,2,3]"), (float("nan"), b"null")]:
        assert answer_of(value) == Answer(200, JSON, body)


@pytest.mark.parametrize("data", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes(data: Any) -> None:
    """Bytes are sent as they are, of a type that means nothing unless one is given."""
    assert answer_of(data) == Answer(200, "application/octet-stream", b"\x00\xff")
    assert answer_of(data, content_type="image/png") == Answer(200, "image/png", b"\x00\xff")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("text/html", "text/html; charset=utf-8"),
        ("Text/HTML", "Text/HTML; charset=utf-8"),
        ("text/plain; Charset=UTF-8", "text/plain; Charset=UTF-8"),
        ("application/xml", "application/xml"),
        (JSON, JSON),
    ],
)
def test_text(kind: str, sent: str) -> None:
    """A text with a content type is sent as it is, in UTF-8: JSON that was made already, too."""
    assert answer_of('{"é": 1}', content_type=kind) == Answer(200, sent, '{"é": 1}'.encode())


def test_values_of_another_type() -> None:
    """What is neither text nor bytes is JSON, whatever it is to be called."""
    assert answer_of({"a": 1}, content_type="application/geo+json") == Answer(200, "application/geo+json", b'{"a":1}')


def test_text_in_another_charset() -> None:
    """A text cannot be said to be in anything but UTF-8; as bytes it can."""
    with pytest.raises(DataError, match="UTF-8"):
        answer_of("é", content_type="text/plain; charset=latin-1")
    kind = "text/plain; charset=latin-1"
    assert answer_of("é".encode("latin-1"), content_type=kind) == Answer(200, kind, b"\xe9")


@pytest.mark.parametrize("status", [True, False, None, "200", 200.0, -1, 0, 100, 199, 600, 999, 10**30])
def test_wrong_statuses(status: Any) -> None:
    """What is no status of a final answer cannot be sent: as one, as an error's, or with an answer."""
    for send in (HttpResponse().send, HttpResponse().error):
        with pytest.raises(DataError, match="status"):
            send({"a": 1}, status)
    if isinstance(status, int) and 100 <= status <= 599:
        for outcome in (({"a": 1}, status), (HttpResponse().send(1), status)):
            with pytest.raises(DataError, match="status"):
                answer_from(outcome)


@pytest.mark.parametrize("status", [200, 204, 304, 399])
def test_errors_that_are_none(status: int) -> None:
    """An error cannot have a status that tells of success."""
    with pytest.raises(DataError, match="400 to 599"):
        HttpResponse().error("x", status)


def test_errors() -> None:
    """An error is a problem, with the text of what it is made of, made fit for a terminal."""
    answer = HttpResponse().error(ValueError("a\nb\ud800"), HTTPStatus.CONFLICT)
    assert (answer.status, answer.content_type) == (409, "application/problem+json")
    problem = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "a\\x0ab\\ud800"}
    assert msgspec.json.decode(answer.body) == {**problem, "code": "conflict"}
    assert HttpResponse().error("x").status == 400


def test_pairs() -> None:
    """A pair is data with a status only if the second item is a number from 100 to 599."""
    assert answer_from(({"a": 1}, 201)) == Answer(201, JSON, b'{"a":1}')
    assert answer_from((b"x", HTTPStatus.ACCEPTED)) == Answer(202, "application/octet-stream", b"x")
    for second, text in [(99, "99"), (600, "600"), (True, "true"), (201.0, "201.0"), ("201", '"201"')]:
        assert answer_from((1, second)) == Answer(200, JSON, f"[1,{text}]".encode())
    assert answer_from([1, 201]).body == b"[1,201]"
    assert answer_from(()).body == b"[]"


def test_answers_in_pairs() -> None:
    """An answer is one as it is; a status beside it takes the place of its own."""
    answer = answer_of("<p>", 200, "text/html", {"X-A": "b"})
    assert answer_from(answer) is answer
    assert answer_from((answer, 202)) == Answer(202, "text/html; charset=utf-8", b"<p>", {"X-A": "b"})
    with pytest.raises(DataError):
        answer_from((answer, 999))


@pytest.mark.parametrize("data", [object(), {1: 2}, "\ud800", {"\ud800": 1}, (x for x in "a"), int, ValueError("x")])
def test_what_cannot_be_sent(data: Any) -> None:
    """What is no JSON cannot be sent."""
    with pytest.raises(DataError, match="the answer"):
        answer_of(data)


def test_text_with_a_surrogate() -> None:
    """A text that UTF-8 cannot express cannot be sent as it is, either."""
    with pytest.raises(DataError, match="lone surrogate"):
        answer_of("\ud800", content_type="text/plain")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b\r\nX-Evil: 1"},
        {"X-A": "b\x00"},
        {"X-A": "\udc80"},
        {"X-A": 1},
        {"X-A": b"b"},
        {"X-A\r\nX": "1"},
        {"X A": "1"},
        {"X:": "1"},
        {"": "1"},
        {"Xé": "1"},
        {5: "1"},
        {"content-length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"CONNECTION": "close"},
    ],
)
def test_wrong_headers(headers: Any) -> None:
    """A header that would break the answer, or is the server's to set, is refused."""
    with pytest.raises(DataError, match=r"header"):
        answer_of(1, headers=headers)


def test_content_type_as_header() -> None:
    """The content type is not lost among the headers: the error says where it belongs."""
    for name in ("Content-Type", "content-type"):
        with pytest.raises(DataError, match="content_type="):
            answer_of("<p>", headers={name: "text/html"})


@pytest.mark.parametrize("kind", ["a/b\r\nX: y", "a/b\x7f", "a/\ud800", "a/é", 5, b"a/b", ["a/b"]])
def test_wrong_content_types(kind: Any) -> None:
    """A content type that would break the answer, or is no text, is refused."""
    with pytest.raises(DataError):
        answer_of(b"x", content_type=kind)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=50))
def test_any_header(name: str, value: str) -> None:
    """A header that is taken can be sent, as one line."""
    try:
        answer = answer_of(1, headers={name: value})
    except DataError:
        return
    [(name, value)] = answer.headers.items()
    line = f"{name}: {value}".encode()
    assert line.splitlines() == [line]


def test_twice() -> None:
    """A request is answered once; what was wrong has not answered it."""
    response = HttpResponse()
    with pytest.raises(DataError):
        response.send(object())
    first = response.send(1)
    for again in (response.send, response.error):
        with pytest.raises(AlreadyAnswered):
            again(2)
    assert response.answer is first


@settings(deadline=None)
@given(st.integers(200, 599))
def test_phrases(status: int) -> None:
    """Every status has a phrase, known or not."""
    assert phrase_of(status)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(413, "Content Too Large"), (414, "URI Too Long"), (416, "Range Not Satisfiable"), (422, "Unprocessable Content")],
)
def test_phrases_do_not_depend_on_the_version_of_python(status: int, phrase: str) -> None:
    """They are those of RFC 9110, which Python has since 3.13."""
    assert phrase_of(status) == phrase
