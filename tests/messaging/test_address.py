"""Where a Redis server is: which URLs say so, and which do not."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiserve.messaging.address import SHAPE, RedisAddress

TCP = RedisAddress("localhost", 6379, "", False, 0, None, None)
UNIX = RedisAddress("", 6379, "/run/redis.sock", False, 0, None, None)

ADDRESSES = {
    "redis://localhost": TCP,
    "redis://localhost/": TCP,
    "redis://localhost:6380": attrs.evolve(TCP, port=6380),
    "redis://LOCALHOST:6380/3": attrs.evolve(TCP, port=6380, db=3),
    "redis://10.0.0.1/15": attrs.evolve(TCP, host="10.0.0.1", db=15),
    "redis://[::1]:6380": attrs.evolve(TCP, host="::1", port=6380),
    "rediss://localhost": attrs.evolve(TCP, tls=True),
    "redis://:secret@localhost": attrs.evolve(TCP, password="secret"),
    "redis://someone@localhost": attrs.evolve(TCP, user="someone"),
    "redis://some%40one:a%3Ab%2F%C3%A9@localhost": attrs.evolve(TCP, user="some@one", password="a:b/é"),
    "redis://:@localhost": TCP,
    "unix:///run/redis.sock": UNIX,
    "unix:///run/redis.sock?db=": UNIX,
    "unix:///run/redis.sock?db=2": attrs.evolve(UNIX, db=2),
    "unix:///a%20path": attrs.evolve(UNIX, path="/a path"),
    "unix://someone:secret@/run/redis.sock": attrs.evolve(UNIX, user="someone", password="secret"),
}

NO_ADDRESSES = [
    "",
    "localhost",
    "localhost:6379",
    "redis://",
    "redis:///1",
    "redis://:6379",
    "redis://localhost:port",
    "redis://localhost:65536",
    "redis://localhost:0",
    "redis://localhost:-1",
    "redis://localhost/one",
    "redis://localhost/-1",
    "redis://localhost/12345",
    "redis://localhost/\u0661",
    "redis://localhost/1/2",
    "redis://localhost//1",
    "redis://localhost?db=1",
    "redis://localhost#1",
    "redis://[::1",
    "http://localhost",
    "unix://",
    "unix:///",
    "unix://run/redis.sock",
    "unix:///run/redis.sock?1",
    "unix:///run/redis.sock?db=one",
    "unix:///run/redis.sock?db=1&db=2",
    "unix:///run/redis.sock?db=db=1",
    "unix:///run/redis.sock#1",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_addresses(url: str) -> None:
    """Each part of a URL is understood, and what is missing has its default."""
    assert RedisAddress.parse(url) == ADDRESSES[url]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_no_addresses(url: str) -> None:
    """What is no address is refused with a text that says what one looks like."""
    with pytest.raises(ValueError, match="redis://host:port/db") as caught:
        RedisAddress.parse(url)
    assert str(caught.value) == SHAPE


@given(st.one_of(st.text(), st.text("redisunx:/@?#[]%0.").map(lambda text: f"redis://{text}")))
def test_any_text(url: str) -> None:
    """Any text is an address or is refused as one, with nothing of the text in the error, nor a cause that has it."""
    try:
        address = RedisAddress.parse(url)
    except ValueError as caught:
        refused = caught
    else:
        assert 0 < address.port < 65536
        assert bool(address.host) != bool(address.path)
        return
    assert str(refused) == SHAPE
    assert refused.__suppress_context__ or refused.__context__ is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://someone:secret@localhost/1", "Redis at localhost:6379"),
        ("rediss://:secret@[::1]:6380", "Redis at [::1]:6380"),
        ("unix://:secret@/run/redis.sock", "Redis at /run/redis.sock"),
    ],
)
def test_nothing_secret_is_shown(url: str, name: str) -> None:
    """The name is without user and password, and the password is in no representation."""
    address = RedisAddress.parse(url)
    assert address.name == name
    assert "secret" not in repr(address)
    assert address.current_password() == "secret"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_password_in_a_file(tmp_path: Path, end: str) -> None:
    """The file of the password is read each time, comes before the URL's, and its last line may end or not."""
    file = tmp_path / "password"
    address = attrs.evolve(RedisAddress.parse("redis://:other@localhost"), password_file=file)
    with pytest.raises(FileNotFoundError):
        address.current_password()
    for password in (" a pass word ", "é"):
        file.write_bytes(f"{password}{end}".encode())
        assert address.current_password() == password


def test_no_password() -> None:
    """Without a password there is none."""
    assert TCP.current_password() is None
