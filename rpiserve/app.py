"""The app: what a user's module declares, and what it can do with it."""

import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from rpiserve.core.declared_app import DeclaredApp
from rpiserve.data.view import DataView
from rpiserve.errors import ConfigError, DeclarationError
from rpiserve.messaging.caller import CALL_SECONDS, Broadcast, Cache, Caller

importing: ContextVar[bool] = ContextVar("rpiserve_importing", default=False)
"""Whether an app module is being imported by the daemon that is going to run it."""


class App(DeclaredApp):
    """What one service declares: its sensors, its background work, its commands, its actions.

    Making one starts nothing and needs no reactor. ``twistd -n rpiserve --module NAME`` runs it, or `run`.

    Args:
        name: the service's name: letters, digits, ``_``, ``.`` and ``-``, at most 64.
        max_workers: how many calls of its concurrent commands may run at the same time, and how many of its actions
            and listeners.

    Attributes:
        data: the data tree.
        broadcast: sends messages to channels, from any thread while the daemon runs.
        cache: keeps small values, likewise.

    Raises:
        DeclarationError: an argument is wrong.
    """

    def __init__(self, name: str, max_workers: int = 10) -> None:
        super().__init__(name, max_workers)
        self.data = DataView(self.tree)
        self.broadcast = Broadcast(self.link)
        self.cache = Cache(self.link)

    def reserved_names(self) -> frozenset[str]:
        """Return the first segments of the paths that every daemon has by itself."""
        # Not at the top: most apps have no routes, and can do without the web side until they run.
        from rpiserve.web.endpoints.table import reserved_names

        return reserved_names()

    def caller(self, service: str, timeout: float = CALL_SECONDS) -> Caller:
        """Return what calls the actions of another service, by the daemon's own bus.

        Args:
            service: the name of that service.
            timeout: seconds to wait for a reply by default.

        Raises:
            MessageError: an argument is wrong.
        """
        return Caller(service, self.link, timeout)

    def run(self, *, argv: Sequence[str] = (), **options: Any) -> None:
        """Run the daemon in the foreground, until SIGINT or SIGTERM.

        Args:
            argv: options as on the command line, such as ``sys.argv[1:]``; they come first.
            options: the options by their names, such as ``port=8080``; ``port=None`` is the offline mode. An
                ``RPISERVE_…`` variable or a TOML file wins over them.

        Raises:
            RpiserveError: it cannot start. If nobody catches it, it ends the process with one line on standard error.
            SystemExit: `argv` is wrong; its text says how.
        """
        if importing.get():
            raise DeclarationError(
                "run() is called when the module is imported: put it under if __name__ == '__main__'"
            )
        # Not at the top: these install a reactor, which importing rpiserve must not do.
        from twisted.internet import reactor

        from rpiserve.daemon.options import Options
        from rpiserve.daemon.process import make_daemon, one_line, run_foreground

        sys.excepthook = one_line
        if "module" in options:
            raise ConfigError("app.run() runs this app: it takes no module")
        config = Options.parse(argv, os.environ, options)
        if config.debug:
            sys.excepthook = sys.__excepthook__
        run_foreground(make_daemon(self, config, reactor), reactor)
