"""What is logged of failures, and how often."""

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from rpiserve.core.failures import FailureStreak, IncidentLog
from rpiserve.core.log_limit import AGES, MOST_KINDS, MOST_TEXTS
from rpiserve.errors import HandlerTimeout, SensorError


def texts(events: list[LogEvent]) -> list[str]:
    """Return log events as text."""
    return [str(formatEvent(event)) for event in events]


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises ``error``."""

    def function() -> None:
        raise error

    return function


def failure_of(error: BaseException) -> Failure:
    """Return ``error`` as a failure with a traceback."""
    try:
        raise error
    except BaseException:  # noqa: BLE001 - whatever the test wants
        return Failure()


def test_trouble_of_an_unknown_kind(logged_failures: list[LogEvent]) -> None:
    """The first failure is logged with a traceback, the next in a line; the incident, in both, is all that is shown."""
    failure_streak = FailureStreak("lamp")
    first = failure_streak.note(failure_of(ValueError("secret one")))
    second = failure_streak.note(failure_of(ValueError("secret two")))
    assert failure_streak.count == 2
    assert first == second == failure_streak.text
    assert "secret" not in first
    one, two = logged_failures
    incident = one["incident"]
    assert first == f"ValueError (incident {incident}, see the log)"
    assert one["log_failure"].check(ValueError)
    assert "log_failure" not in two
    assert texts([one, two]) == [
        f"lamp failed, incident {incident}",
        f"lamp failed again (2 in a row) as in incident {incident}: secret two",
    ]
    logged_failures.clear()


def test_trouble_of_another_kind(logged_failures: list[LogEvent]) -> None:
    """A failure of another type is another incident with a traceback of its own, and still counts as one in a row."""
    failure_streak = FailureStreak("lamp")
    errors = ValueError(), KeyError("x"), ValueError(), KeyError("x")
    shown = [failure_streak.note(failure_of(error)) for error in errors]
    assert failure_streak.count == 4
    assert (shown[0], shown[1]) == (shown[2], shown[3])
    assert shown[0] != shown[1]
    assert [event["log_failure"].type for event in logged_failures] == [ValueError, KeyError]
    assert texts(logged_failures)[1].endswith(" (2 in a row)")
    logged_failures.clear()


def test_trouble_of_a_known_kind(logged_failures: list[LogEvent]) -> None:
    """The text of an error of ours, which is written for the user, is shown, and logged in one line."""
    failure_streak = FailureStreak("lamp")
    assert failure_streak.note(failure_of(SensorError("the wire is cut"))) == "the wire is cut"
    assert failure_streak.note(failure_of(HandlerTimeout("no end within 5 s"))) == "no end within 5 s"
    assert failure_streak.text == "no end within 5 s"
    failure_streak.note(failure_of(SensorError("the wire is cut")))
    assert (failure_streak.count, failure_streak.text) == (3, "the wire is cut")
    assert all("log_failure" not in event for event in logged_failures)
    assert texts(logged_failures) == [
        "lamp failed: the wire is cut",
        "lamp failed (2 in a row): no end within 5 s",
    ]
    logged_failures.clear()


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_trouble_that_lasts(known: bool, logged_failures: list[LogEvent]) -> None:
    """What fails each minute for days is logged ever more rarely, with how often; each day begins in full."""
    now = [0.0]
    failure_streak = FailureStreak("lamp", lambda: now[0])
    failure = failure_of(SensorError("the wire is cut") if known else ValueError("no"))
    lines = []
    for minute in range(3 * 1440):
        now[0] = 60.0 * minute
        text = failure_streak.note(failure)
        lines += [(minute, event) for event in logged_failures]
        if not known:
            assert lines[-1][1]["incident"] in text
        logged_failures.clear()
    assert failure_streak.count == 3 * 1440
    assert [minute for minute, _ in lines] == [day + age for day in (0, 1440, 2880) for age in (0, 1, 10, 60, 360)]
    assert ["log_failure" in event for _, event in lines] == [not known, False, False, False, False] * 3
    shown = texts([event for _, event in lines])
    assert [text.split(" (")[1].split(")")[0] for text in shown[1:6]] == [
        "2 in a row",
        "11 in a row, 9 times since the last such line",
        "61 in a row, 50 times since the last such line",
        "361 in a row, 300 times since the last such line",
        "1441 in a row, 1080 times since the last such line",
    ]


def test_trouble_of_ever_new_texts(logged_failures: list[LogEvent]) -> None:
    """A text that is another one each time fills the log no more than one that stays."""
    now = [0.0]
    failure_streak = FailureStreak("lamp", lambda: now[0])
    for minute in range(1440):
        now[0] = 60.0 * minute
        for error in (SensorError, ValueError, type("Made", (Exception,), {})):
            failure_streak.note(failure_of(error(f"no answer at {now[0]}")))
    assert failure_streak.count == 3 * 1440
    assert len(logged_failures) <= 3 * (len(AGES) + MOST_TEXTS)
    assert sum("log_failure" in event for event in logged_failures) == 2
    logged_failures.clear()


def test_trouble_of_ever_new_kinds(logged_failures: list[LogEvent]) -> None:
    """Nor do errors that are of another type each time, if there ever were such a thing."""
    failure_streak = FailureStreak("lamp", lambda: 0.0)
    texts_shown = [failure_streak.note(failure_of(type(f"E{number}", (Exception,), {})())) for number in range(1000)]
    assert len(logged_failures) == MOST_KINDS + 1
    assert logged_failures[-1]["incident"] in texts_shown[-1]
    logged_failures.clear()


def test_text_that_cannot_be_served(logged_failures: list[LogEvent]) -> None:
    """A text that UTF-8 cannot express, of a file's name perhaps, is shown with escapes in place of what it cannot."""
    failure_streak = FailureStreak("lamp")
    assert failure_streak.note(failure_of(SensorError("cannot read /dev/\udcff°C"))) == r"cannot read /dev/\udcff°C"
    logged_failures.clear()


def test_texts_are_no_formats(logged_failures: list[LogEvent]) -> None:
    """Braces in a name or in an error's text are logged as they are."""
    failure_streak = FailureStreak("{count}")
    failure_streak.note(failure_of(SensorError("{name} {0}")))
    failure_streak.note(failure_of(ValueError()))
    failure_streak.note(failure_of(ValueError("{name.__class__}")))
    assert texts(logged_failures)[0] == "{count} failed: {name} {0}"
    assert texts(logged_failures)[2].endswith(": {name.__class__}")
    logged_failures.clear()


def test_trouble_is_over(logged_failures: list[LogEvent]) -> None:
    """What works again says so once, with how often it had failed and for how long."""
    now = [0.0]
    failure_streak = FailureStreak("lamp", lambda: now[0])
    for now[0] in (100.0, 110.0, 400.0):
        failure_streak.note(failure_of(ValueError()))
    now[0] = 1000.0
    with capturedLogs() as logs:
        failure_streak.clear()
        failure_streak.clear()
    assert (failure_streak.count, failure_streak.text) == (0, None)
    assert [(event["log_level"], formatEvent(event)) for event in logs] == [
        (LogLevel.info, "lamp works again after 3 failures in 15 min")
    ]
    now[0] = 90_000.0
    failure_streak.note(failure_of(KeyError()))
    with capturedLogs() as logs:
        failure_streak.clear()
    assert texts(logs) == ["lamp works again after 1 failure in 0 s"]
    logged_failures.clear()


def test_trouble_that_comes_and_goes(logged_failures: list[LogEvent]) -> None:
    """A loose contact does not fill the log, neither with failures nor with that it works again."""
    now = [0.0]
    failure_streak = FailureStreak("lamp", lambda: now[0])
    with capturedLogs() as logs:
        for now[0] in range(0, 86_400, 60):
            failure_streak.note(failure_of(SensorError("no answer")))
            assert (failure_streak.count, failure_streak.text) == (1, "no answer")
            failure_streak.clear()
    assert len(logs) == 2 * (1 + len(AGES))
    assert texts(logs)[4:6] == [
        "lamp failed (9 times since the last such line): no answer",
        "lamp works again after 1 failure in 0 s",
    ]
    logged_failures.clear()


def test_trouble_that_comes_to_stay(logged_failures: list[LogEvent]) -> None:
    """What had been working again by the log, and fails for good, is logged within the hour."""
    now = [0.0]
    failure_streak = FailureStreak("lamp", lambda: now[0])
    for now[0] in range(0, 36_000, 60):
        failure_streak.note(failure_of(SensorError("no answer")))
        failure_streak.clear()
    logged_failures.clear()
    for now[0] in range(36_000, 36_000 + 7200, 60):
        failure_streak.note(failure_of(SensorError("no answer")))
    assert [event["more"].split(",")[0] for event in logged_failures] == [" (61 in a row"]
    with capturedLogs() as logs:
        failure_streak.clear()
    assert texts(logs) == ["lamp works again after 120 failures in 119 min"]
    logged_failures.clear()


def note(incidents: IncidentLog, name: str, call: Callable[[], object]) -> str:
    """Note what ``call`` raises."""
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever the test wants
        return incidents.note(name, Failure())
    raise AssertionError


def test_incidents_are_logged_ever_more_rarely(logged_failures: list[LogEvent]) -> None:
    """Of failures at the same place one a day is logged with a traceback, few in a line, and all lead to the first."""
    clock = Clock()
    incidents = IncidentLog(clock)
    failure = failure_of(ValueError("no\n{name}"))
    days = []
    for _ in range(2):
        noted = []
        for _ in range(8640):
            noted.append(incidents.note("it", failure))
            clock.advance(10)
        days.append(set(noted))
    assert [len(day) for day in days] == [1, 1]
    [first], [second] = days
    assert first != second
    assert ["log_failure" in event for event in logged_failures] == [True, False, False, False, False] * 2
    assert texts(logged_failures)[:2] == [
        f"it failed, incident {first}",
        f"it failed again (6 times since the last such line), as in incident {first}: no\\x0a{{name}}",
    ]
    assert texts(logged_failures)[5] == f"it failed, incident {second} (6480 times since the last such line)"
    logged_failures.clear()


def test_places_of_incidents(logged_failures: list[LogEvent]) -> None:
    """Another function, another kind of error and another line are other places; another text is not."""
    incidents = IncidentLog(Clock())

    def one() -> None:
        raise ValueError("one")

    def other() -> None:
        raise ValueError("other")

    noted = [
        note(incidents, "it", one),
        note(incidents, "it", other),
        note(incidents, "that", one),
        note(incidents, "it", raising(ValueError("a"))),
        note(incidents, "it", raising(KeyError("b"))),
    ]
    assert len(set(noted)) == 5
    assert note(incidents, "it", raising(ValueError("c"))) == noted[3]
    assert note(incidents, "it", one) == noted[0]
    logged_failures.clear()


def test_incidents_without_a_place(logged_failures: list[LogEvent]) -> None:
    """A failure that was never raised is told apart by the function and its kind alone."""
    incidents = IncidentLog(Clock())
    one = incidents.note("it", Failure(ValueError("one")))
    assert incidents.note("it", Failure(ValueError("two"))) == one
    assert incidents.note("it", Failure(KeyError("one"))) != one
    logged_failures.clear()


def test_long_texts_of_incidents_are_cut(logged_failures: list[LogEvent]) -> None:
    """A text of any length fills a line of a bearable one."""
    clock = Clock()
    incidents = IncidentLog(clock)
    for _ in range(2):
        note(incidents, "it", raising(ValueError("x" * 100_000)))
        clock.advance(60)
    assert len(texts(logged_failures)[1]) < 600
    logged_failures.clear()
