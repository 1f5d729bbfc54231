"""The commands that talk to services: ``call``, ``publish`` and ``listen``, by Redis or by the HTTP API of a daemon."""

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

from rpiserve.cli.output import ANSWERED, EXIT_CODES, OutputClosed, complain, describe, exit_code, put
from rpiserve.cli.target import TOKEN_SHOWN, Target, find_target
from rpiserve.client.interface import Client
from rpiserve.core import wire
from rpiserve.data import encoding
from rpiserve.declare.names import checked_bus_name, checked_channel
from rpiserve.errors import ConfigError, MessageError, NotAllowed
from rpiserve.messaging.caller import CALL_SECONDS

NO_TOKEN = "; none was sent: put it into RPISERVE_TOKEN, or into a file for --token-file"

Work = Callable[[Client], Coroutine[Any, Any, None]]
Command = TypeVar("Command", bound=Callable[..., object])


# --- what is shown ---------------------------------------------------------------------------------------------------


def shown(json: bytes, indent: bool = False) -> bytes:
    """Return ``json`` on one line, or indented, so that a terminal obeys nothing in it."""
    text = msgspec.json.format(json, indent=2 if indent else -1).decode("utf-8", "replace")
    return "".join(f"\\u{ord(each):04x}" if "\x7f" <= each <= "\x9f" else each for each in text).encode()


def progress_line(payload: Any) -> str:
    """Return the line for a reply that is not final: the percentage, if it has one, and what else there is in it."""
    percentage = payload.get("progress_percentage") if isinstance(payload, dict) else None
    if isinstance(percentage, bool) or not isinstance(percentage, int | float):
        return shown(encoding.encode(payload)).decode()
    rest = {name: value for name, value in payload.items() if name != "progress_percentage"}
    return f"{percentage:3.0f} %" + (f"  {shown(encoding.encode(rest)).decode()}" if rest else "")


# --- the reactor -----------------------------------------------------------------------------------------------------


def run(target: Target, work: Work) -> NoReturn:
    """Run the reactor until ``work`` is done with its client, and end with the exit code.

    Raises:
        SystemExit: always.
    """
    if target.exposes_token:
        complain(f"rpiserve: the token goes to {target.url} without TLS: whoever is on the way can read it")

    async def attempt(reactor: Any) -> int:
        try:
            client = target.client(reactor)
            try:
                await work(client)
            finally:
                await client.close()
        except (OutputClosed, CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one line
            hint = NO_TOKEN if isinstance(error, NotAllowed) and target.token is None else ""
            complain(f"rpiserve: {describe(error)}{hint}")
            return exit_code(error)
        return ANSWERED

    async def main(reactor: Any) -> None:
        task = Deferred.fromCoroutine(attempt(reactor))
        interrupted: list[int] = []

        def interrupt(number: int, _: object) -> None:
            interrupted.append(number)
            signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
            reactor.callFromThread(task.cancel)

        def take_signals() -> None:  # when it runs: as it begins, the reactor takes SIGTERM for itself
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, interrupt)

        reactor.callWhenRunning(take_signals)
        code = await task
        raise SystemExit(128 + interrupted[0] if interrupted else code)

    react(main)


# --- the commands ----------------------------------------------------------------------------------------------------


def _json(text: str) -> Any:
    """Return the value of an argument that is JSON, or ``-`` for what standard input has."""
    json = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    if encoding.is_too_deep(json):
        raise click.BadParameter(f"it nests deeper than {encoding.JSON_DEPTH} levels")
    try:
        return msgspec.json.decode(json)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = str(error).removeprefix("JSON is malformed: ")
        raise click.BadParameter(f"it is no JSON such as '{{\"zone\": 1}}': {why}") from None


def _seconds(text: str | float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e9:
        raise click.BadParameter(f"{text!r:.80} is no number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 16 else 0
    if number < 1:
        raise click.BadParameter(f"{text!r:.80} is no whole number of at least 1")
    return number


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    def checked(name: str) -> str:
        try:
            return check(name)
        except MessageError as error:
            raise click.BadParameter(str(error)) from None

    return checked


_service = _checked(lambda name: checked_bus_name(name, "a service"))
_action = _checked(lambda name: checked_bus_name(name, "an action"))
_channel = _checked(checked_channel)


def _refuse_token(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise ConfigError(TOKEN_SHOWN)


def _with_target(command: Command) -> Command:
    """Add the options that say where to."""
    options = (
        click.option("--redis", metavar="URL", help="A Redis server: redis://host, rediss://host, unix:///path."),
        click.option("--redis-password-file", metavar="FILE", help="A file with the password for Redis."),
        click.option("--redis-ca", metavar="FILE", help="A file with certificates to trust for rediss://."),
        click.option(
            "--url",
            metavar="URL",
            help="The HTTP API of a daemon: http://host:port, https://host:port.",
        ),
        click.option("--token-file", metavar="FILE", help="A file with the token for --url."),
        click.option("--token", hidden=True, expose_value=False, callback=_refuse_token),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(short_help="Ask a service for an action, and print its reply.", epilog=EXIT_CODES)
@click.argument("service", type=_service)
@click.argument("action", type=_action)
@click.argument("payload", type=_json, metavar="[JSON]", default="{}")
@click.option(
    "--timeout", type=_seconds, metavar="SECONDS", default=CALL_SECONDS, show_default=True, help="How long to wait."
)
@click.option("--progress/--no-progress", default=None, help="Show progress on standard error [if a terminal].")
@_with_target
def call(
    service: str, action: str, payload: Any, timeout: float, progress: bool | None, **where: str | None
) -> NoReturn:
    """Ask SERVICE for ACTION with the payload JSON, and print its reply as JSON.

    The JSON is {} by default, and read from standard input if it is "-".
    """
    target = find_target(where, os.environ)
    show = sys.stderr.isatty() if progress is None else progress

    def tell(payload: Any) -> None:
        complain(progress_line(payload))

    async def work(client: Client) -> None:
        reply = await client.call(service, action, payload, timeout, tell if show else None)
        put(shown(encoding.encode(reply), indent=sys.stdout.isatty()))

    run(target, work)


@click.command(short_help="Send a message to a channel.", epilog=EXIT_CODES)
@click.argument("channel", type=_channel)
@click.argument("payload", type=_json, metavar="[JSON]", default="{}")
@_with_target
def publish(channel: str, payload: Any, **where: str | None) -> NoReturn:
    """Send JSON, an object, to all who listen to CHANNEL, and print how many receivers it has.

    The JSON is {} by default, and read from standard input if it is "-".
    """
    target = find_target(where, os.environ)
    if not isinstance(payload, dict):
        raise ConfigError('a message is a JSON object, as in \'{"state": "on"}\'')

    async def work(client: Client) -> None:
        put(b"%d" % await client.publish(channel, payload))

    run(target, work)


@click.command(short_help="Print the messages on channels.", epilog=EXIT_CODES)
@click.argument("channels", type=_channel, metavar="CHANNEL...", nargs=-1, required=True)
@click.option("--count", type=_count, metavar="N", help="End after so many messages.")
@_with_target
def listen(channels: tuple[str, ...], count: int | None, **where: str | None) -> NoReturn:
    """Print a line for each message on CHANNEL, names or patterns such as 'home.*': its channel, and its JSON.

    It goes on until Ctrl-C. If the connection is lost, it says so and waits for it to come back.
    """
    target = find_target(where, os.environ)
    messages = 0

    def heard(channel: str, message: bytes) -> bool:
        nonlocal messages
        name = encoding.printable(channel)
        try:
            wire.parse(message)
        except wire.BrokenMessage as error:
            complain(f"rpiserve: a message on {name} is left out: {encoding.printable(str(error))}")
            return False
        put(name.encode() + b" " + shown(message))
        messages += 1
        return messages == count

    async def work(client: Client) -> None:
        await client.listen(channels, heard, lambda text: complain(f"rpiserve: {text}"))

    run(target, work)
