"""The command ``rpiserve``: call an action, publish a message, listen, from the shell.

It goes by Redis, or by the HTTP API of a daemon. What it answers stands on standard output, all else on standard error.
How it has ended is in the exit code:

====  =================================================================================================================
Code  Meaning
====  =================================================================================================================
0     it was answered
1     the service has answered with an error, or the daemon on the way there; the text and the code are shown. Or what
      it has answered cannot be written
2     the command line is wrong, or a file that it names cannot be read
3     nobody listens: there is no such service
4     there was no answer in time
5     the bus or the daemon cannot be reached, or was lost before the answer came
130   Ctrl-C (143: SIGTERM)
====  =================================================================================================================

Importing this installs no reactor: that comes with the first command that needs one.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import attrs
import click
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

from rpiserve import codec, wire
from rpiserve.client import BusClient, Client, HttpClient
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    ConfigError,
    DataError,
    MessageError,
    NoResponders,
    RemoteError,
    RpiserveError,
    StartError,
)
from rpiserve.messaging.address import PASSWORD_SHOWN, WITHOUT_REDIS, RedisAddress
from rpiserve.messaging.outgoing import CALL_SECONDS

ANSWERED, FAILED, USAGE, NOBODY, TIMEOUT, UNREACHABLE = range(6)

EXIT_CODES = """
\b
Exit codes:
  0    it was answered
  1    the service has answered with an error
  2    the command line is wrong
  3    nobody listens
  4    there was no answer in time
  5    the bus or the daemon cannot be reached
  130  Ctrl-C
"""

WHERE = """
\b
Where to, the first of these that there is:
  --redis URL or --url URL
  RPISERVE_URL    the HTTP API of a daemon, as in http://127.0.0.1:8080;
                  a bearer token for it goes into RPISERVE_TOKEN
  RPISERVE_REDIS  a Redis server, as in redis://127.0.0.1
"""

NAME = "rpiserve-cli"
"""Who calls, for the services' logs."""

CONNECT_SECONDS = 5.0
"""How long a connection to a daemon may take to be made."""

Work = Callable[[Client], Coroutine[Any, Any, None]]
Command = TypeVar("Command", bound=Callable[..., object])


def exit_code(error: Exception) -> int:
    """Return the exit code that tells of ``error``."""
    match error:
        case NoResponders():
            return NOBODY
        case CallTimeout():  # before the next: it may have been the service's own time limit
            return TIMEOUT
        case RemoteError():
            return FAILED
        case BusUnavailable():
            return UNREACHABLE
        case ConfigError() | StartError() | MessageError() | DataError():
            return USAGE
    return FAILED


def describe(error: Exception) -> str:
    """Return ``error`` as one line."""
    text = " ".join(codec.printable(str(error).replace("\n", " ")).split())
    if isinstance(error, RemoteError):
        more = [error.code, error.incident and f"incident {error.incident}"]
        text += f" ({', '.join(filter(None, more))})" if any(more) else ""
    elif not isinstance(error, RpiserveError | OSError):
        text = f"an error of its own: {type(error).__name__}: {text}"
    return text


# --- where to --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Target:
    """Where to send to: one of the two.

    Attributes:
        redis: the Redis server.
        url: the URL of a daemon's HTTP API.
        token: the bearer token for that.
    """

    redis: RedisAddress | None = None
    url: str | None = None
    token: str | None = attrs.field(default=None, repr=False)

    def client(self, reactor: Any) -> Client:
        """Return the way there.

        Raises:
            StartError: the file with certificates cannot be read.
        """
        # Not at the top: these may install a reactor.
        if self.redis is not None:
            from rpiserve.messaging.redis import RedisBus

            return BusClient(RedisBus(self.redis, reactor, time.time), NAME, reactor)
        from twisted.web.client import Agent, HTTPConnectionPool

        assert self.url is not None
        pool = HTTPConnectionPool(reactor, persistent=False)
        return HttpClient(self.url, Agent(reactor, connectTimeout=CONNECT_SECONDS, pool=pool), reactor, self.token)


def find_target(given: Mapping[str, str | None], environ: Mapping[str, str]) -> Target:
    """Return where to send to.

    Args:
        given: the options of the command line: ``redis``, ``redis_password_file``, ``redis_ca``, ``url``,
            ``token_file``; None for those that were not given.
        environ: the environment.

    Raises:
        ConfigError: there is none, more than one, or it is wrong. The text holds neither a password nor a token.
    """
    redis, url = given.get("redis"), given.get("url")
    if redis and url:
        raise ConfigError("--redis and --url are two ways: give one of them")
    if redis:
        return _redis_target(redis, "--redis", given, environ)
    if url:
        return _http_target(url, "--url", given, environ)
    if variable := environ.get("RPISERVE_URL"):
        return _http_target(variable, "RPISERVE_URL", given, environ)
    if variable := environ.get("RPISERVE_REDIS"):
        return _redis_target(variable, "RPISERVE_REDIS", given, environ)
    raise ConfigError(
        "say where to: --redis redis://HOST (or RPISERVE_REDIS), or --url http://HOST:8080 (or RPISERVE_URL) "
        "for the HTTP API of a daemon"
    )


def _redis_target(url: str, where: str, given: Mapping[str, str | None], environ: Mapping[str, str]) -> Target:
    if given.get("token_file"):
        raise ConfigError("--token-file is for --url; the password of Redis goes into --redis-password-file")
    try:
        address = RedisAddress.parse(url)
    except ValueError as error:
        raise ConfigError(f"{where} is wrong; {error}") from None
    if where == "--redis" and address.password is not None:
        raise ConfigError(PASSWORD_SHOWN)
    password_file = given.get("redis_password_file") or environ.get("RPISERVE_REDIS_PASSWORD_FILE")
    ca_file = given.get("redis_ca") or environ.get("RPISERVE_REDIS_CA")
    if password_file:  # read now, and once: later it would only be a reason why nothing connects, and it may be a pipe
        address = attrs.evolve(address, password=_read(password_file, "the password").rstrip("\r\n"))
    return Target(redis=attrs.evolve(address, ca_file=Path(ca_file) if ca_file else None))


def _http_target(url: str, where: str, given: Mapping[str, str | None], environ: Mapping[str, str]) -> Target:
    if given.get("redis_password_file") or given.get("redis_ca"):
        raise ConfigError(WITHOUT_REDIS)
    shape = f"{where} is wrong; it is http://host:port or https://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(shape) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ConfigError(shape)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where} holds a user or a password; a token goes into RPISERVE_TOKEN or --token-file")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{where} is wrong; it holds characters that a URL cannot have")
    token_file = given.get("token_file")
    token = _read(token_file, "the token") if token_file else environ.get("RPISERVE_TOKEN")
    token = token and token.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("the token holds characters that none can have")
    return Target(url=url, token=token or None)


def _read(file: str, what: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError(f"cannot read {what} in {file}: {reason}") from None


# --- what is shown ---------------------------------------------------------------------------------------------------


def shown(json: bytes, indent: bool = False) -> bytes:
    """Return ``json`` on one line, or indented, so that a terminal obeys nothing in it."""
    text = msgspec.json.format(json, indent=2 if indent else -1).decode("utf-8", "replace")
    return "".join(f"\\u{ord(each):04x}" if "\x7f" <= each <= "\x9f" else each for each in text).encode()


def progress_line(payload: Any) -> str:
    """Return the line for a reply that is not final: the percentage, if it has one, and what else there is in it."""
    percentage = payload.get("progress_percentage") if isinstance(payload, dict) else None
    if isinstance(percentage, bool) or not isinstance(percentage, int | float):
        return shown(codec.encode(payload)).decode()
    rest = {name: value for name, value in payload.items() if name != "progress_percentage"}
    return f"{percentage:3.0f} %" + (f"  {shown(codec.encode(rest)).decode()}" if rest else "")


def complain(text: str) -> None:
    """Write a line to standard error, if anybody can be told."""
    with suppress(OSError):
        click.echo(text, err=True)


class OutputClosed(Exception):
    """Nobody reads standard output any more."""


def put(line: bytes) -> None:
    """Write a line to standard output at once.

    Raises:
        OutputClosed: nobody reads it any more.
        OSError: it cannot be written.
    """
    output = sys.stdout.buffer
    try:
        output.write(line + b"\n")
        output.flush()
    except BrokenPipeError:
        _discard(output.fileno())
        raise OutputClosed from None
    except OSError as error:
        _discard(output.fileno())
        raise OSError(f"standard output: {error.strerror}") from error


def _discard(descriptor: int) -> None:
    """Have whatever is still written to ``descriptor`` go nowhere: Python writes what is left at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


# --- the reactor -----------------------------------------------------------------------------------------------------


def run(target: Target, work: Work) -> NoReturn:
    """Run the reactor until ``work`` is done with its client, and end with the exit code.

    Raises:
        SystemExit: always.
    """

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
            complain(f"rpiserve: {describe(error)}")
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
    if codec.is_too_deep(json):
        raise click.BadParameter(f"it nests deeper than {codec.JSON_DEPTH} levels")
    try:
        return msgspec.json.decode(json)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"it is no JSON: {error}") from None


def _seconds(text: str | float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e9:
        raise click.BadParameter(f"{text!r:.80} is no number of seconds above 0")
    return seconds


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    def checked(name: str) -> str:
        try:
            return check(name)
        except MessageError as error:
            raise click.BadParameter(str(error)) from None

    return checked


_service = _checked(lambda name: wire.checked_name(name, "a service"))
_action = _checked(lambda name: wire.checked_name(name, "an action"))
_channel = _checked(wire.checked_channel)


def _with_target(command: Command) -> Command:
    """Add the options that say where to."""
    options = (
        click.option("--redis", metavar="URL", help="A Redis server: redis://host, rediss://host, unix:///path."),
        click.option("--redis-password-file", metavar="FILE", help="A file with the password for Redis."),
        click.option("--redis-ca", metavar="FILE", help="A file with certificates to trust for rediss://."),
        click.option("--url", metavar="URL", help="The HTTP API of a daemon: http://host:port."),
        click.option("--token-file", metavar="FILE", help="A file with the bearer token for --url."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    name="rpiserve",
    help=f"Call services, publish messages and listen to them.\n{WHERE}\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
)
def commands() -> None:
    """Hold the commands."""


@commands.command(epilog=EXIT_CODES)
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
        put(shown(codec.encode(reply), indent=sys.stdout.isatty()))

    run(target, work)


@commands.command(epilog=EXIT_CODES)
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


@commands.command(epilog=EXIT_CODES)
@click.argument("channels", type=_channel, metavar="CHANNEL...", nargs=-1, required=True)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
@_with_target
def listen(channels: tuple[str, ...], count: int | None, **where: str | None) -> NoReturn:
    """Print a line for each message on CHANNEL, names or patterns such as 'home.*': its channel, and its JSON.

    It goes on until Ctrl-C. If the connection is lost, it says so and waits for it to come back.
    """
    target = find_target(where, os.environ)
    messages = 0

    def heard(channel: str, message: bytes) -> bool:
        nonlocal messages
        name = codec.printable(channel)
        try:
            wire.parse(message)
        except wire.BrokenMessage as error:
            complain(f"rpiserve: a message on {name} is left out: {codec.printable(str(error))}")
            return False
        put(name.encode() + b" " + shown(message))
        messages += 1
        return messages == count

    async def work(client: Client) -> None:
        await client.listen(channels, heard, lambda text: complain(f"rpiserve: {text}"))

    run(target, work)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and end the process with its exit code.

    Args:
        arguments: those of the command line; by default those of this process.

    Raises:
        SystemExit: always.
    """
    try:
        status = commands.main(arguments, prog_name="rpiserve", standalone_mode=False)
    except click.ClickException as error:
        see = f"; see {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        complain(f"rpiserve: {' '.join(error.format_message().split()).rstrip('.')}{see}")
        status = USAGE
    except RpiserveError as error:
        complain(f"rpiserve: {describe(error)}")
        status = exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        status = 128 + signal.SIGINT
    sys.exit(status)
