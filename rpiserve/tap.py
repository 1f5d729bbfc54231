"""What ``twistd rpiserve`` runs: it finds the app, and makes the daemon of it."""

import atexit
import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

from twisted.application.service import IService
from twisted.internet import reactor

import rpiserve
from rpiserve.app import App, importing
from rpiserve.daemon.options import Options
from rpiserve.daemon.process import ExitCode, make_daemon, one_line
from rpiserve.daemon.signals import ignore_hangup
from rpiserve.errors import RpiserveError, StartError

__all__ = ["Options", "find_app", "makeService"]

_NOT_THE_USERS = (
    os.path.join(os.path.dirname(rpiserve.__file__), ""),
    os.path.join(sysconfig.get_path("stdlib"), ""),
    "<frozen ",
)
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def makeService(options: Options) -> IService:
    """Return the daemon.

    Raises:
        RpiserveError: it cannot be made. This error, and that of a port which cannot be had, are let through by twistd,
            and end the process with one line on its standard error.
    """
    sys.excepthook = one_line
    ignore_hangup()
    exit_code = ExitCode()
    atexit.register(exit_code.at_exit)  # before the app's module registers anything: then this comes after that
    config = options.config(os.environ)
    if config.debug:
        sys.excepthook = sys.__excepthook__
    sys.path.insert(0, os.getcwd())
    app = find_app(config.module)
    return make_daemon(app, config, reactor, options.parent, exit_code)


def find_app(name: str, option: str = "--module ") -> App:
    """Import an app module and return its app.

    Args:
        name: the module's name; after a colon, the name of the app in it. Without one it is ``app``, or the only one.
        option: what stands before the name on the command line, for errors.

    Raises:
        StartError: there is no such module, its own code raised, or it has no such app.
    """
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, option)
    if attribute:
        found = getattr(module, attribute, None)
        if isinstance(found, App):
            return found
        _check_made(found, f"{module_name}.{attribute}")
        raise StartError(
            f"{module_name}.{attribute} is no App" if found is not None else f"no {attribute} in {module_name}"
        )
    apps = {id(value): value for value in vars(module).values() if isinstance(value, App)}
    usual = getattr(module, "app", None)
    if isinstance(usual, App):
        return usual
    if len(apps) == 1:
        return next(iter(apps.values()))
    if not apps:
        _check_made(usual, f"{module_name}.app")
        raise StartError(
            f"there is no App in the module {module_name}; it needs a line such as app = App('{module_name}')"
        )
    raise StartError(
        f"there are {len(apps)} Apps in the module {module_name}; say which with {option}{module_name}:NAME"
    )


def _check_made(found: object, name: str) -> None:
    if isinstance(found, type) and issubclass(found, App):
        raise StartError(f"{name} is a class and no App yet; write app = {found.__name__}('a_name')")


def _import(name: str, option: str) -> ModuleType:
    guess = os.path.normpath(name).removesuffix(".py").replace(os.sep, ".")
    if guess != name or not _is_module_name(name):
        hint = f"; it is {option}{guess}" if _is_module_name(guess) else ""
        raise StartError(f"{name!r} is no name of a module{hint}")
    token = importing.set(True)
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it raises, it is the user's code that did
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            see = f"; see {option.strip()}" if option else ""
            raise StartError(f"there is no module {name} in {os.getcwd()} or on Python's path{see}") from error
        raise StartError(f"the module {name} cannot be imported: {_last_frame(error)}") from error
    finally:
        importing.reset(token)


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _last_frame(error: BaseException) -> str:
    """Return what was raised, and where in the user's code."""
    text = "".join(traceback.format_exception_only(error)[-1:]).strip()
    if isinstance(error, RpiserveError):
        text = str(error)
    text = " ".join(text.split())  # one line, whatever it was
    if isinstance(error, SyntaxError) and os.path.isfile(error.filename or ""):
        return f"{error.filename}:{error.lineno}: {text}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THE_USERS)
    ]
    frames = [frame for frame in frames if not _INSTALLED.intersection(Path(frame.filename).parts)] or frames
    return f"{frames[-1].filename}:{frames[-1].lineno}: {text}" if frames else text
