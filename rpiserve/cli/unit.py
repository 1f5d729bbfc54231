"""The command ``unit``: what has an app run from each boot on, as a unit of systemd or as an init script."""

import grp
import math
import os
import pwd
import re
import shlex
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import click

import rpiserve
from rpiserve.cli.app_file import AppFile, find_app_file
from rpiserve.cli.output import complain, put
from rpiserve.cli.run import options_of, with_app
from rpiserve.cli.summary import check_reach
from rpiserve.cli.templates import filled
from rpiserve.daemon.config import OPTIONS, Config, load
from rpiserve.errors import ConfigError, StartError

HARDWARE: Final = ("gpio", "i2c", "spi", "dialout", "video")
"""The groups that may open the devices of a Pi."""

PRIVATE: Final = (".ssh", ".gnupg", ".netrc", ".pypirc", ".git-credentials")
"""What in a home a daemon has no business with."""

STOP_MARGIN: Final = 5
"""In seconds: how much longer than its stop timeout the daemon may take before it is ended by force."""

PROGRAM: Final = (sys.prefix, sys.executable, os.path.dirname(rpiserve.__file__))
"""What is needed of Python. The interpreter of an environment may be a link to one in a home."""

FILES: Final = tuple(name for name, field in OPTIONS.items() if field.metadata["metavar"] in ("FILE", "DIR"))
"""The options that name files and folders. Those of the configuration file are seen from where the daemon runs."""

SECRETS: Final = ("token_file", "tls_key", "redis_password_file")
"""Those of them whose files must not be open to everybody."""

LOGS: Final = ("log_file", "request_log")
"""Those of them that the daemon writes."""

LOWEST_FREE_PORT: Final = 1024

_NO_GROUPS: Final = (
    "# SupplementaryGroups=gpio i2c spi, say; none but those that there are on the machine, or it does not start."
)

_UNSAFE = re.compile(r"[^\w@+=:,./%-]", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@attrs.frozen
class Service:
    """An app that is to run as a service.

    Attributes:
        name: what it is called.
        app: the app.
        folder: where it runs.
        twistd: the program.
        words: what that is given after its own options.
        config: the options that this comes to.
        user: whom it runs as; None for one that exists only while it runs.
        paths: the files and folders that it uses.
    """

    name: str
    app: AppFile
    folder: Path
    twistd: str
    words: tuple[str, ...]
    config: Config
    user: str | None
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, app: AppFile, words: Sequence[str], name: str | None = None, user: str | None = None) -> "Service":
        """Return the service that ``app`` is to be.

        Args:
            app: the app.
            words: the options of the daemon.
            name: its name; by default the module's, or the folder's if the module's says nothing.
            user: whom it runs as; by default whoever has written the app, unless that is root.

        Raises:
            ConfigError: an option is wrong.
            StartError: it could not run so.
        """
        if app.file is None:
            raise StartError(f"there is no file of a module {app.module} in {Path.cwd()} or on Python's path")
        options = options_of(app, words)
        for option, value in options.items():
            if option == "config" or option in FILES:
                options[option] = os.path.abspath(str(value))  # it will run somewhere else
        config = load(options, {})
        check_reach(config)
        values = (options.get("config"), *(getattr(config, option) for option in FILES))
        named = [app.folder / str(value) for value in values if value is not None]
        if user is None:
            user = _owner(app.file)
        elif user not in (each.pw_name for each in pwd.getpwall()):
            raise ConfigError(f"there is no user {user!r:.80} here; adduser --system --group makes one")
        return cls(
            name=name_of(app) if name is None else checked_name(name),
            app=app,
            folder=app.folder,
            twistd=find_twistd(),
            words=("rpiserve", "--module", *_words(options)),
            config=config,
            user=user,
            paths=tuple(each.resolve() for each in (app.file, *map(Path, PROGRAM), *named)),
        )

    def unit(self) -> str:
        """Return the unit of systemd.

        Raises:
            StartError: a path cannot stand in one.
        """
        if set(self.twistd) & set("\"'\\"):
            raise StartError(f"systemd starts no program with quotes or backslashes in its path: {self.twistd}")
        command = (f":{self.twistd}", "-n", "--pidfile=", *self.words)
        folder = str(self.folder)
        if folder.endswith("\\"):
            raise StartError(f"{folder} ends with a backslash, which no unit can have")
        return filled(
            "unit.service.in",
            NAME=self.name,
            FOLDER=_plain(folder).replace("%", "%%"),
            COMMAND=" ".join(map(quoted, command)),
            STOP=str(math.ceil(self.config.stop_timeout) + STOP_MARGIN),
            USER=self._user_lines(),
            GROUPS=_group_lines(),
            HOME="\n".join((*self._home_lines(), *self._writable_lines())),
            CAPABILITIES=self._capability_lines(),
        )

    def _user_lines(self) -> str:
        if self.user is not None:
            return f"User={self.user}"
        return "# A user that exists only while it runs, as root's own files are its program.\nDynamicUser=yes"

    def _home_lines(self) -> Iterator[str]:
        needed = (self.folder, *self.paths)
        homes = {_home_of(path) for path in needed} - {None}
        if not homes:
            yield "ProtectHome=yes"
            return
        yield "# The app is in a home, so homes can be read, but for what is nobody's business. To hide all but it:"
        yield "# ProtectHome=tmpfs, and BindReadOnlyPaths= with its folder and that of its Python."
        yield "ProtectHome=read-only"
        for home in sorted(filter(None, homes)):
            hidden = (home / name for name in PRIVATE)
            names = [quoted(f"-{each}") for each in hidden if not any(path.is_relative_to(each) for path in needed)]
            yield f"InaccessiblePaths={' '.join(names)}"

    def _writable_lines(self) -> Iterator[str]:
        for option in LOGS:
            file = self._file(option)
            if file is not None and not file.is_relative_to(f"/var/lib/{self.name}"):
                yield f"# For --{option.replace('_', '-')}.\nReadWritePaths={quoted(str(file.parent))}"

    def _capability_lines(self) -> str:
        port = self.config.port
        if isinstance(port, int) and 0 < port < LOWEST_FREE_PORT:
            needed = "CAP_NET_BIND_SERVICE"
            return f"# But for the port {port}.\nCapabilityBoundingSet={needed}\nAmbientCapabilities={needed}"
        return "# For a port below 1024, it and AmbientCapabilities= need CAP_NET_BIND_SERVICE.\nCapabilityBoundingSet="

    def init_script(self) -> str:
        """Return the init script.

        Raises:
            StartError: a path cannot stand in one.
        """
        return filled(
            "init.sh.in",
            NAME=self.name,
            FOLDER=shlex.quote(_plain(str(self.folder))),
            TWISTD=shlex.quote(_plain(self.twistd)),
            USER=shlex.quote(self.user or "root"),
            STOP=str(math.ceil(self.config.stop_timeout) + STOP_MARGIN),
            WORDS=" ".join(shlex.quote(_plain(word)) for word in self.words),
        )

    def warnings(self) -> Iterator[str]:
        """Return what its user may not have thought of."""
        secrets = [file.resolve() for option in SECRETS if (file := self._file(option)) is not None]
        for path in dict.fromkeys(self.paths):
            if any(path.is_relative_to(folder) for folder in ("/tmp", "/var/tmp")):
                yield f"{path} is among the temporary files, of which the service has its own: move it"
            elif path.exists() and not _can_read(path, self.user):
                who = self.user or "the user that systemd makes for it"
                way = f"see --user of rpiserve unit{'' if path in secrets else ', or chmod'}"
                yield f"{path} cannot be read by {who}: {way}"
        tokens = self._file("token_file")
        if tokens is not None and not tokens.exists():
            yield f"there is no {tokens} yet, without which it does not start: rpiserve token add makes one"
        for folder in dict.fromkeys(file.parent for option in LOGS if (file := self._file(option)) is not None):
            if not (folder.is_dir() or folder.is_relative_to(f"/var/lib/{self.name}")):
                yield f"there is no folder {folder} yet for the log, without which it does not start"

    def _file(self, option: str) -> Path | None:
        """Return the file that ``option`` names, in full: seen from where the daemon runs, as it will see it itself."""
        file = getattr(self.config, option)
        return None if file is None else Path(os.path.normpath(self.folder / file))


@with_app("Print a unit of systemd that runs an app from each boot on.")
@click.option("--user", metavar="NAME", help="Whom it runs as [the owner of the file, unless that is root].")
@click.option("--name", metavar="NAME", help="What it is called [the module's name, or the folder's].")
@click.option("--sysv", is_flag=True, help="Print an init script, for systems without systemd.")
def unit(app: str, options: tuple[str, ...], user: str | None, name: str | None, sysv: bool) -> None:
    """Print a unit of systemd that runs the daemon of APP from each boot on.

    It is hardened, names absolute paths, and says in comments what to loosen and what to tighten.
    """
    service = Service.of(find_app_file(app), options, name, user)
    text = service.init_script() if sysv else service.unit()
    put(text.rstrip("\n").encode())
    for warning in service.warnings():
        complain(f"rpiserve: {warning}")
    if sysv and service.user is None:
        complain("rpiserve: it will run as root; --user NAME is better (adduser --system --group makes one)")


def checked_name(name: str) -> str:
    """Return ``name`` as that of a service and of its folders.

    Raises:
        ConfigError: it is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(f"{name!r:.80} is no name: it has 1 to 64 letters, digits, '_', '.' and '-'")
    return name


def name_of(app: AppFile) -> str:
    """Return what the service of ``app`` is called by default."""
    last = app.module.rpartition(".")[2]
    name = app.folder.name if last in ("app", "main") else last
    return _NOT_IN_NAMES.sub("-", name).strip("-.")[:64] or "rpiserve"


def find_twistd() -> str:
    """Return the path of the twistd that belongs to this Python.

    Raises:
        StartError: there is none.
    """
    for folder in (os.path.dirname(sys.executable), sysconfig.get_path("scripts"), os.path.dirname(sys.argv[0])):
        file = os.path.abspath(os.path.join(folder, "twistd"))
        if os.access(file, os.X_OK):
            return file
    raise StartError(f"there is no twistd beside {sys.executable}, in whose environment rpiserve is installed")


def quoted(word: str) -> str:
    """Return ``word`` as systemd.service(5) has the words of a command.

    Raises:
        StartError: it has a character that none can have.
    """
    text = _plain(word).replace("%", "%%")
    if text and not _UNSAFE.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(text: str) -> str:
    if not text.isprintable():
        raise StartError(f"{text!r} has a character that can stand in no such file")
    return text


def _words(options: dict[str, object]) -> Iterable[str]:
    """Return the words of a command line that ``options`` are given by, beginning with the module."""
    yield str(options["module"])
    for option, value in options.items():
        flag = f"--{option.replace('_', '-')}"
        if option == "module":
            continue
        if value is True:
            yield flag
            continue
        for each in value if isinstance(value, list) else [value]:
            yield from (flag, str(each))


def _home_of(path: Path) -> Path | None:
    """Return the home that ``path`` is in; None if it is in none."""
    if path.is_relative_to("/root"):
        return Path("/root")
    if path.is_relative_to("/run/user"):
        return Path(*path.parts[:4])
    return Path(*path.parts[:3]) if path.is_relative_to("/home") else None


def _owner(file: Path) -> str | None:
    uid = file.stat().st_uid
    try:
        return None if uid == 0 else pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _group_lines() -> str:
    existing = {group.gr_name for group in grp.getgrall()}
    groups = " ".join(name for name in HARDWARE if name in existing)
    return f"SupplementaryGroups={groups}" if groups else _NO_GROUPS


def _can_read(path: Path, user: str | None) -> bool:
    """Tell whether ``user`` can read ``path``; None for one who is nobody."""
    uid, groups = -1, set()
    if user is not None:
        entry = pwd.getpwnam(user)
        uid, groups = entry.pw_uid, set(os.getgrouplist(user, entry.pw_gid))

    def allows(each: Path, bit: int) -> bool:
        status = each.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
        return bool(stat.S_IMODE(status.st_mode) >> shift & bit)

    try:
        return uid == 0 or (allows(path, 4) and all(allows(parent, 1) for parent in path.parents))
    except OSError:
        return False
