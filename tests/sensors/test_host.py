"""The ready-made readings of the machine, over invented counters and files, and once each over the real ones."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiserve.errors import SensorError
from rpiserve.sensors import host


class FakeTime:
    """A clock that only sleeping and `advance` move."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


class LinuxTimes(NamedTuple):
    """The fields of `psutil.cpu_times` on Linux that matter here."""

    user: float
    idle: float
    iowait: float = 0.0
    guest: float = 0.0


def in_turn(*answers: Any) -> Callable[[], Any]:
    """Return a function that gives one answer after the other; an exception among them is raised."""
    left: Iterator[Any] = iter(answers)

    def answer() -> Any:
        now = next(left)
        if isinstance(now, Exception):
            raise now
        return now

    return answer


def nic(received: int, sent: int = 0) -> SimpleNamespace:
    """Return what psutil tells of one interface."""
    return SimpleNamespace(bytes_recv=received, bytes_sent=sent)


def interface(sysfs: Path, name: str, *, hardware: bool = False) -> None:
    """Make the folder that sysfs has for an interface."""
    (sysfs / name).mkdir()
    if hardware:
        (sysfs / name / "device").mkdir()


def zone(root: Path, number: int, kind: str, temp: str | None) -> None:
    """Make a thermal zone; one without a temperature is one that cannot be read."""
    folder = root / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if temp is not None:
        (folder / "temp").write_text(f"{temp}\n")


def no_chips() -> dict[str, Any]:
    """Stand for a machine on which psutil finds no temperature."""
    return {}


def unasked() -> dict[str, Any]:
    """Stand for psutil where it must not be asked."""
    raise AssertionError("psutil was asked, which reads every chip of the machine")


# --- load, memory, uptime ---------------------------------------------------------------------------------------------


def test_load_has_three_averages() -> None:
    """The three averages come under their names, and none is negative."""
    reading = host.load()
    assert list(reading) == ["1min", "5min", "15min"]
    assert all(value >= 0 for value in reading.values())


def test_load_untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.getloadavg` raises a bare OSError where there is no load average: the user reads what could not be read."""
    monkeypatch.setattr("os.getloadavg", in_turn(OSError()))
    with pytest.raises(SensorError, match="cannot read the load averages: OSError"):
        host.load()


def test_memory_adds_up() -> None:
    """Used and available make the total, the percentage is theirs, and each leaf has a unit."""
    reading = host.memory()
    assert reading["used"] + reading["available"] == reading["total"] > 0
    assert reading["percent"] == round(100 * reading["used"] / reading["total"], 1)
    assert reading.keys() == host.MEMORY_UNITS.keys()


def test_memory_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that hides the memory's size does not make the reading divide by zero."""
    monkeypatch.setattr(psutil, "virtual_memory", in_turn(SimpleNamespace(total=0, available=0)))
    assert host.memory() == {"percent": 0.0, "used": 0, "available": 0, "total": 0}


def test_uptime_is_the_kernels() -> None:
    """The uptime lies between two looks at /proc/uptime's own source: it does not depend on the date."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    reading = host.uptime()
    assert before - 0.01 <= reading <= time.clock_gettime(time.CLOCK_BOOTTIME) + 0.01


def test_uptime_by_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such clock the date serves; a date set back before the boot gives 0, nothing negative."""
    monkeypatch.setattr(psutil, "boot_time", in_turn(time.time() - 100, time.time() + 100))
    assert 100 <= host.uptime(clock=None) < 160
    assert host.uptime(clock=None) == 0.0


def test_uptime_untold() -> None:
    """A clock that the kernel does not know is a reading that failed, with its reason."""
    with pytest.raises(SensorError, match="cannot read the uptime: Invalid argument"):
        host.uptime(clock=999)


# --- disk -------------------------------------------------------------------------------------------------------------


def test_disk(tmp_path: Path) -> None:
    """A real file system is read, each leaf has a unit, and no part is more than the whole."""
    reading = host.Disk(tmp_path)()
    assert reading.keys() == host.DISK_UNITS.keys()
    assert 0 <= reading["used"] <= reading["total"]
    assert 0 <= reading["free"] <= reading["total"]
    assert 0 <= reading["percent"] <= 100


def test_disk_that_is_not_there(tmp_path: Path) -> None:
    """A disk that is not mounted fails with its path and the reason, not with a class and an incident."""
    missing = tmp_path / "usb"
    with pytest.raises(SensorError, match=f"cannot read the file system of {missing}: No such file or directory"):
        host.Disk(missing)()


# --- CPU use ----------------------------------------------------------------------------------------------------------


def test_first_cpu_use_is_measured() -> None:
    """The first reading waits and measures; it is not the meaningless 0.0 of `psutil.cpu_percent`."""
    clock = FakeTime()
    read = host.CpuUse(times=in_turn(LinuxTimes(10, 10), LinuxTimes(11, 13)), clock=clock, sleep=clock.sleep)
    assert read() == 25.0
    assert clock.slept == [0.5]


def test_cpu_use_since_the_reading_before() -> None:
    """Later readings do not wait: they cover all the time since the one before."""
    clock = FakeTime()
    times = in_turn(LinuxTimes(0, 0), LinuxTimes(1, 1), LinuxTimes(1, 5), LinuxTimes(5, 5))
    read = host.CpuUse(times=times, clock=clock, sleep=clock.sleep)
    readings = [read()]
    for _ in range(2):
        clock.advance(5)
        readings.append(read())
    assert readings == [50.0, 0.0, 100.0]
    assert clock.slept == [0.5]


def test_cpu_use_asked_too_soon() -> None:
    """A reading right upon another waits for the rest of the half second: a few ticks say nothing."""
    clock = FakeTime()
    times = in_turn(LinuxTimes(0, 0), LinuxTimes(1, 1), LinuxTimes(2, 2))
    read = host.CpuUse(times=times, clock=clock, sleep=clock.sleep)
    read()
    clock.advance(0.25)
    read()
    assert clock.slept == [0.5, 0.25]


def test_waiting_and_guests_are_not_work() -> None:
    """Waiting for the disk is idleness, and a guest's time, which `user` holds already, is not counted again."""
    clock = FakeTime()
    times = in_turn(LinuxTimes(0, 0), LinuxTimes(user=2, idle=1, iowait=1, guest=2))
    assert host.CpuUse(times=times, clock=clock, sleep=clock.sleep)() == 50.0


def test_cpu_counter_that_went_back() -> None:
    """The kernel's idle time sometimes goes back a little: that is no negative use, nor one above 100 %."""
    clock = FakeTime()
    times = in_turn(LinuxTimes(1, 10), LinuxTimes(2, 9.5))
    assert host.CpuUse(times=times, clock=clock, sleep=clock.sleep)() == 100.0


def test_cpu_time_that_is_not_counted() -> None:
    """Some sandboxes show zeros for ever: that is an error with its reason, not a division by zero."""
    clock = FakeTime()
    read = host.CpuUse(times=lambda: LinuxTimes(0, 0), clock=clock, sleep=clock.sleep)
    with pytest.raises(SensorError, match="the system counts no CPU time"):
        read()


def test_cpu_use_after_a_failure() -> None:
    """A sample that cannot be taken fails its own reading only; the next covers the time since the last good one."""
    clock = FakeTime()
    times = in_turn(LinuxTimes(0, 0), LinuxTimes(1, 0), PermissionError(13, "Permission denied"), LinuxTimes(1, 3))
    read = host.CpuUse(times=times, clock=clock, sleep=clock.sleep)
    read()
    clock.advance(1)
    with pytest.raises(SensorError, match="cannot read the CPU use: Permission denied"):
        read()
    clock.advance(1)
    assert read() == 0.0


seconds = st.floats(min_value=0, max_value=1e9)


@given(before=st.tuples(seconds, seconds, seconds), after=st.tuples(seconds, seconds, seconds))
def test_cpu_use_is_a_percentage(before: tuple[float, float, float], after: tuple[float, float, float]) -> None:
    """Whatever the counters do, the reading is from 0 to 100, or none."""
    clock = FakeTime()
    read = host.CpuUse(times=in_turn(LinuxTimes(*before), LinuxTimes(*after)), clock=clock, sleep=clock.sleep)
    try:
        assert 0 <= read() <= 100
    except SensorError:
        assert all(old >= new for old, new in zip(before, after, strict=True))


def test_threads_do_not_share_a_sample() -> None:
    """Readers in several threads take turns: the intervals they measure follow each other without overlap."""
    clock = FakeTime()
    ticks = iter(range(1000))
    inside = threading.Lock()

    def times() -> LinuxTimes:
        assert inside.acquire(blocking=False), "two threads took a sample at once"
        try:
            tick = float(next(ticks))
            return LinuxTimes(user=tick, idle=tick)
        finally:
            inside.release()

    read = host.CpuUse(times=times, clock=clock, sleep=clock.sleep)
    with ThreadPoolExecutor(8) as pool:
        readings = list(pool.map(lambda _: read(), range(200)))
    assert readings == [50.0] * 200
    assert next(ticks) == 201


def test_real_cpu_use() -> None:
    """The real counters' fields are understood: one second more of work, and no other, is a use of 100 %."""
    clock = FakeTime()
    now = psutil.cpu_times()
    read = host.CpuUse(times=in_turn(now, now._replace(user=now.user + 1)), clock=clock, sleep=clock.sleep)
    assert read() == 100.0


# --- CPU temperature --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cpu-thermal", "cpu_thermal", "bcm2835_thermal", "soc-thermal", "x86_pkg_temp"])
def test_temperature_of_a_zone(tmp_path: Path, kind: str) -> None:
    """A thermal zone of the CPU, by any of its names, answers alone: no other chip of the machine is touched."""
    zone(tmp_path, 0, kind, "48312")
    assert host.cpu_temperature(zones=tmp_path, chips=unasked) == 48.312


def test_hottest_zone_counts(tmp_path: Path) -> None:
    """Of several sensors of the CPU the hottest counts; those of other parts do not, however hot."""
    zone(tmp_path, 0, "bigcore0-thermal", "51000")
    zone(tmp_path, 1, "bigcore1-thermal", "53000")
    zone(tmp_path, 2, "gpu-thermal", "90000")
    zone(tmp_path, 3, "iwlwifi_1", "95000")
    assert host.cpu_temperature(zones=tmp_path, chips=unasked) == 53.0


def test_broken_zones_are_left_out(tmp_path: Path) -> None:
    """A zone that is disabled, garbled or tells the impossible does not spoil the others."""
    zone(tmp_path, 0, "cpu-thermal", None)
    zone(tmp_path, 1, "cpu-thermal", "n/a")
    zone(tmp_path, 2, "cpu-thermal", "-274000")
    zone(tmp_path, 3, "cpu-thermal", "65535000")
    zone(tmp_path, 4, "cpu-thermal", "44000")
    assert host.cpu_temperature(zones=tmp_path, chips=unasked) == 44.0


def test_temperature_of_a_chip(tmp_path: Path) -> None:
    """Without a zone of the CPU psutil is asked, and its other sensors do not count."""
    zone(tmp_path, 0, "acpitz", "27800")
    found = {
        "nvme": [SimpleNamespace(current=70.0)],
        "k10temp": [SimpleNamespace(current=45.5), SimpleNamespace(current=46.25)],
    }
    assert host.cpu_temperature(zones=tmp_path, chips=lambda: found) == 46.25


def test_no_temperature_at_all(tmp_path: Path) -> None:
    """A machine without any sensor, such as most virtual ones, says so."""
    with pytest.raises(SensorError, match=r"does not measure its CPU's temperature \(its temperature sensors: none\)"):
        host.cpu_temperature(zones=tmp_path / "absent", chips=no_chips)


def test_temperature_of_other_parts_only(tmp_path: Path) -> None:
    """What the machine does measure is named, so that the user sees why it is not taken for the CPU's."""
    zone(tmp_path, 0, "acpitz", "27800")
    found = {"nvme": [SimpleNamespace(current=70.0)]}
    with pytest.raises(SensorError, match="its temperature sensors: acpitz, nvme"):
        host.cpu_temperature(zones=tmp_path, chips=lambda: found)


def test_chips_that_cannot_be_read(tmp_path: Path) -> None:
    """What psutil raises becomes a reading that failed, with its reason."""
    with pytest.raises(SensorError, match="cannot read the CPU's temperature: Input/output error"):
        host.cpu_temperature(zones=tmp_path, chips=in_turn(OSError(5, "Input/output error")))


def test_temperature_without_psutils_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil has no temperatures on some systems: that is a machine without a sensor, not an AttributeError."""
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    with pytest.raises(SensorError, match="does not measure"):
        host.cpu_temperature(zones=tmp_path)


def test_has_cpu_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app may ask first, and gets a plain yes or no."""
    monkeypatch.setattr(host, "cpu_temperature", in_turn(48.3, SensorError("none")))
    assert host.has_cpu_temperature()
    assert not host.has_cpu_temperature()


def test_real_temperature() -> None:
    """This machine either measures its CPU's temperature, plausibly, or says that it does not."""
    if host.has_cpu_temperature():
        assert -60 < host.cpu_temperature() < 200
    else:
        with pytest.raises(SensorError):
            host.cpu_temperature()


# --- network ----------------------------------------------------------------------------------------------------------


def network(tmp_path: Path, clock: FakeTime, *samples: Any, name: str | None = None) -> host.Network:
    """Return a reading over invented counters, one sample after the other."""
    return host.Network(name, counters=in_turn(*samples), sysfs=tmp_path, clock=clock, sleep=clock.sleep)


def test_network_rates(tmp_path: Path) -> None:
    """The first reading waits for its rates, the next is the mean since then; totals are the kernel's."""
    clock = FakeTime()
    read = network(tmp_path, clock, {"eth0": nic(1000, 100)}, {"eth0": nic(2000, 150)}, {"eth0": nic(2500, 150)})
    first = read()
    assert first == {"received_rate": 2000.0, "sent_rate": 100.0, "received": 2000, "sent": 150}
    clock.advance(5)
    assert read() == {"received_rate": 100.0, "sent_rate": 0.0, "received": 2500, "sent": 150}
    assert clock.slept == [0.5]
    assert first.keys() == host.NETWORK_UNITS.keys()


def test_only_hardware_counts(tmp_path: Path) -> None:
    """A bridge and a tunnel carry the bytes of the real interfaces again, and the loopback none: they do not count."""
    clock = FakeTime()
    for name in ("lo", "docker0", "wg0"):
        interface(tmp_path, name)
    for name in ("eth0", "wlan0"):
        interface(tmp_path, name, hardware=True)
    before = {name: nic(0) for name in ("lo", "docker0", "wg0", "eth0", "wlan0")}
    after = {"lo": nic(9000), "docker0": nic(9000), "wg0": nic(9000), "eth0": nic(300), "wlan0": nic(200)}
    assert network(tmp_path, clock, before, after)() == {
        "received_rate": 1000.0,
        "sent_rate": 0.0,
        "received": 500,
        "sent": 0,
    }


def test_container_without_hardware(tmp_path: Path) -> None:
    """In a container, whose interface is virtual, all but the loopback counts."""
    clock = FakeTime()
    before = {"lo": nic(0), "eth0": nic(0)}
    after = {"lo": nic(5000), "eth0": nic(50)}
    assert network(tmp_path, clock, before, after)()["received_rate"] == 100.0


def test_no_interface_at_all(tmp_path: Path) -> None:
    """A machine cut off from any network carries nothing, which is no failure."""
    clock = FakeTime()
    nothing = {"received_rate": 0.0, "sent_rate": 0.0, "received": 0, "sent": 0}
    assert network(tmp_path, clock, {"lo": nic(1)}, {"lo": nic(2)})() == nothing


def test_named_interface(tmp_path: Path) -> None:
    """One interface by name, a virtual one or the loopback included, is read alone."""
    clock = FakeTime()
    interface(tmp_path, "eth0", hardware=True)
    samples = {"wg0": nic(0), "eth0": nic(0)}, {"wg0": nic(0, 10), "eth0": nic(99)}
    assert network(tmp_path, clock, *samples, name="wg0")()["sent_rate"] == 20.0


@pytest.mark.parametrize(("there", "named"), [({"lo": nic(0), "eth0": nic(0)}, "eth0, lo"), ({}, "none")])
def test_unknown_interface(tmp_path: Path, there: dict[str, Any], named: str) -> None:
    """A mistyped or absent interface is an error that names those there are."""
    with pytest.raises(SensorError, match=f"no network interface 'wlan9' \\(there are: {named}\\)"):
        network(tmp_path, FakeTime(), there, name="wlan9")()


def test_interface_that_comes_back(tmp_path: Path) -> None:
    """An adapter that is pulled fails its readings; plugged in again, counting from zero, it is measured afresh."""
    clock = FakeTime()
    read = network(
        tmp_path,
        clock,
        {"wlan0": nic(8000)},
        {"wlan0": nic(9000)},
        {"lo": nic(0)},
        {"wlan0": nic(10)},
        {"wlan0": nic(20)},
        name="wlan0",
    )
    read()
    clock.advance(5)
    with pytest.raises(SensorError, match="no network interface 'wlan0'"):
        read()
    clock.advance(5)
    assert read()["received_rate"] == 20.0
    assert clock.slept == [0.5, 0.5]


def test_interface_that_appears(tmp_path: Path) -> None:
    """The bytes that a new interface brings along did not pass in this interval: they count in the total only."""
    clock = FakeTime()
    reading = network(tmp_path, clock, {"eth0": nic(0)}, {"eth0": nic(5), "usb0": nic(10**9)})()
    assert reading["received_rate"] == 10.0
    assert reading["received"] == 10**9 + 5


def test_interface_that_goes(tmp_path: Path) -> None:
    """An interface that is gone takes its total along and does not make the sum's rate negative."""
    clock = FakeTime()
    reading = network(tmp_path, clock, {"eth0": nic(0), "usb0": nic(10**9)}, {"eth0": nic(5)})()
    assert reading == {"received_rate": 10.0, "sent_rate": 0.0, "received": 5, "sent": 0}


@pytest.mark.parametrize("fallen", [nic(50, 4000), nic(2**32, 7)], ids=["received", "sent"])
def test_counter_that_wraps(tmp_path: Path, fallen: SimpleNamespace) -> None:
    """A counter that wraps, in either direction, gives no negative and no gigantic rate: it is measured afresh."""
    clock = FakeTime()
    old = nic(2**32 - 100, 3900)
    later = nic(fallen.bytes_recv + 30, fallen.bytes_sent)
    read = network(tmp_path, clock, {"eth0": old}, {"eth0": old}, {"eth0": fallen}, {"eth0": later})
    read()
    clock.advance(5)
    assert read()["received_rate"] == 60.0


def test_counters_that_keep_falling(tmp_path: Path) -> None:
    """Counters that fall once more while they are measured afresh end in an error, not in an endless wait."""
    clock = FakeTime()
    with pytest.raises(SensorError, match="fall again and again"):
        network(tmp_path, clock, {"eth0": nic(30)}, {"eth0": nic(20)}, {"eth0": nic(10)})()
    assert clock.slept == [0.5, 0.5]


def test_network_that_cannot_be_read(tmp_path: Path) -> None:
    """What psutil raises becomes a reading that failed, with its reason."""
    with pytest.raises(SensorError, match="cannot read the network: Permission denied"):
        network(tmp_path, FakeTime(), PermissionError(13, "Permission denied"))()


counters = st.dictionaries(
    st.sampled_from(["lo", "eth0", "wlan0"]),
    st.builds(nic, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
)


def _by_interface(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return all that each interface ever counted."""
    seen: dict[str, list[Any]] = {}
    for sample in samples:
        for name, now in sample.items():
            seen.setdefault(name, []).append(now)
    return seen


@given(samples=st.lists(counters, min_size=6, max_size=6))
def test_rates_are_never_absurd(samples: list[dict[str, Any]]) -> None:
    """However interfaces come, go, wrap and reset: no rate is negative, nor above what the counters ever showed."""
    clock = FakeTime()
    read = network(Path("/nonexistent"), clock, *samples)
    most = sum(max(now.bytes_recv for now in seen) for seen in _by_interface(samples).values())
    for _ in range(2):
        try:
            reading = read()
        except SensorError:
            continue
        assert 0 <= reading["received_rate"] <= 2.0 * most + 1
        assert reading["sent_rate"] >= 0
        assert reading["received"] >= 0


def test_real_network() -> None:
    """The real counters of this machine are understood, and each leaf has a unit."""
    clock = FakeTime()
    reading = host.Network(clock=clock, sleep=clock.sleep)()
    assert reading.keys() == host.NETWORK_UNITS.keys()
    assert all(value >= 0 for value in reading.values())
