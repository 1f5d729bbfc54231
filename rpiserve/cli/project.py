"""The command ``new``: a folder with a small app that works at once, its test, its options and its unit."""

import os
import shlex
import shutil
from pathlib import Path
from typing import Final

import click

from rpiserve.cli.app_file import AppFile
from rpiserve.cli.output import complain, put
from rpiserve.cli.templates import filled
from rpiserve.cli.unit import Service, checked_name, find_twistd
from rpiserve.errors import StartError

FILES: Final = ("app.py", "test_app.py", "rpiserve.toml", "README.md")
"""The files, each with a template of its name."""


@click.command(short_help="Make a folder with an app that works at once.")
@click.argument("name")
@click.option("--directory", metavar="DIR", default=".", help="Where to make the folder [the current one].")
def new(name: str, directory: str) -> None:
    """Make a folder NAME with an app that works at once: app.py, its test, its options, and a unit for systemd."""
    folder = Path(directory, checked_name(name))
    find_twistd()  # before there is half of it
    if not folder.parent.is_dir():
        raise StartError(f"there is no folder {folder.parent}")
    try:
        folder.mkdir()
    except FileExistsError:
        raise StartError(f"{folder} is there already, and nothing is overwritten: choose another name") from None
    except OSError as error:
        raise StartError(f"cannot make {folder}: {error.strerror}") from None
    try:
        service = _fill(folder, name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # it was made just now: half of it would only be in the way
        raise
    for file in (*FILES, f"{name}.service"):
        put(os.fsencode(folder / file))
    for warning in service.warnings():
        complain(f"rpiserve: {warning}")
    complain(f"rpiserve: next: cd {shlex.quote(str(folder))} && rpiserve run app.py --config rpiserve.toml --reload")


def _fill(folder: Path, name: str) -> Service:
    """Write all the files into ``folder``, and return the service that the unit is of."""
    for file in FILES:
        (folder / file).write_text(filled(f"{file}.in", NAME=name), encoding="utf-8")
    place = folder.resolve()
    app = AppFile("app", place, place / "app.py")
    service = Service.of(app, ["--config", str(place / "rpiserve.toml")], name)
    (folder / f"{name}.service").write_text(service.unit(), encoding="utf-8")
    return service
