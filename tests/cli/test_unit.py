"""``rpiserve unit``: the unit of systemd and the init script, read as those do who take them."""

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
from init_systems import SHELLS, Action, check_by_systemd, init_script, lsb_header

from rpiserve import cli
from rpiserve.cli.app_file import AppFile
from rpiserve.cli.run import check, run
from rpiserve.cli.unit import Service, find_twistd, name_of, quoted, unit
from rpiserve.daemon.config import OPTIONS, Config
from rpiserve.daemon.options import Options
from rpiserve.errors import ConfigError, StartError
from rpiserve.messaging.address import RedisAddress

TWISTD = os.path.abspath(Path(sys.executable).with_name("twistd"))
ME = pwd.getpwuid(os.geteuid()).pw_name
PATIENCE = 30.0
EXAMPLES = Path(__file__).parents[2] / "examples"
STRANGE = "a b%h $HOME \"q\" 'r' é;"
"""What the name of a folder may hold, and what systemd and shells make something of."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an app."""
    place = tmp_path / "house"
    place.mkdir()
    (place / "app.py").write_text("from rpiserve import App\n\napp = App('house')\n", encoding="utf-8")
    monkeypatch.chdir(place)
    return place


def service(folder: Path, *words: str, name: str | None = None, user: str | None = None) -> Service:
    """Return the service of the app in ``folder``."""
    return Service.of(AppFile("app", folder, folder / "app.py"), words, name, user)


def settings(unit: str) -> dict[str, list[str]]:
    """Return what is set in a unit, and check that there is nothing else in it but comments and titles."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.splitlines():
        assert re.fullmatch(r"|#.*|\[\w+\]|[A-Z]\w*=.*", line), line
        if match := re.fullmatch(r"([A-Z]\w*)=(.*)", line):
            found[match[1]].append(match[2])
    return found


def words_of(line: str) -> list[str]:
    """Read a line as systemd.service(5) says, for what is quoted here: double quotes, backslashes, and %%."""
    words = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        text = re.sub(r"\\(.)", r"\1", match[1]) if match[2] is None else match[2]
        assert not re.search(r"(?<!%)%(%%)*(?!%)", text), f"a specifier: {text}"
        words.append(text.replace("%%", "%"))
    return words


class TestUnit:
    def test_command(self, folder: Path) -> None:
        """The command is the twistd that is here, by its full path, and rpiserve takes what it is given."""
        found = settings(service(folder, "--port", "8081", "--allowed-host", "a", "--allowed-host", "b").unit())
        [command] = found["ExecStart"]
        program, *words = words_of(command)
        assert program == f":{TWISTD}"
        assert os.access(TWISTD, os.X_OK)
        assert words[:3] == ["-n", "--pidfile=", "rpiserve"]
        config = Options.parse(words[3:], {}, {})
        assert (config.module, config.port, config.allowed_host) == ("app", 8081, ("a", "b"))
        assert found["WorkingDirectory"] == [str(folder)]

    def test_supervision(self, folder: Path) -> None:
        """systemd hears from it, starts it again, and gives it time to end."""
        found = settings(service(folder, "--stop-timeout", "21.5").unit())
        assert found["Type"] == ["notify"]
        assert found["NotifyAccess"] == ["main"]
        assert found["WatchdogSec"] == ["30"]
        assert found["Restart"] == ["on-failure"]
        assert found["TimeoutStopSec"] == ["27"]
        assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]

    def test_hardening(self, folder: Path) -> None:
        """It may change nothing but its own folders and gains no rights, but it can open devices."""
        found = settings(service(folder).unit())
        assert found["ProtectSystem"] == ["strict"]
        assert found["CapabilityBoundingSet"] == [""]
        assert found["SystemCallFilter"] == ["@system-service"]
        for switch in ("NoNewPrivileges", "PrivateTmp", "ProtectKernelModules", "RestrictNamespaces"):
            assert found[switch] == ["yes"]
        assert not {"PrivateDevices", "ProtectClock", "DevicePolicy"} & found.keys()
        assert found["StateDirectory"] == found["RuntimeDirectory"] == ["house"]

    def test_files(self, folder: Path) -> None:
        """Files and folders are named in full, wherever the command was called."""
        (folder / "x.toml").write_text("port = 9000\n")
        text = service(folder, "--config", "x.toml", "--token-file", "t", "--www", "pages").unit()
        [command] = settings(text)["ExecStart"]
        for path in ("x.toml", "t", "pages"):
            assert str(folder / path) in words_of(command)

    def test_strange_folder(self, tmp_path: Path) -> None:
        """What systemd would make something of is written so that it does not."""
        place = tmp_path / STRANGE
        place.mkdir()
        (place / "app.py").touch()
        found = settings(service(place, "--www", str(place / "www")).unit())
        assert found["WorkingDirectory"] == [str(place).replace("%", "%%")]
        assert str(place / "www") in words_of(found["ExecStart"][0])

    def test_refused_folders(self, tmp_path: Path) -> None:
        """What no unit can express is refused."""
        for name, text in (("a\nb", "character that can stand in no such file"), ("a\\", "ends with a backslash")):
            place = tmp_path / name
            place.mkdir()
            (place / "app.py").touch()
            with pytest.raises(StartError, match=text):
                service(place).unit()
        with pytest.raises(StartError, match="no program with quotes or backslashes"):
            attrs.evolve(service(tmp_path / "a\\"), twistd="/a'b").unit()

    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("--port", "--port"),
            ("", '""'),
            ("a b", '"a b"'),
            ("100%", "100%%"),
            ('say "x"', r'"say \"x\""'),
            ("back\\slash", r'"back\\slash"'),
            (";", '";"'),
            ("#", '"#"'),
            ("é", '"é"'),
        ],
    )
    def test_quoted(self, word: str, text: str) -> None:
        """A word is quoted by the rules of systemd if it has to be."""
        assert quoted(word) == text

    def test_low_port(self, folder: Path) -> None:
        """For a port below 1024 it gets the one right that this needs."""
        found = settings(service(folder, "--port", "80").unit())
        assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]

    def test_user(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It runs as who has written it; what is root's runs as nobody in particular, unless that is asked for."""
        monkeypatch.setattr("rpiserve.cli.unit._owner", lambda file: None)
        assert settings(service(folder).unit())["DynamicUser"] == ["yes"]
        asked = settings(service(folder, user=ME).unit())
        assert asked["User"] == [ME]
        assert "DynamicUser" not in asked
        monkeypatch.undo()
        owner = settings(service(folder).unit())
        assert (owner["DynamicUser"], owner["User"]) == ((["yes"], []) if ME == "root" else ([], [ME]))
        with pytest.raises(ConfigError, match="there is no user 'nobody-at-all' here"):
            service(folder, user="nobody-at-all")

    def test_groups(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is in the groups for hardware that this machine has: an unknown one would keep it from starting."""

        class Group:
            def __init__(self, name: str) -> None:
                self.gr_name = name

        monkeypatch.setattr("grp.getgrall", lambda: [Group("spi"), Group("root"), Group("gpio")])
        assert settings(service(folder).unit())["SupplementaryGroups"] == ["gpio spi"]
        monkeypatch.setattr("grp.getgrall", list)
        assert "SupplementaryGroups" not in settings(service(folder).unit())

    def test_in_a_home(self, folder: Path) -> None:
        """An app in a home can be read there, and keys cannot, unless the app lies among them."""
        home = Path("/home/pi o")
        unit = Service(
            "house",
            AppFile("app", home / "house", home / "house" / "app.py"),
            home / "house",
            TWISTD,
            ("rpiserve",),
            Options.parse([], {}, {}),
            "pi",
            (
                home / "house" / "app.py",
                home / ".gnupg" / "token",
                Path("/root/x"),
                Path("/run/user/7/y"),
                Path("/opt"),
            ),
        ).unit()
        found = settings(unit)
        assert found["ProtectHome"] == ["read-only"]
        hidden = [word for line in found["InaccessiblePaths"] for word in words_of(line)]
        assert {"-/home/pi o/.ssh", "-/root/.ssh", "-/run/user/7/.ssh"} < set(hidden)
        assert "-/home/pi o/.gnupg" not in hidden

    def test_elsewhere(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An app that needs nothing of any home sees none, and it counts where its Python really is."""
        monkeypatch.setattr("rpiserve.cli.unit.PROGRAM", ("/usr", "/usr/bin/python3"))
        found = settings(service(folder).unit())
        assert found["ProtectHome"] == ["yes"]
        assert "InaccessiblePaths" not in found
        link = folder / "python"
        link.symlink_to("/home/pi/.pyenv/bin/python")
        monkeypatch.setattr("rpiserve.cli.unit.PROGRAM", (str(link),))
        assert settings(service(folder).unit())["ProtectHome"] == ["read-only"]

    @pytest.mark.parametrize("option", ["--log-file", "--request-log"])
    def test_log_file(self, folder: Path, option: str) -> None:
        """A log outside its own folders can be written."""
        found = settings(service(folder, option, "/var/log/a b/house.log").unit())
        assert found["ReadWritePaths"] == ['"/var/log/a b"']
        assert "ReadWritePaths" not in settings(service(folder, option, "/var/lib/house/log").unit())

    @pytest.mark.parametrize("option", ["log_file", "request_log"])
    def test_log_of_the_configuration(self, folder: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path in the file of options is seen from where the daemon runs, and named in full."""
        (folder / "x.toml").write_text(f"{option} = 'a/../logs/x.log'\n")
        monkeypatch.chdir(folder.parent)
        found = service(folder, "--config", "house/x.toml")
        assert settings(found.unit())["ReadWritePaths"] == [str(folder / "logs")]

    def test_would_not_start(self, folder: Path) -> None:
        """There is no unit for what could not start."""
        (folder / "x.toml").write_text("prot = 1")
        with pytest.raises(ConfigError, match=r"prot in .*x\.toml is no option"):
            service(folder, "--config", "x.toml")
        with pytest.raises(StartError, match="can be reached from other machines"):
            service(folder, "--host", "0.0.0.0")
        with pytest.raises(ConfigError, match="is no name"):
            service(folder, name="a/b")
        with pytest.raises(StartError, match="there is no file of a module gone"):
            Service.of(AppFile("gone", folder, None), ())

    def test_systemd_takes_it(self, tmp_path: Path, folder: Path) -> None:
        """systemd has nothing to say about it, where there is one to ask; nor of one with strange paths."""
        place = tmp_path / STRANGE
        shutil.copytree(folder, place)
        twistd = tmp_path / "a b%h $HOME é;" / "twistd"
        twistd.parent.mkdir()
        twistd.symlink_to(TWISTD)
        plain = service(folder, "--token-file", "tokens", "--port", "80", user=ME)
        strange = attrs.evolve(service(place, "--www", str(place)), twistd=str(twistd))
        for number, each in enumerate((plain, strange)):
            unit = tmp_path / f"unit{number}.service"
            unit.write_text(each.unit(), encoding="utf-8")
            check_by_systemd(unit)


@pytest.mark.parametrize(
    ("module", "folder", "name"),
    [
        ("app", "/srv/house", "house"),
        ("main:it", "/srv/my house!", "my-house"),
        ("greenhouse", "/srv/house", "greenhouse"),
        ("house.attic", "/srv", "attic"),
        ("app", "/", "rpiserve"),
    ],
)
def test_name(module: str, folder: str, name: str) -> None:
    """A service is called as its module, or as its folder if the module's name tells nothing."""
    assert name_of(AppFile(module, Path(folder), None)) == name


def test_options_are_told_apart() -> None:
    """No option of a command that takes those of the daemon has the name of one of these."""
    for command in (unit, run, check):
        own = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
        assert not own & OPTIONS.keys()


def test_twistd() -> None:
    """The program is that of the environment in which rpiserve is."""
    assert find_twistd() == TWISTD


class TestWarnings:
    def test_temporary(self, folder: Path, tmp_path: Path) -> None:
        """What lies among the temporary files is not there for a service that has its own."""
        place = Path("/tmp/house")
        found = Service("a", AppFile("app", place, None), place, TWISTD, (), Options.parse([], {}, {}), ME, (place,))
        assert list(found.warnings()) == [
            "/tmp/house is among the temporary files, of which the service has its own: move it"
        ]

    @pytest.mark.parametrize(("mode", "readable"), [(0o600, False), (0o644, True)])
    def test_not_readable(self, mode: int, readable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that only its owner can read is of no use to a user whom systemd makes."""
        file = Path("/etc/rpiserve-tokens")
        config = Options.parse([], {}, {})
        found = Service("a", AppFile("app", tmp_path, None), tmp_path, TWISTD, (), config, None, (file,))
        usual = Path.stat

        def status(path: Path, **options: bool) -> os.stat_result:
            return os.stat_result((0o100000 | mode, *[0] * 9)) if path == file else usual(path, **options)

        monkeypatch.setattr(Path, "stat", status)
        line = f"{file} cannot be read by the user that systemd makes for it: see --user of rpiserve unit, or chmod"
        assert list(found.warnings()) == ([] if readable else [line])

    def test_files_of_the_configuration(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The files that only the file of options names count, too, as they are seen from where the daemon runs."""
        names = {"tls_cert": "cert.pem", "tls_key": "key.pem", "token_file": "tokens", "www": "pages"}
        lines = [f"{option} = '{name}'" for option, name in names.items()]
        (folder / "x.toml").write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.chdir(folder.parent)
        found = service(folder, "--config", "house/x.toml")
        assert {folder / name for name in ("x.toml", *names.values())} < set(found.paths)

    @pytest.mark.parametrize("option", ["token_file", "tls_key", "redis_password_file"])
    def test_secrets(self, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody is told to open to all what holds a secret."""
        place, secret, plain = Path("/etc"), Path("/etc/passwd"), Path("/etc/group")
        config = attrs.evolve(Config(), tls_cert=plain, tls_key=plain, redis=RedisAddress.parse("redis://x"))
        config = attrs.evolve(config, **{option: secret})
        monkeypatch.setattr("rpiserve.cli.unit._can_read", lambda path, user: False)
        found = Service("a", AppFile("app", place, None), place, TWISTD, (), config, "pi", (secret,))
        assert list(found.warnings()) == [f"{secret} cannot be read by pi: see --user of rpiserve unit"]

    def test_no_folder_for_the_log(self, folder: Path) -> None:
        """Whoever names a log in a folder that there is not yet is told so."""
        asked = service(folder, "--log-file", "logs/a.log", "--request-log", "/var/lib/house/b.log")
        told = [line for line in asked.warnings() if "for the log" in line]
        assert told == [f"there is no folder {folder / 'logs'} yet for the log, without which it does not start"]


class TestCommand:
    def test_unit(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The unit stands on standard output, and warnings do not."""
        with pytest.raises(SystemExit) as ended:
            cli.main(["unit", "app.py", "--name", "attic", "--port", "8081", "--user", ME])
        output, errors = capsys.readouterr()
        assert not ended.value.code
        assert output == service(folder, "--port", "8081", name="attic", user=ME).unit()
        assert all(line.startswith("rpiserve: ") for line in errors.splitlines())

    def test_sysv(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """So does the script; that it would run as root is said."""
        monkeypatch.setattr("rpiserve.cli.unit._owner", lambda file: None)
        with pytest.raises(SystemExit):
            cli.main(["unit", "app", "--sysv"])
        output, errors = capsys.readouterr()
        assert output.startswith("#!/bin/sh\n### BEGIN INIT INFO\n")
        assert "it will run as root" in errors

    def test_refused(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is wrong is one line."""
        with pytest.raises(SystemExit) as ended:
            cli.main(["unit", "app.py", "--module", "x"])
        output, errors = capsys.readouterr()
        assert (ended.value.code, output) == (2, "")
        assert errors == "rpiserve: --module is of no use here: APP names the module already\n"


@pytest.mark.parametrize("example", ["rpiserve.service", "rpiserve.init"])
def test_examples(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples are what the command prints for an app in ``/opt/rpiserve``, on a machine without hardware."""
    monkeypatch.setattr("grp.getgrall", list)
    place = Path("/opt/rpiserve")
    installed = Service(
        name="rpiserve",
        app=AppFile("app", place, place / "app.py"),
        folder=place,
        twistd=str(place / ".venv/bin/twistd"),
        words=("rpiserve", "--module", "app"),
        config=Config(),
        user="rpiserve" if example == "rpiserve.init" else None,
        paths=(),
    )
    printed = installed.init_script() if example == "rpiserve.init" else installed.unit()
    assert (EXAMPLES / example).read_text(encoding="utf-8") == printed


class TestInitScript:
    @pytest.fixture(params=["house", STRANGE], ids=["plain", "strange"])
    def control(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Action]:
        """Return what calls the script of an app with an action, and returns its status and what it has printed."""
        place = tmp_path / request.param
        place.mkdir()
        (place / "app.py").write_text("from rpiserve import App\n\napp = App('house')\n", encoding="utf-8")
        script = tmp_path / "script"
        script.write_text(service(place, "--port", "0", name="house", user=ME).init_script(), encoding="utf-8")
        values = {"PIDFILE": tmp_path / "run" / "house.pid", "LOG_TO": f"--logfile={tmp_path / 'log'}"}
        with init_script(["sh", script], tmp_path / "defaults", values) as call:
            yield call

    @pytest.mark.parametrize("shell", SHELLS)
    def test_syntax(self, shell: str, tmp_path: Path) -> None:
        """Each shell that is here takes its syntax, whatever the folder is called."""
        place = tmp_path / STRANGE
        place.mkdir()
        (place / "app.py").touch()
        (tmp_path / "script").write_text(service(place).init_script(), encoding="utf-8")
        subprocess.run([shell, "-n", tmp_path / "script"], timeout=PATIENCE, check=True)

    def test_header(self, folder: Path) -> None:
        """It has the LSB header with what insserv asks for."""
        assert lsb_header(service(folder).init_script())["Provides"] == "house"

    def test_cycle(self, control: Action, tmp_path: Path) -> None:
        """It starts the daemon in the background, has it reload, and stops it; its exit codes are those of the LSB."""
        assert control("status") == (3, "house does not run\n")
        assert control("reload") == (7, "house does not run\n")
        assert control("start") == (0, "house has started\n")
        pid = int((tmp_path / "run" / "house.pid").read_text())
        log = (tmp_path / "log").read_text(encoding="utf-8")
        assert "serving on http://127.0.0.1:" in log
        assert control("status") == (0, f"house runs (process {pid})\n")
        assert control("start") == (0, f"house runs already (process {pid})\n")
        assert control("force-reload") == (0, "house has been told to reload\n")
        assert control("restart") == (0, "house has stopped\nhouse has started\n")
        assert int((tmp_path / "run" / "house.pid").read_text()) != pid
        assert control("stop") == (0, "house has stopped\n")
        assert control("stop") == (0, "house does not run\n")
        assert control("dance")[0] == 2

    def test_foreign_process(self, control: Action, tmp_path: Path) -> None:
        """A process that has the number in a file left behind is neither taken for the daemon nor killed."""
        (tmp_path / "run").mkdir()
        for text in (str(os.getpid()), "none", ""):
            (tmp_path / "run" / "house.pid").write_text(text)
            assert control("status")[0] == 1
            assert control("stop") == (0, "house does not run\n")
