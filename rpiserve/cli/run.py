"""The commands that run an app in the foreground, or try whether it would run."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import attrs
import click
from twisted.python.usage import UsageError

from rpiserve.app import App
from rpiserve.cli.app_file import AppFile, find_app_file
from rpiserve.cli.output import ANSWERED, FAILED, OutputClosed, complain, describe, describe_fully, put
from rpiserve.cli.reload import Reporter, Supervisor
from rpiserve.daemon.config import Config, load
from rpiserve.daemon.options import Options
from rpiserve.errors import ConfigError, RpiserveError

Command = TypeVar("Command", bound=Callable[..., object])

ARGUMENTS = """APP is a module, or the path of its file, such as app.py.

DAEMON OPTIONS are those of twistd rpiserve, but for --module; twistd rpiserve --help lists them."""


def with_app(short_help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return what makes a command of a function that takes an app and the options of a daemon."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for argument in (
            click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[DAEMON OPTIONS]"),
            click.argument("app", metavar="APP"),
        ):
            function = argument(function)
        # No -h, which would be found in the value of a daemon's short option, too.
        settings = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
        return click.command(short_help=short_help, epilog=ARGUMENTS, context_settings=settings)(function)

    return decorate


class DaemonOptions(Options):
    """The options of a daemon whose app is named before them."""

    def parseArgs(self, *args: str) -> None:
        """Take nothing but options."""
        if args and "://" not in args[0]:
            raise UsageError(f"{args[0]!r} is no option of the daemon")
        super().parseArgs(*args)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse ``options``.

        Raises:
            ConfigError: they are wrong.
        """
        try:
            super().parseOptions(options)
        except SystemExit as error:
            if not isinstance(error.code, str):  # it has shown what was asked for
                raise
            text = str(error).removeprefix("rpiserve: ")
            raise ConfigError(text.replace("; --help lists", "; twistd rpiserve --help lists")) from None


def options_of(app: AppFile, words: Sequence[str]) -> dict[str, object]:
    """Return the options of a daemon that were given, by their names with underscores.

    Args:
        app: the app, which becomes the option ``module``.
        words: the words of the command line.

    Raises:
        ConfigError: there is something wrong with them.
    """
    options = DaemonOptions()
    options.parseOptions(list(words))
    given = options.given
    if "module" in given:
        raise ConfigError("--module is of no use here: APP names the module already")
    return {**given, "module": app.name}


class StartAttempt:
    """The attempt to make a daemon of an app.

    Args:
        reporter: who is told of the app's files, if somebody wants to know.
    """

    def __init__(self, reporter: Reporter | None) -> None:
        self.reporter = reporter
        self._debug = False
        self._threads = set(threading.enumerate())

    def load(self, app: AppFile, words: Sequence[str]) -> tuple[App, Config]:
        """Import ``app``, and return it with its options.

        Raises:
            RpiserveError: the options are wrong, or it cannot be imported.
        """
        from rpiserve.tap import find_app  # not at the top: it installs a reactor

        config = load(options_of(app, words), os.environ)
        self._debug = config.debug
        app.make_importable()
        return find_app(app.name, option=""), config

    def fail(self, error: Exception) -> NoReturn:
        """Show why there is no daemon, and end the process; of what nobody has thought of, where it comes from, too."""
        if self.reporter is not None:
            self.reporter.report(error)
        plain = isinstance(error, RpiserveError | OSError) and not self._debug
        complain(f"rpiserve: {describe(error)}" if plain else describe_fully(error))
        self.end(FAILED)

    def end(self, code: int) -> NoReturn:
        """End the process, also if the module has started threads when it was imported, which Python would wait for."""
        if any(not thread.daemon for thread in set(threading.enumerate()) - self._threads):
            for stream in (sys.stdout, sys.stderr):
                with suppress(AttributeError, OSError, ValueError):  # the app may have closed it
                    stream.flush()
            os._exit(code)
        sys.exit(code)


@with_app("Run an app in the foreground.")
@click.option("--reload", is_flag=True, help="Start it again whenever its sources or its --config file change.")
@click.option("--supervised", type=int, hidden=True, help="The number of a socket to the process that sees to that.")
def run(app: str, options: tuple[str, ...], reload: bool, supervised: int | None) -> NoReturn:
    """Run the daemon of APP in the foreground, until Ctrl-C."""
    attempt = StartAttempt(None if supervised is None else Reporter(supervised))
    try:
        found = find_app_file(_checked_app(app))
        if reload:
            _supervise(found, app, options)
        _serve(found, options, attempt)
    except Exception as error:  # noqa: BLE001 - whatever it is, the threads of the app are not to be waited for
        attempt.fail(error)
    sys.exit(ANSWERED)


def _supervise(app: AppFile, given: str, words: Sequence[str]) -> NoReturn:
    options = options_of(app, words)
    config = load(options, os.environ)
    file = options.get("config") or os.environ.get("RPISERVE_CONFIG")
    files = [os.path.abspath(str(each)) for each in (app.file, file) if each]

    def command(descriptor: int) -> list[str]:
        # With -B: a file that was changed within a second, and kept its size, would be taken from the cache.
        program = [sys.executable, "-B", "-m", "rpiserve.cli"]
        return [*program, "run", given, "--supervised", str(descriptor), "--", *words]

    sys.exit(Supervisor(command, files, config.stop_timeout).run())


def _serve(app: AppFile, words: Sequence[str], attempt: StartAttempt) -> None:
    # Not at the top: these install a reactor.
    from twisted.internet import reactor

    from rpiserve.daemon.process import make_daemon, run_foreground

    found, config = attempt.load(app, words)
    if attempt.reporter is not None:
        attempt.reporter.report()
        reactor.addSystemEventTrigger("before", "shutdown", attempt.reporter.stopping.set)
    daemon = make_daemon(found, config, reactor)
    run_foreground(daemon, reactor)


@with_app("Try whether an app would start, and show what it declares.")
def check(app: str, options: tuple[str, ...]) -> NoReturn:
    """Try whether the daemon of APP would start, and show what it declares.

    The module is imported, and everything is looked at that a start would refuse; but nothing is started, nothing is
    opened, and it is not tried whether the port is free.
    """
    from twisted.internet import reactor

    from rpiserve.cli.summary import check_logs, check_reach, summary
    from rpiserve.core.clocks import Clocks
    from rpiserve.daemon.daemon import Daemon

    attempt = StartAttempt(None)
    try:
        found, config = attempt.load(find_app_file(_checked_app(app)), options)
        check_reach(config)
        check_logs(config)
        unopened = attrs.evolve(config, request_log=None)
        Daemon(found, unopened, Clocks(reactor, time.time))
        for line in summary(found, config):
            put(line.encode())
    except OutputClosed:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, the threads of the app are not to be waited for
        attempt.fail(error)
    attempt.end(ANSWERED)


def _checked_app(app: str) -> str:
    if app.startswith("-"):
        raise ConfigError(f"APP comes before the options of the daemon: {app} is none")
    return app
