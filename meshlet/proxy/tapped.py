"""An exchange that somebody looks at: it does what it did before, and notes what passes in both directions.

Only exchanges that begin while a tap is open are of such a class; see DownstreamConnection.on_request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.grammar import without_named
from meshlet.http.head import field_value
from meshlet.http.reply import date_line, local_reply, own_response
from meshlet.proxy.exchange import Exchange
from meshlet.telemetry.tap import Came

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from meshlet.errors import ProxyError
    from meshlet.http.answer import Answer
    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.http.reply import Report
    from meshlet.proxy.relay import Relay
    from meshlet.proxy.streams import DownstreamStream
    from meshlet.telemetry.tap import Taps
    from meshlet.telemetry.tap.capture import Capture

_SERVER = frozenset({b"server"})


_made: dict[type[Exchange], type[Exchange]] = {}


def tapped(cls: type[Exchange]) -> type[Exchange]:
    """Return the class of exchanges that are like those of `cls`, with a capture."""
    if cls not in _made:
        _made[cls] = type(f"Tapped{cls.__name__}", (_Tapped, cls), {})
    return _made[cls]


class _Tapped(Exchange):
    """It has no `__slots__`: two bases that have slots of their own cannot be joined."""

    _capture: Capture | None  # None where no tap can want the request, and once it has ended

    def start(self, data: bytes, complete: bool) -> None:
        """Route the request; see Exchange."""
        taps = self.runtime.taps
        self._capture = None
        try:
            capture = taps.begin(Came(self.head, self._downstream.remote_host, self._settings.name))
            if capture is not None:
                capture.request.add(data)
                capture.request.whole = complete
                self._downstream = _Watched(self._downstream, capture, taps, self._settings.server_header)
                self._capture = capture
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the request's fault
            taps.failed(error)
        super().start(data, complete)

    def request_data(self, data: bytes) -> None:
        """Take a piece of the request body; see Exchange."""
        if self._capture is not None:
            self._capture.request.add(data)
        super().request_data(data)

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the request body; see Exchange."""
        if self._capture is not None:
            self._capture.request.end(trailers)
        super().request_end(trailers)

    def decorate_own(self, status: int, lines: list[bytes]) -> None:
        """Change the head of a response of our own; see Exchange."""
        super().decorate_own(status, lines)
        if self._capture is not None:
            self._capture.response.take_lines(list(lines))

    def _tell(self, duration: float) -> None:
        super()._tell(duration)
        capture, self._capture = self._capture, None
        if capture is not None:
            try:
                self.runtime.taps.end(capture, self)
            except Exception as error:  # noqa: BLE001 - as above
                self.runtime.taps.failed(error)


class _Watched:
    """A downstream stream that passes everything on, and notes what the client gets. Notes never fail."""

    __slots__ = ("_capture", "_server_header", "_stream", "_taps")

    def __init__(self, stream: DownstreamStream, capture: Capture, taps: Taps, server_header: str) -> None:
        self._stream = stream
        self._capture = capture
        self._taps = taps
        self._server_header = server_header

    def _note(self, take: Callable[..., object], *arguments: Any) -> None:
        try:
            take(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets its response
            self._taps.failed(error)

    # --- the response ---

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response, or the head that begins a tunnel."""
        if head.status == 101 or head.status >= 200:
            self._capture.tunnel = True
            self._note(self._capture.response.take_lines, list(head.lines))
        self._stream.send_interim(head)

    def send_head(self, head: ResponseHead, milliseconds: int, data: bytes, complete: bool) -> None:
        """Send the response head, with what is there of the body."""
        self._note(self._take_head, head, milliseconds, data, complete)
        self._stream.send_head(head, milliseconds, data, complete)

    def _take_head(self, head: ResponseHead, milliseconds: int, data: bytes, complete: bool) -> None:
        """Note the head with what the stream adds to it, but for the fields of this connection."""
        lines = [*head.lines, b"x-envoy-upstream-service-time: %d" % milliseconds]
        if not head.has_date:
            lines.append(date_line()[:-2])
        if self._server_header == "overwrite":
            lines = without_named(lines, _SERVER)
        if self._server_header != "keep" and field_value(lines, b"server") is None:
            lines.append(b"server: meshlet")
        response = self._capture.response
        response.take_lines(lines)
        response.add(data)
        response.whole = complete

    def send_data(self, data: bytes) -> None:
        """Send a piece of the response body."""
        self._note(self._capture.response.add, data)
        self._stream.send_data(data)

    def send_end(self, trailers: tuple[bytes, ...]) -> None:
        """End the response body."""
        self._note(self._capture.response.end, trailers)
        self._stream.send_end(trailers)

    def send_local_reply(self, error: ProxyError, report: Report) -> None:
        """Send a whole response for an error."""
        self._stream.send_local_reply(error, report)
        self._note(self._take_reply, error, report)

    def send_answer(self, answer: Answer) -> None:
        """Send a whole response of our own."""
        self._stream.send_answer(answer)
        self._note(self._take_answer, answer)

    def _take_reply(self, error: ProxyError, report: Report) -> None:
        self._take_own(local_reply(error, self._capture.head, report, close=False))

    def _take_answer(self, answer: Answer) -> None:
        self._take_own(own_response(answer, self._capture.head, close=False))

    def _take_own(self, rendered: bytes) -> None:
        """Note the body of a response of our own; its head came by `decorate_own`, unless the client is gone."""
        response = self._capture.response
        if response.lines is not None:
            head, _, body = rendered.partition(b"\r\n\r\n")
            length = field_value(head.split(b"\r\n"), b"content-length")
            if length is not None:
                response.lines.append(b"content-length: " + length)
            response.add(body)
            response.whole = True

    def abort(self) -> None:
        """Make the client see that its response is not whole."""
        self._capture.aborted = True
        self._stream.abort()

    # --- what is only passed on ---

    @property
    def remote(self) -> str:
        """The client's address and port."""
        return self._stream.remote

    @property
    def remote_host(self) -> str:
        """The client's address."""
        return self._stream.remote_host

    @property
    def local(self) -> str:
        """The address and port that the client has reached."""
        return self._stream.local

    @property
    def trusted(self) -> bool:
        """Whether the client has a say in how its requests are treated."""
        return self._stream.trusted

    def upstream_lines(self, head: RequestHead) -> bytes:
        """Return the header lines that the request gets on its way to the app."""
        return self._stream.upstream_lines(head)

    def set_deadline(self, when: float) -> None:
        """Have `on_deadline` called at that time."""
        self._stream.set_deadline(when)

    def finished(self, now: float) -> None:
        """The exchange is over."""
        self._stream.finished(now)

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport for a tunnel."""
        return self._stream.detach()

    def tunnel_started(self, relay: Relay) -> None:
        """The transport is a tunnel's now."""
        self._stream.tunnel_started(relay)

    def pause_reading(self) -> None:
        """Stop taking request bytes."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Take request bytes again."""
        self._stream.resume_reading()
