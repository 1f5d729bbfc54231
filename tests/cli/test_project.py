"""``rpiserve new``, and which app ``run``, ``check`` and ``unit`` are told of."""

import compileall
import sys
import tomllib
from pathlib import Path

import pytest

from rpiserve import cli
from rpiserve.cli.app_file import AppFile, find_app_file
from rpiserve.cli.project import FILES
from rpiserve.daemon.config import load
from rpiserve.errors import StartError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, in which there is nothing yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Run the command, and return its exit code, its output and its errors."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output, errors = capsys.readouterr()
    return ended.value.code, output, errors


class TestNew:
    def test_files(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """There is all that was promised, with the name where it belongs, and the output says what."""
        code, output, errors = outcome(capsys, "new", "house")
        assert not code
        assert output.splitlines() == [f"house/{name}" for name in (*FILES, "house.service")]
        assert "rpiserve run app.py" in errors
        for line in output.splitlines():
            text = (folder / line).read_text(encoding="utf-8")
            assert "@NAME@" not in text
            assert "house" in text or line.endswith(("test_app.py", ".toml"))

    def test_python(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is Python can be compiled, and the options are options."""
        outcome(capsys, "new", "house")
        assert compileall.compile_dir(str(folder / "house"), quiet=1)
        options = (folder / "house" / "rpiserve.toml").read_text(encoding="utf-8")
        assert tomllib.loads(options) == {"port": 8080}
        # What stands there as a comment can be made a line.
        lines = [line.removeprefix("# ") for line in options.splitlines() if line.startswith("#") and " = " in line]
        (folder / "all.toml").write_text("\n".join(lines), encoding="utf-8")
        config = load({"config": "all.toml"}, {})
        assert config.redis is not None
        assert (config.host, config.token_file) == ("0.0.0.0", Path("rpiserve.tokens"))

    def test_directory(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It may be made elsewhere; the unit names that place in full."""
        (folder / "srv").mkdir()
        assert not outcome(capsys, "new", "house", "--directory", "srv")[0]
        unit = (folder / "srv" / "house" / "house.service").read_text(encoding="utf-8")
        assert f"WorkingDirectory={folder}/srv/house\n" in unit
        assert f"--config {folder}/srv/house/rpiserve.toml\n" in unit

    def test_next(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is to be typed next can be pasted into a shell."""
        (folder / "my apps").mkdir()
        _, _, errors = outcome(capsys, "new", "house", "--directory", "my apps")
        assert "next: cd 'my apps/house' && rpiserve run app.py" in errors

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("taken",), "taken is there already, and nothing is overwritten"),
            (("a b",), "'a b' is no name"),
            ((".",), "'.' is no name"),
            (("house", "--directory", "gone"), "there is no folder gone"),
            (("house", "--directory", "taken/file"), "there is no folder taken/file"),
        ],
    )
    def test_refused(
        self, arguments: tuple[str, ...], text: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing is overwritten, and what is wrong is one line."""
        (folder / "taken").mkdir()
        (folder / "taken" / "file").write_text("mine")
        code, output, errors = outcome(capsys, "new", *arguments)
        assert (code, output) == (2, "")
        assert errors.startswith("rpiserve: ")
        assert errors.count("\n") == 1
        assert text in errors
        assert [path.name for path in folder.rglob("*")] == ["taken", "file"]

    def test_no_half(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where no unit can be made, nothing is left of the rest, which would be in the way of the next attempt."""
        place = folder / "nl\nx"
        place.mkdir()
        for _ in range(2):
            code, output, errors = outcome(capsys, "new", "house", "--directory", str(place))
            assert (code, output) == (2, "")
            assert "has a character that can stand in no such file" in errors
        assert not list(place.iterdir())

    def test_no_twistd(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the unit could name no program, nothing is made."""
        monkeypatch.setattr(sys, "executable", "/usr/sbin/python")
        monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
        monkeypatch.setattr(sys, "argv", ["/nowhere/rpiserve"])
        code, _, errors = outcome(capsys, "new", "house")
        assert code == 2
        assert "there is no twistd beside /usr/sbin/python" in errors
        assert not list(folder.iterdir())


class TestAppFile:
    @pytest.fixture(autouse=True)
    def files(self, folder: Path) -> None:
        """An app in the current directory, one elsewhere, and one in a package."""
        for file in ("app.py", "srv/house.py", "srv/house/__init__.py", "srv/house/rooms/__init__.py"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        (folder / "srv" / "house" / "rooms" / "attic.py").touch()
        (folder / "srv" / "my-app.py").touch()
        (folder / "srv" / "app.sh").touch()

    @pytest.mark.parametrize(
        ("given", "name", "place", "file"),
        [
            ("app", "app", ".", "app.py"),
            ("app:other", "app:other", ".", "app.py"),
            ("app.py", "app", ".", "app.py"),
            ("./app.py:other", "app:other", ".", "app.py"),
            ("srv/house.py", "house", "srv", "srv/house.py"),
            ("srv/house/rooms/attic.py", "house.rooms.attic", "srv", "srv/house/rooms/attic.py"),
            ("srv.house.rooms.attic", "srv.house.rooms.attic", ".", "srv/house/rooms/attic.py"),
            ("srv.house.rooms", "srv.house.rooms", ".", "srv/house/rooms/__init__.py"),
            ("nowhere", "nowhere", ".", None),
        ],
    )
    def test_found(self, given: str, name: str, place: str, file: str | None, folder: Path) -> None:
        """A module's name stands for what is here; of a path, the folder is what has to be importable."""
        expected = AppFile(name, folder / place, None if file is None else folder / file)
        assert find_app_file(given) == expected
        assert expected.module == name.partition(":")[0]

    def test_absolute(self, folder: Path) -> None:
        """The path may begin at the root."""
        assert find_app_file(f"{folder}/srv/house.py") == AppFile("house", folder / "srv", folder / "srv/house.py")

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ("gone.py", "there is no file gone.py"),
            ("srv/", "srv/ is a folder; name the file in it, such as srv/app.py"),
            ("srv", "srv is a folder; name the file in it, such as srv/app.py"),
            ("srv/my-app.py", "is no module's file"),
            ("srv/app.sh", "is no module's file"),
        ],
    )
    def test_refused(self, given: str, text: str) -> None:
        """What can be no app is said at once."""
        with pytest.raises(StartError, match=text):
            find_app_file(given)

    def test_importable(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The folder of the file comes first, then the current one."""
        monkeypatch.setattr(sys, "path", ["usual"])
        find_app_file("srv/house.py").make_importable()
        assert sys.path == [str(folder / "srv"), str(folder), "usual"]

    @pytest.mark.parametrize("name", ["json", "time"])
    def test_name_of_pythons(self, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file with the name of a module that is in use would never be imported: it has to be called otherwise."""
        monkeypatch.setattr(sys, "path", list(sys.path))
        (folder / f"{name}.py").touch()
        with pytest.raises(StartError, match=f"{name}.py has the name of a module that Python needs"):
            find_app_file(f"{name}.py").make_importable()
