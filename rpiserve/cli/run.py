"""The commands that run an app in the foreground, or try whether it would run."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import attrs
import click

from rpiserve.app import App
from rpiserve.cli.app_file import AppFile, find_app_file
from rpiserve.cli.output import ANSWERED, FAILED, complain, describe, put
from rpiserve.cli.reload import Reporter, Supervisor
from rpiserve.config import Config, load
from rpiserve.errors import ConfigError, RpiserveError
from rpiserve.options import Options

Command = TypeVar("Command", bound=Callable[..., object])

OPTIONS = "DAEMON OPTIONS are those of twistd rpiserve, but for --module; twistd rpiserve --help lists them."


def with_app(epilog: str = OPTIONS) -> Callable[[Callable[..., Any]], click.Command]:
    """Return what makes a command of a function that takes an app and the options of a daemon."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for argument in (
            click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[DAEMON OPTIONS]"),
            click.argument("app", metavar="APP"),
        ):
            function = argument(function)
        # No -h, which would be found in the value of a daemon's short option, too.
        settings = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
        return click.command(epilog=epilog, context_settings=settings)(function)

    return decorate


def options_of(app: AppFile, words: Sequence[str]) -> dict[str, object]:
    """Return the options of a daemon that were given, by their names with underscores.

    Args:
        app: the app, which becomes the option ``module``.
        words: the words of the command line.

    Raises:
        ConfigError: there is something wrong with them.
    """
    options = Options()
    try:
        options.parseOptions(list(words))
    except SystemExit as error:
        raise ConfigError(str(error).removeprefix("rpiserve: ")) from None
    given = options.given
    if "module" in given:
        raise ConfigError("--module is of no use here: APP names the module already")
    return {**given, "module": app.name}


class Attempt:
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

    def fail(self, error: RpiserveError) -> NoReturn:
        """Show why there is no daemon, and end the process."""
        if self.reporter is not None:
            self.reporter.report(error)
        if self._debug:
            traceback.print_exception(error)
        else:
            complain(f"rpiserve: {describe(error)}")
        self.end(FAILED)

    def end(self, code: int) -> NoReturn:
        """End the process, also if the module has started threads when it was imported, which Python would wait for."""
        if any(not thread.daemon for thread in set(threading.enumerate()) - self._threads):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)


@with_app()
@click.option("--reload", is_flag=True, help="Start it again whenever its sources or its --config file change.")
@click.option("--supervised", type=int, hidden=True, help="The number of a socket to the process that sees to that.")
def run(app: str, options: tuple[str, ...], reload: bool, supervised: int | None) -> NoReturn:
    """Run the daemon of APP in the foreground, until Ctrl-C.

    APP is a module, or the path of its file: app.py, say. Those options of the daemon's follow it.
    """
    attempt = Attempt(None if supervised is None else Reporter(supervised))
    try:
        found = find_app_file(_checked_app(app))
        if reload:
            _supervise(found, app, options)
        _serve(found, options, attempt)
    except RpiserveError as error:
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


def _serve(app: AppFile, words: Sequence[str], attempt: Attempt) -> None:
    # Not at the top: these install a reactor.
    from twisted.internet import reactor

    from rpiserve.process import make_daemon, run_foreground

    found, config = attempt.load(app, words)
    if attempt.reporter is not None:
        attempt.reporter.report()
        reactor.addSystemEventTrigger("before", "shutdown", attempt.reporter.stopping.set)
    daemon = make_daemon(found.name, found, found.tree, found.link, found.max_workers, config, reactor)
    run_foreground(daemon, reactor)


@with_app()
def check(app: str, options: tuple[str, ...]) -> NoReturn:
    """Try whether the daemon of APP would start, and show what it declares.

    The module is imported, and everything is looked at that a start would refuse; but nothing is started, nothing is
    opened, and it is not tried whether the port is free.
    """
    from twisted.internet import reactor

    from rpiserve.cli.summary import check_logs, check_reach, summary
    from rpiserve.service import Daemon

    attempt = Attempt(None)
    try:
        found, config = attempt.load(find_app_file(_checked_app(app)), options)
        check_reach(config)
        check_logs(config)
        unopened = attrs.evolve(config, request_log=None)
        Daemon(found.name, found, found.tree, found.link, unopened, found.max_workers, reactor)
    except RpiserveError as error:
        attempt.fail(error)
    for line in summary(found, config):
        put(line.encode())
    attempt.end(ANSWERED)


def _checked_app(app: str) -> str:
    if app.startswith("-"):
        raise ConfigError(f"APP comes before the options of the daemon: {app} is none")
    return app
