"""Access tokens: what they may do, and the file that knows them.

A token is 256 random bits, so a plain hash keeps it secret: nobody can guess what to hash. The file holds a line for
each, ``name role hash date``, and is replaced as a whole by whoever changes it.
"""

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
from twisted.logger import Logger

from rpiserve.errors import TokenError
from rpiserve.stamp import stamp_of
from rpiserve.wire import NAME

log = Logger()

READ: Final = "read"
CONTROL: Final = "control"
ROLES: Final = (READ, CONTROL)
"""What a token may do, each more than the one before."""

PREFIX: Final = "rpi_"
"""What a token begins with, so that one that has got into the wrong place is recognised there."""

LONGEST: Final = 200
"""In characters. Nothing longer is looked at."""

LOOK_SECONDS: Final = 1.0
"""How long what was read from the file is good without a look at it."""


@attrs.frozen
class Token:
    """What the file knows of a token.

    Attributes:
        name: whose it is.
        role: of `ROLES`.
        digest: its hash, in hexadecimal.
        created: the date it was made on.
    """

    name: str
    role: str
    digest: str
    created: str

    @classmethod
    def parse(cls, line: str) -> "Token":
        """Return the token that ``line`` is of.

        Raises:
            ValueError: it is of none.
        """
        name, role, digest, created = line.split()
        bytes.fromhex(digest)
        if not NAME.fullmatch(name) or role not in ROLES or len(digest) != 2 * hashlib.sha256().digest_size:
            raise ValueError(line)
        return cls(name, role, digest.lower(), created)

    def line(self) -> str:
        """Return its line in the file."""
        return f"{self.name} {self.role} {self.digest} {self.created}"


def digest_of(secret: str) -> str:
    """Return the hash of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class TokenFile:
    """The file of all tokens, for those who check them and for those who change them.

    Args:
        path: the file.
        clock: returns seconds that only grow; for `find`.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._tokens: list[Token] = []
        self._looked = -LOOK_SECONDS
        self._seen: object = None

    def load(self) -> None:
        """Read the file.

        Raises:
            TokenError: it cannot be read, others than its owner and group can, or a line is wrong.
        """
        stamp = self._stamp()
        if isinstance(stamp, OSError):
            raise TokenError(f"the token file {self._path} cannot be read: {stamp.strerror}")
        self._tokens, self._seen = self._read(), stamp

    def find(self, secret: str) -> Token | None:
        """Return the token that ``secret`` is, as the file has it now; None if it is none."""
        if len(secret) > LONGEST:
            return None
        return self._find(digest_of(secret))

    def is_valid(self, token: Token) -> bool:
        """Tell whether the file still has ``token``."""
        return self._find(token.digest) == token

    def _find(self, digest: str) -> Token | None:
        self._refresh()
        found = None
        for token in self._tokens:  # all of them, so that the time tells nothing
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def reload(self) -> None:
        """Look at the file at the next use, however short ago that was done."""
        self._looked = -LOOK_SECONDS

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp()
        if stamp == self._seen or (isinstance(stamp, OSError) and isinstance(self._seen, OSError)):
            return
        self._seen = stamp
        try:
            self.load()
        except TokenError as error:  # whoever was to be let out shall not stay in because of that
            self._tokens = []
            log.error("{error}; no token is valid until that is mended", error=error)
        else:
            log.info("read {count} tokens from {path}", count=len(self._tokens), path=self._path)

    def _stamp(self) -> object:
        try:
            return stamp_of(self._path)
        except OSError as error:
            return error

    def _read(self) -> list[Token]:
        try:
            if os.stat(self._path).st_mode & 0o007:
                raise TokenError(f"the token file {self._path} is open to everybody: chmod 600 {self._path}")
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise TokenError(f"the token file {self._path} cannot be read: {reason}") from None
        tokens = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                try:
                    tokens.append(Token.parse(line))
                except ValueError:
                    raise TokenError(
                        f"{self._path}:{number}: this is no line of a token; rpiserve token add makes one"
                    ) from None
        return tokens

    # --- changing it -------------------------------------------------------------------------------------------------

    def tokens(self) -> list[Token]:
        """Return all tokens.

        Raises:
            TokenError: the file cannot be read.
        """
        return self._read() if self._path.exists() else []

    def add(self, name: str, role: str) -> str:
        """Make a token, and return it; nobody can find it out later.

        Raises:
            TokenError: the name or the role is none, the name is taken, or the file cannot be changed.
        """
        if not NAME.fullmatch(name):
            raise TokenError(f"{name!r:.80} is no name: it has 1 to 64 letters, digits, '_', '.' and '-'")
        if role not in ROLES:
            raise TokenError(f"{role!r:.80} is no role; there are {' and '.join(ROLES)}")
        secret = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        with self._changing() as tokens:
            if any(token.name == name for token in tokens):
                raise TokenError(f"there is a token {name!r} already; revoke it first, or choose another name")
            tokens.append(Token(name, role, digest_of(secret), datetime.now(UTC).date().isoformat()))
        return secret

    def revoke(self, name: str) -> None:
        """Remove the token ``name``.

        Raises:
            TokenError: there is none, or the file cannot be changed.
        """
        with self._changing() as tokens:
            left = [token for token in tokens if token.name != name]
            if len(left) == len(tokens):
                raise TokenError(f"there is no token {name!r:.80} in {self._path}")
            tokens[:] = left

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        # The lock is a file of its own, since this one is replaced.
        lock = self._path.with_name(f".{self._path.name}.lock")
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                tokens = self.tokens()
                mode = os.stat(self._path).st_mode & 0o770 if self._path.exists() else 0o600
                yield tokens
                with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
                    os.fchmod(file.fileno(), mode)
                    file.writelines(f"{token.line()}\n" for token in tokens)
                    file.flush()
                    os.fsync(file.fileno())
                if self._path.exists():
                    status = os.stat(self._path)
                    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                        os.chown(fresh, status.st_uid, status.st_gid)  # or the daemon could not read it any more
                os.replace(fresh, self._path)
        except OSError as error:
            raise TokenError(f"the token file {self._path} cannot be changed: {error.strerror}") from None
