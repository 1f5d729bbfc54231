"""The client by the HTTP API of a daemon."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from rpiserve.client.event_parser import BrokenStream, Event, EventParser
from rpiserve.client.interface import Heard, Told
from rpiserve.core import wire
from rpiserve.core.thread_bridge import Progress
from rpiserve.data import encoding
from rpiserve.declare.names import checked_bus_name, checked_channel
from rpiserve.errors import BusError, BusUnavailable, CallTimeout, MessageError, NoResponders, NotAllowed

ANSWER_SECONDS = 10.0
"""How long a daemon may take to begin its answer to what it answers at once."""

GRACE_SECONDS = 5.0
"""How much longer than the time limit of a call: it is the daemon that is to say that this has passed."""

RETRY_SECONDS = 1.0
"""The pause before a lost stream is asked for again."""

ERRORS: Mapping[str, type[BusError]] = {
    "no_responders": NoResponders,
    "timeout": CallTimeout,
    "bus_unavailable": BusUnavailable,
    "busy": BusUnavailable,
    "shutting_down": BusUnavailable,
    "unauthorized": NotAllowed,
    "forbidden": NotAllowed,
}
"""What the code in a problem of the daemon's stands for."""

PROXY_ERRORS: Mapping[int, type[BusError]] = {
    401: NotAllowed,
    403: NotAllowed,
    503: BusUnavailable,
    504: CallTimeout,
}
"""What a status stands for if there is no code: the answer is that of a proxy before the daemon."""

UNVERIFIED = "certificate verify failed"
"""OpenSSL's reason if a certificate is not trusted."""

UNTRUSTED = (
    "its certificate is not trusted, or out of date; the environment variable SSL_CERT_FILE names a file (PEM) with "
    "those to trust, such as the daemon's own certificate if that signs itself"
)
"""What is said then. Twisted takes what OpenSSL trusts, and that takes it from there."""

UNREACHABLE = (
    net.ConnectError,
    net.ConnectingCancelledError,
    net.ConnectionClosed,
    net.DNSLookupError,
    ResponseFailed,
    RequestTransmissionFailed,
)
"""What Twisted raises if there is no answer."""


@implementer(IBodyProducer)
class _Body:
    """The body of a request, which is written at once."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is written."""

    resumeProducing = stopProducing = pauseProducing


class _Stream(TwistedProtocol):
    """Reads the body of an answer as events.

    Args:
        heard: called with each; if it returns True, or raises, the rest is not read.

    Attributes:
        ended: fires when that was so, or fails with what it has raised. It fails with `BrokenStream` if the body ends
            before. To cancel it drops the connection.
    """

    def __init__(self, heard: Callable[[Event], object]) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._drop())
        self._heard = heard
        self._parser = EventParser()

    def dataReceived(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.ended.called:
            return
        try:
            if any(self._heard(event) for event in self._parser.feed(data)):
                self._end(None)
        except Exception:  # noqa: BLE001 - it is for who listens, and not for the connection
            self._end(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail, if it was not the end before."""
        if not self.ended.called:
            how = "" if reason.check(ResponseDone, PotentialDataLoss) else f": {_reason(reason.value)}"
            self.ended.errback(BrokenStream(f"the connection was lost{how}"))

    def _end(self, outcome: Failure | None) -> None:
        self.ended.callback(outcome)  # a Failure fails it
        self._drop()

    def _drop(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class HttpClient:
    """The way by the HTTP API of a daemon.

    Args:
        url: where that is, such as ``http://127.0.0.1:8080``.
        agent: what makes the connections.
        clock: the reactor's clock, in seconds.
        token: the bearer token, if it wants one; it is never shown.
    """

    def __init__(self, url: str, agent: IAgent, clock: IReactorTime, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = HTTPClient(agent)
        self._clock = clock
        self._headers: dict[bytes | str, bytes | str] = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def call(self, service: str, action: str, payload: Any, timeout: float, progress: Progress | None) -> Any:
        """As `Client.call`."""
        path = f"/services/{checked_bus_name(service, 'a service')}/{checked_bus_name(action, 'an action')}"
        answer = self._answer(f"{path}?{urlencode({'timeout': f'{timeout:.15g}'})}", payload, progress)
        late = CallTimeout(f"{service}.{action}: {self._url} has not answered within {timeout:g} s")
        return await self._within(timeout + GRACE_SECONDS, late, answer)

    async def publish(self, channel: str, payload: Any) -> int:
        """As `Client.publish`."""
        if not isinstance(payload, dict):
            raise MessageError(f"a message is an object; for {channel!r} there is a {type(payload).__name__}")
        path = f"/broadcasts/{quote(checked_channel(channel), safe='')}"
        answer = await self._within(ANSWER_SECONDS, self._silent(), self._answer(path, payload, None))
        if not isinstance(answer, dict) or not isinstance(answer.get("receivers"), int):
            raise self._stranger("there is no number of receivers")
        receivers: int = answer["receivers"]
        return receivers

    async def listen(self, channels: Sequence[str], heard: Heard, told: Told) -> None:
        """As `Client.listen`."""
        names = [("channel", checked_channel(channel)) for channel in channels]
        path = f"/events?{urlencode([('types', 'broadcast'), *names])}"

        def take(event: Event) -> object:
            if event.name != "broadcast":
                return False
            try:
                message = msgspec.json.decode(event.data, type=_Broadcast)
            except msgspec.DecodeError as error:
                raise self._stranger(f"an event is no broadcast: {error}") from None
            return heard(message.channel, bytes(message.payload))

        stream = await self._stream(path, take)
        while True:
            try:
                await stream.ended
                return
            except BrokenStream as error:
                told(f"{self._url}: {error}; what is sent meanwhile is missed")
            stream = await self._stream_again(path, take)
            told(f"{self._url} is connected again")

    async def close(self) -> None:
        """As `Client.close`: there is nothing that outlives a call."""

    async def _stream_again(self, path: str, take: Callable[[Event], object]) -> _Stream:
        while True:
            await deferLater(self._clock, RETRY_SECONDS)
            try:
                return await self._stream(path, take)
            except BusUnavailable:
                continue

    async def _stream(self, path: str, take: Callable[[Event], object]) -> _Stream:
        response = await self._within(ANSWER_SECONDS, self._silent(), self._request("GET", path, "text/event-stream"))
        if response.code != 200:
            raise await self._error(response)
        if not _is_stream(response):
            raise self._stranger("there is no stream of events")
        stream = _Stream(take)
        response.deliverBody(stream)
        return stream

    async def _answer(self, path: str, payload: Any, progress: Progress | None) -> Any:
        """POST ``payload``, and return the answer's body, or the result at the end of its stream."""
        accept = "application/json" if progress is None else "text/event-stream"
        response = await self._request("POST", path, accept, wire.checked_size(encoding.encode(payload)))
        if not 200 <= response.code < 300:
            raise await self._error(response)
        if not _is_stream(response):
            return self._decode(await self._body(response))
        results: list[Any] = []

        def take(event: Event) -> bool:
            data = self._decode(event.data.encode())
            if event.name == "error":
                raise error_from(data) or self._stranger("an error is no problem object")
            if event.name == "progress" and progress is not None:
                progress(data)
            if event.name == "result":
                results.append(data)
            return bool(results)

        stream = _Stream(take)
        response.deliverBody(stream)
        try:
            await stream.ended
        except BrokenStream as error:
            raise BusUnavailable(f"{self._url}: {error}; whether it was done is not known") from None
        return results[0]

    async def _request(self, method: str, path: str, accept: str, body: bytes | None = None) -> Any:
        headers = {**self._headers, "Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return await self._http.request(
                method,
                self._url + path,
                headers=headers,
                data=None if body is None else _Body(body),
                allow_redirects=False,  # a token is not for whoever that leads to
                unbuffered=True,
            )
        except UNREACHABLE as error:
            raise self._lost(error) from error

    async def _body(self, response: Any) -> bytes:
        parts: list[bytes] = []
        try:
            await response.collect(parts.append)
        except UNREACHABLE as error:
            raise self._lost(error) from error
        return b"".join(parts)

    async def _error(self, response: Any) -> BusError:
        body = await self._body(response)
        try:
            problem = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = None
        if (found := error_from(problem)) is not None:
            return found
        if PROXY_ERRORS.get(response.code) is NotAllowed:
            return NotAllowed(f"{self._url} refuses this: HTTP {response.code}")
        return self._stranger(f"its answer is HTTP {response.code} and no problem object")

    def _decode(self, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._stranger(f"its answer is no JSON: {error}") from None

    def _lost(self, error: Exception) -> Exception:
        reasons: list[Failure] = getattr(error, "reasons", [])
        if isinstance(error, net.ConnectingCancelledError) or any(each.check(CancelledError) for each in reasons):
            return CancelledError()
        return BusUnavailable(f"{self._url}: {_reason(error)}")

    def _stranger(self, why: str) -> BusUnavailable:
        return BusUnavailable(f"{self._url} does not talk as a daemon does: {why}")

    def _silent(self) -> BusUnavailable:
        return BusUnavailable(f"{self._url} has not answered within {ANSWER_SECONDS:g} s")

    def _within(self, seconds: float, late: BusError, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        def fail(_: object, __: float) -> None:
            raise late

        return Deferred.fromCoroutine(work).addTimeout(seconds, self._clock, fail)


class _Broadcast(msgspec.Struct):
    channel: str
    payload: msgspec.Raw


def error_from(problem: object) -> BusError | None:
    """Return the error that ``problem``, an object as in RFC 9457, tells of; None if it is none."""
    if not isinstance(problem, dict) or not isinstance(problem.get("status"), int):
        return None
    status, detail = problem["status"], problem.get("detail") or problem.get("title") or "an error without a text"
    code = problem.get("code")
    if code == "remote_error":
        return wire.parse_error({**problem, "error": detail, "code": problem.get("remote_code")})
    text = encoding.printable(f"{detail!s:.1000}")
    kind = ERRORS.get(code) if isinstance(code, str) else PROXY_ERRORS.get(status)
    if kind is not None:
        return kind(text)
    return wire.parse_error({**problem, "error": detail, "code": None})  # the code is the daemon's, not a service's


def _is_stream(response: Any) -> bool:
    values = response.headers.getRawHeaders("Content-Type", [""])
    return str(values[-1]).partition(";")[0].strip().lower() == "text/event-stream"


def _reason(error: BaseException | None) -> str:
    """Return what went wrong with a connection, on one line."""
    if isinstance(error, ResponseFailed | RequestTransmissionFailed) and error.reasons:
        error = error.reasons[-1].value
    if isinstance(error, SSL.Error):
        reasons = [str(each[-1]) for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        return UNTRUSTED if UNVERIFIED in reasons else f"TLS has failed: {', '.join(reasons) or 'no reason is given'}"
    if isinstance(error, VerificationError):
        return "its certificate is for other hosts than the one of the URL"
    return encoding.printable(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
