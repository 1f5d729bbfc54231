"""Serving by TLS, with a certificate that is renewed while the daemon runs."""

import http.client
import shutil
import signal
import socket
import ssl
from pathlib import Path

import pytest
from certificates import write_certificate
from daemon import APP, Daemon, running_daemon

from rpiserve.tokens import TokenFile

OPTIONS = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")
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


@pytest.mark.parametrize("damage", ["no file", "no certificate", "another key"])
def test_a_certificate_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    """With a certificate that is none, or without its key, the daemon does not start, and says why in one line."""
    install(tmp_path, new_certificate(tmp_path / "made", "one"))
    if damage == "no file":
        (tmp_path / "key.pem").unlink()
    elif damage == "no certificate":
        (tmp_path / "cert.pem").write_text("nonsense")
    else:
        shutil.copy(new_certificate(tmp_path / "made", "two").with_suffix(".key"), tmp_path / "key.pem")
    why = "cannot read key.pem: No such file" if damage == "no file" else "cert.pem and key.pem are no certificate"
    with running_daemon(tmp_path, APP, *OPTIONS, ready=rf"^rpiserve: --tls-cert and --tls-key: {why}") as daemon:
        assert daemon.wait() == 1
        assert "Traceback" not in daemon.log()
