"""Where the HTTP server listens, and that it does so nowhere it should not."""

import errno

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorCore, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.errors import StartError
from rpiserve.web.server.addresses import is_loopback
from rpiserve.web.server.site import LimitedSite
from rpiserve.web.server.tls import RenewedCertificate

log = Logger()

BACKLOG = 128


def endpoint_for(
    reactor: IReactorCore, port: int | str, host: str, tls: RenewedCertificate | None = None
) -> IStreamServerEndpoint:
    """Return where to listen.

    Args:
        reactor: the reactor.
        port: a TCP port, or a description as `twisted.internet.endpoints.serverFromString` has it. A unix socket gets
            the mode 0600 unless the description has another.
        host: the address to bind the TCP port to.
        tls: the certificate to serve the TCP port with.

    Raises:
        StartError: the description is wrong.
    """
    if isinstance(port, int) and tls is not None:
        return SSL4ServerEndpoint(reactor, port, tls, backlog=BACKLOG, interface=host)
    if isinstance(port, int):
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        return kind(reactor, port, backlog=BACKLOG, interface=host)
    if port.startswith("unix:") and ":mode=" not in port:
        port += ":mode=600"
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, port)
    except (IndexError, KeyError) as error:
        if port.startswith("systemd:"):
            raise StartError(
                f"--port {port}: systemd has handed over no socket of that name, which is its FileDescriptorName="
            ) from error
        raise StartError(f"--port {port}: this is no endpoint: {error}") from error
    except Exception as error:  # each kind of endpoint raises what it likes
        raise StartError(f"--port {port}: this is no endpoint: {error}") from error
    return endpoint


class WebServer:
    """The listening port with its site.

    Args:
        site: what answers.
        endpoint: where to listen.
        name: what the endpoint is called in errors.
        open: listen beyond this machine, too.
        scheme: ``http`` or ``https``, for the log.

    Attributes:
        address: where it listens, as a person writes it; empty before that.
    """

    def __init__(
        self, site: LimitedSite, endpoint: IStreamServerEndpoint, name: str, open: bool, scheme: str = "http"
    ) -> None:
        self._site = site
        self._endpoint = endpoint
        self._name = name
        self._open = open
        self._scheme = scheme
        self._port: IListeningPort | None = None
        self.address = ""

    def listen(self) -> None:
        """Begin to listen.

        Raises:
            StartError: the port is taken, cannot be had, or can be reached from other machines without `open`.
        """
        outcome: list[IListeningPort | Failure] = []
        maybeDeferred(self._endpoint.listen, self._site).addBoth(outcome.append)
        # All server endpoints of Twisted's own answer at once. One that does not cannot fail the start, so it may not.
        port = outcome[0] if outcome else Failure(CannotListenError(self._name, None, "the endpoint takes its time"))
        if isinstance(port, Failure):
            raise StartError(f"cannot listen on {self._name}: {_reason(port.value)}")
        address = port.getHost()
        if not (self._open or is_loopback(address)):
            port.stopListening()
            raise StartError(
                f"{describe(address)} can be reached from other machines, and whoever reaches it could read all: "
                "use --host 127.0.0.1, or --token-file (rpiserve token add NAME makes one), or --open if you mean it"
            )
        self._port = port
        self.address = describe(address, self._scheme)
        log.info("serving on {address}", address=self.address)

    def stop_listening(self) -> Deferred[object]:
        """Take no more connections."""
        if self._port is None:
            return succeed(None)
        return maybeDeferred(self._port.stopListening).addErrback(self._not_stopped)

    def _not_stopped(self, failure: Failure) -> None:
        # Somebody has deleted the file of the socket, say. The stop has to go on.
        log.warn("{address} could not be left: {error}", address=self.address, error=failure.getErrorMessage())


def describe(address: IAddress, scheme: str = "http") -> str:
    """Return a listening ``address`` as a person writes it."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        name = getattr(address, "name", address)
        return f"unix:{name.decode() if isinstance(name, bytes) else name}"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _reason(error: BaseException | None) -> str:
    """Return what is wrong, without what the user knows already."""
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return "it is in use; stop what uses it, or choose another with --port"
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
