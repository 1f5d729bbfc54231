"""The pauses between tries of what keeps failing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpiserve.core.retry import RETRY_CAP, delay


def test_doubles_up_to_the_cap() -> None:
    """The pause is one second after the first failure, then doubles, and stays at a minute."""
    assert [delay(failures) for failures in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_short_interval() -> None:
    """A handler that runs each five seconds pauses for five, then ever longer, for a minute at most."""
    assert [delay(failures, 5) for failures in range(1, 7)] == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize("base", [60, 61, 3600])
def test_long_interval(base: float) -> None:
    """What runs more rarely than once a minute never pauses for longer than its own interval."""
    assert [delay(failures, base) for failures in (1, 2, 100)] == [base] * 3


def test_years_of_failures() -> None:
    """However often something has failed, the pause is the longest one and can still be computed."""
    assert delay(10**9) == RETRY_CAP
    assert delay(10**400, 0.001) == RETRY_CAP


@settings(deadline=None)
@given(st.integers(1, 1000), st.floats(0.001, 1e6))
def test_never_shrinks(failures: int, base: float) -> None:
    """From one failure to the next the pause does not shrink; it is never below the base, never above the cap."""
    assert base <= delay(failures, base) <= delay(failures + 1, base) <= max(base, RETRY_CAP)
