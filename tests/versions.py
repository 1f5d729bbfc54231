"""Run the unit tests with the lowest versions allowed on Python 3.11, and with the newest on the newest Python found.

Used by ``make test-versions``. Each gets a virtual environment in ``.venv/versions``, made by uv; `constraints.txt` is
left out. Pythons are looked for on the path and among those of pyenv.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

CHECKOUT = Path(__file__).resolve().parents[1]
PLACE = CHECKOUT / ".venv" / "versions"
UV = Path(sys.executable).with_name("uv")
OLDEST = (3, 11)


def pythons() -> dict[tuple[int, int], Path]:
    """Return the Pythons that work, by their versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [f"python3.{minor}" for minor in range(OLDEST[1], 30)]
    candidates = [sys.executable, *filter(None, map(which, names)), *sorted(pyenv.glob("3.*/bin/python3"))]
    found: dict[tuple[int, int], Path] = {}
    for candidate in candidates:
        asked = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if match := re.fullmatch(r"Python 3\.(\d+)\.\d+", asked.stdout.strip()):
            found.setdefault((3, int(match[1])), Path(candidate))
    return found


def tested(name: str, python: Path, *how: str) -> bool:
    """Tell whether the unit tests pass in a new environment of ``python``, with what uv installs if told ``how``."""
    folder = PLACE / name
    inside = str(folder / "bin" / "python")
    environment = os.environ | {"VIRTUAL_ENV": str(folder)}
    commands = [
        [UV, "venv", "--quiet", "--clear", "--python", python, folder],
        [UV, "pip", "install", "--quiet", "--python", inside, *how, "--editable", ".[dev]"],
        [UV, "pip", "list", "--quiet", "--python", inside],
        [inside, "-m", "pytest", "-q", "-n", "2", "tests", "--ignore=tests/integration", "--ignore=tests/browser"],
    ]
    print(f"\n=== {name}: {python} {' '.join(how)}", flush=True)
    return all(subprocess.run(each, cwd=CHECKOUT, env=environment, check=False).returncode == 0 for each in commands)


def main() -> int:
    """Try both, and return the exit code."""
    there = pythons()
    if OLDEST not in there:
        print("there is no Python 3.11, on the path or in pyenv, to try the lowest versions with", file=sys.stderr)
        return 1
    newest = max(version for version in there if version >= OLDEST)
    results = {
        "lowest versions on Python 3.11": tested("lowest", there[OLDEST], "--resolution", "lowest-direct"),
        f"newest versions on Python 3.{newest[1]}": tested("newest", there[newest], "--upgrade"),
    }
    print()
    for what, passed in results.items():
        print(f"{what}: {'passed' if passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
