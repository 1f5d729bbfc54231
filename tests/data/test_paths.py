"""Keys, and paths as text: what can be one, how the rest is refused, and that nothing is lost on the way."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rpiserve.data.paths import MAX_DEPTH, check_depth, check_key, format_path, join, overlap, parse_path
from rpiserve.errors import PathError

KEYS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(
    lambda key: key not in (".", "..")
)
PATHS = st.lists(KEYS, max_size=8).map(tuple)
SHORT_PATHS = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)


class Rebel(str):
    """A string whose own methods are of no help."""

    def __eq__(self, other: object) -> bool:
        raise OSError("no comparison")

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        raise OSError("no text")

    def encode(self, *args: object) -> bytes:
        """Claim to be fine."""
        return b""


class Silent:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise OSError("no text")


@pytest.mark.parametrize("key", ["a", "...", ".a", " ", "/", "%", "%2F", "\n", "ß", "°C", "🌡", "a" * 10_000, "\x7f"])
def test_good_keys(key: str) -> None:
    """All strings but five kinds are keys, and stay as they are."""
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "'' cannot be a key"),
        (".", "'.' cannot be a key"),
        ("..", "'..' cannot be a key"),
        ("a\0b", r"'a\\x00b' holds a NUL character"),
        ("a\ud800", r"'a\\ud800' holds a lone surrogate"),
        (1, "a key is of type int; keys are strings"),
        (None, "of type NoneType"),
        (b"a", "of type bytes"),
        (("a",), "of type tuple"),
        (10**5000, "of type int"),
        (Silent(), "of type Silent"),
        (Rebel(".."), "'..' cannot be a key"),
        (Rebel("\ud800"), "lone surrogate"),
    ],
    ids=lambda value: value if type(value) is str and value.isascii() else type(value).__name__,
)
def test_bad_keys(key: object, reason: str) -> None:
    """What is no key is refused with the reason, even where it cannot be shown or compared."""
    with pytest.raises(PathError, match=reason):
        check_key(key)


def test_a_long_bad_key_is_shown_in_part() -> None:
    """The text of the error does not grow with the key."""
    with pytest.raises(PathError) as caught:
        check_key("a" * 100_000 + "\0")
    assert len(str(caught.value)) < 200


def test_keys_become_plain_strings() -> None:
    """A subclass of str is kept as the plain text that it holds."""
    key = check_key(Rebel("a"))
    assert type(key) is str
    assert key == "a"


@settings(deadline=None)
@given(PATHS)
@example(("%2F", "%252f", "/", "%", "a/b%"))
def test_round_trip(path: tuple[str, ...]) -> None:
    """Each path as text is read back as the same path."""
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a/b", ("a", "b")),
        ("a%2Fb/c", ("a/b", "c")),
        ("a%2fb", ("a/b",)),
        ("100%25", ("100%",)),
        ("%252F", ("%2F",)),
        ("%2525", ("%25",)),
        ("100%", ("100%",)),
        ("%41%zz", ("%41%zz",)),
        ("a b/ü", ("a b", "ü")),
    ],
)
def test_parse(text: str, path: tuple[str, ...]) -> None:
    """``/`` separates, ``%2F`` and ``%25`` are the only escapes, and each is undone once."""
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/", "in the path '/': '' cannot be a key"),
        ("/a", "in the path '/a'"),
        ("a/", "in the path 'a/'"),
        ("a//b", "in the path 'a//b'"),
        ("a/../b", "in the path 'a/../b': '..' cannot be a key"),
        ("./a", "'.' cannot be a key"),
        ("a/\0", "holds a NUL"),
        ("\udcff/a", "holds a lone surrogate"),
        (("a", "b"), "a path is of type tuple; paths are strings such as 'a/b'"),
        (None, "of type NoneType"),
        (10**5000, "of type int"),
        (Silent(), "of type Silent"),
    ],
    ids=lambda value: ascii(value) if type(value) is str else type(value).__name__,
)
def test_parse_refuses(text: str, reason: str) -> None:
    """What is no path is refused with the reason and the path."""
    with pytest.raises(PathError) as caught:
        parse_path(text)
    assert reason in str(caught.value)


def test_depth() -> None:
    """A path may be as deep as `MAX_DEPTH`, and no deeper; the error is of a readable length."""
    deepest = ("a" * 50,) * MAX_DEPTH
    assert check_depth(deepest) == deepest
    assert parse_path(format_path(deepest)) == deepest
    for refuse in (lambda: check_depth((*deepest, "b")), lambda: parse_path(format_path((*deepest, "b")))):
        with pytest.raises(PathError, match=f"deeper than {MAX_DEPTH} keys") as caught:
            refuse()
        assert len(str(caught.value)) < 300


def test_join() -> None:
    """A key is appended to a path; what cannot be is refused with the path below which it was to stand."""
    assert join(("a", "b/c"), "d") == ("a", "b/c", "d")
    assert join((), "a") == ("a",)
    with pytest.raises(PathError, match="at a/b%2Fc: a key is of type int"):
        join(("a", "b/c"), 1)
    with pytest.raises(PathError, match=r"at the root: '\.' cannot be a key"):
        join((), ".")
    with pytest.raises(PathError, match=f"^at a/a/a.*deeper than {MAX_DEPTH} keys"):
        join(("a",) * MAX_DEPTH, "b")


@settings(deadline=None)
@given(SHORT_PATHS, SHORT_PATHS)
def test_overlap(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Two paths overlap exactly if one of them is the beginning of the other, whichever comes first."""
    begins = other in [one[:length] for length in range(len(one) + 1)]
    contains = one in [other[:length] for length in range(len(other) + 1)]
    assert overlap(one, other) == overlap(other, one) == (begins or contains)
