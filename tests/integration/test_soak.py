"""The soak of ``benchmarks/soak.py``, in short: a daemon with everything, among clients of all kinds and faults."""

from pathlib import Path

import pytest

from benchmarks.soak import soak

SECONDS, WARM_UP = 90.0, 15.0
SEED = 7


@pytest.mark.timeout(300)
def test_soak(tmp_path: Path) -> None:
    """After two minutes of it nothing has grown, nobody was answered wrongly, and everything works.

    Within so short a time memory grows by what a process does not need before, and in a process whose coverage is
    measured by that, too: what is looked for is what would grow by far more.
    """
    report = soak(
        tmp_path,
        SECONDS,
        WARM_UP,
        SEED,
        most_growth=0.2,
        most_growth_bytes=24 << 20,
        most_left=0.1,
        threads_left=3,
        patience=40.0,
    )
    assert report.complaints == [], report.table()
    assert report.counts["requests"] > 100
    assert {what for what in report.counts if what.startswith("fault: ")} >= {"fault: kill -9", "fault: token"}
