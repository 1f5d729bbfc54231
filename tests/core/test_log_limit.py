"""Which of many events are logged."""

from hypothesis import given
from hypothesis import strategies as st

from rpiserve.core.log_limit import AGES, DAY, MOST_KINDS, MOST_TEXTS, LogLimit, spoken


def test_ages() -> None:
    """The first is logged, then the next after each of the ages, with how many there were; each day is a new one."""
    thinning = LogLimit()
    told = []
    for second in range(0, round(2 * DAY), 20):
        kind = thinning.take(second)
        if kind.is_due:
            told.append((second, kind.is_first, kind.times))
    assert told == [
        (0, True, 1),
        (60, False, 3),
        (600, False, 27),
        (3600, False, 150),
        (21600, False, 900),
        (DAY, True, 3240),
        (DAY + 60, False, 3),
        (DAY + 600, False, 27),
        (DAY + 3600, False, 150),
        (DAY + 21600, False, 900),
    ]


def test_rare_events() -> None:
    """Where several ages have passed at once one line is logged, and no more until the next age."""
    thinning = LogLimit()
    seconds = (0, 3000, 3100, 3200, 3600, 4000)
    assert [second for second in seconds if thinning.take(second).is_due] == [0, 3000, 3600]


def test_words() -> None:
    """A line says how many there were since the last one, if there was more than this."""
    thinning = LogLimit()
    assert (thinning.take(0).since, thinning.take(0).more) == ("", "")
    kind = thinning.take(60)
    assert (kind.since, kind.more) == ("2 times since the last such line", " (2 times since the last such line)")


def test_new_texts() -> None:
    """A text that is new is logged at once, until there were several; on another day it is new again."""
    thinning = LogLimit()
    for day in (0, DAY):
        told = [thinning.take(day, "kind", f"text {number}").is_due for number in range(20)]
        assert told == [True] * MOST_TEXTS + [False] * (20 - MOST_TEXTS)
        assert not thinning.take(day, "kind", "text 0").is_due
        assert thinning.take(day + 60, "kind", "text 0").times == 20 - MOST_TEXTS + 2


def test_kinds() -> None:
    """Kinds have nothing to do with each other, until there are too many; those that are a day old give way."""
    thinning = LogLimit()
    firsts = [thinning.take(0, number).is_first for number in range(2 * MOST_KINDS)]
    assert firsts == [True] * (MOST_KINDS + 1) + [False] * (MOST_KINDS - 1)
    assert thinning.take(0, -1) is thinning.take(0, -2)
    assert thinning.take(0, 1) is not thinning.take(0, 2)
    assert thinning.take(DAY, -1).is_first
    assert thinning.take(DAY, -1) is not thinning.take(DAY, -2)


def test_what_stands_in_the_log_already() -> None:
    """Of a kind of its own the first event is logged in full; of mixed ones each that is due, for it may be another."""
    thinning = LogLimit()
    kind = thinning.take(0, "kind", "a")
    assert kind.is_unknown
    kind.incident = "first"
    assert not thinning.take(1, "kind", "b").is_unknown
    for number in range(MOST_KINDS):
        thinning.take(1, number)
    mixed = thinning.take(1, "one too many", "a")
    mixed.incident = "mixed"
    assert thinning.take(1, "one more", "b").is_unknown
    assert not thinning.take(1, "one more", "b").is_unknown


def test_overdue() -> None:
    """What has to be logged is, and counts as a line."""
    thinning = LogLimit()
    thinning.take(0)
    thinning.take(1)
    kind = thinning.take(2, overdue=True)
    assert (kind.is_due, kind.is_first, kind.times) == (True, False, 2)
    assert not thinning.take(3).is_due


@given(
    st.lists(
        st.tuples(st.floats(0, DAY / 4), st.integers(0, 3 * MOST_KINDS), st.text(max_size=2)), min_size=1, max_size=300
    )
)
def test_bound(events: list[tuple[float, int, str]]) -> None:
    """Whatever comes and whenever, no more than so many lines are logged in a day, and all are counted."""
    thinning = LogLimit()
    now = lines = counted = 0.0
    for pause, what, text in events:
        now += pause
        kind = thinning.take(now, what, text)
        lines += kind.is_due
        counted += kind.times if kind.is_due else 0
    days = now // DAY + 2
    assert 1 <= lines <= days * (MOST_KINDS + 1) * (1 + len(AGES) + MOST_TEXTS)
    assert counted <= len(events)


def test_spoken() -> None:
    """A time is said roughly, in the unit that fits."""
    shown = [spoken(seconds) for seconds in (0, 4.4, 119, 120, 7199, 7200, 100_000, 2 * DAY, 100 * DAY)]
    assert shown == ["0 s", "4 s", "119 s", "2 min", "120 min", "2 h", "28 h", "2 days", "100 days"]
