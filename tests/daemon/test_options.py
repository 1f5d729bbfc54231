"""The command line of ``twistd rpiserve``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rpiserve.daemon.config import OPTIONS, Config
from rpiserve.daemon.options import Options
from rpiserve.errors import ConfigError

TWISTD = Path(sys.executable).with_name("twistd")


def refused(*arguments: str) -> str:
    """Parse a command line that is wrong, and return what is said of it."""
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(list(arguments))
    return str(caught.value)


def test_nothing_given() -> None:
    """An option that was not given is not taken for one that was given with its default."""
    options = Options()
    options.parseOptions([])
    assert options.given == {}
    assert options.config({}) == Config()


def test_short_options(tmp_path: Path) -> None:
    """-m, -p and -c are short for --module, --port and --config."""
    file = tmp_path / "options.toml"
    file.write_text("max_body = 5\n", encoding="utf-8")
    config = Options.parse(["-m", "garden", "-p", "81", "-c", str(file)], {}, {})
    assert (config.module, config.port, config.max_body) == ("garden", 81, 5)
    assert Options.parse(["-mgarden", "-p0"], {}, {}).port == 0


def test_equals_sign_and_repetition() -> None:
    """A value may follow after "="; an allowed host is added to the others, of anything else the last one counts."""
    config = Options.parse(["--port=1", "--allowed-host=a.lan", "--allowed-host", "b.lan", "--port=2"], {}, {})
    assert (config.port, config.allowed_host) == (2, ("a.lan", "b.lan"))


def test_parse_takes_all_places() -> None:
    """The command line wins over the environment, and that over code."""
    config = Options.parse(["-p", "1"], {"RPISERVE_PORT": "2", "RPISERVE_HOST": "::1"}, {"host": "::2", "max_body": 3})
    assert (config.port, config.host, config.max_body) == (1, "::1", 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--prot", "1"], "rpiserve: option --prot not recognized; did you mean --port?"),
        (["--allowed_host", "a"], "rpiserve: option --allowed_host not recognized; did you mean --allowed-host?"),
        (["--confg=x"], "rpiserve: option --confg not recognized; did you mean --config?"),
        (["--zzzz"], "rpiserve: option --zzzz not recognized; --help lists the options"),
        (["-x"], "rpiserve: option -x not recognized; --help lists the options"),
        (["--pidfile="], "rpiserve: option --pidfile not recognized; it is twistd's, and goes before rpiserve"),
        (["-n"], "rpiserve: option -n not recognized; it is twistd's, and goes before rpiserve"),
        (["--port"], "rpiserve: option --port requires argument; --help lists the options"),
        (["--debug=1"], "rpiserve: option --debug must not have an argument; --help lists the options"),
        (["app"], "rpiserve: 'app' is no option; an app module is named with --module app; --help lists the options"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], text: str) -> None:
    """A command line that is wrong ends twistd with one line that says how, and a hint where there is one."""
    assert refused(*arguments) == text


def test_help_is_complete() -> None:
    """`twistd rpiserve --help` lists every option with what it does and its default, in lines that fit a terminal."""
    done = subprocess.run(
        [TWISTD, "rpiserve", "--help"], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    text = " ".join(done.stdout.split())
    for name, field in OPTIONS.items():
        assert re.search(rf" --{name.replace('_', '-')}=? ", text), name
        assert field.metadata["help"] in text
    for line in (
        "-m, --module= the app module, or module:attribute [app]",
        "-p, --port= a TCP port, an endpoint description, or none [8080]",
        "-c, --config= a TOML file with options",
        "--host= the address to listen on [127.0.0.1]",
        "--stop-timeout= seconds that a shutdown may take, all in all [10]",
        "Every option can stand in an RPISERVE_… variable",
    ):
        assert line in text
    assert "None" not in text
    assert "()" not in text


SECRET = "geheim"


def test_redis() -> None:
    """Redis is named by a URL, and what is secret stands in files."""
    arguments = ["--redis", "rediss://pi.lan:6380/1", "--redis-password-file=/run/password", "--redis-ca=/etc/ca.pem"]
    address = Options.parse(arguments, {}, {}).redis_address
    assert address is not None
    assert (address.host, address.port, address.db, address.tls, address.password) == ("pi.lan", 6380, 1, True, None)
    assert (address.password_file, address.ca_file) == (Path("/run/password"), Path("/etc/ca.pem"))


@pytest.mark.parametrize("arguments", [[f"--redis=redis://:{SECRET}@h"], ["--redis", f"redis://me:{SECRET}@h"]])
def test_a_password_on_the_command_line(arguments: list[str]) -> None:
    """A password on the command line is refused and not shown, even where the environment has another URL."""
    with pytest.raises(ConfigError, match="a password on the command line can be read by everybody") as caught:
        Options.parse(arguments, {"RPISERVE_REDIS": "redis://localhost"}, {})
    assert SECRET not in str(caught.value)


def test_a_password_in_the_environment() -> None:
    """A password in RPISERVE_REDIS is taken: only the user and root can read it there."""
    address = Options.parse([], {"RPISERVE_REDIS": f"redis://:{SECRET}@localhost"}, {}).redis_address
    assert address is not None
    assert address.password == SECRET


@pytest.mark.parametrize(
    "arguments",
    [
        [f"redis://:{SECRET}@localhost"],
        ["--redis=redis://localhost", f"redis://:{SECRET}@localhost"],
        [f"--redis-url=redis://:{SECRET}@localhost"],
        [f"--redi=redis://:{SECRET}@localhost"],
        [f"--debug=redis://:{SECRET}@localhost"],
    ],
)
def test_a_password_in_the_wrong_place(arguments: list[str]) -> None:
    """A URL that stands where none belongs is not shown either."""
    assert SECRET not in refused(*arguments)
