"""The command line, read by Twisted's own parser from the table of options."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from getopt import GetoptError
from typing import Any

from twisted.python import usage

from rpiserve.daemon.config import OPTIONS, Config, load


def _flagged(name: str) -> str:
    return name.replace("_", "-")


def _default(value: Any) -> str:
    return "" if value is None else f" [{value:g}]" if isinstance(value, float) else f" [{value}]"


class Options(usage.Options):
    """The options of ``twistd rpiserve``.

    Attributes:
        given: those that were given, by their names with underscores.
    """

    synopsis = "[options]"
    longdesc = "Every option can stand in an RPISERVE_… variable or in the file that --config names, too."
    optParameters = [
        ["config", "c", None, "a TOML file with options"],
        *(
            [_flagged(name), field.metadata["short"], None, field.metadata["help"] + _default(field.default)]
            for name, field in OPTIONS.items()
            if field.metadata["metavar"] and field.default != ()
        ),
    ]
    optFlags = [
        [_flagged(name), None, field.metadata["help"]]
        for name, field in OPTIONS.items()
        if not field.metadata["metavar"]
    ]

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}

    def repeat(self, name: str, value: str) -> None:
        """Take ``value`` for the option ``name``, which may be given more than once."""
        self._repeated.setdefault(name, []).append(value)

    def parseArgs(self, *args: str) -> None:
        """Take nothing but options."""
        if args:
            if "://" in args[0]:  # there may be a password in it
                raise usage.UsageError("a URL alone is no option; that of Redis is given with --redis")
            raise usage.UsageError(f"{args[0]!r} is no option; an app module is named with --module {args[0]}")

    @property
    def given(self) -> dict[str, object]:
        """The options that were given."""
        given = {name.replace("-", "_"): value for name, value in self.items() if value not in (None, 0)}
        given |= self._repeated
        return {name: bool(value) if name in _FLAGS else value for name, value in given.items()}

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse ``options``.

        Raises:
            SystemExit: they are wrong; its text says how. (A `UsageError` would have twistd print all of its help.)
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"rpiserve: {error}; {self._hint(error.__context__)}") from None

    def _hint(self, cause: BaseException | None) -> str:
        names = [option.rstrip("=") for option in self.longOpt]
        if isinstance(cause, GetoptError) and cause.opt not in names:
            for name in get_close_matches(cause.opt, names, 1):
                return f"did you mean --{name}?"
            if cause.opt in ("n", "nodaemon", "pidfile", "syslog"):
                return "it is twistd's, and goes before rpiserve"
        return "--help lists the options"

    @classmethod
    def parse(cls, argv: Sequence[str], environ: Mapping[str, str], code: Mapping[str, object]) -> Config:
        """Return the options, from a command line and all other places.

        Raises:
            ConfigError: one of them is wrong.
            SystemExit: the command line is.
        """
        options = cls()
        options.parseOptions(list(argv))
        return options.config(environ, code)

    def config(self, environ: Mapping[str, str], code: Mapping[str, object] | None = None) -> Config:
        """Return the options, from this command line and all other places.

        Raises:
            ConfigError: one of them is wrong.
        """
        return load(self.given, environ, code)


def _repeatable(name: str, help: str) -> Callable[[Options, str], None]:
    def take(self: Options, value: str) -> None:
        self.repeat(name, value)

    take.__doc__ = help
    return take


for _name, _field in OPTIONS.items():
    if _field.default == ():
        setattr(Options, f"opt_{_name}", _repeatable(_name, _field.metadata["help"]))

_FLAGS = {name for name, field in OPTIONS.items() if not field.metadata["metavar"]}
