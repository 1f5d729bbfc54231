"""The command ``rpiserve``, without processes: what it shows, and where it goes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rpiserve import cli
from rpiserve.cli import messages
from rpiserve.cli.messages import progress_line, shown
from rpiserve.cli.output import describe, exit_code
from rpiserve.cli.target import Target, find_target
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    ConfigError,
    DataError,
    MessageError,
    NoResponders,
    RemoteError,
    RemoteTimeout,
    StartError,
    Stopped,
)

URL = "http://127.0.0.1:8080"
SECRET = "never-shown-9b1f"


def test_import_installs_no_reactor() -> None:
    """Importing the command installs no reactor, nor does importing what any of its commands is made of."""
    modules = ", ".join(f"rpiserve.cli.{module}" for module in sorted(set(cli.COMMANDS.values())))
    source = f"import sys, {modules}; print('twisted.internet.reactor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteError("x"), 1),
        (Stopped("x"), 1),
        (RuntimeError("x"), 1),
        (MessageError("x"), 2),
        (DataError("x"), 2),
        (ConfigError("x"), 2),
        (StartError("x"), 2),
        (NoResponders("x"), 3),
        (CallTimeout("x"), 4),
        (RemoteTimeout("x"), 4),
        (BusUnavailable("x"), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code(error: Exception, code: int) -> None:
    """Each error has its exit code."""
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError("two\nlines  and \x1b[2J"), "two lines and \\x1b[2J"),
        (RemoteError("no", "busy"), "no (busy)"),
        (RemoteError("no", None, "a1"), "no (incident a1)"),
        (RemoteError("no", "handler_error", "a1"), "no (handler_error, incident a1)"),
        (BusUnavailable("gone"), "gone"),
        (OSError("standard output: full"), "standard output: full"),
        (KeyError("x"), "an error of its own: KeyError: 'x'"),
        (StartError("it says http://me:never-shown@host/"), "it says http://me:***@host/"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_describe(error: Exception, text: str) -> None:
    """An error is one line that a terminal can be shown, with its code and incident."""
    assert describe(error) == text


def test_shown() -> None:
    """JSON is shown as it is, on one line or indented, but for what a terminal would obey; big numbers stay whole."""
    value = '{"a": "ü\x7f\x9b2J",\n "n": 123456789012345678901234567890}'.encode()
    assert shown(value).decode() == '{"a":"ü\\u007f\\u009b2J","n":123456789012345678901234567890}'
    assert json.loads(shown(value)) == json.loads(value)
    assert shown(b'{"a":1}', indent=True) == b'{\n  "a": 1\n}'


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ({"progress_percentage": 42}, " 42 %"),
        ({"progress_percentage": 99.6, "at": "x"}, '100 %  {"at":"x"}'),
        ({"progress_percentage": True}, '{"progress_percentage":true}'),
        ({"progress_percentage": "half"}, '{"progress_percentage":"half"}'),
        (["a"], '["a"]'),
    ],
)
def test_progress_line(payload: Any, line: str) -> None:
    """Progress is a percentage, if there is one, and what else was told."""
    assert progress_line(payload) == line


# --- where to --------------------------------------------------------------------------------------------------------


class TestFindTarget:
    def test_order(self) -> None:
        """The command line comes before the variables, and of these the URL of a daemon before Redis."""
        both = {"RPISERVE_URL": URL, "RPISERVE_REDIS": "redis://there"}
        assert find_target({"url": "https://here/base"}, both) == Target(url="https://here/base")
        assert find_target({}, both) == Target(url=URL)
        for target, host in (
            (find_target({"redis": "redis://here"}, both), "here"),
            (find_target({"url": None}, {"RPISERVE_REDIS": "redis://:pw@there", "RPISERVE_URL": ""}), "there"),
        ):
            assert target.redis is not None
            assert target.redis.host == host

    def test_redis(self, tmp_path: Path) -> None:
        """The files for Redis are named on the command line or in variables."""
        file = tmp_path / "password"
        file.write_text(f"{SECRET}\n")
        by_option = find_target({"redis": "rediss://here", "redis_password_file": str(file), "redis_ca": "ca.pem"}, {})
        variables = {"RPISERVE_REDIS_PASSWORD_FILE": str(file), "RPISERVE_REDIS_CA": "ca.pem"}
        assert by_option == find_target({}, {"RPISERVE_REDIS": "rediss://here", **variables})
        assert by_option.redis is not None
        assert by_option.redis.current_password() == SECRET
        assert by_option.redis.ca_file == Path("ca.pem")

    def test_token(self, tmp_path: Path) -> None:
        """The token is in a file or in a variable, and the object does not show it."""
        file = tmp_path / "token"
        file.write_text(f"{SECRET}\n")
        target = find_target({"url": URL, "token_file": str(file)}, {"RPISERVE_TOKEN": "other"})
        assert target == find_target({"url": URL}, {"RPISERVE_TOKEN": SECRET})
        assert target.token == SECRET
        assert SECRET not in repr(target)
        assert find_target({"url": URL}, {"RPISERVE_TOKEN": ""}).token is None

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({}, "say where to"),
            ({"redis": "redis://a", "url": URL}, "two ways"),
            ({"redis": "http://a"}, "--redis is wrong; it is redis://"),
            ({"redis": f"redis://:{SECRET}@a"}, "ps shows it"),
            ({"redis": "redis://a", "token_file": "f"}, "--token-file is for --url"),
            ({"redis": "redis://a", "redis_password_file": "/no/such/file"}, "No such file"),
            ({"redis": "redis://a", "redis_password_file": sys.executable}, "no text in UTF-8"),
            ({"url": URL, "redis_ca": "f"}, "of no use without --redis"),
            ({"url": "redis://a"}, "--url is wrong; it is http://"),
            ({"url": "http://"}, "it is http://"),
            ({"url": "http://a:0"}, "it is http://"),
            ({"url": "http://a:x"}, "it is http://"),
            ({"url": "http://a/?b"}, "it is http://"),
            ({"url": f"http://u:{SECRET}@a"}, "RPISERVE_TOKEN"),
            ({"url": "http://a/b c"}, "characters"),
            ({"url": URL, "token_file": "/no/such/file"}, "No such file"),
        ],
    )
    def test_wrong(self, given: dict[str, str | None], text: str) -> None:
        """What is wrong is said, without what is secret."""
        with pytest.raises(ConfigError, match=text) as caught:
            find_target(given, {})
        assert SECRET not in str(caught.value)

    def test_wrong_token(self) -> None:
        """A token that would end the header is refused, and not shown."""
        with pytest.raises(ConfigError, match="token holds characters") as caught:
            find_target({"url": URL}, {"RPISERVE_TOKEN": f"{SECRET}\r\nHost: x"})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Missing command"),
        (["dance"], "No such command 'dance'"),
        (["call", "a b", "c"], "'a b' is no name of a service"),
        (["call", "a", "c/d"], "'c/d' is no name of an action"),
        (["call", "a", "b", "{x}"], """it is no JSON such as '{"zone": 1}': """),
        (["call", "a", "b", "[" * 40 + "]" * 40], "nests deeper than"),
        (["call", "a", "b", "--timeout", "0"], "no number of seconds above 0"),
        (["call", "a", "b", "--timeout", "nan"], "no number of seconds above 0"),
        (["call", "a", "b", "--timeout", "soon"], "no number of seconds above 0"),
        (["publish", "", "{}"], "is no channel"),
        (["publish", "a", "1"], "a message is a JSON object"),
        (["listen"], "Missing argument"),
        (["listen", "a", "--count", "0"], "'0' is no whole number of at least 1"),
        (["listen", "a", "--count", "many"], "'many' is no whole number of at least 1"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_usage(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong command line is exit code 2 and one line."""
    monkeypatch.setenv("RPISERVE_URL", URL)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert errors.startswith("rpiserve: ")
    assert errors.count("\n") == 1
    assert text in errors


@pytest.mark.parametrize("arguments", [["--help"], ["token", "--help"]])
def test_lists_of_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of each command there is a whole sentence in the list."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    commands = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert not ended.value.code
    assert commands
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_usage_shows_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    """A token in a wrong place of the command line is not shown."""
    with pytest.raises(SystemExit):
        cli.main(["call", "a", "b", "{}", "rpi_never-shown-never-shown"])
    errors = capsys.readouterr().err
    assert "unexpected extra argument" in errors
    assert "never-shown" not in errors


def test_unexpected(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of is shown with where it comes from, without the secrets in it."""

    def raising(*_: object, **__: object) -> None:
        raise RuntimeError("it was http://me:never-shown@host/")

    monkeypatch.setattr(messages, "find_target", raising)
    with pytest.raises(SystemExit) as ended:
        cli.main(["listen", "a"])
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.endswith("RuntimeError: it was http://me:***@host/\n")


def test_interrupted_early(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before there is a reactor is exit code 130, too, without a word."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(messages, "find_target", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["listen", "a"])
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == ""
