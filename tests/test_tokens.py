"""Tokens and their file."""

import os
import re
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.errors import TokenError
from rpiserve.tokens import LOOK_SECONDS, TokenFile

SECRET = re.compile(r"rpi_[A-Za-z0-9_-]{43}")


@pytest.fixture
def clock() -> Clock:
    """The clock that says when the file is looked at again."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "tokens"


@pytest.fixture
def file(path: Path, clock: Clock) -> TokenFile:
    """The file."""
    return TokenFile(path, clock.seconds)


def test_a_token(file: TokenFile, path: Path) -> None:
    """A token that was made is found, with its name and role; the file knows nothing that could be sent as one."""
    secret = file.add("tablet", "read")
    assert SECRET.fullmatch(secret)
    file.load()
    token = file.find(secret)
    assert token is not None
    assert (token.name, token.role) == ("tablet", "read")
    assert secret not in path.read_text()
    assert secret.removeprefix("rpi_") not in path.read_text()


def test_what_is_no_token(file: TokenFile) -> None:
    """Nothing else is found: no other text, no hash of a token, no part of one, however long or odd."""
    secret = file.add("tablet", "control")
    file.load()
    (token,) = file.tokens()
    for text in ("", " ", secret[:-1], f"{secret}x", secret.upper(), token.digest, "tablet", "ü\udc80", "x" * 100_000):
        assert file.find(text) is None


def test_two_tokens_are_never_alike(file: TokenFile) -> None:
    """Each token is another one, and each is found as itself."""
    secrets = {name: file.add(name, "read") for name in ("a", "b", "c")}
    file.load()
    assert len(set(secrets.values())) == 3
    assert {name: getattr(file.find(secret), "name", None) for name, secret in secrets.items()} == {
        name: name for name in secrets
    }


def test_the_mode_of_the_file(file: TokenFile, path: Path) -> None:
    """A new file is its owner's alone; one that its group may read stays so; one open to everybody is refused."""
    file.add("a", "read")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    file.add("b", "read")
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o644)
    with pytest.raises(TokenError, match="chmod 600"):
        file.load()
    with pytest.raises(TokenError, match="chmod 600"):
        file.add("c", "read")


def test_changes_are_seen(file: TokenFile, path: Path, clock: Clock) -> None:
    """What somebody else adds or revokes counts soon after; the file is not read for each request."""
    file.add("first", "read")
    file.load()
    other = TokenFile(path, clock.seconds)
    clock.advance(LOOK_SECONDS)
    secret = other.add("second", "control")
    token = file.find(secret)
    assert token is not None
    other.revoke("second")
    assert file.is_valid(token)
    clock.advance(LOOK_SECONDS)
    assert not file.is_valid(token)
    assert file.find(secret) is None


def test_a_reload_is_at_once(file: TokenFile, path: Path, clock: Clock) -> None:
    """Who asks for it has the file looked at with the very next request."""
    secret = file.add("a", "read")
    file.load()
    assert file.find(secret) is not None
    TokenFile(path, clock.seconds).revoke("a")
    file.reload()
    assert file.find(secret) is None


def test_a_token_of_the_same_name_is_another_one(file: TokenFile, clock: Clock) -> None:
    """A session that was begun with a token that has been replaced by one of the same name is not valid."""
    secret = file.add("a", "read")
    file.load()
    token = file.find(secret)
    assert token is not None
    file.revoke("a")
    file.add("a", "read")
    file.reload()
    assert not file.is_valid(token)


@pytest.mark.parametrize("damage", ["gone", "no line of a token", "open", "binary"])
def test_a_file_that_is_damaged_later(
    file: TokenFile, path: Path, clock: Clock, logged_failures: list[LogEvent], damage: str
) -> None:
    """While the file cannot be read nobody is let in by it; that is logged once; when it is mended all is as before."""
    secret = file.add("a", "read")
    file.load()
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "open":
        path.chmod(0o604)
        os.utime(path, (1, 1))
    else:
        path.write_bytes(b"\xff\xfe" if damage == "binary" else damage.encode())
    for _ in range(3):
        clock.advance(LOOK_SECONDS)
        assert file.find(secret) is None
    assert len(logged_failures) == 1
    logged_failures.clear()
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    path.chmod(0o600)
    clock.advance(LOOK_SECONDS)
    assert file.find(secret) is not None


def test_a_file_that_is_closed_again(
    file: TokenFile, path: Path, clock: Clock, logged_failures: list[LogEvent]
) -> None:
    """The chmod that the error asks for is all that is needed, and that the file is opened to everybody is noticed."""
    secret = file.add("a", "read")
    file.load()
    path.chmod(0o604)
    clock.advance(LOOK_SECONDS)
    assert file.find(secret) is None
    path.chmod(0o600)
    clock.advance(LOOK_SECONDS)
    assert file.find(secret) is not None
    logged_failures.clear()


@pytest.mark.parametrize(
    "line", ["a read", "a read 00 2026-01-01", f"a admin {'0' * 64} 2026-01-01", f"a/b read {'0' * 64} x", "x" * 200]
)
def test_a_broken_line(file: TokenFile, path: Path, line: str) -> None:
    """A line that is none of a token is an error with its number, and not passed over."""
    file.add("a", "read")
    with path.open("a") as opened:
        opened.write(f"# a remark\n\n{line}\n")
    with pytest.raises(TokenError, match=f"{path}:4: this is no line of a token"):
        file.load()


def test_no_file(file: TokenFile, path: Path) -> None:
    """A daemon that is told of a file that is not there is not started without tokens."""
    with pytest.raises(TokenError, match=f"{path} cannot be read: No such file"):
        file.load()


@pytest.mark.parametrize(
    ("name", "role", "text"),
    [
        ("", "read", "is no name"),
        ("a b", "read", "is no name"),
        ("a\nb control", "read", "is no name"),
        ("a", "admin", "'admin' is no role; there are read and control"),
        ("known", "read", "there is a token 'known' already"),
    ],
)
def test_what_cannot_be_added(file: TokenFile, path: Path, name: str, role: str, text: str) -> None:
    """A wrong name or role is refused, and the file is as it was."""
    file.add("known", "read")
    before = path.read_bytes()
    with pytest.raises(TokenError, match=text):
        file.add(name, role)
    assert path.read_bytes() == before


def test_what_cannot_be_revoked(file: TokenFile) -> None:
    """To revoke what is not there is an error: after a typing mistake the token would be valid still."""
    file.add("tablet", "read")
    with pytest.raises(TokenError, match="there is no token 'tabelt'"):
        file.revoke("tabelt")


def test_a_folder_that_cannot_be_written(tmp_path: Path, clock: Clock) -> None:
    """An error of the system is told with the file's name."""
    file = TokenFile(tmp_path / "nowhere" / "tokens", clock.seconds)
    with pytest.raises(TokenError, match="tokens cannot be changed: No such file"):
        file.add("a", "read")


def test_nothing_is_left_beside_it(file: TokenFile, path: Path) -> None:
    """After changes there is the file and its lock, and no half-written copy."""
    file.add("a", "read")
    file.revoke("a")
    assert sorted(each.name for each in path.parent.iterdir()) == [".tokens.lock", "tokens"]
    assert path.read_text() == ""
