"""What ``twistd rpiserve`` runs: it finds the app, and makes the daemon of it."""

import importlib
import os
import sys
import traceback
from types import ModuleType, TracebackType

from twisted.application.service import IService
from twisted.internet import reactor

import rpiserve
from rpiserve.app import App, importing
from rpiserve.errors import RpiserveError, StartError
from rpiserve.options import Options
from rpiserve.process import make_daemon

__all__ = ["Options", "find_app", "makeService"]


def makeService(options: Options) -> IService:
    """Return the daemon.

    Raises:
        SystemExit: it cannot be made; its text is the one line that says why.
    """
    debug = False
    try:
        config = options.config(os.environ)
        debug = config.debug
        sys.path.insert(0, os.getcwd())
        app = find_app(config.module)
        daemon = make_daemon(app, app.tree, config, reactor)
    except RpiserveError as error:
        if debug:
            raise
        raise SystemExit(f"rpiserve: {error}") from None
    if not debug:
        # The port is bound after this, by twistd, which lets the error through to here.
        sys.excepthook = _one_line
    return daemon


def find_app(name: str) -> App:
    """Import an app module and return its app.

    Args:
        name: the module's name; after a colon, the name of the app in it. Without one it is ``app``, or the only one.

    Raises:
        StartError: there is no such module, its own code raised, or it has no such app.
    """
    module_name, _, attribute = name.partition(":")
    module = _import(module_name)
    if attribute:
        found = getattr(module, attribute, None)
        if isinstance(found, App):
            return found
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
        raise StartError(
            f"there is no App in the module {module_name}; it needs a line such as app = App('{module_name}')"
        )
    raise StartError(
        f"there are {len(apps)} Apps in the module {module_name}; say which with --module {module_name}:NAME"
    )


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        hint = f"; it is --module {name.removesuffix('.py').replace('/', '.')}" if name.endswith(".py") else ""
        raise StartError(f"{name!r} is no name of a module{hint}")
    token = importing.set(True)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise StartError(f"there is no module {name} in {os.getcwd()} or on Python's path; see --module") from error
        raise StartError(f"the module {name} cannot be imported: {_last_frame(error)}") from error
    except (Exception, SystemExit) as error:  # whatever it raises, it is the user's code that did
        raise StartError(f"the module {name} cannot be imported: {_last_frame(error)}") from error
    finally:
        importing.reset(token)


def _last_frame(error: BaseException) -> str:
    """Return what was raised, and where in the user's code."""
    text = "".join(traceback.format_exception_only(error)[-1:]).strip()
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {text}"
    ours = os.path.dirname(rpiserve.__file__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename, ours)]
    if isinstance(error, RpiserveError):
        text = str(error)
    return f"{frames[-1].filename}:{frames[-1].lineno}: {text}" if frames else text


def _is_users(filename: str, ours: str) -> bool:
    return not filename.startswith((ours, "<frozen importlib")) and filename != importlib.__file__


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what ended the process: an error of ours as one line on the standard error that twistd was started with."""
    if isinstance(error, RpiserveError):
        print(f"rpiserve: {error}", file=sys.__stderr__)
    else:
        sys.__excepthook__(kind, error, trace)
