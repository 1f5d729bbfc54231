"""The options: from where each is taken, and how a wrong one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from rpiserve.daemon.config import OPTIONS, Config, load
from rpiserve.daemon.options import Options
from rpiserve.errors import ConfigError
from rpiserve.messaging.address import RedisAddress

# What each option may be, as a text on the command line and in the environment, as TOML and Python have it, and read.
SAMPLES: dict[str, tuple[str, Any, Any]] = {
    "module": ("greenhouse:app", "greenhouse:app", "greenhouse:app"),
    "port": ("8081", 8081, 8081),
    "host": ("::1", "::1", "::1"),
    "open": ("yes", True, True),
    "www": ("pages", "pages", "pages"),
    "get_commands": ("on", True, True),
    "redis": ("redis://pi.lan:6380/1", "redis://pi.lan:6380/1", RedisAddress.parse("redis://pi.lan:6380/1")),
    "redis_password_file": ("/run/password", "/run/password", Path("/run/password")),
    "redis_ca": ("/etc/ca.pem", "/etc/ca.pem", Path("/etc/ca.pem")),
    "allowed_host": ("pi.lan", ["pi.lan"], ("pi.lan",)),
    "token_file": ("tokens", "tokens", Path("tokens")),
    "trusted_proxy": ("10.0.0.0/8", ["10.0.0.0/8"], ("10.0.0.0/8",)),
    "tls_cert": ("cert.pem", "cert.pem", Path("cert.pem")),
    "tls_key": ("key.pem", "key.pem", Path("key.pem")),
    "no_dashboard": ("yes", True, True),
    "cors_origin": ("https://a.example", ["https://a.example"], ("https://a.example",)),
    "cors_method": ("GET", ["GET"], ("GET",)),
    "cors_header": ("X-A", ["X-A"], ("X-A",)),
    "cors_expose_header": ("X-B", ["X-B"], ("X-B",)),
    "cors_credentials": ("1", True, True),
    "cors_max_age": ("0", 0, 0),
    "max_streams": ("7", 7, 7),
    "stop_timeout": ("2.5", 2.5, 2.5),
    "max_body": ("4096", 4096, 4096),
    "header_timeout": ("1", 1, 1.0),
    "body_timeout": ("2", 2, 2.0),
    "idle_timeout": ("3", 3, 3.0),
    "write_timeout": ("4", 4, 4.0),
    "max_connections": ("5", 5, 5),
    "max_connections_per_address": ("6", 6, 6),
    "log_format": ("json", "json", "json"),
    "log_level": ("rpiserve.web=debug", ["rpiserve.web=debug"], ("rpiserve.web=debug",)),
    "log_file": ("app.log", "app.log", Path("app.log")),
    "request_log": ("requests.log", "requests.log", Path("requests.log")),
    "log_size": ("5000", 5000, 5000),
    "log_keep": ("2", 2, 2),
    "debug": ("on", True, True),
}
FLAGS = {"open", "get_commands", "debug", "no_dashboard", "cors_credentials"}

LISTS = {name for name in SAMPLES if OPTIONS[name].default == ()}

# What has to be there for an option to be of use.
BESIDE: dict[str, dict[str, Any]] = {
    "redis_password_file": {"redis": "redis://localhost"},
    "redis_ca": {"redis": "rediss://localhost"},
    "tls_cert": {"tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem"},
    **{
        f"cors_{what}": {"cors_origin": "https://a.example"}
        for what in ("method", "header", "expose_header", "credentials", "max_age")
    },
}

everything = pytest.mark.parametrize("name", SAMPLES)


def command_line(*arguments: str) -> dict[str, object]:
    """Return what ``arguments`` give."""
    options = Options()
    options.parseOptions(list(arguments))
    return options.given


def flag(name: str, text: str) -> list[str]:
    """Return the option ``name`` as it stands on a command line."""
    return [f"--{name.replace('_', '-')}", *([] if name in FLAGS else [text])]


def toml(tmp_path: Path, **values: object) -> str:
    """Write a TOML file and return its name."""
    file = tmp_path / "rpiserve.toml"
    # JSON's texts, numbers, booleans and lists are TOML's.
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()), encoding="utf-8")
    return str(file)


def test_samples_are_complete() -> None:
    """The tests below see every option that there is."""
    assert set(SAMPLES) == set(OPTIONS)


def test_defaults() -> None:
    """With nothing given the daemon serves the module ``app`` on port 8080, for this machine alone."""
    config = load({}, {})
    assert config == Config()
    assert (config.module, config.port, config.host, config.open) == ("app", 8080, None, False)
    assert (config.stop_timeout, config.debug, config.allowed_host) == (10.0, False, ())


@everything
def test_every_option_on_the_command_line(name: str) -> None:
    """Each option can be given on the command line."""
    text, _, value = SAMPLES[name]
    assert getattr(load(command_line(*flag(name, text)), {}, BESIDE.get(name)), name) == value


@everything
def test_every_option_in_the_environment(name: str) -> None:
    """Each option can be given by a variable."""
    text, _, value = SAMPLES[name]
    assert getattr(load({}, {f"RPISERVE_{name.upper()}": text}, BESIDE.get(name)), name) == value


@everything
def test_every_option_in_toml(name: str, tmp_path: Path) -> None:
    """Each option can stand in the TOML file, with TOML's own types."""
    _, typed, value = SAMPLES[name]
    assert getattr(load({"config": toml(tmp_path, **{name: typed})}, {}, BESIDE.get(name)), name) == value


@everything
def test_every_option_in_toml_as_text(name: str, tmp_path: Path) -> None:
    """Each option can stand in the TOML file as a text, too, as it would on the command line."""
    text, _, value = SAMPLES[name]
    assert getattr(load({"config": toml(tmp_path, **{name: text})}, {}, BESIDE.get(name)), name) == value


@everything
def test_every_option_in_code(name: str) -> None:
    """Each option can be an argument of ``app.run``."""
    _, typed, value = SAMPLES[name]
    assert getattr(load({}, {}, {**BESIDE.get(name, {}), name: typed}), name) == value


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - FLAGS - LISTS))
def test_precedence(name: str, tmp_path: Path) -> None:
    """Command line, environment, TOML, code, default: in that order, for each option."""
    texts = ["6001", "6002", "6003", "6004"]  # these are, or can be read as, any of them but one
    if name == "redis":
        texts = [f"redis://localhost:{text}" for text in texts]
    if name == "log_format":
        texts = ["text", "json", "journal", "text"]
    beside = BESIDE.get(name, {})
    given = command_line(*flag(name, texts[0]))
    environ = {f"RPISERVE_{name.upper()}": texts[1]}
    file = {"config": toml(tmp_path, **{name: texts[2]})}
    code = {**beside, name: texts[3]}

    def read(config: Config) -> object:
        value = getattr(config, name)
        return f"redis://localhost:{value.port}" if name == "redis" else str(value).removesuffix(".0")

    assert read(load(given | file, environ, code)) == texts[0]
    assert read(load(file, environ, code)) == texts[1]
    assert read(load(file, {}, code)) == texts[2]
    assert read(load({}, {}, code)) == texts[3]
    assert getattr(load({}, {}), name) == OPTIONS[name].default


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_precedence_of_flags(name: str, tmp_path: Path) -> None:
    """A flag that is off in a nearer place is off, whatever the farther ones say."""
    file = {"config": toml(tmp_path, **{name: False})}
    variable = f"RPISERVE_{name.upper()}"
    on, off = ({**BESIDE.get(name, {}), name: value} for value in (True, False))
    assert getattr(load({**file, name: True}, {variable: "0"}, off), name) is True
    assert getattr(load({"config": toml(tmp_path, **{name: True})}, {variable: "off"}, on), name) is False
    assert getattr(load({"config": toml(tmp_path, **{name: False})}, {}, on), name) is False
    assert getattr(load({}, {}, on), name) is True


@pytest.mark.parametrize("name", sorted(LISTS))
def test_precedence_of_lists(name: str, tmp_path: Path) -> None:
    """A list in a nearer place stands in place of the one in a farther one; it is not added to it."""
    scheme = "http://" if name == "cors_origin" else ""
    end = "=debug" if name == "log_level" else ".lan"
    one, two, three, four, five, six = (
        f"{scheme}{text}{end}" for text in ("one", "two", "three", "four", "five", "six")
    )
    file = {"config": toml(tmp_path, **{name: [one]})}
    given = command_line(*flag(name, two), *flag(name, three))
    environ = {f"RPISERVE_{name.upper()}": f"{four}, {five}"}
    code = {**BESIDE.get(name, {}), name: [six]}
    assert getattr(load(given | file, environ, code), name) == (two, three)
    assert getattr(load(file, environ, code), name) == (four, five)
    assert getattr(load(file, {}, code), name) == (one,)
    assert getattr(load({}, {}, code), name) == (six,)
    assert getattr(load({}, {}, code | {name: six}), name) == (six,)


def test_places_are_merged(tmp_path: Path) -> None:
    """Options from all places together make the configuration."""
    file = {"config": toml(tmp_path, max_body=99)}
    config = load(command_line("-p", "1") | file, {"RPISERVE_HOST": "::1"}, {"stop_timeout": 3})
    assert (config.port, config.host, config.max_body, config.stop_timeout) == (1, "::1", 99, 3.0)


def test_where_the_file_is_named(tmp_path: Path) -> None:
    """The TOML file is named on the command line, by a variable or in code, the nearest of them alone being read."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    one, two = toml(first, port=1), toml(second, port=2)
    assert load({"config": one}, {"RPISERVE_CONFIG": two}, {"config": "nowhere"}).port == 1
    assert load({}, {"RPISERVE_CONFIG": two}, {"config": "nowhere"}).port == 2
    assert load({}, {}, {"config": Path(two)}).port == 2


def test_other_variables_are_not_ours() -> None:
    """Variables that only look alike are left alone."""
    assert load({}, {"PORT": "1", "RPISERVEPORT": "2", "rpiserve_port": "x"}) == Config()


@pytest.mark.parametrize("text", ["none", "None", "NONE"])
def test_offline(text: str, tmp_path: Path) -> None:
    """The port can be none from everywhere, which is not the same as not given."""
    assert load(command_line("--port", text), {}, {"port": 1}).port is None
    assert load({}, {"RPISERVE_PORT": text}, {"port": 1}).port is None
    assert load({"config": toml(tmp_path, port=text)}, {}, {"port": 1}).port is None
    assert load({}, {}, {"port": None}).port is None


@pytest.mark.parametrize("value", [0, "0", 65535, "8080"])
def test_ports(value: object) -> None:
    """A port is a number, as such or as text; 0 stands for any that is free."""
    assert load({}, {}, {"port": value}).port == int(str(value))


def test_endpoint() -> None:
    """A port with a colon in it is an endpoint, and is passed on as it is."""
    assert load(command_line("-p", "unix:/run/app.sock"), {}).port == "unix:/run/app.sock"


def test_host_does_not_go_with_an_endpoint(tmp_path: Path) -> None:
    """A host beside an endpoint is an error that names both, wherever the two come from."""
    with pytest.raises(ConfigError, match=r"'0\.0\.0\.0' does not go with the endpoint 'tcp:8080'"):
        load(command_line("--port", "tcp:8080", "--host", "0.0.0.0"), {})
    with pytest.raises(ConfigError, match="does not go with the endpoint"):
        load({"config": toml(tmp_path, host="::1")}, {"RPISERVE_PORT": "unix:/run/app.sock"})


BAD: dict[str, list[object]] = {
    "module": ["", "  ", 7],
    "port": ["", "abc", -1, 65536, "65536", 1.5, True, "9" * 5000],
    "host": ["", " ", 7],
    "redis_password_file": ["", " ", 7],
    "redis_ca": ["", 7],
    "open": ["maybe", "", 2],
    "allowed_host": ["", "a,,b", 7, ["a", ""], ["a", 7], "http://a", "a:8080", "a/b", "a b", "[::1]", "ü" * 64],
    "stop_timeout": [0, -1, "nan", "inf", "soon", True, "1e999"],
    "max_body": [0, -1, 1.5, "1.5", True, "", "9" * 5000],
    "max_connections": [0, "none"],
    "debug": ["ja"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_says_where_it_is_from(name: str, value: object, tmp_path: Path) -> None:
    """What cannot be an option's value is refused, with the place that it came from and the value itself."""
    places: list[tuple[str, dict[str, Any]]] = [
        (f"app.run({name}=…) is ", {"command_line": {}, "environ": {}, "code": {name: value}}),
    ]
    if not isinstance(value, float):
        file = toml(tmp_path, **{name: value})
        places.append((f"{name} in {file} is ", {"command_line": {"config": file}, "environ": {}}))
    if isinstance(value, str) and value:  # an empty variable is none
        places.append(
            (f"RPISERVE_{name.upper()} is ", {"command_line": {}, "environ": {f"RPISERVE_{name.upper()}": value}})
        )
        places.append((f"--{name.replace('_', '-')} is ", {"command_line": {name: value}, "environ": {}}))
    for place, arguments in places:
        with pytest.raises(ConfigError) as caught:
            load(**arguments)
        assert str(caught.value).startswith(f"{place}{value!r}; it is ")
        assert "\n" not in str(caught.value)


def test_a_bad_value_counts_even_where_it_is_overridden(tmp_path: Path) -> None:
    """A mistake in the file shows at once, not on the day that the option is left out of the command line."""
    with pytest.raises(ConfigError, match=r"port in .* is 'x'"):
        load({"port": "1", "config": toml(tmp_path, port="x")}, {})


def test_unknown_names_with_a_hint(tmp_path: Path) -> None:
    """An unknown name is refused with the one that was probably meant, written as in that place."""
    with pytest.raises(ConfigError, match=r"^RPISERVE_PROT is no option; did you mean RPISERVE_PORT\?$"):
        load({}, {"RPISERVE_PROT": "1"})
    with pytest.raises(
        ConfigError, match=r"^app\.run\(stop_time=…\) is no option; did you mean app\.run\(stop_timeout=…\)\?$"
    ):
        load({}, {}, {"stop_time": 1})
    file = toml(tmp_path, allowed_hosts=["a"])
    with pytest.raises(ConfigError, match=r"^allowed_hosts in .* is no option; did you mean allowed_host in .*\?$"):
        load({"config": file}, {})


def test_unknown_names_without_a_hint() -> None:
    """An unknown name that resembles none is refused with the list of those that there are."""
    with pytest.raises(ConfigError, match=r"^RPISERVE_ZZZZ is no option; there are module, port, host, "):
        load({}, {"RPISERVE_ZZZZ": "1"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"port = \n", "is not TOML: Invalid value"),
        (b"port = 1\nport = 2\n", "is not TOML: Cannot overwrite a value"),
        (b'host = "\xff"\n', "is not TOML: 'utf-8' codec"),
    ],
)
def test_no_toml(content: bytes, reason: str, tmp_path: Path) -> None:
    """A file that is no TOML is an error that names the file and what is wrong with it, in one line."""
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load({"config": str(file)}, {})
    assert str(caught.value).startswith(f"the configuration file {file} {reason}")
    assert "\n" not in str(caught.value)


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file that is not there, or is a directory, is an error that names it."""
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*gone\.toml: No such file"):
        load({"config": str(tmp_path / "gone.toml")}, {})
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*: Is a directory"):
        load({"config": str(tmp_path)}, {})


def test_limits() -> None:
    """The limits for HTTP clients are those options, each in its place."""
    config = Config(
        max_body=1,
        header_timeout=2,
        body_timeout=3,
        idle_timeout=4,
        write_timeout=5,
        max_connections=6,
        max_connections_per_address=7,
    )
    limits = config.limits
    assert (limits.body, limits.header_seconds, limits.body_seconds) == (1, 2, 3)
    assert (limits.idle_seconds, limits.write_seconds) == (4, 5)
    assert (limits.connections, limits.connections_per_address) == (6, 7)


def test_an_empty_variable_is_none() -> None:
    """Files for init scripts are full of empty variables: they set nothing."""
    assert load({}, {"RPISERVE_PORT": "", "RPISERVE_ALLOWED_HOST": ""}) == Config()


def test_the_file_may_have_a_table_of_our_name(tmp_path: Path) -> None:
    """Options in a table [rpiserve] count as those at the top of the file."""
    file = tmp_path / "rpiserve.toml"
    file.write_text("[rpiserve]\nport = 8081\n")
    assert load({"config": str(file)}, {}).port == 8081


# --- Redis ------------------------------------------------------------------------------------------------------------

SECRET = "geheim"


def test_no_redis() -> None:
    """Without a URL the bus is the embedded one."""
    assert load({}, {}).redis_address is None


def test_redis_address(tmp_path: Path) -> None:
    """The address of Redis is the URL, with the files that belong to it."""
    code = {"redis": "rediss://pi.lan/2", "redis_password_file": Path("secret"), "redis_ca": Path("ca.pem")}
    for config in (
        load({}, {}, code),
        load({"config": toml(tmp_path, **{name: str(value) for name, value in code.items()})}, {}),
    ):
        address = config.redis_address
        assert address is not None
        assert (address.host, address.port, address.db, address.tls) == ("pi.lan", 6379, 2, True)
        assert (address.password_file, address.ca_file) == (Path("secret"), Path("ca.pem"))


@pytest.mark.parametrize("name", ["redis_password_file", "redis_ca"])
def test_files_without_redis(name: str) -> None:
    """A password or certificates without a Redis that they are for are a mistake, which would go unseen."""
    with pytest.raises(ConfigError, match="are of no use without --redis"):
        load({}, {}, {name: "file"})


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@localhost", f"rediss://me:{SECRET}@h", f"unix://:{SECRET}@/run/r"])
def test_a_password_on_the_command_line(url: str, tmp_path: Path) -> None:
    """A URL with a password is refused on the command line, where all can read it, and taken from everywhere else."""
    with pytest.raises(ConfigError) as caught:
        load({"redis": url}, {})
    text = str(caught.value)
    assert "a password on the command line can be read by everybody" in text
    assert "RPISERVE_REDIS" in text
    assert "--redis-password-file" in text
    assert SECRET not in text
    for config in (
        load({}, {"RPISERVE_REDIS": url}),
        load({"config": toml(tmp_path, redis=url)}, {}),
        load({}, {}, {"redis": url}),
    ):
        assert config.redis_address is not None
        assert config.redis_address.password == SECRET


def test_a_password_is_not_shown() -> None:
    """What is shown of the options, in a debugger or a log, holds no password."""
    config = load({}, {"RPISERVE_REDIS": f"redis://me:{SECRET}@localhost"})
    assert config.redis_address is not None
    for shown in (repr(config), str(config), repr(config.redis_address), config.redis_address.name):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@localhost",
        f"redis:/:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port",
        f"redis://:{SECRET}@[localhost",
        f"redis://:{SECRET}@localhost:99999",
        f"redis://:{SECRET}@localhost/db",
        f"redis://:{SECRET}@localhost?db=1",
        f"redis://:{SECRET}@\u2100",
        f"unix://:{SECRET}@",
        SECRET,
    ],
)
def test_a_wrong_url_is_not_shown(url: str, tmp_path: Path) -> None:
    """A URL that is wrong is refused, wherever it stands, without its text, since there may be a password in it."""
    file = toml(tmp_path, redis=url)
    for place, arguments in (
        ("--redis", ({"redis": url}, {})),
        ("RPISERVE_REDIS", ({}, {"RPISERVE_REDIS": url})),
        (f"redis in {file}", ({"config": file}, {})),
        ("app.run(redis=…)", ({}, {}, {"redis": url})),
    ):
        with pytest.raises(ConfigError) as caught:
            load(*arguments)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"{place} is wrong; it is redis://host:port/db, rediss://host:port/db with TLS, or unix:///path?db=0"
        )
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", ["", "  ", 7, None, True])
def test_redis_that_is_no_text(value: Any) -> None:
    """What is no text at all is refused as well."""
    with pytest.raises(ConfigError, match=r"^app\.run\(redis=…\) is wrong; it is "):
        load({}, {}, {"redis": value})


def test_a_host_name_beyond_ascii() -> None:
    """A name is compared as a browser sends it, with what is beyond ASCII in Punycode."""
    assert load({"allowed_host": ["bücher.lan"]}, {}).allowed_host == ("xn--bcher-kva.lan",)
