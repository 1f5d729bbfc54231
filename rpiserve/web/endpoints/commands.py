"""The HTTP side of the commands: ``/cmds``, ``/cmd`` and ``POST /``."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from twisted.internet.defer import Deferred

from rpiserve.core.interfaces import Commands
from rpiserve.core.tokens import CONTROL, READ
from rpiserve.data import encoding
from rpiserve.web.app_request import parse_fields, singled
from rpiserve.web.endpoint_declaration import GENERATED, endpoint
from rpiserve.web.openapi.parts import TEXT, array, ok, operation, problems, record
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import check_json
from rpiserve.web.server.request import LimitedRequest

_LISTED: Final = record(
    Name=TEXT,
    Args={"type": "object", "additionalProperties": TEXT, "description": "Each argument's annotation, as text."},
    URL={**TEXT, "description": "The URL that calls it, with the values left out."},
    Doc=TEXT,
    Schema={"type": "object", "description": "A JSON Schema of the arguments."},
)


class CommandEndpoints:
    """Answers the requests for commands.

    Args:
        commands: who knows them.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    @endpoint(
        "GET",
        "/cmds",
        role=READ,
        operation=operation(
            "commands",
            "The commands",
            responses={**ok("All of them.", record(Commands=array(record(Command=_LISTED)))), **problems()},
        ),
    )
    def list(self, request: LimitedRequest) -> Deferred[None]:
        """List the commands."""
        entries = [
            {"Command": {**entry, "URL": _url(entry["Name"], entry["Args"])}} for entry in self._commands.describe()
        ]
        return request.answer_json(encoding.encode({"Commands": entries}))

    @endpoint(
        "GET",
        "/cmd",
        role=CONTROL,
        operation=GENERATED,
        changes=True,
        reason="raspend's clients and links in pages call commands by GET",
    )
    def get(self, request: LimitedRequest) -> Deferred[None]:
        """Call the command that the query names, and answer with its result alone."""
        name, arguments = parse_query(request.uri.partition(b"?")[2])
        return self._commands.call(name, arguments).addCallback(request.answer_json)

    @endpoint("POST", "/cmd", role=CONTROL, operation=GENERATED)
    @endpoint("POST", "/", role=CONTROL, operation=GENERATED)
    def post(self, request: LimitedRequest) -> Deferred[None]:
        """Call the command that the body names, and answer with the body and the result in it."""
        check_json(request)
        envelope = Envelope(request.content.read())
        result = self._commands.call(envelope.name, envelope.arguments)
        return result.addCallback(envelope.with_result).addCallback(request.answer_json)


def _url(name: str, arguments: Iterable[str]) -> str:
    """Return the URL of a command, with the value of each argument left to be filled in."""
    query = urlencode({"name": name, **dict.fromkeys(arguments, "")})
    return f"/cmd?{query}"


class Envelope:
    """The body of a ``POST``: ``{"Command": {"Name": …, "Args": {…}}, …}``, all else in it being the client's own.

    Args:
        body: the body.

    Raises:
        Problem: 400, it is no such thing.
    """

    def __init__(self, body: bytes) -> None:
        if encoding.is_too_deep(body):
            raise Problem(400, f"the body nests deeper than {encoding.JSON_DEPTH} levels")
        try:
            body.decode()
            command = msgspec.json.decode(body, type=_Envelope).Command
            # Whatever is not ours stays as it came, byte for byte.
            self._members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            self._command = msgspec.json.decode(self._members["Command"], type=dict[str, msgspec.Raw])
        except UnicodeDecodeError:
            raise Problem(400, "the body is not UTF-8") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise Problem(400, f"the body is not as it should be: {error}; {_SHAPE}") from None
        self.name, self.arguments = command.Name, command.Args

    def with_result(self, result: bytes) -> bytes:
        """Return the envelope as JSON, with ``result`` (as JSON) in its command."""
        command = {**self._command, "Result": encoding.raw(result)}
        return encoding.encode({**self._members, "Command": command})


class _Command(msgspec.Struct):
    Name: str
    Args: dict[str, Any] = {}


class _Envelope(msgspec.Struct):
    Command: _Command


_SHAPE = 'it is {"Command": {"Name": "…", "Args": {…}}}'


def parse_query(query: bytes) -> tuple[str, dict[str, object]]:
    """Return the name and the arguments of a command in a query string; what is given twice is a list.

    Raises:
        Problem: 400, there is not one name.
        HttpError: 400, it is not UTF-8.
    """
    fields = parse_fields(query)
    names = fields.pop("name", [])
    if len(names) != 1:
        raise Problem(400, "the query names one command: /cmd?name=object.method&argument=value")
    return names[0], singled(fields.items())
