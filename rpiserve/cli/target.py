"""Where the command sends to: a Redis server, or the HTTP API of a daemon, and how it is let in there."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from rpiserve.client.bus_client import BusClient
from rpiserve.client.http_client import HttpClient
from rpiserve.client.interface import Client
from rpiserve.core.tokens import PREFIX, Token
from rpiserve.errors import ConfigError
from rpiserve.messaging.address import PASSWORD_SHOWN, WITHOUT_REDIS, RedisAddress
from rpiserve.web.server.addresses import is_loopback_ip

WHERE: Final = """
\b
Where call, publish and listen go, the first of these that there is:
  --redis URL or --url URL
  RPISERVE_URL    the HTTP API of a daemon, as in http://127.0.0.1:8080;
                  a token for it goes into RPISERVE_TOKEN
  RPISERVE_REDIS  a Redis server, as in redis://127.0.0.1
"""

TOKEN_SHOWN: Final = "a token is not for the command line, as ps shows it: use RPISERVE_TOKEN, or --token-file FILE"

NAME = "rpiserve-cli"
"""Who calls, for the services' logs."""

CONNECT_SECONDS = 5.0
"""How long a connection to a daemon may take to be made."""


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

    @property
    def exposes_token(self) -> bool:
        """Whether the token goes over a network as it is."""
        if self.token is None or self.url is None:
            return False
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        return parts.scheme == "http" and not (host == "localhost" or is_loopback_ip(host))

    def client(self, reactor: Any) -> Client:
        """Return the way there.

        Raises:
            StartError: the file with certificates cannot be read.
        """
        # Not at the top: these may install a reactor.
        if self.redis is not None:
            from rpiserve.messaging.redis_bus import RedisBus

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
    return Target(url=url, token=_token(given.get("token_file"), environ))


def _token(file: str | None, environ: Mapping[str, str]) -> str | None:
    if file is None:
        token = environ.get("RPISERVE_TOKEN", "").strip()
    elif file.startswith(PREFIX) and not Path(file).exists():
        raise ConfigError(TOKEN_SHOWN)
    else:
        token = _read(file, "the token").strip()
        if _is_daemons(token):
            raise ConfigError(f"{file} is the file of a daemon, which knows only hashes; it takes one with the token")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("the token holds characters that none can have")
    return token or None


def _is_daemons(text: str) -> bool:
    try:
        Token.parse(next(line for line in text.splitlines() if line.strip() and not line.startswith("#")))
    except (StopIteration, ValueError):
        return False
    return True


def _read(file: str, what: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError(f"cannot read {what} in {file}: {reason}") from None
