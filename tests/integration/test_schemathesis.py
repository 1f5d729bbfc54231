"""Whether a daemon does what its ``/openapi.json`` says: schemathesis makes requests of that and judges the answers.

It runs as a process of its own, as a user would run it. It always makes the same requests.
"""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from daemon import PATIENCE, running_daemon

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
APP = Path(__file__).parents[1].joinpath("openapi_app.py").read_text(encoding="utf-8")

EXAMPLES = 25
"""How many requests of each kind are made at random for an operation, beside those that try each constraint."""

RULES = """
# Nobody listens for a service of a random name, and a time limit of a nanosecond is over at once.
[[operations]]
include-path = "/services/{service}/{action}"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]

# No schema of a query can say which arguments belong to which command.
[[operations]]
include-name = "GET /cmd"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

# Arguments and payloads are converted leniently: 0 does for false, and "3" for an integer.
[[operations]]
include-name = ["POST /cmd", "POST /", "POST /actions/plan", "GET /notes", "POST /notes", "PUT /pins/{pin}"]
checks.negative_data_rejection.enabled = false

# Of two routes one takes any text, so nothing that stands in its path is wrong.
[[operations]]
include-name = "GET /read/{page}"
checks.negative_data_rejection.enabled = false
"""


def test_the_daemon_does_what_its_document_says(tmp_path: Path) -> None:
    """No answer is a server error, and each has a status, a type and a body that the document has for it.

    What fits the document is accepted, what does not is refused, and so are the methods that it does not have. The one
    operation that is left out is the stream of events, which has no end.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES, encoding="utf-8")
    with running_daemon(tmp_path, APP) as daemon:
        with urllib.request.urlopen(f"{daemon.url}/openapi.json", timeout=PATIENCE) as answer:
            document = json.load(answer)
        program = [str(SCHEMATHESIS), "--config-file", str(rules), "run", f"{daemon.url}/openapi.json"]
        options = ["--phases=examples,coverage,fuzzing", "--exclude-path=/events", f"--max-examples={EXAMPLES}"]
        options += ["--generation-deterministic", "--continue-on-failure", f"--request-timeout={PATIENCE:g}"]
        options += ["--suppress-health-check=all", "--warnings=off", "--no-color"]
        run = subprocess.run([*program, *options], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120)
        log = daemon.log()
    assert run.returncode == 0, run.stdout + run.stderr
    # It leaves out of itself what it has the document from.
    tested = [
        path for path, item in document["paths"].items() for _ in item if path not in ("/events", "/openapi.json")
    ]
    assert re.search(rf"Tested: {len(tested)}$", run.stdout, re.MULTILINE), run.stdout
    assert "Traceback" not in log
