"""Ready-made readings of the machine that rpiserve runs on.

Each is a callable without arguments, to be declared as it is, with its units beside it::

    app.sensor("memory", every=5, unit=host.MEMORY_UNITS)(host.memory)
    app.sensor("disk", every=60, unit=host.DISK_UNITS)(host.Disk("/"))

A reading that needs no state is a function. One that compares two moments (`CpuUse`, `Network`) or has a parameter
(`Disk`) is a class: make one object for each sensor. All may block for a moment and may be called from any thread.

A reading that fails raises `SensorError`, with the reason.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import psutil

from rpiserve.errors import SensorError

CPU_TEMPERATURE_UNIT: Final = "°C"
CPU_USE_UNIT: Final = "%"
MEMORY_UNITS: Final[Mapping[str, str]] = {"percent": "%", "used": "B", "available": "B", "total": "B"}
DISK_UNITS: Final[Mapping[str, str]] = {"percent": "%", "used": "B", "free": "B", "total": "B"}
NETWORK_UNITS: Final[Mapping[str, str]] = {"received_rate": "B/s", "sent_rate": "B/s", "received": "B", "sent": "B"}
UPTIME_UNIT: Final = "s"

_SHORTEST = 0.5  # seconds between two samples; below that, ticks of 10 ms and single packets make the result jump
_CPU_NAME = re.compile(r"cpu|core|soc|pkg|package|bcm2835|k8temp|k10temp|zenpower", re.IGNORECASE)
_NOT_BUSY = {"idle", "iowait"}
_COUNTED_TWICE = {"guest", "guest_nice"}
_LOOPBACK = {"lo", "lo0"}
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)

_Sample = TypeVar("_Sample")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what psutil and the system raise into a `SensorError` that says what could not be read."""
    try:
        yield
    except (OSError, psutil.Error, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SensorError(f"cannot read {what}: {reason}") from error


class _Samples(Generic[_Sample]):
    """Hands out pairs of samples: that of the reading before, and one of now.

    The first reading has none before it, so it takes one and waits; so does one that follows too soon upon another.
    A lock makes readers wait for each other, or two threads would measure against one and the same sample.
    """

    def __init__(
        self, take: Callable[[], _Sample], clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._take = take
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._last: tuple[float, _Sample] | None = None

    def pair(self) -> tuple[_Sample, _Sample, float]:
        """Return the earlier sample, the later one, and the seconds between them."""
        with self._lock:
            if self._last is None:
                self._last = self._clock(), self._take()
            then, before = self._last
            missing = then + _SHORTEST - self._clock()
            if missing > 0:
                self._sleep(missing)
            now, after = self._clock(), self._take()
            self._last = now, after
            return before, after, now - then


@_explained("the load averages")
def load() -> dict[str, float]:
    """Return the load averages over the last 1, 5 and 15 minutes: `{"1min", "5min", "15min"}`.

    A load is a mean number of processes that run or wait, for the disk too, and has no unit; see proc_loadavg(5).

    Raises:
        SensorError: the system does not tell.
    """
    names = ("1min", "5min", "15min")
    return {name: round(average, 2) for name, average in zip(names, os.getloadavg(), strict=True)}


class CpuUse:
    """The share of all processors' time that was spent working since the reading before, in percent, from 0 to 100.

    The first reading covers half a second, for which it waits, as there is none before it. `psutil.cpu_percent` is not
    used: it remembers one reading for each *thread*, so in a pool of threads it would answer a meaningless 0.0 again
    and again. What counts as working is psutil's rule, and that of top and htop: all but `idle` and `iowait`. Guests'
    time is part of `user` and `nice` already, and a counter that went backwards counts as unchanged.

    Args:
        times, clock, sleep: for tests.

    Raises:
        SensorError: the system does not tell, or counts no time at all, as some sandboxes do.
    """

    def __init__(
        self,
        *,
        times: Callable[[], Any] = psutil.cpu_times,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._times = times
        self._samples = _Samples(self._take, clock, sleep)

    def __call__(self) -> float:
        """Take the reading."""
        before, after, _ = self._samples.pair()
        spent = {name: max(0.0, after[name] - before[name]) for name in after}
        total = sum(spent.values())
        if not total:
            raise SensorError("cannot read the CPU use: the system counts no CPU time")
        return round(100 * sum(spent[name] for name in spent.keys() - _NOT_BUSY) / total, 1)

    @_explained("the CPU use")
    def _take(self) -> dict[str, float]:
        times: dict[str, float] = self._times()._asdict()
        return {name: times[name] for name in times.keys() - _COUNTED_TWICE}


def _psutil_chips() -> Mapping[str, Any]:
    """Return what psutil finds; it has no such function on some systems."""
    found: Mapping[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    return found


def cpu_temperature(
    *, zones: str | os.PathLike[str] = "/sys/class/thermal", chips: Callable[[], Mapping[str, Any]] = _psutil_chips
) -> float:
    """Return the temperature of the CPU in °C: the hottest, where several sensors belong to it.

    The kernel's thermal zones come first; a Raspberry Pi has one for its CPU. Only a machine without one is asked
    through `psutil.sensors_temperatures`, because that reads every chip of the machine to answer: a DS18B20 on the
    1-Wire bus is one of them, and needs most of a second. Sensors of other parts (disk, radio, mainboard) do not count.

    Args:
        zones, chips: for tests.

    Raises:
        SensorError: the machine does not measure it, as most virtual machines do not; the text names what it measures.
    """
    found = _thermal_zones(Path(zones))
    hottest = _hottest(found)
    if hottest is None:
        others = _chips(chips)
        hottest = _hottest(others)
        found += others
    if hottest is None:
        names = ", ".join(sorted({name for name, _ in found})) or "none"
        raise SensorError(f"this machine does not measure its CPU's temperature (its temperature sensors: {names})")
    return round(hottest, 3)


def has_cpu_temperature() -> bool:
    """Return whether `cpu_temperature` can be read here, so that an app declares it only where it can."""
    try:
        cpu_temperature()
    except SensorError:
        return False
    return True


def _thermal_zones(root: Path) -> list[tuple[str, float]]:
    """Return the type and °C of each thermal zone; a disabled one cannot be read and is left out.

    The files are those of the kernel's Documentation/ABI/testing/sysfs-class-thermal: `temp` is in thousandths of °C.
    """
    found = []
    for zone in sorted(root.glob("thermal_zone*")):
        try:
            found.append((_text(zone / "type"), int(_text(zone / "temp")) / 1000))
        except (OSError, ValueError):
            continue
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


@_explained("the CPU's temperature")
def _chips(read: Callable[[], Mapping[str, Any]]) -> list[tuple[str, float]]:
    return [(name, sensor.current) for name, sensors in read().items() for sensor in sensors]


def _hottest(found: list[tuple[str, float]]) -> float | None:
    """Return the highest of the CPU's temperatures, leaving out what a broken sensor says (-274 °C, 65535 °C)."""
    return max((celsius for name, celsius in found if _CPU_NAME.search(name) and -60 < celsius < 200), default=None)


@_explained("the memory")
def memory() -> dict[str, float]:
    """Return the machine's memory: `{"percent", "used", "available", "total"}`, in percent and bytes.

    `available` is what programs can still get without swapping, `MemAvailable` in proc_meminfo(5), and `used` is the
    rest: the disk cache, which the kernel gives back on demand, is not counted as used. Within a container these are
    the host's figures.

    Raises:
        SensorError: the system does not tell.
    """
    now = psutil.virtual_memory()
    return {
        "percent": round(100 * (now.total - now.available) / now.total, 1) if now.total else 0.0,
        "used": now.total - now.available,
        "available": now.available,
        "total": now.total,
    }


class Disk:
    """The file system that holds `path`: `{"percent", "used", "free", "total"}`, in percent and bytes.

    As in df(1), `free` leaves out what is reserved for root, and `percent` is `used` of `used + free`: at 100 % a
    program can write no more, though `used` is less than `total`.

    Args:
        path: any path on the file system.

    Raises:
        SensorError: there is no such path, or it may not be looked at.
    """

    def __init__(self, path: str | os.PathLike[str] = "/") -> None:
        self._path = os.fspath(path)

    def __call__(self) -> dict[str, float]:
        """Take the reading."""
        with _explained(f"the file system of {self._path}"):
            now = psutil.disk_usage(self._path)
        return {"percent": now.percent, "used": now.used, "free": now.free, "total": now.total}


class Network:
    """What the network carried: `{"received_rate", "sent_rate", "received", "sent"}`, in bytes per second and bytes.

    The rates are means since the reading before. The first reading waits half a second to have them. The totals are the
    kernel's, since boot or since the interface appeared.

    Without a name, all interfaces with hardware behind them are added up: not the loopback, nor bridges, tunnels and
    their like, which carry the same bytes again. Where none has hardware, as in a container, all but the loopback
    count; with no interface at all everything is 0.

    Counters fall when an interface is plugged in anew, and those of 32 bits when they wrap. As nobody can tell which,
    such an interval is not guessed at, but measured afresh over half a second. An interface that has just appeared has
    no rate yet and adds nothing to the sum.

    Args:
        interface: the name of the one interface to read.
        counters, sysfs, clock, sleep: for tests.

    Raises:
        SensorError: the system does not tell, there is no such interface, or its counters fall all the time.
    """

    def __init__(
        self,
        interface: str | None = None,
        *,
        counters: Callable[[], Mapping[str, Any]] = lambda: psutil.net_io_counters(pernic=True, nowrap=False),
        sysfs: str | os.PathLike[str] = "/sys/class/net",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._interface = interface
        self._counters = counters
        self._sysfs = Path(sysfs)
        self._samples = _Samples(self._take, clock, sleep)

    def __call__(self) -> dict[str, float]:
        """Take the reading."""
        for _ in range(2):
            before, after, seconds = self._samples.pair()
            grown = [
                (after[name][0] - before[name][0], after[name][1] - before[name][1])
                for name in after.keys() & before.keys()
            ]
            if all(received >= 0 and sent >= 0 for received, sent in grown):
                return {
                    "received_rate": round(sum(received for received, _ in grown) / seconds, 1),
                    "sent_rate": round(sum(sent for _, sent in grown) / seconds, 1),
                    "received": sum(received for received, _ in after.values()),
                    "sent": sum(sent for _, sent in after.values()),
                }
        raise SensorError("cannot read the network: the counters of its interfaces fall again and again")

    @_explained("the network")
    def _take(self) -> dict[str, tuple[int, int]]:
        """Return the bytes received and sent by each interface that counts."""
        counted = {name: (now.bytes_recv, now.bytes_sent) for name, now in self._counters().items()}
        if self._interface is None:
            names = counted.keys() - _LOOPBACK
            # The link `device` is how sysfs tells hardware: Documentation/ABI/stable/sysfs-devices of the kernel.
            names = {name for name in names if (self._sysfs / name / "device").exists()} or names
        elif self._interface in counted:
            names = {self._interface}
        else:
            there = ", ".join(sorted(counted)) or "none"
            raise SensorError(f"there is no network interface {self._interface!r} (there are: {there})")
        return {name: counted[name] for name in names}


@_explained("the uptime")
def uptime(*, clock: int | None = _BOOT_CLOCK) -> float:
    """Return the seconds since the machine booted, those it slept included.

    Linux has a clock for it, CLOCK_BOOTTIME in clock_gettime(2), which no change of the date moves. Elsewhere it is
    reckoned from the date, and is wrong by as much as the date was wrong at boot.

    Args:
        clock: for tests.

    Raises:
        SensorError: the system does not tell.
    """
    if clock is None:
        return round(max(0.0, time.time() - psutil.boot_time()), 2)
    return round(time.clock_gettime(clock), 2)
