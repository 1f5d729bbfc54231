"""Reading the kernel's file of a 1-Wire thermometer, and refusing all that is not a measurement."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpiserve.errors import SensorError
from rpiserve.sensors import one_wire

GOOD = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"


def shown(thousandths: object, *, memory: str = "72 01 4b 46 7f ff 0e 10 57", verdict: str = "YES") -> str:
    """Return a file as the kernel shows it."""
    return f"{memory} : crc={memory[-2:]} {verdict}\n{memory} t={thousandths}\n"


def test_a_good_file() -> None:
    """A file as the kernel writes it, with its last newline or without, is 23.125 °C."""
    assert one_wire.parse(GOOD) == 23.125
    assert one_wire.parse(GOOD.rstrip("\n")) == 23.125


@pytest.mark.parametrize("thousandths", [-55000, -10125, -62, 0, 84937, 85062, 125000])
def test_the_whole_range(thousandths: int) -> None:
    """Both ends of the range, frost, zero and the neighbours of 85 °C are measurements like any other."""
    assert one_wire.parse(shown(thousandths)) == thousandths / 1000


def test_wrong_checksum() -> None:
    """A measurement whose checksum is wrong is refused, though a temperature stands in the file."""
    with pytest.raises(SensorError, match="checksum is wrong"):
        one_wire.parse(shown(23125, verdict="NO"))


def test_power_on_value() -> None:
    """85 °C is what the thermometer holds before its first measurement, and is refused by that name."""
    with pytest.raises(SensorError, match="85 °C is the value at power-on"):
        one_wire.parse(shown(85000, memory="50 05 4b 46 7f ff 0c 10 1c"))


def test_shorted_bus() -> None:
    """Nine zeros have a right checksum and would be 0 °C: they are what a bus shorted to ground gives."""
    with pytest.raises(SensorError, match="shorted to ground"):
        one_wire.parse(shown(0, memory="00 00 00 00 00 00 00 00 00"))


@pytest.mark.parametrize("thousandths", [-55001, 125001, 127937, -127000])
def test_beyond_the_range(thousandths: int) -> None:
    """What the thermometer cannot measure is refused with the value, for example the 127.9 °C of a poor supply."""
    with pytest.raises(SensorError, match=f"{thousandths / 1000} °C is beyond"):
        one_wire.parse(shown(thousandths))


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_empty(text: str) -> None:
    """The kernel shows an empty file for a thermometer that did not answer, and that is what the error says."""
    with pytest.raises(SensorError, match="did not answer"):
        one_wire.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.splitlines()[0],
        GOOD.replace("t=23125", "t="),
        GOOD.replace("t=23125", "t=23.125"),
        GOOD.replace("t=23125", "t=" + "9" * 5000),
        GOOD.replace("t=23125", "t=٢٣١٢٥"),
        GOOD.replace("YES", "MAYBE"),
        GOOD.replace("57 :", ":"),
        GOOD + GOOD,
        "23125\n",
        "YES t=23125",
    ],
)
def test_garbled(text: str) -> None:
    """A file that is cut short, doubled, or something else altogether is refused: no number is fished out of it."""
    with pytest.raises(SensorError, match="not that of a w1_slave file"):
        one_wire.parse(text)


nine_bytes = st.binary(min_size=9, max_size=9).map(lambda memory: memory.hex(" "))
likely = st.builds(
    shown,
    st.integers(-60000, 130000) | st.integers() | st.sampled_from([85000, -55000, 125000]) | st.text(max_size=8),
    memory=nine_bytes,
    verdict=st.sampled_from(["YES", "NO", ""]),
)


@given(st.text() | likely)
@example(GOOD)
def test_any_text(text: str) -> None:
    """Whatever stands in the file, it is a temperature within the range or a `SensorError`, and nothing else."""
    try:
        celsius = one_wire.parse(text)
    except SensorError:
        return
    assert -55 <= celsius <= 125
    assert celsius != 85


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes, text or not, that no kernel would write are refused by a `SensorError` that names the file."""
    path = tmp_path_factory.getbasetemp() / "w1_slave"
    path.write_bytes(content)
    with pytest.raises(SensorError) as error:
        one_wire.read(path)
    assert str(path) in str(error.value)


def test_read(tmp_path: Path) -> None:
    """A file is read by its path, given as a string or as a Path."""
    path = tmp_path / "w1_slave"
    path.write_text(GOOD)
    assert one_wire.read(path) == one_wire.read(str(path)) == 23.125


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "did not answer"), (shown(85000), "power-on"), ("\xff", "not that of a w1_slave file")],
)
def test_read_says_where_and_what_to_check(tmp_path: Path, content: str, reason: str) -> None:
    """A refused file's error names the path, the reason and what to check."""
    path = tmp_path / "w1_slave"
    path.write_text(content)
    with pytest.raises(SensorError, match=f"{path}: .*{reason}.*; check the wiring.*dtoverlay=w1-gpio"):
        one_wire.read(path)


def test_read_without_a_file(tmp_path: Path) -> None:
    """A thermometer that is not there, or a folder in its place, gives the path, the reason and what to check."""
    missing = tmp_path / "28-000000000000" / "w1_slave"
    with pytest.raises(SensorError, match=f"{missing}: No such file or directory; check the wiring"):
        one_wire.read(missing)
    with pytest.raises(SensorError, match=f"{tmp_path}: Is a directory; check the wiring"):
        one_wire.read(tmp_path)


def test_read_of_an_endless_file() -> None:
    """A path that leads to an endless file is refused as garbled, not read for ever."""
    with pytest.raises(SensorError, match="not that of a w1_slave file"):
        one_wire.read("/dev/zero")


def test_find_sensors(tmp_path: Path) -> None:
    """Thermometers of every family are found, sorted; bus masters and other 1-Wire devices are not."""
    thermometers = ["10-000802b4c1d2", "28-0316a2794bff", "28-3c01b556f0aa", "3b-000000000001", "42-000000000002"]
    for name in [*reversed(thermometers), "w1_bus_master1", "26-000000000003", "28-short", "00-400000000000"]:
        (tmp_path / name).mkdir()
    assert one_wire.find_sensors(tmp_path) == thermometers


def test_find_sensors_without_a_bus(tmp_path: Path) -> None:
    """A machine without the bus has no thermometers, which is no error."""
    assert one_wire.find_sensors(tmp_path / "absent") == []
    (tmp_path / "file").write_text("")
    assert one_wire.find_sensors(tmp_path / "file") == []


def test_find_sensors_that_cannot_be_listed(tmp_path: Path) -> None:
    """A folder that is there but cannot be listed is an error, not an empty bus."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SensorError, match=f"{loop}: Too many levels of symbolic links"):
        one_wire.find_sensors(loop)
