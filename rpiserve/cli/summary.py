"""What ``check`` shows of an app, and the checks of its own: what a start sees only when it opens something."""

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from tzlocal import get_localzone

from rpiserve.app import App
from rpiserve.core.tokens import CONTROL, READ
from rpiserve.daemon.config import DEFAULT_HOST, Config
from rpiserve.data.paths import format_path
from rpiserve.declare.arguments import Parameter
from rpiserve.declare.base import Every, Polled
from rpiserve.declare.commands import Command
from rpiserve.declare.routes import Route
from rpiserve.errors import StartError
from rpiserve.web.server.addresses import is_loopback_ip

_ON_THE_NETWORK: Final = ("tcp", "tcp4", "tcp6", "ssl", "tls", "haproxy")
"""The kinds of endpoints that other machines may reach."""


def check_reach(config: Config) -> None:
    """Check that only those can reach the daemon who may.

    Raises:
        StartError: it would listen beyond this machine, with neither tokens nor ``--open``.
    """
    if config.port is None or config.open or config.token_file is not None:
        return
    host = (config.host or DEFAULT_HOST) if isinstance(config.port, int) else _interface(config.port)
    if host is not None and host != "localhost" and not is_loopback_ip(host):
        raise StartError(
            f"{host or 'all addresses'}: this can be reached from other machines, and whoever reaches it could read "
            "all: use --host 127.0.0.1, or --token-file (rpiserve token add NAME makes one), or --open if you mean it"
        )


def check_logs(config: Config) -> None:
    """Check that the files for logs can be written, without opening them.

    Raises:
        StartError: one cannot.
    """
    for option, file in (("--log-file", config.log_file), ("--request-log", config.request_log)):
        if file is not None and (file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK)):
            raise StartError(f"{option}: cannot write to {file}")


def _interface(endpoint: str) -> str | None:
    """Return the address that ``endpoint`` listens on; None if it is none of a network's."""
    kind, *arguments = (part.replace("\\:", ":") for part in re.split(r"(?<!\\):", endpoint))
    if kind not in _ON_THE_NETWORK:
        return None
    return next((part.partition("=")[2] for part in arguments if part.startswith("interface=")), "")


def summary(app: App, config: Config) -> Iterator[str]:
    """Return lines that tell what ``app`` declares."""
    now = datetime.now(UTC)
    sections = {
        "sensors": (_polled(polled, now) for polled in app.polled if polled.path is not None),
        "schedules": (_polled(polled, now) for polled in app.polled if polled.path is None),
        "commands": map(_command, app.commands.values()),
        "actions": app.actions,
        "listens to": (f"{', '.join(each.channels)}  {each.function.name}" for each in app.listeners),
        "threads": (function.name for function in app.threads),
        "routes": (line for route in app.routes for line in _route(route)),
        "at the start": (function.name.removeprefix("on_start ") for function in app.start_hooks),
        "at the end": (function.name.removeprefix("on_stop ") for function in app.stop_hooks),
    }
    yield f"{app.name}: nothing is wrong with it"
    for title, lines in sections.items():
        yield from _section(title, lines)
    yield from _section("serves on", [_place(config)])


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"  {'' if number else title:12}  {line}"


def _polled(polled: Polled, now: datetime) -> str:
    name = polled.function.name if polled.path is None else format_path(polled.path)
    trigger = polled.trigger
    if isinstance(trigger, Every):
        return f"{name}  every {trigger.interval:g} s"
    zone = trigger.zone or get_localzone()
    following = trigger.schedule.timetable(now, zone).next(now).astimezone(zone)
    return f"{name}  {trigger.schedule.describe()}, next {following.isoformat(' ', 'seconds')}"


def _command(command: Command) -> str:
    return f"{command.function.name}({', '.join(map(_argument, command.signature.parameters))})"


def _argument(parameter: Parameter) -> str:
    text = f"{parameter.name}: {parameter.text}" if parameter.text else parameter.name
    return text if parameter.required else f"{text} = {parameter.default!r:.40}"


def _route(route: Route) -> Iterator[str]:
    for method in route.methods:
        yield f"{method} {route.path}  {route.role or (READ if method == 'GET' else CONTROL)}"


def _place(config: Config) -> str:
    if config.port is None:
        return "nothing: it is offline"
    if isinstance(config.port, str):
        return config.port
    host = config.host or DEFAULT_HOST
    scheme = "http" if config.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.port}"
