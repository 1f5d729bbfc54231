"""The example of two services, as ``make two-services`` runs it: real daemons and a real Redis server."""

import http.client
import json
import signal
import socket
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
from daemon import PATIENCE, Daemon, running
from redis_server import HOST, free_port

RUN = Path(__file__).resolve().parents[2] / "examples" / "two_services" / "run.py"


def two_free_ports() -> int:
    """Return a free port whose successor is free, too."""
    while True:
        port = free_port()
        with socket.socket() as candidate:
            try:
                candidate.bind((HOST, port + 1))
            except OSError:
                continue
            return port


def two_services(port: int) -> AbstractContextManager[Daemon]:
    """Run the example, the sensors at ``port`` and the alarm at the next one."""
    return running([sys.executable, RUN, str(port)])


def get(port: int, path: str) -> Any:
    """Return what the service at ``port`` has at ``path``."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_alarm(ending: int) -> None:
    """The alarm hears the readings and has the heater switched off; when it is ended, all processes are gone."""
    port = two_free_ports()
    with two_services(port) as services:
        services.wait_for("the heater was switched off")
        folder = Path(services.wait_for(r"Redis at (\S+)/redis\.sock is connected")[1])
        alarm, sensors = get(port + 1, "/data"), get(port, "/data")
        assert alarm["alarm"] == {"active": True, "acknowledged_by": None}
        assert alarm["room"]["temperature"] > 24
        assert set(sensors["room"]) == {"temperature", "humidity"}
        assert [each["name"] for each in get(port, "/services")["services"]] == ["sensors", "alarm"]
        assert [each["name"] for each in get(port + 1, "/services")["services"]] == ["alarm", "sensors"]
        processes = psutil.Process(services.process.pid).children(recursive=True)
        assert len(processes) == 3
        assert folder.exists()
        assert services.stop(ending) == 0
        assert not [each for each in processes if each.is_running()]
        assert not folder.exists()
        assert "the heater is off" in services.log()
        assert "Traceback" not in services.log()


def test_one_that_ends() -> None:
    """If one of them cannot start, because its port is taken, say, the others are ended, too."""
    port = two_free_ports()
    with socket.create_server((HOST, port + 1)), two_services(port) as services:
        assert services.wait() == 1
        assert f"cannot listen on 127.0.0.1 port {port + 1}: it is in use" in services.log()
        assert "run.py: one of them has ended, and so the others are ended, too" in services.log()
