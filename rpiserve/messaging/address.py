"""Where a Redis server is, and how to be let in."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs

SHAPE = "it is redis://host:port/db, rediss://host:port/db with TLS, or unix:///path?db=0"

DEFAULT_PORT = 6379

PASSWORD_SHOWN = (
    "a password on the command line can be read by everybody (ps shows it): "
    "put the URL into RPISERVE_REDIS, or the password into a file for --redis-password-file"
)
"""Why a URL with a password is refused on the command line."""

WITHOUT_REDIS = "a password or certificates for Redis are of no use without --redis"
"""Why the options that go with ``--redis`` are refused alone."""


@attrs.frozen
class RedisAddress:
    """Where a Redis server is, and how to be let in.

    Attributes:
        host: its name or IP address; empty for a unix socket.
        port: its TCP port.
        path: its unix socket; empty for TCP.
        tls: whether to use TLS, with a verified certificate.
        db: the number of the database.
        user: who we are to it; None for its default user.
        password: the password in the URL.
        password_file: a file that holds the password, which is read again for each connection.
        ca_file: a file with certificates in PEM to trust, in place of the system's.
    """

    host: str
    port: int
    path: str
    tls: bool
    db: int
    user: str | None
    password: str | None = attrs.field(repr=False)
    password_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Return the address that ``url`` is.

        Raises:
            ValueError: it is none. The text does not hold the URL, in which there may be a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(SHAPE) from None
        if port == 0:
            raise ValueError(SHAPE)
        user, password = (None if part is None else unquote(part) or None for part in (parts.username, parts.password))
        if parts.scheme == "unix" and not parts.hostname and len(parts.path) > 1 and not parts.fragment:
            host, path, db = "", unquote(parts.path), _database(parts.query, "db=")
        elif parts.scheme in ("redis", "rediss") and parts.hostname and not (parts.query or parts.fragment):
            host, path, db = parts.hostname, "", _database(parts.path, "/")
        else:
            raise ValueError(SHAPE)
        return cls(host, port or DEFAULT_PORT, path, parts.scheme == "rediss", db, user, password)

    @property
    def name(self) -> str:
        """The address without what is secret, for people."""
        if self.path:
            return f"Redis at {self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Redis at {host}:{self.port}"

    def current_password(self) -> str | None:
        """Return the password as it is now.

        Raises:
            OSError: its file cannot be read.
        """
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return self.password


def _database(text: str, prefix: str) -> int:
    number = text.removeprefix(prefix)
    if not re.fullmatch("[0-9]{0,4}", number) or (number and number == text):
        raise ValueError(SHAPE)
    return int(number or 0)
