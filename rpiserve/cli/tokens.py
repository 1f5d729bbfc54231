"""The command ``token``: it changes the file that a daemon takes with ``--token-file``, which need not be restarted."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import attrs
import click

from rpiserve.cli.output import OutputClosed, complain, put
from rpiserve.core.tokens import READ, ROLES, Token, TokenFile

DEFAULT_FILE: Final = "rpiserve.tokens"

Command = TypeVar("Command", bound=Callable[..., object])


def _file_option(command: Command) -> Command:
    """Add the option that names the file."""
    option = click.option(
        "--file",
        "file",
        metavar="FILE",
        help=f"The file of tokens [RPISERVE_TOKEN_FILE, or else {DEFAULT_FILE}].",
    )
    return option(command)


def _path(file: str | None) -> Path:
    return Path(file or os.environ.get("RPISERVE_TOKEN_FILE") or DEFAULT_FILE)


@click.group(no_args_is_help=False)
def token() -> None:
    """Make the tokens that let clients in, list them, and revoke them.

    A daemon with --token-file FILE notices each change by itself.
    """


@token.command(short_help="Make a token, and print it.")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default=READ, show_default=True, help="What it may do.")
@_file_option
def add(name: str, role: str, file: str | None) -> None:
    """Make a token called NAME, and print it: this once, as the file has only its hash."""
    path = _path(file)
    tokens = TokenFile(path, time.monotonic)
    secret = tokens.add(name, role)
    try:
        put(secret.encode())
    except (OSError, OutputClosed):  # nobody has seen it, and nobody ever will
        tokens.revoke(name)
        raise click.ClickException(f"the token {name} could not be shown, so it was not made") from None
    complain(
        f"rpiserve: this token is shown only once. The commands take it from RPISERVE_TOKEN or --token-file, others "
        f"send it as Authorization: Bearer; the daemon is started with --token-file {path}"
    )


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a list of JSON objects.")
@_file_option
def list_tokens(as_json: bool, file: str | None) -> None:
    """List the tokens: the name, the role and the date of each."""
    path = _path(file)
    tokens = TokenFile(path, time.monotonic).tokens()
    if as_json:
        put(json.dumps([_shown(token) for token in tokens]).encode())
        return
    if not tokens:
        complain(f"rpiserve: there are no tokens in {path}")
    width = max((len(token.name) for token in tokens), default=0)
    for token in tokens:
        put(f"{token.name:{width}}  {token.role:7}  {token.created}".encode())


def _shown(token: Token) -> dict[str, str]:
    return {name: value for name, value in attrs.asdict(token).items() if name != "digest"}


@token.command()
@click.argument("name")
@_file_option
def revoke(name: str, file: str | None) -> None:
    """Revoke the token called NAME: whoever has it is let in no more."""
    path = _path(file)
    TokenFile(path, time.monotonic).revoke(name)
    complain(f"rpiserve: the token {name} is revoked; a daemon with {path} notices it within seconds")
