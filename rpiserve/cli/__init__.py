"""The command ``rpiserve``: make an app, check it, run it, and talk to services from the shell.

What it answers stands on standard output, all else on standard error. How it has ended is in the exit code:

====  =================================================================================================================
Code  Meaning
====  =================================================================================================================
0     it was done, or answered
1     it has failed: the app cannot start, say. Or the service has answered with an error, or the daemon on the way
      there; the text and the code are shown. Or what was answered cannot be written
2     the command line is wrong, or a file that it names cannot be read
3     nobody listens: there is no such service
4     there was no answer in time
5     the bus or the daemon cannot be reached, or was lost before the answer came
6     the daemon refuses: there is no token, it is wrong, or it may not do this
130   Ctrl-C (143: SIGTERM)
====  =================================================================================================================

``run`` ends as the daemon does. Importing this installs no reactor: that comes with the first command that needs one.
"""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import click

from rpiserve.cli.output import (
    ANSWERED,
    EXIT_CODES,
    FAILED,
    USAGE,
    OutputClosed,
    complain,
    describe,
    describe_fully,
    exit_code,
)
from rpiserve.cli.target import WHERE
from rpiserve.errors import RpiserveError
from rpiserve.logs.redaction import redact

COMMANDS: Final = {
    "new": "project",
    "run": "run",
    "check": "run",
    "unit": "unit",
    "token": "tokens",
    "call": "messages",
    "publish": "messages",
    "listen": "messages",
}
"""The commands, each with the module that has it; of these only one is imported, as a Pi takes its time for each."""


class CommandGroup(click.Group):
    """The commands of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"rpiserve.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command


commands = CommandGroup(
    name="rpiserve",
    help=f"Make an app, check it, run it; call services, publish messages, listen to them.\n{WHERE}\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and end the process with its exit code.

    Args:
        arguments: those of the command line; by default those of this process.

    Raises:
        SystemExit: always.
    """
    try:
        status = commands.main(arguments, prog_name="rpiserve", standalone_mode=False)
    except click.ClickException as error:
        see = f"; see {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        complain(f"rpiserve: {' '.join(redact(error.format_message()).split()).rstrip('.')}{see}")
        status = USAGE
    except OutputClosed:
        status = ANSWERED
    except RpiserveError as error:
        complain(f"rpiserve: {describe(error)}")
        status = exit_code(error)
    except OSError as error:
        complain(f"rpiserve: {describe(error)}")
        status = FAILED
    except (click.Abort, KeyboardInterrupt):
        status = 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - where it comes from is of use, but Python would show its secrets, too
        complain(describe_fully(error))
        status = FAILED
    sys.exit(status)
