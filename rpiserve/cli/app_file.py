"""Which app is meant by what stands on the command line: a module's name, or the path of its file."""

import sys
from pathlib import Path

import attrs

from rpiserve.errors import StartError


@attrs.frozen
class AppFile:
    """An app, before it is imported.

    Attributes:
        name: the module's name; after a colon, that of the app in it, if it was given.
        folder: what has to be importable for that.
        file: the module's file, if it can be told.
    """

    name: str
    folder: Path
    file: Path | None

    @property
    def module(self) -> str:
        """The module's name alone."""
        return self.name.partition(":")[0]

    def make_importable(self) -> None:
        """Put the folder, and after it the current one, at the beginning of Python's path.

        Raises:
            StartError: a module that is there already has the same name.
        """
        for folder in (Path.cwd(), self.folder):
            sys.path.insert(0, str(folder))
        top = self.module.partition(".")[0]
        loaded = sys.modules.get(top)
        if loaded is None or self.file is None:
            return
        origin = getattr(loaded, "__file__", None)
        if origin is None or not self.file.is_relative_to(Path(origin).resolve().parent):
            raise StartError(f"{self.file.name} has the name of a module that Python needs, {top}: call it otherwise")


def find_app_file(given: str) -> AppFile:
    """Return the app that ``given`` is the name or the path of.

    Args:
        given: such as ``app``, ``house.app``, ``app.py`` or ``/srv/house/app.py``; behind a colon there may be the name
            of the app in the module.

    Raises:
        StartError: there is no such module.
    """
    place, colon, attribute = given.partition(":")
    path = Path(place).resolve()
    if not (place.endswith(".py") or "/" in place):
        file = _file_of(place)
        if file is not None or not path.is_dir():
            return AppFile(given, Path.cwd(), file)
    if path.is_dir():
        raise StartError(f"{place} is a folder; name the file in it, such as {Path(place) / 'app.py'}")
    if not path.is_file():
        raise StartError(f"there is no file {place}")
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():  # a module of a package is imported by the whole name
        names.insert(0, folder.name)
        folder = folder.parent
    if path.suffix != ".py" or not all(name.isidentifier() for name in names):
        raise StartError(f"{place} is no module's file: that has a name of letters, digits and '_', and ends with .py")
    return AppFile(".".join(names) + colon + attribute, folder, path)


def _file_of(module: str) -> Path | None:
    """Return the file of the module that has this name, without importing anything; None if it is in no folder."""
    inner = Path(*module.split("."))
    for folder in (Path.cwd(), *map(Path, sys.path)):
        for file in (folder / inner / "__init__.py", (folder / inner).with_suffix(".py")):
            if file.is_file():
                return file.resolve()
    return None
