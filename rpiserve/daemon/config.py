"""The options: one table, from which the command line, the environment and the TOML file are read.

What stands nearer to the person at the keyboard wins: command line, ``RPISERVE_…`` variables, TOML file, the arguments
of ``app.run(…)``, default, in that order.
"""

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs

from rpiserve.declare import cors
from rpiserve.declare.cors import CorsPolicy
from rpiserve.errors import ConfigError
from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import FORMATS
from rpiserve.messaging.address import PASSWORD_SHOWN, WITHOUT_REDIS, RedisAddress
from rpiserve.web.server.event_stream import MOST_STREAMS
from rpiserve.web.server.request import Limits

PREFIX = "RPISERVE_"
DEFAULT_HOST = "127.0.0.1"

CLIENTS = frozenset(("URL", "TOKEN"))
"""The variables of the commands that call a daemon: whoever has set them may run one, too."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it is a text")
    return value


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return value.lower() in ("1", "true", "yes", "on")
    raise ValueError("it is true or false")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [text.strip() for text in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) and text for text in value):
        raise ValueError("it is a list of texts")
    return tuple(value)


def _host_names(value: object) -> tuple[str, ...]:
    names = []
    for text in _texts(value):
        try:
            name = text.encode("idna").decode().removesuffix(".")  # as a browser sends it
        except UnicodeError:
            name = ""
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("it is a host name, without http://, port and path")
        names.append(name)
    return tuple(names)


def _seconds(value: object) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("it is a number of seconds above 0")
    return seconds


def _count(value: object) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("it is a whole number of at least 1")
    return value


def _whole(value: object) -> int:
    return 0 if value in ("0", 0) and value is not False else _count(value)


def _port(value: object) -> int | str | None:
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return None
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    if isinstance(value, str) and ":" in value:
        return value
    raise ValueError("it is a number up to 65535, an endpoint such as unix:/run/app.sock, or none")


def _path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(value))


def _levels(value: object) -> tuple[str, ...]:
    settings = _texts(value)
    Levels(settings)
    return settings


def _log_format(value: object) -> str:
    if value not in FORMATS:
        raise ValueError(f"it is one of {', '.join(FORMATS)}")
    return str(value)


def _redis(value: object) -> RedisAddress:
    return RedisAddress.parse(_text(value))


def _option(default: Any, parse: Callable[[object], Any], metavar: str, help: str, short: str | None = None) -> Any:
    return attrs.field(default=default, metadata={"parse": parse, "metavar": metavar, "help": help, "short": short})


_HOST_NAME = re.compile(r"[\w.-]+", re.ASCII)
_LIMITS = Limits()
_CORS_NAMES = {
    "allowed_origins": "--cors-origin",
    "allowed_methods": "--cors-method",
    "allowed_headers": "--cors-header",
    "expose_headers": "--cors-expose-header",
    "allow_credentials": "--cors-credentials",
    "max_age": "--cors-max-age",
}


@attrs.frozen(kw_only=True)
class Config:
    """All options, checked."""

    module: str = _option("app", _text, "NAME", "the app module, or module:attribute", "m")
    port: int | str | None = _option(8080, _port, "PORT", "a TCP port, an endpoint description, or none", "p")
    host: str | None = _option(None, _text, "ADDRESS", f"the address to listen on [{DEFAULT_HOST}]")
    open: bool = _option(False, _flag, "", "let anybody in who can reach the port, from other machines too")
    token_file: Path | None = _option(None, _path, "FILE", "a file of tokens: who has none is not let in")
    trusted_proxy: tuple[str, ...] = _option(
        (), _texts, "ADDRESS", "a reverse proxy that is believed, a network, or unix; may be repeated"
    )
    tls_cert: Path | None = _option(None, _path, "FILE", "serve by TLS, with the certificate (PEM) in a file")
    tls_key: Path | None = _option(None, _path, "FILE", "a file with its key (PEM)")
    www: str | None = _option(None, _text, "DIR", "a folder with pages of your own, to be served at /www/")
    no_dashboard: bool = _option(False, _flag, "", "serve no dashboard at /")
    cors_origin: tuple[str, ...] = _option(
        (), _texts, "ORIGIN", "an origin whose pages may use this server, or '*'; may be repeated"
    )
    cors_method: tuple[str, ...] = _option((), _texts, "METHOD", "a method that they may use, or '*'; may be repeated")
    cors_header: tuple[str, ...] = _option((), _texts, "HEADER", "a header that they may send, or '*'; may be repeated")
    cors_expose_header: tuple[str, ...] = _option(
        (), _texts, "HEADER", "a header of answers that they may see; may be repeated"
    )
    cors_credentials: bool = _option(False, _flag, "", "let their browsers send cookies along")
    cors_max_age: int = _option(cors.MAX_AGE, _whole, "SECONDS", "seconds for which browsers remember all that")
    get_commands: bool = _option(False, _flag, "", "let GET run commands from other machines, too")
    redis: RedisAddress | None = _option(None, _redis, "URL", "Redis as the bus: redis://host, rediss://, unix:///path")
    redis_password_file: Path | None = _option(None, _path, "FILE", "a file with the password for Redis")
    redis_ca: Path | None = _option(None, _path, "FILE", "a file with certificates to trust for rediss://")
    allowed_host: tuple[str, ...] = _option(
        (), _host_names, "NAME", "a further host name to answer to; may be repeated"
    )
    stop_timeout: float = _option(10.0, _seconds, "SECONDS", "seconds that a shutdown may take, all in all")
    max_body: int = _option(_LIMITS.body, _count, "BYTES", "the largest body of a request, in bytes")
    header_timeout: float = _option(_LIMITS.header_seconds, _seconds, "SECONDS", "seconds for a request's headers")
    body_timeout: float = _option(_LIMITS.body_seconds, _seconds, "SECONDS", "seconds for a request's body")
    idle_timeout: float = _option(_LIMITS.idle_seconds, _seconds, "SECONDS", "seconds a connection may be idle")
    write_timeout: float = _option(
        _LIMITS.write_seconds, _seconds, "SECONDS", "seconds a client may take to read 100 KB"
    )
    max_connections: int = _option(_LIMITS.connections, _count, "COUNT", "connections in all")
    max_streams: int = _option(MOST_STREAMS, _count, "COUNT", "streams of events in all")
    max_connections_per_address: int = _option(
        _LIMITS.connections_per_address, _count, "COUNT", "connections from one address beyond this machine"
    )
    log_format: str | None = _option(
        None, _log_format, "FORMAT", f"{', '.join(FORMATS)} [journal if systemd reads the log, else text]"
    )
    log_level: tuple[str, ...] = _option(
        (), _levels, "LEVEL", "what is logged from this level on, or NAMESPACE=LEVEL for a part; may be repeated"
    )
    log_file: Path | None = _option(None, _path, "FILE", "a file for the log")
    request_log: Path | None = _option(None, _path, "FILE", "a file for a line about each request")
    log_size: int = _option(10_000_000, _whole, "BYTES", "how large these files grow; 0 for any size")
    log_keep: int = _option(5, _whole, "COUNT", "how many full ones of each are kept")
    debug: bool = _option(False, _flag, "", "show whole tracebacks when the start fails")

    def __attrs_post_init__(self) -> None:
        if isinstance(self.port, str) and self.host is not None:
            raise ConfigError(f"host {self.host!r} does not go with the endpoint {self.port!r}, which has its own")
        if not self.cors_origin and any(
            getattr(self, name) != field.default for name, field in OPTIONS.items() if name.startswith("cors_")
        ):
            raise ConfigError("the options for CORS are of no use without --cors-origin")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key go together")
        if self.tls_cert is not None and not isinstance(self.port, int):
            raise ConfigError("--tls-cert goes with a port; an endpoint has its own: ssl:8443:privateKey=…:certKey=…")
        if self.token_file is not None and self.open:
            raise ConfigError("--open lets in whoever has no token, so that --token-file is of no use beside it")
        self.cors  # noqa: B018 - or what is wrong with it would come up late
        if self.redis is None and (self.redis_password_file or self.redis_ca):
            raise ConfigError(WITHOUT_REDIS)

    @property
    def cors(self) -> CorsPolicy | None:
        """Which pages of other origins may do what; None if the options do not say.

        Raises:
            ConfigError: they contradict each other.
        """
        if not self.cors_origin:
            return None
        try:
            return CorsPolicy.of(
                self.cors_origin,
                self.cors_method,
                self.cors_header or cors.HEADERS,
                self.cors_expose_header,
                self.cors_credentials,
                self.cors_max_age,
            )
        except ValueError as error:
            text = str(error)
            for name, option in _CORS_NAMES.items():
                text = text.replace(name, option)
            raise ConfigError(text) from None

    @property
    def redis_address(self) -> RedisAddress | None:
        """Where Redis is, and how to be let in; None for the embedded bus."""
        if self.redis is None:
            return None
        return attrs.evolve(self.redis, password_file=self.redis_password_file, ca_file=self.redis_ca)

    @property
    def limits(self) -> Limits:
        """The limits for HTTP clients."""
        return Limits(
            body=self.max_body,
            header_seconds=self.header_timeout,
            body_seconds=self.body_timeout,
            idle_seconds=self.idle_timeout,
            write_seconds=self.write_timeout,
            connections=self.max_connections,
            connections_per_address=self.max_connections_per_address,
        )


OPTIONS: Mapping[str, "attrs.Attribute[Any]"] = {field.name: field for field in attrs.fields(Config)}


def load(
    command_line: Mapping[str, object], environ: Mapping[str, str], code: Mapping[str, object] | None = None
) -> Config:
    """Return the options, each from the first place that has it.

    Args:
        command_line: the options given there, by their names with underscores; ``config`` names a TOML file.
        environ: the environment.
        code: the arguments of ``app.run``.

    Raises:
        ConfigError: an option is unknown, its value cannot be one, or the file cannot be read; the text says where.
    """
    # An empty variable is none: files for init scripts are full of them.
    ours = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX)}
    variables = {name.lower(): value for name, value in ours.items() if value and name not in CLIENTS}
    given = dict(code or {})
    file = command_line.get("config") or variables.get("config") or given.get("config")
    layers = (
        (command_line, lambda name: f"--{name.replace('_', '-')}"),
        (variables, lambda name: f"{PREFIX}{name.upper()}"),
        (_read_toml(str(file)) if file else {}, lambda name: f"{name} in {file}"),
        (given, lambda name: f"app.run({name}=…)"),
    )
    values: dict[str, Any] = {}
    for layer, describe in layers:
        for name, value in layer.items():
            if name != "config":
                parsed = _parse(name, value, describe)
                if layer is command_line and name == "redis" and parsed.password is not None:
                    raise ConfigError(PASSWORD_SHOWN)
                values.setdefault(name, parsed)
    return Config(**values)


def _parse(name: str, value: object, describe: Callable[[str], str]) -> Any:
    field = OPTIONS.get(name)
    if field is None:
        close = get_close_matches(name, OPTIONS, 1)
        hint = f"did you mean {describe(close[0])}?" if close else f"there are {', '.join(OPTIONS)}"
        raise ConfigError(f"{describe(name)} is no option; {hint}")
    try:
        return field.metadata["parse"](value)
    except ValueError as error:
        shown = "wrong" if name == "redis" else repr(value)  # a URL may hold a password
        raise ConfigError(f"{describe(name)} is {shown}; {error}") from None


def _read_toml(file: str) -> dict[str, Any]:
    try:
        options = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        # Many put the options into a table of our name: why not.
        return options["rpiserve"] if isinstance(options.get("rpiserve"), dict) and len(options) == 1 else options
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {file} is not TOML: {error}") from error
