"""Both services and a Redis server of their own, in the foreground until Ctrl-C: ``make two-services`` runs this.

    python run.py 8080

The sensors serve at the port that is given, the alarm at the next one. Redis listens on a unix socket in a folder that
goes with it, so that it disturbs no other.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block. Ctrl-C does not reach it: what it needs shall not end before it."""
    process = subprocess.Popen([str(word) for word in command], cwd=HERE, stdin=subprocess.DEVNULL, process_group=0)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def note_signals() -> int:
    """Have the number of each signal written to a pipe, and return its other end. None of them interrupts anything."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (*ENDINGS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def main() -> int:
    """Run everything, and return the exit code."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    redis = shutil.which("redis-server", path=BIN) or shutil.which("redis-server")
    if redis is None:
        print("run.py: there is no redis-server: apt install redis-server", file=sys.stderr)
        return 1
    signals = note_signals()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="rpiserve-"))
        socket = Path(folder, "redis.sock")
        options = ("--port", 0, "--unixsocket", socket, "--save", "", "--dir", folder, "--loglevel", "warning")
        server = stack.enter_context(running(redis, *options))
        while server.poll() is None and not socket.is_socket():
            time.sleep(0.05)
        for number, module in enumerate(("sensors", "alarm")):
            service = (BIN / "twistd", "-n", "--pidfile=", "rpiserve", "--module", module)
            stack.enter_context(running(*service, "--port", port + number, "--redis", f"unix://{socket}"))
        if os.read(signals, 1)[0] in ENDINGS:
            return 0
        print("run.py: one of them has ended, and so the others are ended, too", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
