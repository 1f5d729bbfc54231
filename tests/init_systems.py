"""What the tests ask of units of systemd and of init scripts, wherever these come from."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]

Action = Callable[[str], tuple[int, str]]
"""What calls an init script with an action, and returns its status and what it has printed."""


def check_by_systemd(unit: Path) -> None:
    """Check that systemd has nothing to say about a unit, where there is one to ask."""
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def lsb_header(script: str) -> dict[str, str]:
    """Return what the LSB header of a script says, and check that all that insserv asks for is there."""
    [header] = re.findall(r"^### BEGIN INIT INFO\n(.*?)^### END INIT INFO$", script, re.MULTILINE | re.DOTALL)
    fields = dict(re.findall(r"^# ([\w-]+): +(\S.*)$", header, re.MULTILINE))
    wanted = {"Required-Start", "Required-Stop", "Default-Start", "Default-Stop", "Short-Description"}
    assert wanted <= fields.keys()
    return fields


@contextmanager
def init_script(command: Sequence[str | Path], defaults: Path, settings: Mapping[str, object]) -> Iterator[Action]:
    """Write the file of settings of an init script, yield what calls it, and have it stop at the end of the block."""
    lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in settings.items()]
    defaults.write_text("".join(lines), encoding="utf-8")

    def call(action: str) -> tuple[int, str]:
        done = subprocess.run(
            [*command, action],
            env={**os.environ, "DEFAULTS": str(defaults)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    try:
        yield call
    finally:
        call("stop")
