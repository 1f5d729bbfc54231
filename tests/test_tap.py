"""Finding the app, and saying in one line why there is none."""

import sys
import textwrap
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from twisted.application.service import IService

from rpiserve import App, tap
from rpiserve.app import importing
from rpiserve.daemon.options import Options
from rpiserve.errors import ConfigError, StartError
from rpiserve.tap import find_app, makeService

_numbers = count()

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return what writes a module into the current directory, and returns its name, which no other test has used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def write_module(source: str, name: str | None = None) -> str:
        name = name or f"app_module_{next(_numbers)}"
        file = tmp_path / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("from rpiserve import App\n" + textwrap.dedent(source), encoding="utf-8")
        return name

    return write_module


def refused(name: str) -> str:
    """Ask for an app that cannot be had, and return what is said of it, which is one line."""
    with pytest.raises(StartError) as caught:
        find_app(name)
    assert "\n" not in str(caught.value)
    assert not importing.get()
    return str(caught.value)


def test_the_usual_name(write: Write) -> None:
    """Of several apps the one called ``app`` is meant."""
    name = write("other = App('other')\napp = App('mine')\n")
    assert find_app(name).name == "mine"


def test_the_only_one(write: Write) -> None:
    """If there is only one app it may have any name, or two."""
    name = write("daemon = service = App('mine')\n")
    assert find_app(name).name == "mine"


def test_the_named_one(write: Write) -> None:
    """The name after the colon says which."""
    name = write("app = App('one')\nother = App('two')\n")
    assert find_app(f"{name}:other").name == "two"
    assert find_app(f"{name}:").name == "one"


def test_beside_the_proxies(write: Write) -> None:
    """What app modules import of rpiserve is not taken for an app, even under its name, nor in the way."""
    names = "broadcast, cache, logger, request, response"
    assert find_app(write(f"from rpiserve import {names}\nit = App('mine')\n")).name == "mine"
    alone = write(f"from rpiserve import {names}\nfrom rpiserve import cache as app\n")
    assert refused(alone).startswith(f"there is no App in the module {alone}")
    assert refused(f"{alone}:request") == f"{alone}.request is no App"


def test_in_a_package(write: Write) -> None:
    """An app module may stand in a package."""
    package = f"app_package_{next(_numbers)}"
    name = write("app = App('inner')\n", f"{package}.inner")
    assert find_app(name).name == "inner"


def test_no_such_module(write: Write) -> None:
    """A module that is missing is named, with the place where it was looked for."""
    assert refused("nowhere").startswith("there is no module nowhere in ")
    assert refused("nowhere.deeper").startswith("there is no module nowhere.deeper in ")


def test_a_module_that_it_needs_is_missing(write: Write) -> None:
    """A missing module that the app module imports is not taken for the app module."""
    name = write("import nowhere\n")
    said = refused(name)
    assert said.startswith(f"the module {name} cannot be imported: ")
    assert said.endswith(f"/{name}.py:2: ModuleNotFoundError: No module named 'nowhere'")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("app.py", "; it is --module app"),
        ("./app.py", "; it is --module app"),
        ("gardens/app.py", "; it is --module gardens.app"),
        ("gardens/app", "; it is --module gardens.app"),
        ("../app.py", ""),
        ("/srv/app.py", ""),
        ("my-app", ""),
        ("a..b", ""),
        ("", ""),
    ],
)
def test_a_file_in_place_of_a_module(name: str, hint: str) -> None:
    """The name of a file is no name of a module; what it should have been is said, where that can be told."""
    assert refused(name) == f"{name!r} is no name of a module{hint}"


def test_no_app(write: Write) -> None:
    """A module without an app is told what to add; one whose ``app`` is something else has none either."""
    name = write("app = 7\n")
    assert refused(name) == f"there is no App in the module {name}; it needs a line such as app = App('{name}')"


def test_class_in_the_place_of_an_app(write: Write) -> None:
    """The class is told from an app that is made of it, by its name or without one."""
    name = write("app = App\n")
    for given in (name, f"{name}:app"):
        assert refused(given) == f"{name}.app is a class and no App yet; write app = App('a_name')"


def test_several_apps(write: Write) -> None:
    """Of several apps none is chosen by guess."""
    name = write("one, two = App('one'), App('two')\n")
    assert refused(name) == f"there are 2 Apps in the module {name}; say which with --module {name}:NAME"


def test_without_an_option(write: Write) -> None:
    """Where the name stands alone on the command line, no error speaks of an option."""
    name = write("one, two = App('one'), App('two')\n")
    with pytest.raises(StartError, match=f"say which with {name}:NAME$"):
        find_app(name, option="")
    with pytest.raises(StartError, match=r"on Python's path$"):
        find_app("nowhere", option="")


def test_wrong_attribute(write: Write) -> None:
    """A name that is not there, or no app, is said to be so."""
    name = write("app = App('one')\nnumber = 7\n")
    assert refused(f"{name}:ap") == f"no ap in {name}"
    assert refused(f"{name}:number") == f"{name}.number is no App"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("def f():\n    return 1 / 0\n\nf()\n", ":3: ZeroDivisionError: division by zero"),
        (
            "import json\njson.loads('x')\n",
            ":3: json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        ),
        ("import attrs\nattrs.fields(7)\n", ":3: TypeError: Passed object must be a class"),
        ("raise ValueError('one\\ntwo')\n", ":2: ValueError: one two"),
        ("import sys\nsys.exit(3)\n", ":3: SystemExit: 3"),
        ("class Own(BaseException): ...\nraise Own('x')\n", ":3: "),
        ("raise GeneratorExit\n", ":2: GeneratorExit"),
        ("def f(:\n", ":2: SyntaxError: "),
        ("import ast\nast.literal_eval('1 +')\n", ":3: SyntaxError: "),
        ("App('a b')\n", ":2: App('a b'): a name has 1 to 64 letters, digits, '_', '.' and '-'"),
    ],
)
def test_the_modules_own_code_raises(source: str, text: str, write: Write) -> None:
    """What an app module raises is said in one line, with the last line of the user's own code that led to it."""
    name = write(source)
    said = refused(name)
    assert said.startswith(f"the module {name} cannot be imported: ")
    assert f"/{name}.py{text}" in said


def test_a_module_that_it_needs_raises(write: Write) -> None:
    """What is named is the user's file in which it happened, which need not be the app module."""
    wrong, raising = write("def f(:\n"), write("1 / 0\n")
    assert f"/{wrong}.py:2: SyntaxError: " in refused(write(f"import {wrong}\n"))
    assert refused(write(f"import {raising}\n")).endswith(f"/{raising}.py:2: ZeroDivisionError: division by zero")


def test_no_frame_of_the_users(write: Write) -> None:
    """A file that cannot be compiled at all has no line to name."""
    name = write("\0")
    assert refused(name).startswith(f"the module {name} cannot be imported: SyntaxError: source code ")


def test_an_installed_module_raises(write: Write) -> None:
    """An app that is installed with pip is the user's, too, if none of the code that led to it is nearer to them."""
    name = write("1 / 0\n", f"site-packages.app_module_{next(_numbers)}").removeprefix("site-packages.")
    sys.path.insert(0, "site-packages")
    try:
        said = refused(name)
    finally:
        sys.path.remove("site-packages")
    assert said.endswith(f"/site-packages/{name}.py:2: ZeroDivisionError: division by zero")


def test_run_at_import(write: Write) -> None:
    """An app that is run while it is imported is told about the guard that is missing."""
    name = write("app = App('mine')\napp.run()\n")
    said = refused(name)
    assert said.endswith(
        f"/{name}.py:3: run() is called when the module is imported: put it under if __name__ == '__main__'"
    )


class Made:
    """What `makeService` has made the daemon of, in place of a daemon."""

    def __init__(self, app: App, *arguments: object) -> None:
        self.name, self.app, self.arguments = app.name, app, arguments


@pytest.fixture
def making(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process that the tests run in as it is: no daemon is made."""
    monkeypatch.setattr(tap, "make_daemon", Made)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(Path.cwd())])
    for name in list(tap.os.environ):
        if name.startswith("RPISERVE_"):
            monkeypatch.delenv(name)


def make(*arguments: str) -> IService:
    """Make the service as twistd does."""
    options = Options()
    options.parseOptions(list(arguments))
    return makeService(options)


@pytest.mark.usefixtures("making")
def test_the_current_directory_is_importable(write: Write) -> None:
    """The app module is found in the current directory, which twistd does not see to."""
    name = write("app = App('here')\n")
    made = make("--module", name)
    assert isinstance(made, Made)
    assert made.name == made.app.name == "here"


@pytest.mark.usefixtures("making")
def test_errors_are_one_line_unless_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends twistd is shown as one line, of which --debug makes the whole traceback again."""
    usual = sys.excepthook
    with pytest.raises(StartError):
        make("--module", "nowhere")
    assert sys.excepthook is not usual
    with pytest.raises(StartError):
        make("--module", "nowhere", "--debug")
    assert sys.excepthook is sys.__excepthook__
    with pytest.raises(StartError):
        make("--module", "nowhere")
    monkeypatch.setenv("RPISERVE_DEBUG", "1")
    with pytest.raises(StartError):
        make("--module", "nowhere")
    assert sys.excepthook is sys.__excepthook__


@pytest.mark.usefixtures("making")
def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options are taken from the environment of the process, too."""
    monkeypatch.setenv("RPISERVE_PROT", "1")
    with pytest.raises(ConfigError, match="RPISERVE_PROT is no option"):
        make()
