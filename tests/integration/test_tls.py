"""Serving by TLS, with a certificate that is renewed while the daemon runs."""

import errno
import http.client
import os
import resource
import shutil
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest
from certificates import lock_key, write_certificate
from cryptography import x509
from daemon import APP, Daemon, completed, running_daemon
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.core.tokens import TokenFile
from rpiserve.errors import StartError
from rpiserve.web.server.tls import LOOK_SECONDS, RenewedCertificate

RPISERVE = Path(sys.executable).with_name("rpiserve")
OPTIONS = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")
TWISTED = "ignore:Passing pyOpenSSL:DeprecationWarning"
"""What pyOpenSSL warns of when Twisted uses it."""
SERVING = r"serving on https://127\.0\.0\.1:(\d+)"


def ask(port: int, trusted: Path, method: str = "GET", path: str = "/health", **more: str) -> http.client.HTTPResponse:
    """Return the answer to a request by TLS, with the certificates in the file ``trusted``."""
    context = ssl.create_default_context(cafile=str(trusted))
    client = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    try:
        client.request(method, path, **more)
        answer = client.getresponse()
        answer.read()
        return answer
    finally:
        client.close()


def port_of(daemon: Daemon) -> int:
    """Return the port that it serves on."""
    return int(daemon.wait_for(SERVING)[1])


def new_certificate(folder: Path, name: str) -> Path:
    """Write a certificate and its key into ``folder``; return the file of the certificate."""
    folder.mkdir(exist_ok=True)
    write_certificate(folder / f"{name}.pem", folder / f"{name}.key")
    return folder / f"{name}.pem"


def install(tmp_path: Path, certificate: Path) -> None:
    """Put ``certificate`` and its key to where the daemon has them."""
    shutil.copy(certificate, tmp_path / "cert.pem")
    shutil.copy(certificate.with_suffix(".key"), tmp_path / "key.pem")


def test_renewal(tmp_path: Path) -> None:
    """After SIGHUP new connections get the new certificate; one that is broken leaves the one from before in use."""
    first, second = (new_certificate(tmp_path / "made", name) for name in ("first", "second"))
    install(tmp_path, first)
    with running_daemon(tmp_path, APP, *OPTIONS, ready=SERVING) as daemon:
        port = port_of(daemon)
        assert ask(port, first).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, second)
        install(tmp_path, second)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("read the certificate in cert.pem anew")
        assert ask(port, second).status == 200
        (tmp_path / "cert.pem").write_text("nonsense")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("the certificate from before stays in use")
        assert ask(port, second).status == 200
        assert daemon.stop() == -signal.SIGTERM


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_protocols_are_refused(tmp_path: Path) -> None:
    """Nothing older than TLS 1.2 is spoken."""
    certificate = new_certificate(tmp_path / "made", "only")
    install(tmp_path, certificate)
    with running_daemon(tmp_path, APP, *OPTIONS, ready=SERVING) as daemon:
        context = ssl.create_default_context(cafile=str(certificate))
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        client = http.client.HTTPSConnection("localhost", port_of(daemon), timeout=30, context=context)
        with pytest.raises(ssl.SSLError):
            client.request("GET", "/health")
        client.close()


def test_the_cookie_by_tls(tmp_path: Path) -> None:
    """By TLS the cookie of a session is one that no browser ever sends without."""
    certificate = new_certificate(tmp_path / "made", "only")
    install(tmp_path, certificate)
    secret = TokenFile(tmp_path / "tokens", lambda: 0.0).add("me", "read")
    with running_daemon(tmp_path, APP, *OPTIONS, "--token-file", "tokens", ready=SERVING) as daemon:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = ask(port_of(daemon), certificate, "POST", "/login", body=f"token={secret}", headers=form)  # type: ignore[arg-type]
        assert answer.status == 303
        assert "; Secure" in answer.headers["Set-Cookie"]


def test_refused_requests(tmp_path: Path) -> None:
    """What is refused before it is a request gets its answer by TLS as well, and leaves nothing in the log."""
    certificate = new_certificate(tmp_path / "made", "only")
    install(tmp_path, certificate)
    context = ssl.create_default_context(cafile=str(certificate))
    requests = {
        b"nonsense\r\n\r\n": 400,
        b"POST /cmd HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n": 413,
    }
    with running_daemon(tmp_path, APP, *OPTIONS, ready=SERVING) as daemon:
        for request, status in requests.items():
            with (
                socket.create_connection(("localhost", port_of(daemon)), timeout=30) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as client,
            ):
                client.sendall(request)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 %d " % status)
                assert answer.endswith(b"}")
                client.unwrap()
        assert ask(port_of(daemon), certificate).status == 200
        daemon.stop()
        assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("authority", [True, False])
def test_command(tmp_path: Path, authority: bool) -> None:
    """The command refuses a certificate that signs itself, and says how it is trusted; then it does."""
    write_certificate(tmp_path / "cert.pem", tmp_path / "key.pem", authority)
    with running_daemon(tmp_path, APP, *OPTIONS, ready=SERVING) as daemon:
        command = [RPISERVE, "publish", "a", "--url", f"https://localhost:{port_of(daemon)}"]
        refused = completed(command)
        assert (refused.returncode, refused.stdout) == (5, "")
        assert "its certificate is not trusted, or out of date" in refused.stderr
        assert "SSL_CERT_FILE" in refused.stderr
        trusted = completed(command, env={"SSL_CERT_FILE": str(tmp_path / "cert.pem")})
        assert (trusted.returncode, trusted.stdout, trusted.stderr) == (0, "0\n", "")


DAMAGE = {
    "no file": "--tls-cert and --tls-key: cannot read key.pem: No such file",
    "no certificate": "--tls-cert: there is no certificate in cert.pem, as PEM",
    "no key": "--tls-key: there is no private key in key.pem, as PEM",
    "a locked key": "--tls-key: there is no private key in key.pem, as PEM and without a password",
    "another key": "--tls-key: key.pem is not the key of the certificate in cert.pem",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_certificate_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    """With a certificate that is none, or without its key, the daemon does not start, and says why in one line."""
    install(tmp_path, new_certificate(tmp_path / "made", "one"))
    key = tmp_path / "key.pem"
    if damage == "no file":
        key.unlink()
    elif damage == "no certificate":
        (tmp_path / "cert.pem").write_text("nonsense")
    elif damage == "no key":
        key.write_text("nonsense")
    elif damage == "a locked key":
        lock_key(key, b"password")
    else:
        shutil.copy(new_certificate(tmp_path / "made", "two").with_suffix(".key"), key)
    with running_daemon(tmp_path, APP, *OPTIONS, ready=f"^rpiserve: {DAMAGE[damage]}") as daemon:
        assert daemon.wait() == 1
        assert "Traceback" not in daemon.log()


class Renewed:
    """A certificate that is renewed, without a daemon.

    Args:
        folder: where its files are.

    Attributes:
        clock: its clock.
        certificate: what is tested.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.certificate = RenewedCertificate(folder / "cert.pem", folder / "key.pem", self.clock.seconds)

    def serves(self, file: Path) -> bool:
        """Tell whether a new connection has the certificate in ``file``."""
        own = self.certificate.serverConnectionForTLS(None).get_certificate(as_cryptography=True)
        return bool(own == x509.load_pem_x509_certificate(file.read_bytes()))


@pytest.mark.filterwarnings(TWISTED)
@pytest.mark.parametrize("by", ["a look", "a reload"])
def test_a_renewal_that_fails_at_first(tmp_path: Path, logged_failures: list[LogEvent], by: str) -> None:
    """A new certificate that could not be read for want of descriptors is read at the next occasion."""
    first, second = (new_certificate(tmp_path / "made", name) for name in ("first", "second"))
    install(tmp_path, first)
    renewed = Renewed(tmp_path)
    install(tmp_path, second)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(3):
        renewed.clock.advance(LOOK_SECONDS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            renewed.certificate.serverConnectionForTLS(None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert renewed.serves(first)
    assert len(logged_failures) == 1
    assert "Too many open files; the certificate from before stays in use" in logged_failures[0]["text"]
    logged_failures.clear()
    if by == "a look":
        renewed.clock.advance(LOOK_SECONDS)
    else:
        renewed.certificate.reload()
    assert renewed.serves(second)


@pytest.mark.filterwarnings(TWISTED)
def test_a_reload_reads_anyway(
    tmp_path: Path, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for it has the files read though they are the same, and is told each time if that fails."""
    first = new_certificate(tmp_path / "made", "first")
    install(tmp_path, first)
    renewed = Renewed(tmp_path)

    def failing(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for number in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", failing)
            renewed.certificate.reload()
        renewed.clock.advance(LOOK_SECONDS)
        assert renewed.serves(first)
        assert len(logged_failures) == number
    logged_failures.clear()


@pytest.mark.filterwarnings(TWISTED)
def test_a_certificate_that_is_away(tmp_path: Path, logged_failures: list[LogEvent]) -> None:
    """While there is no file the certificate from before is served, and that is logged once; then the new one is."""
    first, second = (new_certificate(tmp_path / "made", name) for name in ("first", "second"))
    install(tmp_path, first)
    renewed = Renewed(tmp_path)
    (tmp_path / "cert.pem").unlink()
    for _ in range(3):
        renewed.clock.advance(LOOK_SECONDS)
        assert renewed.serves(first)
    assert len(logged_failures) == 1
    logged_failures.clear()
    install(tmp_path, second)
    renewed.clock.advance(LOOK_SECONDS)
    assert renewed.serves(second)


@pytest.mark.filterwarnings(TWISTED)
@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_a_pipe(tmp_path: Path, logged_failures: list[LogEvent], name: str) -> None:
    """A pipe is refused, at the start and later: nobody waits for what may never be written into it."""
    first = new_certificate(tmp_path / "made", "first")
    install(tmp_path, first)
    renewed = Renewed(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    renewed.certificate.reload()
    assert renewed.serves(first)
    [event] = logged_failures
    assert f"{name}: it is no regular file" in event["text"]
    logged_failures.clear()
    with pytest.raises(StartError, match="it is no regular file"):
        Renewed(tmp_path)
