"""The greenhouse, for ``make demo``: as soon as it is served, a browser shows it, if there is a desktop."""

import os
import subprocess
import sys
from contextlib import suppress

from examples.greenhouse import app

URL = f"http://localhost:{os.environ.get('RPISERVE_PORT', '8080')}"


@app.on_start()
def show() -> None:
    print(f"The greenhouse is at {URL}. Ctrl-C ends it.")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):  # or a browser for terminals might take this one
        with suppress(OSError, subprocess.TimeoutExpired):  # some browsers stay in the foreground
            subprocess.run([sys.executable, "-m", "webbrowser", URL], capture_output=True, timeout=5, check=False)
