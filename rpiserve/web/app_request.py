"""An HTTP request and its answer, as the app's own routes see them.

What a request carries is taken apart when a handler asks for it, in the handler's own thread.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any, Final
from urllib.parse import parse_qs

import attrs
import msgspec
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from rpiserve.data import encoding
from rpiserve.errors import AlreadyAnswered, DataError, HttpError

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

MOST_FIELDS: Final = 1000
"""How many fields a form may have."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2

_OURS: Final = frozenset({"connection", "content-length", "content-type", "date", "server", "transfer-encoding"})
"""The headers of an answer that handlers cannot set."""


@attrs.frozen
class UploadedFile:
    """A file in a form.

    Attributes:
        filename: what the client calls it. Never use it as a path.
        content_type: what the client says it is.
        body: what is in it.
    """

    filename: str
    content_type: str
    body: bytes


class HttpRequest:
    """An HTTP request, as the handler that answers it sees it.

    Args:
        method: the method, in capital letters.
        path: the path, decoded.
        query: the query string.
        headers: the headers.
        body: the body.
        variables: the variables of the path.

    Attributes:
        method: the method, in capital letters.
        path: the path, decoded.
        headers: the headers, by names in any case.
        body: the body as it came, bytes.
        path_params: the variables of the path.
    """

    def __init__(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes, variables: Mapping[str, Any]
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.path_params = dict(variables)
        self._query = query

    @cached_property
    def query(self) -> dict[str, Any]:
        """The fields of the query: the value of each, a text, or a list if it is given more than once.

        Raises:
            HttpError: 400, it is not UTF-8, or has too many fields.
        """
        return singled(parse_fields(self._query).items())

    @cached_property
    def params(self) -> dict[str, Any]:
        """The fields of the query, and in place of what has the same name the variables of the path."""
        return {**self.query, **self.path_params}

    @property
    def content_type(self) -> str:
        """What the body is, such as ``application/json``; without parameters, and ``""`` if the client does not say."""
        return parse_options_header(self.headers.get("Content-Type"))[0].lower()

    @cached_property
    def json(self) -> Any:
        """The body as the JSON that it is; None if there is none.

        Raises:
            HttpError: 400, it is no JSON, or nests too deeply.
        """
        return parse_json(self.body) if self.body else None

    @cached_property
    def payload(self) -> Any:
        """What the request brings: the body if there is one, as JSON or as the fields of a form; else the query.

        A body of any other kind is given as it came, bytes.

        Raises:
            HttpError: 400, it is not what it is said to be.
        """
        if not self.body:
            return self.query
        kind = self.content_type
        if kind == JSON or kind.endswith("+json"):
            return self.json
        if kind == FORM:
            return singled(parse_fields(self.body, "the form").items())
        return self._form[0] if kind == MULTIPART else self.body

    @cached_property
    def files(self) -> dict[str, UploadedFile]:
        """The files of a multipart form, by the names of their fields; the last one of each.

        Raises:
            HttpError: 400, the form is broken.
        """
        return self._form[1] if self.content_type == MULTIPART else {}

    @cached_property
    def _form(self) -> tuple[dict[str, Any], dict[str, UploadedFile]]:
        kind, options = parse_options_header(self.headers.get("Content-Type"))
        parser = FormDataParser(_in_memory, max_form_memory_size=None, max_form_parts=MOST_FIELDS, silent=False)
        try:
            _, fields, files = parser.parse(BytesIO(self.body), kind.lower(), len(self.body), options)
        except RequestEntityTooLarge:
            raise HttpError(400, f"the form has more than {MOST_FIELDS} fields") from None
        except ValueError as error:
            raise HttpError(400, f"the form is broken: {error}") from None
        if None in fields or None in files:  # whatever Werkzeug's annotations say
            raise HttpError(400, "the form is broken: a field of it has no name")
        return singled(fields.lists()), {name: _uploaded(several[-1]) for name, several in files.lists()}


def parse_json(body: bytes) -> Any:
    """Return the value that ``body`` is as JSON.

    Raises:
        HttpError: 400, it is no JSON, or nests too deeply.
    """
    if encoding.is_too_deep(body):
        raise HttpError(400, f"the body nests deeper than {encoding.JSON_DEPTH} levels")
    try:
        body.decode()
        return msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise HttpError(400, "the body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise HttpError(400, f"the body is no JSON: {error}") from None


def parse_fields(text: bytes, what: str = "the query") -> dict[str, list[str]]:
    """Return the values of each field in ``text``, which is encoded as a query is; ``what`` it is, for errors.

    Raises:
        HttpError: 400, it is not UTF-8, or has too many fields.
    """
    try:
        # Not Twisted's, which takes a semicolon for an ampersand and drops what has no "=".
        return parse_qs(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except UnicodeDecodeError:
        raise HttpError(400, f"{what} is not UTF-8") from None
    except ValueError:
        raise HttpError(400, f"{what} has more than {MOST_FIELDS} fields") from None


def singled(fields: Iterable[tuple[str, list[str]]]) -> dict[str, Any]:
    """Return each field's value, or a list of them if there are several."""
    return {name: values[0] if len(values) == 1 else values for name, values in fields}


def _in_memory(*_: Any, **__: Any) -> IO[bytes]:
    return BytesIO()  # a body is no larger than the limit for bodies, and the disk of a Pi is a card


def _uploaded(file: FileStorage) -> UploadedFile:
    return UploadedFile(file.filename or "", file.mimetype, file.stream.read())


@attrs.frozen
class Answer:
    """An answer, ready to be sent.

    Attributes:
        status: the HTTP status code.
        content_type: what the body is.
        body: the body.
        headers: further headers.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class HttpResponse:
    """How a handler answers the request that it handles. What its methods return is the answer, returned or not."""

    def __init__(self, response: object = None) -> None:
        """``response`` is of no effect; Daebus has such an argument."""
        self.answer: Answer | None = None

    def send(
        self,
        data: Any = None,
        status: int = 200,
        *,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Answer with ``data``. It is sent when the handler returns.

        Args:
            data: what is sent: any value as JSON; bytes, or text with a ``content_type``, as they are. Text is sent in
                UTF-8.
            status: the HTTP status code, from 200 to 599.
            content_type: what the data are; JSON by default, and for bytes ``application/octet-stream``.
            headers: further headers of the answer.

        Raises:
            DataError: the data, the status or a header cannot be sent.
            AlreadyAnswered: there is an answer already.
        """
        return self._set(answer_of(data, status, content_type, headers))

    def error(self, err: object, status: int = 400) -> Answer:
        """Answer with an error, as ``application/problem+json`` (RFC 9457).

        Args:
            err: what to tell, such as an exception; its text is sent.
            status: the HTTP status code, from 400 to 599.

        Raises:
            DataError: the status cannot be sent.
            AlreadyAnswered: there is an answer already.
        """
        if not _is_status(status, 400):
            raise DataError(f"the status of an error is {status!r:.80}; it is a number from 400 to 599")
        return self._set(answer_of(problem_of(status, encoding.printable(str(err))), status, PROBLEM_JSON))

    def _set(self, answer: Answer) -> Answer:
        if self.answer is not None:
            raise AlreadyAnswered("this request has been answered already")
        self.answer = answer
        return answer


def answer_of(
    data: Any, status: int = 200, content_type: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Return the answer that `HttpResponse.send` makes of its arguments.

    Raises:
        DataError: they cannot be sent.
    """
    if not _is_status(status, 200):
        raise DataError(f"the status of an answer is {status!r:.80}; it is a number from 200 to 599")
    kind, own = _checked_kind(content_type), _checked_headers(headers or {})
    if isinstance(data, bytes | bytearray | memoryview):
        return Answer(status, kind or "application/octet-stream", bytes(data), own)
    if isinstance(data, str) and kind:
        return Answer(status, _text_kind(kind), _utf8(data), own)
    return Answer(status, kind or JSON, encoding.encode(encoding.to_wire(data, "the answer")), own)


def answer_from(outcome: Any) -> Answer:
    """Return the answer that a handler has returned: one of `HttpResponse`'s, or data; or a pair of that and a status.

    Raises:
        DataError: it cannot be sent.
    """
    if isinstance(outcome, tuple) and len(outcome) == 2 and _is_status(outcome[1], 100):
        data, status = outcome
        if isinstance(data, Answer) and _is_status(status, 200):
            return attrs.evolve(data, status=status)
        return answer_of(data, status)
    return outcome if isinstance(outcome, Answer) else answer_of(outcome)


def _is_status(status: object, least: int) -> bool:
    return isinstance(status, int) and not isinstance(status, bool) and least <= status <= 599


def _utf8(text: str, what: str = "the answer") -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} holds a lone surrogate, which UTF-8 cannot express") from None


def _text_kind(kind: str) -> str:
    """Return the content type ``kind`` of a text, which says by itself that it is in UTF-8 if it is one of ``text/``.

    Raises:
        DataError: it says that the text is in something else.
    """
    charset = parse_options_header(kind)[1].get("charset")
    if charset is None:
        return f"{kind}; charset=utf-8" if kind.lower().startswith("text/") else kind
    if charset.lower() not in ("utf-8", "utf8"):
        raise DataError(f"the content type is {kind!r:.80}, and text is sent in UTF-8; encode it, and send bytes")
    return kind


def problem_of(status: int, detail: str, code: str | None = None, **members: Any) -> dict[str, Any]:
    """Return an error as RFC 9457 has it.

    Args:
        status: the HTTP status code.
        detail: what was wrong, for people.
        code: a word that programs can go by; None for that of the status.
        members: further members.
    """
    head = {"type": "about:blank", "title": phrase_of(status), "status": status, "detail": detail}
    return {**head, "code": code or code_of(status), **members}


_STATUS_CODES: Final = {413: "too_large", 500: "internal_error", 503: "unavailable", 504: "timeout"}
"""Where the code of a status is not the status's name."""


def code_of(status: int) -> str:
    """Return the code of an error that has no other than its HTTP status code: of 404 it is ``not_found``."""
    return _STATUS_CODES.get(status) or "_".join(re.findall("[a-z]+", phrase_of(status).lower().replace("'", "")))


_PHRASES: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""As RFC 9110 has them. Python has so since 3.13."""


def phrase_of(status: int) -> str:
    """Return what the HTTP status code ``status`` is called; of one that nobody knows it is what its class says."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error" if status >= 400 else "Success"


def _checked_kind(content_type: str | None) -> str:
    if not content_type:
        return ""
    _check_header("Content-Type", content_type)
    if not content_type.isascii():
        raise DataError(f"the content type is {content_type!r:.80}; it is one such as 'text/html'")
    return content_type


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        _check_header(name, value)
        if name.lower() == "content-type":
            raise DataError("the content type is no header to set: say content_type=…")
        if name.lower() in _OURS:
            raise DataError(f"the header {name!r} is not a handler's to set")
    return dict(headers)


def _check_header(name: object, value: object) -> None:
    if not (isinstance(name, str) and isinstance(value, str)):
        raise DataError(f"the header {name!r:.80} is {value!r:.80}; both are texts")
    if not _TOKEN.fullmatch(name):
        raise DataError(f"{name!r:.80} is no name for a header; it has letters, digits and '-'")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise DataError(f"the header {name!r:.80} holds a line break or another control character")
    _utf8(value, f"the header {name!r:.80}")
