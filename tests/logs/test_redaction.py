"""What is secret is taken out of texts, and what is not stays."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regex_steps import steps_of

from rpiserve.core.tokens import READ, TokenFile
from rpiserve.logs import redaction
from rpiserve.logs.redaction import HIDDEN, SHORTEST, hide_tokens, redact

TOKEN = "rpi_" + "aB3-_" * 8 + "xyz"

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
SECRETS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=40).map(lambda text: f"S3CRET{text}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://me:geheim@pi.lan:6379/0 fails", "redis://me:***@pi.lan:6379/0 fails"),
        ("redis://:geheim@pi.lan", "redis://:***@pi.lan"),
        ("unix://:geheim@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
        ("rediss://me:ge/h@im@pi.lan:6379/0", "rediss://me:***@pi.lan:6379/0"),
        ("'https://me:p%40ss@a.example/b'", "'https://me:***@a.example/b'"),
        (f"a token: {TOKEN}.", "a token: rpi_***."),
        (f"it{TOKEN}", "itrpi_***"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("authorization: Basic dXNlcjpwYXNz\nHost: pi.lan", "authorization: ***\nHost: pi.lan"),
        ("{b'Authorization': [b'Bearer abc'], b'Host': [b'pi']}", "{b'Authorization': [b***], b'Host': [b'pi']}"),
        ("(b'Cookie', b'rpiserve-80=abc; a=b')", "(b'Cookie', b***)"),
        ("Set-Cookie: rpiserve-8080=abc; Path=/", "Set-Cookie: ***"),
        ('{"Cookie": "a=\\"b", "x": 1}', '{"Cookie": ***, "x": 1}'),
        ("sent Bearer abcdefgh-_1", "sent Bearer ***"),
        (f"a=b; rpiserve-8080={'x' * 43}; c=d", "a=b; rpiserve-8080=***; c=d"),
        ("token=abc&next=/a", "token=***&next=/a"),
        ("/cmd?name=a&access_token=abc HTTP/1.1", "/cmd?name=a&access_token=*** HTTP/1.1"),
        ("connect(host='a', password='b c', db=1)", "connect(host='a', password=***, db=1)"),
        ("{'password': b'abc', 'user': 'me'}", "{'password': b***, 'user': 'me'}"),
        ('{"api_key":12345,"a":[1]}', '{"api_key":***,"a":[1]}'),
        ("password='it has no end", "password=*** has no end"),
        ("Password: geheim", "Password: ***"),
        ("redis_password: geheim", "redis_password: ***"),
        ("access_token: abc, X-Auth-Token: abc", "access_token: *** X-Auth-Token: ***"),
        ("accessToken: abc", "accessToken: ***"),
        ("UID=me;PWD=geheim;a=b", "UID=me;PWD=***;a=b"),
        ("{'pwd': 'geheim', 'user': 'me'}", "{'pwd': ***, 'user': 'me'}"),
        ("pwd: geheim", "pwd: ***"),
        ("redis://me:12345/x@pi.lan/0", "redis://me:***@pi.lan/0"),
        ("amqp://me:12345/x@pi.lan/?a=b@c", "amqp://me:***@c"),
        ("http://me:123456/x@pi.lan", "http://me:***@pi.lan"),
        ("http://me:12345@pi.lan", "http://me:***@pi.lan"),
        ("mqtt://pi.lan:1883/a?b=http://me:geheim@c", "mqtt://pi.lan:1883/a?b=http://me:***@c"),
        ("redis://:ge heim@pi.lan fails", "redis://:***@pi.lan fails"),
        ("redis://:12 34@pi.lan fails", "redis://:***@pi.lan fails"),
        ("redis://me:ge h e im@pi.lan/0 a@b", "redis://me:***@pi.lan/0 a@b"),
        ("/data/rpi%5F" + "a" * 43, "/data/rpi_***"),
        ("/data/%72%70i%5f" + "a%41%2D%5F3" * 9 + "/b", "/data/rpi_***/b"),
        ("/data/rpi%25255F" + "a" * 43 + "%20b", "/data/rpi_***%20b"),
    ],
)
def test_secrets(text: str, expected: str) -> None:
    """Tokens, passwords in URLs, headers, cookies and fields are hidden; what stands around them is not."""
    assert redact(text) == expected
    assert redact(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "serving on http://127.0.0.1:8080",
        "http://127.0.0.1:8080/data/a@b",
        "GET http://[::1]:8080/?a=b@c",
        "--token-file names a file; --redis-password-file=/run/password too",
        "no token is valid until that is mended",
        "the cookie, which it has, is old",
        "rpi_temperature is 21.5 °C",
        "tokens=3 passwords",
        "me@pi.lan:/home",
        "http://host:8080/path@2x.png",
        "HTTPS://host:443/@scope/pkg@1.0 and wss://host:1/a@b",
        "redis://pi.lan:6379/0?client=me@here",
        "serving on redis://pi.lan:6379, ask me@pi.lan",
        "redis://:@pi.lan",
        "http://HOST:PORT or me@pi.lan",
        "at 12:30@home, mail to me@pi.lan: it is 13:45",
        "see http://pi.lan:8080 at 12:30@home",
        "PWD=/home/pi OLDPWD=~/a 'PWD': '/root' pwd: /",
        "--token: it is missing",
        "cannot read the token in /home/pi/cellar_token: No such file or directory",
        "cannot read ./redis_password: No such file",
        "/etc/passwd: Permission denied",
        "this needs a token: Authorization: Bearer …, or log in at /login",
        "/data/rpi%5Ftemperature/100%25",
        "",
    ],
)
def test_no_secrets(text: str) -> None:
    """What is none is left alone."""
    assert redact(text) == text


def test_a_token_of_ours(tmp_path: Path) -> None:
    """A token as they are really made is recognised, alone and within anything."""
    secret = TokenFile(tmp_path / "tokens", lambda: 0.0).add("me", READ)
    for text in (secret, f"x{secret}", f"[{secret!r}]", json.dumps({"a": secret}), f"%22{quote(secret)}%22"):
        assert secret.removeprefix("rpi_") not in redact(text)


def test_known_secrets() -> None:
    """A secret that we know is found wherever it stands, encoded for a URL as well, unless it is hardly a word."""
    known = ["ge heim/nis", "a" * (SHORTEST - 1)]
    assert redact("AUTH ge heim/nis; ge%20heim%2Fnis aaaaa", known) == f"AUTH {HIDDEN}; {HIDDEN} aaaaa"


@given(WORDS, SECRETS, WORDS)
def test_a_secret_never_appears(before: str, secret: str, after: str) -> None:
    """Whatever stands before and behind them, secrets that can be recognised do not get through."""
    for text in (
        f"{before} redis://me:{secret}@pi.lan {after}",
        f"{before}Authorization: Bearer {secret}\n{after}",
        f"{before} {{'Cookie': {secret!r}}} {after}",
        f"{before} token={secret} {after}",
        f"{before} {json.dumps({'password': secret})} {after}",
        f"{before}rpi_{secret * 3}{after}",
    ):
        assert secret not in redact(text)


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    """No text makes it raise, and what has been through it once does not change any more by much: secrets stay out."""
    once = redact(text)
    assert redact(redact(once)) == redact(once)


PATTERNS = [
    *(each for each in vars(redaction).values() if isinstance(each, re.Pattern) and isinstance(each.pattern, str)),
    *(part for rule in redaction._RULES for part in rule if isinstance(part, re.Pattern)),
]
HOSTILE = [
    *(
        "://",
        "://b",
        "://a:",
        "://a:1/",
        "x://a:1/",
        "://:12345@",
        "://a:1@b/",
        "://a:b c ",
        "://: ",
        "a:b ",
        "@ ://:a ",
    ),
    *("rpi_", "rpi%5F", "rpi_a%", "%72", "%25", "rpi_aaaaaaaaa "),
    *("cookie", "cookie:", "cookie  :\n", "cookie' : ", "cookie'  :  [b\"", "proxy-", "set-cookie ", "cookie,'\\"),
    *("authorization=    ", "proxy-authorization", "'cookie'\t,\t('\\\\"),
    *("bearer", "bearer   ", "Bearer abcdef ", "rpiserve=", "rpiserve-123", "rpiserve-12345=aaaa "),
    *(
        "token",
        "token=",
        "token=&",
        "token='",
        "token='\\",
        "token=b'&",
        "Token' : ",
        'token":"\\\\',
        "pwd  =  ",
        "pwd=/",
    ),
    *("password:' ", "password'", "x-token", "api_key: ", "apikey:", "secret:    ", "pwd", "a_token:  ", '="\\'),
    *(" ", "a", "@", "'", "\\", "%"),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:20])
def test_a_hostile_text(pattern: re.Pattern[str]) -> None:
    """A text that almost matches everywhere takes four times the steps if it is four times as long, not sixteen."""
    for piece in HOSTILE:
        few, many = (steps_of(pattern, piece * (size // len(piece))) for size in (150, 600))
        assert many < 5 * few, piece


@pytest.mark.parametrize("end", ["?@", "@", "?a@b?@", "#://:1/@"])
def test_a_hostile_word(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many URLs a word holds, no part of it is looked through twice for the end of a path."""
    steps, search = 0, redaction._END_OF_PATH.search

    class Counted:
        def search(self, text: str, start: int) -> re.Match[str] | None:
            nonlocal steps
            match = search(text, start)
            steps += (len(text) if match is None else match.end()) - start
            return match

    monkeypatch.setattr(redaction, "_END_OF_PATH", Counted())
    word = "x://y:1/" * 1000 + end
    assert redact(word)
    assert steps <= len(word)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_text(piece: str) -> None:
    """A long text is done with, and so is one with an end that would have made all of it a secret."""
    for end in ("", "@", "?@", "'", '"'):
        assert redact(piece * (64_000 // len(piece)) + end)


def test_tokens_in_answers() -> None:
    """Of what a client is answered tokens alone are taken out: it is told how to send one, and JSON stays JSON."""
    answer = json.dumps({"detail": f"nothing at '{TOKEN}'; use Authorization: Bearer …", "code": None})
    assert json.loads(hide_tokens(answer.encode())) == {
        "detail": "nothing at 'rpi_***'; use Authorization: Bearer …",
        "code": None,
    }
