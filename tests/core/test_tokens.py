"""Tokens and their file."""

import errno
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.core.safe_file import MOST_BYTES
from rpiserve.core.tokens import GRACE_SECONDS, LOOK_SECONDS, PASSING, TokenFile
from rpiserve.errors import TokenError

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


@contextmanager
def limited(what: int, limit: int) -> Iterator[None]:
    """Let this process have no more than ``limit`` of a resource."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def raise_error(code: int) -> int:
    """Raise the error of the system with this number."""
    raise OSError(code, os.strerror(code))


def names_in(folder: Path) -> list[str]:
    """Return what there is in ``folder``."""
    return sorted(os.listdir(folder))


def names_of(path: Path) -> list[str]:
    """Return the names of the tokens in the file ``path``."""
    return [token.name for token in TokenFile(path, lambda: 0.0).tokens()]


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


@pytest.mark.parametrize("damage", ["gone", "no line of a token", "open", "binary", "large", "pipe", "folder"])
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
    elif damage == "large":
        os.truncate(path, MOST_BYTES + 1)
    elif damage in ("pipe", "folder"):
        path.unlink()
        (os.mkfifo if damage == "pipe" else os.mkdir)(path, 0o600)
    else:
        path.write_bytes(b"\xff\xfe" if damage == "binary" else damage.encode())
    for _ in range(3):
        clock.advance(LOOK_SECONDS)
        assert file.find(secret) is None
    assert len(logged_failures) == 1
    logged_failures.clear()
    if damage == "folder":
        path.rmdir()
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
    "line",
    [
        "a read",
        "a read 00 2026-01-01",
        f"a admin {'0' * 64} 2026-01-01",
        f"a/b read {'0' * 64} x",
        "x" * 200,
        f"a read {'0' * 64} \x1b]0;title\x07",
        f"a read {'0' * 64} \u202e10-10-6202",
    ],
)
def test_a_broken_line(file: TokenFile, path: Path, line: str) -> None:
    """A line that is none of a token is an error with its number, and not passed over."""
    file.add("a", "read")
    with path.open("a", encoding="utf-8") as opened:
        opened.write(f"# a remark\n\n{line}\n")
    with pytest.raises(TokenError, match=f"{path}:4: this is no line of a token"):
        file.load()


def test_no_file(file: TokenFile, path: Path) -> None:
    """A daemon that is told of a file that is not there is not started without tokens."""
    with pytest.raises(TokenError, match=f"{path} cannot be read: No such file"):
        file.load()


def test_date_of_a_token(path: Path, clock: Clock) -> None:
    """A token has the date in UTC on which it was made, by the wall clock that the file was given."""
    file = TokenFile(path, clock.seconds, lambda: 1_000_000_000.0)
    file.add("a", "read")
    assert [token.created for token in file.tokens()] == ["2001-09-09"]


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


# --- what the file may be -------------------------------------------------------------------------------------------


def test_a_large_file(file: TokenFile, path: Path) -> None:
    """A file as large as one may be is read; a byte more is an error, and not read into memory."""
    file.add("a", "read")
    remark = MOST_BYTES - path.stat().st_size - 2
    with path.open("a") as opened:
        opened.write(f"#{'x' * remark}\n")
    file.load()
    with path.open("a") as opened:
        opened.write("\n")
    for use in (file.load, file.tokens, lambda: file.add("b", "read")):
        with pytest.raises(TokenError, match="it has more than 1 MiB"):
            use()


def test_a_pipe(file: TokenFile, path: Path) -> None:
    """A pipe is refused, by whatever uses the file: nobody waits for what may never be written into it."""
    os.mkfifo(path, 0o600)
    for use in (file.load, file.tokens, lambda: file.add("b", "read"), lambda: file.revoke("b")):
        with pytest.raises(TokenError, match="it is no regular file"):
            use()
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device(file: TokenFile, path: Path) -> None:
    """A device is refused, too; this one would never end."""
    path.symlink_to("/dev/zero")
    with pytest.raises(TokenError, match="it is no regular file"):
        file.load()


@pytest.mark.parametrize("name", [".", "", "/", "sub", "sub/.."])
def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder is no file of tokens, and no lock is put anywhere for one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(TokenError, match="Is a directory"):
        TokenFile(Path(name), lambda: 0.0).add("a", "read")
    assert (names_in(tmp_path), names_in(tmp_path / "sub")) == (["sub"], [])


# --- when the machine fails -----------------------------------------------------------------------------------------


def test_out_of_descriptors(file: TokenFile, path: Path, clock: Clock, logged_failures: list[LogEvent]) -> None:
    """Who was let in is so while the file cannot be read for want of descriptors; its change counts right after."""
    kept, revoked = file.add("kept", "read"), file.add("revoked", "read")
    file.load()
    other = TokenFile(path, clock.seconds)
    other.revoke("revoked")
    added = other.add("added", "read")
    with limited(resource.RLIMIT_NOFILE, 0):
        for _ in range(3):
            clock.advance(LOOK_SECONDS)
            assert file.find(kept) is not None
            assert file.find(added) is None
    clock.advance(LOOK_SECONDS)
    assert file.find(kept) is not None
    assert file.find(added) is not None
    assert file.find(revoked) is None
    [event] = logged_failures
    assert event["text"] == (
        f"the token file {path} cannot be read: Too many open files; the tokens from before stay valid, "
        "for 60 s at most if it has changed"
    )
    logged_failures.clear()


@pytest.mark.parametrize("code", sorted(PASSING))
def test_errors_of_the_machine(
    file: TokenFile,
    path: Path,
    clock: Clock,
    logged_failures: list[LogEvent],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    """One that lasts leaves the tokens valid for a while only, as one may be revoked by now; its end mends all."""
    secret = file.add("a", "read")
    file.load()
    TokenFile(path, clock.seconds).add("b", "read")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *_, **__: raise_error(code))
        clock.advance(LOOK_SECONDS)
        assert file.find(secret) is not None
        clock.advance(GRACE_SECONDS - LOOK_SECONDS)
        assert file.find(secret) is not None
        for _ in range(3):
            clock.advance(LOOK_SECONDS)
            assert file.find(secret) is None
    clock.advance(LOOK_SECONDS)
    assert file.find(secret) is not None
    assert [event["text"].partition("; ")[2] for event in logged_failures] == [
        "the tokens from before stay valid, for 60 s at most if it has changed",
        "no token is valid until that is mended",
    ]
    logged_failures.clear()


def test_an_error_of_the_file(
    file: TokenFile, path: Path, clock: Clock, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read lets nobody in; neither does one that then cannot be read for another reason."""
    secret = file.add("a", "read")
    file.load()
    TokenFile(path, clock.seconds).add("b", "read")
    for code in (errno.EACCES, errno.EMFILE):
        clock.advance(LOOK_SECONDS)
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", lambda *_, code=code, **__: raise_error(code))
            assert file.find(secret) is None
    assert [event["text"].rpartition("; ")[2] for event in logged_failures] == [
        "no token is valid until that is mended"
    ] * 2
    logged_failures.clear()
    clock.advance(LOOK_SECONDS)
    assert file.find(secret) is not None


def test_a_reload_reads_anyway(file: TokenFile, clock: Clock, logged_failures: list[LogEvent]) -> None:
    """Who asks for it has the file read at once though it is the same, and is told each time if that fails.

    As the file is the same, the tokens stay valid however long that lasts.
    """
    secret = file.add("a", "read")
    file.load()
    with limited(resource.RLIMIT_NOFILE, 0):
        for number in (1, 2):
            file.reload()
            assert len(logged_failures) == number
            clock.advance(GRACE_SECONDS)
            assert file.find(secret) is not None
            assert len(logged_failures) == number
    logged_failures.clear()


# --- where the file is ----------------------------------------------------------------------------------------------


def test_planted_links(file: TokenFile, path: Path, tmp_path: Path) -> None:
    """Links by the names of what is written beside the file are not followed, wherever they lead."""
    victim, absent = tmp_path / "victim", tmp_path / "absent"
    victim.write_text("precious")
    victim.chmod(0o604)
    before = victim.stat()
    path.with_name(".tokens.new").symlink_to(victim)
    file.add("a", "read")
    after = victim.stat()
    assert victim.read_text() == "precious"
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert after.st_ctime_ns == before.st_ctime_ns
    lock = path.with_name(".tokens.lock")
    for target in (victim, absent):
        lock.unlink()
        lock.symlink_to(target)
        with pytest.raises(TokenError, match=r"cannot be changed: its lock, \.tokens\.lock: Too many levels"):
            file.add("b", "read")
    assert names_in(tmp_path) == [".tokens.lock", "tokens", "victim"]
    assert victim.stat().st_ctime_ns == before.st_ctime_ns
    assert names_of(path) == ["a"]


@pytest.mark.parametrize("way", ["conf/tokens", "link/tokens", "conf/absolute", "conf/twice", "conf/../link/tokens"])
def test_through_a_link(tmp_path: Path, clock: Clock, way: str) -> None:
    """By way of a link it is the file that is changed, and no link: what was revoked is so for all who have it."""
    for folder in ("real", "conf"):
        (tmp_path / folder).mkdir()
    real = tmp_path / "real" / "tokens"
    (tmp_path / "conf" / "tokens").symlink_to("../real/tokens")
    (tmp_path / "conf" / "absolute").symlink_to(real)
    (tmp_path / "conf" / "twice").symlink_to("../link/../conf/tokens")
    (tmp_path / "link").symlink_to("real")
    before = names_in(tmp_path / "conf")
    daemon = TokenFile(tmp_path / way, clock.seconds)
    secret = TokenFile(tmp_path / way, clock.seconds).add("a", "read")  # it makes the file
    daemon.load()
    assert daemon.find(secret) is not None
    TokenFile(tmp_path / way, clock.seconds).add("b", "read")
    TokenFile(tmp_path / way, clock.seconds).revoke("a")
    clock.advance(LOOK_SECONDS)
    assert daemon.find(secret) is None
    assert names_of(real) == ["b"]
    assert names_in(tmp_path / "real") == [".tokens.lock", "tokens"]
    assert names_in(tmp_path / "conf") == before
    assert all((tmp_path / "conf" / name).is_symlink() for name in before)


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``path`` belong to neither us nor root: by giving it away, or, if we may not, by being somebody else."""
    me = os.geteuid()
    if me == 0:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)


@pytest.mark.parametrize("whose", ["link", "folder"])
@pytest.mark.parametrize("way", ["conf/tokens", "conf/sub/tokens", "conf/new"])
def test_links_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, whose: str) -> None:
    """No link of somebody else's is followed, nor one in a folder of his: he chooses the file that it leads to."""
    for folder in ("real", "conf"):
        (tmp_path / folder).mkdir()
    real = tmp_path / "real" / "tokens"
    TokenFile(real, lambda: 0.0).add("a", "read")
    before = real.read_bytes()
    name, target = {
        "conf/tokens": ("tokens", "../real/tokens"),
        "conf/sub/tokens": ("sub", "../real"),
        "conf/new": ("new", "../real/new"),
    }[way]
    link = tmp_path / "conf" / name
    link.symlink_to(target)
    give_away(link if whose == "link" else tmp_path / "conf", monkeypatch)
    file = TokenFile(tmp_path / way, lambda: 0.0)
    for use in (lambda: file.revoke("a"), lambda: file.add("b", "read")):
        with pytest.raises(TokenError, match=f"the link {name} on the way to it is somebody else's"):
            use()
    assert real.read_bytes() == before
    assert names_in(tmp_path / "real") == [".tokens.lock", "tokens"]
    assert names_in(tmp_path / "conf") == [name]


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no links it does not matter whose the folder is; the file stays its owner's, with its mode."""
    path = tmp_path / "conf" / "tokens"
    path.parent.mkdir()
    TokenFile(path, lambda: 0.0).add("a", "read")
    path.chmod(0o640)
    give_away(path, monkeypatch)
    give_away(path.parent, monkeypatch)
    before = path.stat()
    TokenFile(path, lambda: 0.0).add("b", "read")
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert names_of(path) == ["a", "b"]


def test_a_circle_of_links(tmp_path: Path) -> None:
    """Links that lead to each other end in an error."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(TokenError, match="cannot be changed: Too many levels of symbolic links"):
        TokenFile(tmp_path / "a", lambda: 0.0).add("x", "read")


def test_a_full_disk(file: TokenFile, path: Path) -> None:
    """A file that cannot be written leaves the one from before, and nothing beside it."""
    file.add("a", "read")
    before = path.read_bytes()
    with limited(resource.RLIMIT_FSIZE, 0), pytest.raises(TokenError, match="cannot be changed: File too large"):
        file.add("b", "read")
    assert path.read_bytes() == before
    assert names_in(path.parent) == [".tokens.lock", "tokens"]


def test_what_a_power_cut_has_left(file: TokenFile, path: Path) -> None:
    """Half a file from the last time is neither in the way nor left."""
    path.with_name(".tokens.new").write_text("half a fi")
    file.add("a", "read")
    assert names_of(path) == ["a"]
    assert names_in(path.parent) == [".tokens.lock", "tokens"]


def test_a_power_cut(file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is on the disk, with its mode, before it gets its name; the name is on the disk at the end."""
    done: list[object] = []
    synced, replaced = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(status.st_mode) else (status.st_size > 0, status.st_mode & 0o777))
        synced(descriptor)

    def replace(*arguments: str, **folders: int) -> None:
        done.append("name")
        replaced(*arguments, **folders)

    file.add("a", "read")
    path.chmod(0o640)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    file.add("b", "read")
    assert done == [(True, 0o640), "name", "folder"]


@pytest.mark.parametrize(("code", "is_told"), [(errno.EINVAL, False), (errno.EACCES, False), (errno.EIO, True)])
def test_a_folder_that_is_not_synced(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_told: bool
) -> None:
    """That the system knows no such thing for folders is no error; that the disk fails is one."""
    synced = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise_error(code)
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if is_told:
        with pytest.raises(TokenError, match="cannot be changed: Input/output error"):
            file.add("a", "read")
    else:
        file.add("a", "read")
    assert names_in(path.parent) == [".tokens.lock", "tokens"]
