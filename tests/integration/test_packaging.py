"""rpiserve as it is installed: by pip from a checkout, in editable form, from a wheel and from an sdist.

What matters most is the plugin, which lives in a folder of Twisted's: twistd has to find it however rpiserve was
installed, and Twisted has to be whole once rpiserve is gone.

The wheel is installed each time. The other three kinds are tried again when a file that decides about them has changed:
fingerprints in the user's cache folder record what was tried. Remove `rpiserve-tests` there to try all of them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
OTHER_KINDS = ["checkout", "editable", "sdist"]
DECISIVE = ["setup.py", "pyproject.toml", "MANIFEST.in", "constraints.txt", "twistd_plugins/*.py"]
TRIED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpiserve-tests"
MINUTE = 60.0
LISTED = re.compile(r"^ +rpiserve +\S", re.MULTILINE)
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def fingerprint_of(kind: str) -> Path:
    """Return the file that is there once an installation of this kind was tried with this Python."""
    checksum = hashlib.sha256(sys.version.encode())
    for file in sorted(file for pattern in DECISIVE for file in CHECKOUT.glob(pattern)):
        checksum.update(b"%b\0%b\0" % (file.name.encode(), file.read_bytes()))
    return TRIED / f"{kind}-{checksum.hexdigest()}"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in bounded time and with nothing of this process's Python about it."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE_", "VIRTUAL_"))
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=3 * MINUTE,
        check=False,
    )


def must(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed; one that failed fails the test with it."""
    assert done.returncode == 0, f"{done.args} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def copy_sources(target: Path) -> Path:
    """Copy what belongs to the checkout, without what was built in it: a stale ``build/`` would hide a missing file."""
    if not (CHECKOUT / ".git").exists():  # an unpacked sdist
        shutil.copytree(CHECKOUT, target, ignore=NOT_SOURCE)
        return target
    names = must(run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=CHECKOUT))
    for name in set(names.split("\0")):
        source = CHECKOUT / name
        if name and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


@dataclass(frozen=True)
class Artefacts:
    """What was built, and all that is needed to install it without a network."""

    sources: Path
    sdist: Path
    wheel: Path
    offline: dict[str, str]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    """Fetch each dependency once, then build the sdist, and the wheel from the sdist."""
    top = tmp_path_factory.mktemp("packaging")
    sources = copy_sources(top / "sources")
    wheels = top / "wheels"
    fetch = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", wheels)
    pinned = ("-c", CHECKOUT / "constraints.txt")
    must(run(*fetch, *pinned, shutil.copytree(sources, top / "resolve"), "setuptools", cwd=top))
    for ours in wheels.glob("rpiserve-*"):
        ours.unlink()  # what is installed later has to come from elsewhere
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri(), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    must(run(sys.executable, "-m", "build", "--outdir", top / "dist", sources, cwd=top, **offline))
    [sdist] = (top / "dist").glob("*.tar.gz")
    [wheel] = (top / "dist").glob("*.whl")
    return Artefacts(sources, sdist, wheel, offline)


class Installation:
    """A new virtual environment with rpiserve in it, and a folder outside the checkout to work in."""

    def __init__(self, kind: str, artefacts: Artefacts, top: Path) -> None:
        self.offline = artefacts.offline
        self.work = top / "work"
        self.work.mkdir()
        venv.create(top / "venv", symlinks=True)
        self.bin = top / "venv" / "bin"
        if kind in ("checkout", "editable"):
            source = shutil.copytree(artefacts.sources, top / "rpiserve-checkout")
        else:
            source = artefacts.sdist if kind == "sdist" else artefacts.wheel
        editable = ["--editable"] if kind == "editable" else []
        must(self.pip("install", "--quiet", "--no-compile", *editable, source))

    def pip(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run pip on this environment."""
        command = (sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments)
        return run(*command, cwd=self.work, **self.offline)

    def python(self, code: str) -> str:
        """Run some Python in this environment and return what it printed."""
        return must(run(self.bin / "python", "-c", code, cwd=self.work)).strip()

    def twistd_help(self) -> str:
        """Return the list of services that twistd offers."""
        return must(run(self.bin / "twistd", "--help", cwd=self.work))


@dataclass(frozen=True)
class Story:
    """What was seen of an installation from its beginning to its end."""

    help_before: str
    imported: str
    check_before: str
    twisted_before: str
    uninstalled: str
    help_after: str
    check_after: str
    twisted_after: str
    left_behind: str


TWISTED_FILES = """
import importlib.metadata, pathlib
import twisted.plugins
print(pathlib.Path(twisted.plugins.__file__).read_text())
files = importlib.metadata.files("twisted")
print(*sorted(str(f) for f in files if f.suffix == ".py" and f.locate().is_file()), sep="\\n")
"""
LEFT_BEHIND = """
import pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
print(*(p for p in site.rglob("*rpiserve*") if p.suffix != ".pyc"), sep="\\n")
"""


def live_and_leave(kind: str, artefacts: Artefacts, top: Path) -> Story:
    """Install, look, uninstall, look again."""
    there = Installation(kind, artefacts, top)
    return Story(
        help_before=there.twistd_help(),
        imported=there.python("import rpiserve, rpiserve.tap; print(rpiserve.__version__)"),
        check_before=must(there.pip("check")),
        twisted_before=there.python(TWISTED_FILES),
        uninstalled=must(there.pip("uninstall", "--yes", "rpiserve")),
        help_after=there.twistd_help(),
        check_after=must(there.pip("check")),
        twisted_after=there.python(TWISTED_FILES),
        left_behind=there.python(LEFT_BEHIND),
    )


def declared_version() -> str:
    """Return the version that the package's source says."""
    source = (CHECKOUT / "rpiserve" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("kind", ["wheel", *(kind for kind in OTHER_KINDS if not fingerprint_of(kind).exists())])
def test_an_installation(kind: str, artefacts: Artefacts, tmp_path: Path) -> None:
    """twistd offers rpiserve however it was installed, all it depends on is there, and uninstalling takes it all away.

    It neither replaces nor takes away a file of Twisted's, and twistd goes on without it.
    """
    story = live_and_leave(kind, artefacts, tmp_path)

    assert LISTED.search(story.help_before)
    assert "Traceback" not in story.help_before
    assert story.imported == declared_version()
    assert story.check_before.strip() == "No broken requirements found."

    assert "Successfully uninstalled rpiserve" in story.uninstalled
    assert not LISTED.search(story.help_after)
    assert story.left_behind == ""
    assert "pluginPackagePaths" in story.twisted_before
    assert story.twisted_after == story.twisted_before
    assert "twisted/plugins/__init__.py" in story.twisted_after.splitlines()
    assert story.check_after.strip() == "No broken requirements found."
    assert "Traceback" not in story.help_after

    fingerprint_of(kind).parent.mkdir(parents=True, exist_ok=True)
    fingerprint_of(kind).touch()


def test_the_wheel_holds_the_package_and_its_plugin_and_nothing_else(artefacts: Artefacts) -> None:
    """Proves that the type marker and the plugin are shipped, but no tests and no ``__init__`` of Twisted's."""
    with zipfile.ZipFile(artefacts.wheel) as wheel:
        names = set(wheel.namelist())
    modules = {path.relative_to(artefacts.sources).as_posix() for path in artefacts.sources.glob("rpiserve/**/*.py")}
    assert modules | {"rpiserve/py.typed"} <= names
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/rpiserve_plugin.py"}
    assert {name.split("/")[0] for name in names} == {"rpiserve", "twisted", f"rpiserve-{declared_version()}.dist-info"}


def test_the_sdist_holds_what_is_needed_to_build_and_to_test(artefacts: Artefacts) -> None:
    """Proves that who has the sdist has the sources with their examples, tests, licence and instructions."""
    with tarfile.open(artefacts.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = ["rpiserve", "twistd_plugins", "examples", "tests"]
    sources = {path for folder in folders for path in artefacts.sources.glob(f"{folder}/**/*.py")}
    expected = {path.relative_to(artefacts.sources).as_posix() for path in sources}
    expected |= {
        "CHANGELOG.md",
        "LICENSE",
        "MANIFEST.in",
        "Makefile",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "setup.py",
    }
    assert expected <= names
    assert "rpiserve/py.typed" in names
    assert not [name for name in names if name.endswith(".pyc")]
