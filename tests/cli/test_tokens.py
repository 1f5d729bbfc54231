"""``rpiserve token``: what it shows and what it refuses, and how the commands take a token and are refused for one."""

import json
import sys
from pathlib import Path

import pytest

from rpiserve import cli
from rpiserve.cli import messages
from rpiserve.cli.target import TOKEN_SHOWN, Target, find_target
from rpiserve.client.http_client import error_from
from rpiserve.core.tokens import PREFIX, TokenFile
from rpiserve.daemon.config import load
from rpiserve.errors import ConfigError, NotAllowed, RemoteError

URL = "http://127.0.0.1:8080"
SECRET = f"{PREFIX}never-shown-9b1f"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, in which there is nothing yet, and no variable that says otherwise."""
    monkeypatch.chdir(tmp_path)
    for name in ("RPISERVE_TOKEN_FILE", "RPISERVE_TOKEN", "RPISERVE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class Shell:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, the output and the errors."""
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        output, errors = self._capsys.readouterr()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, output, errors

    def fails(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code of a command that fails, and its one line."""
        code, output, errors = self(*arguments)
        assert output == ""
        assert errors.startswith("rpiserve: ")
        assert errors.count("\n") == 1
        assert code
        return code, errors.removeprefix("rpiserve: ").strip()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """What runs the command."""
    return Shell(capsys)


def tokens_in(file: Path) -> TokenFile:
    """Return the tokens of ``file``, as a daemon has them."""
    tokens = TokenFile(file, lambda: 0.0)
    tokens.load()
    return tokens


class TestToken:
    def test_add(self, shell: Shell, folder: Path) -> None:
        """The token is all that is on standard output; the file has only its hash, and nobody else can read that."""
        code, output, errors = shell("token", "add", "laptop", "--role", "control")
        secret = output.strip()
        assert (code, output) == (0, f"{secret}\n")
        assert "only once" in errors
        assert errors.count("\n") == 1
        file = folder / "rpiserve.tokens"
        found = tokens_in(file).find(secret)
        assert found is not None
        assert (found.name, found.role) == ("laptop", "control")
        assert secret not in errors + file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600

    def test_reads_by_default(self, shell: Shell, folder: Path) -> None:
        """Without --role a token only reads."""
        shell("token", "add", "screen")
        [token] = tokens_in(folder / "rpiserve.tokens").tokens()
        assert token.role == "read"

    def test_which_file(self, shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The option names the file, or else the daemon's own variable does."""
        monkeypatch.setenv("RPISERVE_TOKEN_FILE", "by-variable")
        shell("token", "add", "a")
        shell("token", "add", "b", "--file", "by-option")
        assert [token.name for token in tokens_in(folder / "by-variable").tokens()] == ["a"]
        assert [token.name for token in tokens_in(folder / "by-option").tokens()] == ["b"]

    def test_list(self, shell: Shell) -> None:
        """The list has names, roles and dates, for people or as JSON, and no hash."""
        shell("token", "add", "laptop", "--role", "control")
        shell("token", "add", "tv")
        code, output, errors = shell("token", "list")
        lines = [line.split() for line in output.splitlines()]
        assert (code, errors) == (0, "")
        assert [line[:2] for line in lines] == [["laptop", "control"], ["tv", "read"]]
        listed = json.loads(shell("token", "list", "--json")[1])
        assert listed == [dict(zip(("name", "role", "created"), line, strict=True)) for line in lines]

    def test_empty_list(self, shell: Shell) -> None:
        """Where there are none, that is said, and it is no error."""
        assert shell("token", "list") == (0, "", "rpiserve: there are no tokens in rpiserve.tokens\n")
        assert shell("token", "list", "--json") == (0, "[]\n", "")

    def test_revoke(self, shell: Shell, folder: Path) -> None:
        """A token that is revoked is not in the file any more; the others are."""
        secret = shell("token", "add", "a")[1].strip()
        shell("token", "add", "b")
        code, output, errors = shell("token", "revoke", "a")
        assert (code, output) == (0, "")
        assert "a is revoked" in errors
        tokens = tokens_in(folder / "rpiserve.tokens")
        assert tokens.find(secret) is None
        assert [token.name for token in tokens.tokens()] == ["b"]

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (("add", "taken"), 1, "there is a token 'taken' already"),
            (("add", "a b"), 1, "'a b' is no name"),
            (("add", "a", "--file", "no/such/folder"), 1, "No such file or directory"),
            (("revoke", "gone"), 1, "there is no token 'gone'"),
            (("list", "--file", "broken"), 1, "broken:1: this is no line of a token"),
            (("add", "a", "--role", "root"), 2, "'root' is not one of 'read', 'control'"),
            (("add",), 2, "Missing argument 'NAME'"),
            ((), 2, "Missing command"),
        ],
    )
    def test_errors(self, arguments: tuple[str, ...], code: int, text: str, shell: Shell, folder: Path) -> None:
        """What cannot be done is one line, and a code that is not 0."""
        shell("token", "add", "taken")
        (folder / "broken").write_text("?\n")
        (folder / "broken").chmod(0o600)
        found, line = shell.fails("token", *arguments)
        assert found == code
        assert text in line

    def test_nobody_sees_it(self, shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token that cannot be shown is not made: it could never be used."""
        with monkeypatch.context() as patched, open("/dev/full", "w") as full:
            patched.setattr(sys, "stdout", full)
            with pytest.raises(SystemExit) as ended:
                cli.main(["token", "add", "lost"])
        assert ended.value.code == 2
        assert tokens_in(folder / "rpiserve.tokens").tokens() == []


class TestSecrets:
    def test_not_on_the_command_line(self, shell: Shell) -> None:
        """A token on the command line is refused, whichever way it got there, and is not repeated."""
        for arguments in (("--token", SECRET), (f"--token={SECRET}",), ("--token-file", SECRET)):
            code, line = shell.fails("call", "a", "b", "--url", URL, *arguments)
            assert (code, line) == (2, TOKEN_SHOWN)

    def test_file_of_the_daemon(self, shell: Shell, folder: Path) -> None:
        """The daemon's own file, which has no tokens but hashes, is not mistaken for one with a token."""
        shell("token", "add", "a")
        code, line = shell.fails("call", "a", "b", "--url", URL, "--token-file", "rpiserve.tokens")
        assert code == 2
        assert "is the file of a daemon" in line

    @pytest.mark.parametrize(
        ("url", "token", "exposed"),
        [
            ("http://pi.local:8080", SECRET, True),
            ("http://192.168.1.7", SECRET, True),
            ("http://[2001:db8::1]:80", SECRET, True),
            ("https://pi.local", SECRET, False),
            ("http://localhost:8080", SECRET, False),
            ("http://127.0.0.2", SECRET, False),
            ("http://[::1]:8080", SECRET, False),
            ("http://pi.local:8080", None, False),
            (None, None, False),
        ],
    )
    def test_exposed(self, url: str | None, token: str | None, exposed: bool) -> None:
        """A token is exposed where it goes over a network without TLS."""
        assert Target(url=url, token=token).exposes_token == exposed

    def test_exposure_is_told(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """That a token will be exposed is said once, without the token."""
        monkeypatch.setattr(messages, "react", lambda main: sys.exit(0))
        with pytest.raises(SystemExit):
            messages.run(find_target({"url": "http://pi.local"}, {"RPISERVE_TOKEN": SECRET}), lambda client: None)  # type: ignore[arg-type]
        told = capsys.readouterr().err
        assert told == "rpiserve: the token goes to http://pi.local without TLS: whoever is on the way can read it\n"

    def test_wrong_characters(self) -> None:
        """What a header cannot have is refused, and not repeated."""
        with pytest.raises(ConfigError, match="characters") as caught:
            find_target({"url": URL}, {"RPISERVE_TOKEN": f"{SECRET} x"})
        assert SECRET not in str(caught.value)


def test_variables_of_the_clients() -> None:
    """Who has the variables of the calling commands can run a daemon: to that they are nothing."""
    assert load({}, {"RPISERVE_TOKEN": SECRET, "RPISERVE_URL": URL}) == load({}, {})


@pytest.mark.parametrize("status", [401, 403])
def test_not_allowed(status: int) -> None:
    """A daemon that does not let in is told from a service that answers with an error of its own."""
    problem = {"status": status, "title": "T", "detail": "who are you?"}
    error = error_from(problem)
    assert type(error) is NotAllowed
    assert str(error) == "who are you?"
    assert type(error_from({**problem, "code": "forbidden"})) is NotAllowed
    assert type(error_from({**problem, "code": "remote_error", "remote_code": "forbidden"})) is RemoteError
