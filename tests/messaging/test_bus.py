"""What both buses are made of: patterns, who wants to hear what, and the delivery; and the clock of the one in memory.

How patterns compare with those of a real server is seen in `tests/integration/test_redis_bus.py`.
"""

import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.messaging.bus import Subscriptions, compile_pattern, deliver, encoded, is_pattern
from rpiserve.messaging.memory_bus import MOST_OLD_ENDS, MemoryBus

# What Redis 7.0 answers, as (pattern, what it matches, what it does not).
GLOBS = [
    ("a", ["a"], ["", "b", "aa", "A"]),
    ("*", ["", "a", "a\nb", "é", "*"], []),
    ("**", ["", "a", "ab"], []),
    ("a*", ["a", "ab", "a.b"], ["", "ba"]),
    ("*a", ["a", "ba", "aa"], ["", "ab"]),
    ("a*b*c", ["abc", "axbxc", "abbc", "abcbc"], ["ac", "abcx", "acb"]),
    ("*ab*ab*", ["abab", "xabxabx"], ["ab", "aab", "abb"]),
    ("*aba*aba", ["abaaba", "abaxaba"], ["ababa", "aba"]),
    ("?", ["a", "*", "\n"], ["", "ab", "é"]),
    ("??", ["ab", "é"], ["a", "abc"]),
    ("?*", ["a", "ab"], [""]),
    ("[ab]", ["a", "b"], ["", "c", "ab", "]"]),
    ("[a-c]", ["a", "b", "c"], ["d", "-"]),
    ("[c-a]", ["a", "b", "c"], ["d", "-"]),
    ("[a-]", ["a", "]", "^", "_"], ["-", "b"]),
    ("[-a]", ["-", "a"], ["b"]),
    ("[a-c-e]", ["b", "-", "e"], ["d"]),
    ("[^a]", ["b", "^"], ["a", "", "bb"]),
    ("[a^]", ["a", "^"], ["b"]),
    ("[!a]", ["!", "a"], ["b"]),
    ("[]", [], ["", "]", "[", "[]"]),
    ("[^]", ["a", "]", "^"], [""]),
    ("[[]", ["["], ["]"]),
    (r"[\]]", ["]"], ["\\", "["]),
    (r"[\^a]", ["^", "a"], ["\\"]),
    (r"[\d]", ["d"], ["1", "\\"]),
    ("[\\", ["\\"], ["["]),
    ("[ab", ["a", "b"], ["[ab", ""]),
    ("[a-", ["a", "-"], ["b"]),
    ("a[", [], ["a", "a["]),
    (r"\*", ["*"], ["a", r"\*"]),
    (r"\a", ["a"], [r"\a"]),
    (r"\\", ["\\"], [r"\\"]),
    ("\\", ["\\"], [""]),
    ("a.b", ["a.b"], ["axb"]),
    ("(a|b)+{2}$", ["(a|b)+{2}$"], ["a", "aa"]),
    ("[&&||~~a]", ["&", "|", "~", "a"], ["b"]),
    ("é?", ["éa"], ["é", "éé"]),
    ("\udcff*", ["\udcffa"], ["a"]),
]

PARTS = st.lists(st.sampled_from([*"ab.*?", "é", "[ab]"]), max_size=12).map("".join)
NAMES = st.text("ab.é*", max_size=10)


@pytest.mark.parametrize(("pattern", "matching", "others"), GLOBS)
def test_globs(pattern: str, matching: list[str], others: list[str]) -> None:
    """A pattern fully matches the names that it matches in Redis, and no others."""
    fullmatch = compile_pattern(pattern).fullmatch
    assert [name for name in [*matching, *others] if fullmatch(encoded(name))] == matching


@given(PARTS, NAMES)
def test_globs_as_python_has_them(pattern: str, name: str) -> None:
    """Where its globs are the same as those of Redis, Python agrees: among other things on any number of stars."""
    theirs = re.compile(translate(encoded(pattern).decode("latin-1")))
    assert bool(compile_pattern(pattern).fullmatch(encoded(name))) == bool(
        theirs.match(encoded(name).decode("latin-1"))
    )


@given(st.text(st.characters(codec="utf-8"), max_size=20), NAMES)
def test_any_pattern(pattern: str, name: str) -> None:
    """Any text is a pattern; and with each character escaped, it matches itself alone."""
    compile_pattern(pattern).fullmatch(encoded(name))
    literal = compile_pattern("".join(f"\\{character}" for character in pattern)).fullmatch
    assert literal(encoded(pattern))
    assert bool(literal(encoded(name))) == (name == pattern)


def test_many_stars() -> None:
    """A pattern of many stars takes no time that grows with their power: it would not end in the age of the world."""
    pattern = "*a" * 100 + "b"
    assert not compile_pattern(pattern).fullmatch(b"a" * 256)
    assert compile_pattern(pattern).fullmatch(b"a" * 255 + b"b")


@pytest.mark.parametrize("channel", ["*", "a?", "[a", "a\\"])
def test_is_pattern(channel: str) -> None:
    """A text with one of the characters that mean something is a pattern."""
    assert is_pattern(channel)


@pytest.mark.parametrize("channel", ["a", "a.b-c_d", "a]", "^", "é", ""])
def test_is_no_pattern(channel: str) -> None:
    """Any other text is a name."""
    assert not is_pattern(channel)


def one(channel: str, message: bytes) -> None:
    """A receiver."""


def two(channel: str, message: bytes) -> None:
    """Another one."""


def test_subscriptions_first_and_last() -> None:
    """To add the first receiver of a channel, and to remove the last, is told; what is not there is no error."""
    subscriptions = Subscriptions()
    for channel in ("a", "a*"):
        assert subscriptions.add(channel, one)
        assert not subscriptions.add(channel, two)
    assert subscriptions.channels() == ["a", "a*"]
    for channel in ("a", "a*"):
        assert not subscriptions.remove(channel, one)
        assert not subscriptions.remove(channel, one)
        assert subscriptions.remove(channel, two)
        assert not subscriptions.remove(channel, two)
    assert subscriptions.channels() == subscriptions.patterns("a") == subscriptions.receivers("a") == []


def test_subscriptions_receivers() -> None:
    """A receiver is there once, in the order in which they came: those of the channel, then those of the patterns."""
    subscriptions = Subscriptions()
    for channel, receiver in [("*", two), ("a", one), ("a?", one), ("a", two), ("[a]", two)]:
        subscriptions.add(channel, receiver)
    assert subscriptions.receivers("a") == [one, two]
    assert subscriptions.patterns("a") == ["*", "[a]"]
    assert subscriptions.receivers("b") == [two]


def test_subscriptions_name_that_is_a_pattern() -> None:
    """What is sent to a channel whose name is the text of a pattern goes by what that matches, as in Redis."""
    subscriptions = Subscriptions()
    subscriptions.add("[a]", one)
    subscriptions.add("b*", two)
    assert subscriptions.receivers("[a]") == []
    assert subscriptions.receivers("b*") == [two]


def test_deliver(logged_failures: list[LogEvent]) -> None:
    """Each receiver gets the message; what one raises is logged with the channel, and the next gets it all the same."""
    heard = []

    def raises(channel: str, message: bytes) -> None:
        raise ZeroDivisionError

    deliver([lambda *what: heard.append(what), raises, lambda *what: heard.append(what)], "a {channel}", b"1")
    assert heard == [("a {channel}", b"1")] * 2
    [event] = logged_failures
    assert event["channel"] == "a {channel}"
    assert event["log_failure"].check(ZeroDivisionError)
    logged_failures.clear()


def memory_bus() -> tuple[MemoryBus, Clock]:
    """Return a bus and its clock."""
    clock = Clock()
    return MemoryBus(clock, clock.seconds), clock


def test_memory_bus_takes_turns() -> None:
    """A message that an arriving one leads to waits for a turn of its own, so that others have theirs."""
    bus, clock = memory_bus()
    heard: list[bytes] = []

    def again(channel: str, message: bytes) -> None:
        heard.append(message)
        if len(message) < 2:
            clock.callLater(0, heard.append, b"another's turn")
            bus.publish("a", message + b"x")

    bus.subscribe("a", again)
    bus.publish("a", b"")
    clock.advance(0)
    assert heard == [b"", b"another's turn", b"x", b"another's turn", b"xx"]
    assert clock.getDelayedCalls() == []


def test_memory_bus_in_an_endless_conversation() -> None:
    """Messages that lead to others for ever take one delayed call a turn, not twice as many each time; none is left."""
    bus, clock = memory_bus()
    heard: list[bytes] = []

    def again(channel: str, message: bytes) -> None:
        heard.append(message)
        bus.publish("a", message)

    bus.subscribe("a", again)
    bus.publish("a", b"")
    for turn in range(1, 5):
        [call] = clock.getDelayedCalls()
        clock.calls.remove(call)
        call.called = 1
        call.func()
        assert len(heard) == turn
    bus.close()
    assert clock.getDelayedCalls() == []


def test_memory_bus_closed_by_a_receiver() -> None:
    """A receiver that closes the bus is the last to hear something."""
    bus, clock = memory_bus()
    heard = []

    def close(channel: str, message: bytes) -> None:
        heard.append(message)
        bus.close()

    bus.subscribe("a", close)
    for message in (b"1", b"2"):
        bus.publish("a", message)
    clock.advance(0)
    assert heard == [b"1"]
    assert clock.getDelayedCalls() == []


def test_memory_bus_forgets() -> None:
    """A value is gone at its end, not before; one set anew has a new end, or none; a sum has that of its number."""
    bus, clock = memory_bus()
    bus.set("a", b"1", 10.0)
    bus.set("b", b"1", 10.0)
    bus.set("b", b"2", 20.0)
    bus.set("c", b"1", 10.0)
    bus.set("c", b"3", None)
    bus.incr("a", 1)
    clock.advance(9.9)
    assert bus.get("a").result == b"2"
    clock.advance(0.1)
    assert [bus.get(key).result for key in "abc"] == [None, b"2", b"3"]
    assert bus.delete(["a", "b", "b", "c"]).result == 2


def test_memory_bus_keeps_no_old_ends() -> None:
    """A value that is set again and again takes no more memory each time, and still ends."""
    bus, clock = memory_bus()
    for _ in range(10 * MOST_OLD_ENDS):
        bus.set("a", b"1", 10.0)
    assert len(bus._ends) <= MOST_OLD_ENDS + 2
    clock.advance(10.0)
    assert bus.get("a").result is None
    assert bus._ends == []
