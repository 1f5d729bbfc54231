"""Access tokens: what they may do, and the file that knows them.

A token is 256 random bits, so a plain hash keeps it secret: nobody can guess what to hash. The file holds a line for
each, ``name role hash date``, and is replaced as a whole by whoever changes it.
"""

import base64
import errno
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
from twisted.logger import Logger

from rpiserve.core.safe_file import fingerprint_of, locked, read_file
from rpiserve.declare.names import NAME
from rpiserve.errors import TokenError

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

GRACE_SECONDS: Final = 60.0
"""How long what was read from a file that has changed since is good while the machine cannot read it anew."""

PASSING: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
)
"""The errors that are the machine's, and say nothing of the file: it is out of something, or its disk fails."""


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
        if not created.isprintable():  # it is shown on terminals
            raise ValueError(line)
        return cls(name, role, digest.lower(), created)

    def line(self) -> str:
        """Return its line in the file."""
        return f"{self.name} {self.role} {self.digest} {self.created}"


def digest_of(secret: str) -> str:
    """Return the hash of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class MachineError(TokenError):
    """The token file could not be read for one of the errors in `PASSING`."""


class TokenFile:
    """The file of all tokens, for those who check them and for those who change them.

    Whoever checks tokens sees changes of the file within `LOOK_SECONDS`. A file that is wrong lets nobody in until it
    is mended. If the machine fails, and not the file, those who were let in still are, for the file that has changed
    may not concern them; but for `GRACE_SECONDS` at most, as it may be one of them whose token was revoked. Either
    way reading is tried again at each look, and each error is logged once.

    Args:
        path: the file.
        clock: returns seconds that only grow; for `find`.
        wall: the wall clock, in seconds since the epoch; for the dates of new tokens.
    """

    def __init__(self, path: Path, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._wall = wall
        self._tokens: list[Token] = []
        self._looked = -LOOK_SECONDS
        self._seen: tuple[int, ...] | None = None  # the fingerprint of the file that the tokens are from
        self._failing_since: float | None = None
        self._failures = 0
        self._told: set[str] = set()

    def load(self) -> None:
        """Read the file.

        Raises:
            TokenError: it cannot be read, others than its owner and group can, or a line is wrong.
        """
        try:
            content, status = read_file(self._path)
        except OSError as error:
            raise self._unreadable(error) from None
        self._tokens, self._seen = self._parse(content, status), fingerprint_of(status)
        if self._tokens:
            log.info("tokens in {path}: {count}", path=self._path, count=len(self._tokens))
        else:
            log.warn("there are no tokens in {path}, so nobody can be let in: rpiserve token add", path=self._path)

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
        """Read the file now, whether it has changed or not, and log what is wrong with it even if that was told."""
        self._told.clear()
        self._reread()

    def _refresh(self) -> None:
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        try:
            unchanged = fingerprint_of(os.stat(self._path)) == self._seen
        except OSError:
            unchanged = False  # what is wrong shows when it is read
        if unchanged:
            self._looked = self._clock()
            self._forget_failures()
        else:
            self._reread()

    def _reread(self) -> None:
        now = self._looked = self._clock()
        try:
            self.load()
        except TokenError as error:
            self._failures += 1
            self._keep_or_drop(error, now)
        else:
            if self._failures:
                log.info("they could be read again, after {count} attempts that failed", count=self._failures)
            self._forget_failures()

    def _forget_failures(self) -> None:
        self._failing_since = None
        self._failures = 0
        self._told.clear()

    def _keep_or_drop(self, error: TokenError, now: float) -> None:
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, MachineError) and self._tokens and now - self._failing_since < GRACE_SECONDS:
            what = f"the tokens from before stay valid, for {GRACE_SECONDS:.0f} s at most if it has changed"
        else:  # whoever was to be let out shall not stay in because of that
            self._tokens, self._seen = [], None
            what = "no token is valid until that is mended"
        text = f"{error}; {what}"
        if text not in self._told:
            self._told.add(text)
            log.error("{text}", text=text)

    def _unreadable(self, error: OSError) -> TokenError:
        kind = MachineError if error.errno in PASSING else TokenError
        return kind(f"the token file {self._path} cannot be read: {error.strerror}")

    def _parse(self, content: bytes, status: os.stat_result) -> list[Token]:
        if status.st_mode & 0o007:
            raise TokenError(f"the token file {self._path} is open to everybody: chmod 600 {self._path}")
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError:
            raise TokenError(f"the token file {self._path} cannot be read: it is no text") from None
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
        try:
            content, status = read_file(self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error) from None
        return self._parse(content, status)

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
            created = datetime.fromtimestamp(self._wall(), UTC).date().isoformat()
            tokens.append(Token(name, role, digest_of(secret), created))
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
        try:
            with locked(self._path) as file:
                found = file.read()
                tokens = [] if found is None else self._parse(*found)
                yield tokens
                file.replace("".join(f"{token.line()}\n" for token in tokens).encode())
        except OSError as error:
            raise TokenError(f"the token file {self._path} cannot be changed: {error.strerror}") from None
