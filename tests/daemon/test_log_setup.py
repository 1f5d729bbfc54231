"""Where the log goes."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from process_doubles import AWAY, HERE

from rpiserve.daemon.config import Config
from rpiserve.daemon.log_setup import make_log
from rpiserve.errors import StartError
from rpiserve.logs.rotating_file import RotatingFile
from rpiserve.messaging.address import RedisAddress


def log_of(files: list[RotatingFile], twistd: dict[str, Any] | None = None, **options: Any) -> tuple[Any, str | None]:
    """Return what writes the log, and the name of its file."""
    observer, file = make_log(Config(**options), twistd)
    if file is None:
        return observer, None
    files.append(file)
    return observer, file.path.name


@pytest.mark.parametrize(
    ("twistd", "option", "name"),
    [
        (None, None, None),
        (None, "a.log", "a.log"),
        (HERE, None, None),
        (HERE | {"logfile": "-"}, None, None),
        (HERE | {"logfile": "t.log"}, None, "t.log"),
        (HERE | {"logfile": "t.log"}, "a.log", "a.log"),
        (AWAY, None, "twistd.log"),
        (AWAY | {"logfile": "t.log"}, None, "t.log"),
        (AWAY, "a.log", "a.log"),
        (AWAY | {"logfile": "-"}, "a.log", "a.log"),
        (AWAY | {"syslog": 1}, None, None),
        (AWAY | {"syslog": 1}, "a.log", "a.log"),
    ],
)
def test_where_the_log_goes(
    twistd: dict[str, Any] | None, option: str | None, name: str | None, files: list[RotatingFile], tmp_path: Path
) -> None:
    """Our own option goes before twistd's, and its before standard output, which the background has not."""
    observer, found = log_of(files, twistd, log_file=None if option is None else Path(option))
    assert found == name
    assert observer is not None
    assert [path.name for path in tmp_path.iterdir()] == ([] if name is None else [name])


def test_a_logger_of_the_users_own(files: list[RotatingFile], tmp_path: Path) -> None:
    """With twistd's ``--logger`` the log is somebody else's."""
    assert log_of(files, AWAY | {"logger": str}, log_file=Path("a.log")) == (None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("files")
def test_logs_that_cannot_be() -> None:
    """A log that cannot be written is a failure to start."""
    with pytest.raises(StartError, match=r"--log-file: cannot write to gone/a\.log: No such file or directory"):
        make_log(Config(log_file=Path("gone/a.log")), HERE)
    with pytest.raises(StartError, match=r"--logfile: cannot write to \.: Is a directory"):
        make_log(Config(), AWAY | {"logfile": "."})
    with pytest.raises(StartError, match="cannot log to standard output"):
        make_log(Config(), AWAY | {"logfile": "-"})


@pytest.mark.parametrize("how", ["environment", "file", "no file"])
def test_passwords_that_are_known(how: str, files: list[RotatingFile], tmp_path: Path) -> None:
    """The password for Redis is hidden wherever it stands, be it from the URL or from a file."""
    password = "no-secret-by-its-looks"
    (tmp_path / "password").write_text(f"{password}\n")
    options: dict[str, Any] = {"redis": RedisAddress.parse("redis://localhost")}
    if how == "environment":
        options = {"redis": RedisAddress.parse(f"redis://:{password}@localhost")}
    else:
        options["redis_password_file"] = tmp_path / ("password" if how == "file" else "gone")
    observer, _ = log_of(files, None, log_file=Path("a.log"), **options)
    observer({"log_format": "{text}", "text": f"AUTH {password}"})
    assert (password in (tmp_path / "a.log").read_text()) == (how == "no file")


def test_journal_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[RotatingFile]) -> None:
    """If standard error is journald's the log goes there with priorities, unless another format is asked for."""
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "__stderr__", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        observer, _ = log_of(files, HERE)
        observer({"log_format": "one"})
        observer, _ = log_of(files, HERE, log_format="json")
        observer({"log_format": "two"})
    assert (tmp_path / "stderr").read_text() == "<6>-: one\n"
