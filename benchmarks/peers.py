"""What the benchmarks share: the peers in an environment of their own, and servers as processes.

The peers never go into the project's environment. They are installed into ``.bench/peers`` at their first use.
"""

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APPS = ROOT / "benchmarks" / "apps"
PEERS = ROOT / ".bench" / "peers"

RASPEND = "raspend==2.0.4"

START_SECONDS = 20.0
STOP_SECONDS = 10.0


def end_on_sigterm() -> None:
    """Have SIGTERM end this process as Ctrl-C does, so that the servers end with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def peers_python(*requirements: str) -> str:
    """Return the Python of an environment that has ``requirements``, and make it if it is not there."""
    python = PEERS / "bin" / "python"
    fingerprint = PEERS / "installed.txt"
    wanted = {platform.python_version(), *requirements}
    if not fingerprint.exists() or not wanted <= set(fingerprint.read_text(encoding="utf-8").splitlines()):
        print(f"Installing {', '.join(requirements)} into {PEERS.relative_to(ROOT)}", flush=True)
        shutil.rmtree(PEERS, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        fingerprint.write_text("\n".join(sorted(wanted)), encoding="utf-8")
    return str(python)


def installed(name: str) -> str:
    """Return the requirement of ``name`` in the version that the project's own environment has."""
    return f"{name}=={version(name)}"


def twistd(module: str, port: int) -> list[str]:
    """Return the command that serves the app ``module`` with rpiserve."""
    twistd = Path(sys.executable).with_name("twistd")
    return [str(twistd), "-n", "--pidfile=", "rpiserve", "--port", str(port), "--module", module]


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int, **variables: str) -> Iterator[int]:
    """Run a server in the folder of the apps until the end of the block, and yield its process id.

    Args:
        command: how it is started.
        port: where it is going to listen.
        variables: further environment variables.

    Raises:
        SystemExit: it does not listen.
    """
    ours = Path(command[0]).parent != PEERS / "bin"
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {"PYTHONPATH": str(ROOT)} if ours else {}  # this checkout, wherever the installed one is
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env={**environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _listens(process, port):
                output.seek(0)
                raise SystemExit(f"{' '.join(command)} does not serve:\n{output.read().decode(errors='replace')}")
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
