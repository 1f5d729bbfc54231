"""What systemd is told, by a socket that stands in for its own."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from rpiserve.daemon.systemd import MOST_STATUS, STATUS_SECONDS, Notifier


@attrs.define
class Systemd:
    """Stands in for systemd, and for the daemon that tells it how it is.

    Attributes:
        status: what the daemon is at.
    """

    socket: socket.socket
    address: str
    clock: Clock = attrs.field(factory=Clock)
    status: str | Callable[[], str] = "serving"

    def told(self) -> list[str]:
        """Return what it was told since the last time."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(1 << 16).decode())
            except BlockingIOError:
                return messages

    def notifier(self, **variables: str) -> Notifier:
        """Return what tells it, with further variables in the environment."""
        return Notifier({"NOTIFY_SOCKET": self.address, **variables}, self.clock, self._status)

    def _status(self) -> str:
        return self.status if isinstance(self.status, str) else self.status()


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """A socket that is listened to: one with a file, and one in the abstract namespace."""
    name = f"@rpiserve-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(name.replace("@", "\0"))
        yield Systemd(listening, name)


def test_the_life_of_a_daemon(systemd: Systemd) -> None:
    """It is ready, reads its files anew, and stops; nothing is said before and in between."""
    notifier = systemd.notifier()
    assert systemd.told() == []
    notifier.ready()
    assert systemd.told() == ["READY=1\nSTATUS=serving"]
    systemd.clock.advance(1.5)
    notifier.reloading()
    assert systemd.told() == ["RELOADING=1\nMONOTONIC_USEC=1500000"]
    notifier.reloaded()
    assert systemd.told() == ["READY=1"]
    systemd.clock.advance(60)
    assert systemd.told() == []
    notifier.stopping()
    notifier.stopping()
    assert systemd.told() == ["STOPPING=1\nSTATUS=stopping"]
    systemd.status = "another"
    systemd.clock.advance(STATUS_SECONDS)
    assert (systemd.told(), systemd.clock.getDelayedCalls()) == ([], [])


def test_status(systemd: Systemd) -> None:
    """A change of what it is at is told at the next look, once, on one line, without secrets, and not at length."""
    systemd.notifier().ready()
    systemd.told()
    systemd.status = "bus lost\nREADY=0 redis://me:geheim@pi.lan"
    assert systemd.told() == []
    systemd.clock.pump([STATUS_SECONDS] * 3)
    assert systemd.told() == ["STATUS=bus lost READY=0 redis://me:***@pi.lan"]
    systemd.status = "x" * 10_000
    systemd.clock.advance(STATUS_SECONDS)
    assert systemd.told() == ["STATUS=" + "x" * MOST_STATUS]


def test_a_status_that_cannot_be_told(systemd: Systemd, logged_failures: list[LogEvent]) -> None:
    """A mistake in that does not keep it from being ready."""

    def fail() -> str:
        raise ZeroDivisionError

    systemd.status = fail
    systemd.notifier().ready()
    assert systemd.told() == ["READY=1\nSTATUS=running"]
    [event] = logged_failures
    assert event["log_failure"].check(ZeroDivisionError)
    logged_failures.clear()


@pytest.mark.parametrize("pid", [{}, {"WATCHDOG_PID": str(os.getpid())}])
def test_watchdog(systemd: Systemd, pid: dict[str, str]) -> None:
    """It says that it is alive twice in the time that systemd waits for it, by the reactor's own clock."""
    notifier = systemd.notifier(WATCHDOG_USEC="2000000", **pid)
    assert systemd.told() == []
    notifier.ready()
    assert systemd.told() == ["READY=1\nSTATUS=serving", "WATCHDOG=1"]
    systemd.clock.advance(0.99)
    assert systemd.told() == []
    systemd.clock.advance(0.01)
    assert systemd.told() == ["WATCHDOG=1"]
    notifier.stopping()
    systemd.clock.pump([1, 1])
    assert systemd.told()[1:] == ["WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_PID": str(os.getpid())},
    ],
)
def test_no_watchdog(systemd: Systemd, variables: dict[str, str]) -> None:
    """If systemd does not wait for it, or for another process, it does not say that it is alive."""
    systemd.notifier(**variables).ready()
    systemd.clock.pump([1] * 3)
    assert systemd.told() == ["READY=1\nSTATUS=serving"]


def test_without_systemd() -> None:
    """Where nobody wants to be told nothing is done at all."""

    def fail() -> str:
        raise ZeroDivisionError

    clock = Clock()
    notifier = Notifier({"WATCHDOG_USEC": "2000000"}, clock, fail)
    for tell in (notifier.ready, notifier.reloading, notifier.reloaded, notifier.stopping):
        tell()
    assert clock.getDelayedCalls() == []


def test_children_do_not_speak_for_it() -> None:
    """What an app starts does not find the socket in its environment."""
    environ = {"NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "PATH": "/bin"}
    Notifier(environ, Clock(), str)
    assert environ == {"PATH": "/bin"}


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What was logged."""
    events: list[str] = []

    def observe(event: Any) -> None:
        if "what" in event:
            events.append(f"{event['what']} {event['log_level'].name}")

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("address", ["/nowhere/at/all", "x" * 200, "@nobody-listens", "vsock:2:1"])
def test_nobody_listens(address: str, warnings: list[str]) -> None:
    """That systemd cannot be told is logged once, and the daemon goes on; what was not told is told again."""
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}, clock, lambda: str(clock.seconds()))
    notifier.ready()
    clock.pump([1] * 10)
    notifier.stopping()
    assert warnings == ["READY=1 warn"]


def test_systemd_comes_back(systemd: Systemd, warnings: list[str]) -> None:
    """A status that could not be told, since systemd took none for a while, is told later, and a new failure logged."""
    notifier = systemd.notifier()
    notifier.ready()
    address, notifier._address = notifier._address, "/nowhere"
    systemd.status = "new"
    systemd.clock.advance(STATUS_SECONDS)
    notifier._address = address
    systemd.clock.advance(STATUS_SECONDS)
    assert systemd.told()[1:] == ["STATUS=new"]
    notifier._address = "/nowhere"
    notifier.reloading()
    assert warnings == ["STATUS=new warn", "RELOADING=1 warn"]


def test_stopping_before_it_is_ready(systemd: Systemd) -> None:
    """A daemon that is told to stop while it starts is never ready."""
    notifier = systemd.notifier(WATCHDOG_USEC="2000000")
    notifier.stopping("stopping because of an error")
    notifier.ready()
    assert systemd.told() == ["STOPPING=1\nSTATUS=stopping because of an error"]
    assert systemd.clock.getDelayedCalls() == []
