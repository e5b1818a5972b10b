"""A second try beside the first one: whichever answers first is the exchange's, the other is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.attempt import Attempt

if TYPE_CHECKING:
    from meshlet.errors import UpstreamError
    from meshlet.http.head import ResponseHead
    from meshlet.proxy.exchange import Exchange
    from meshlet.proxy.tries import Tries
    from meshlet.resilience.breaker import Breaker
    from meshlet.upstream.connection import UpstreamConnection
    from meshlet.upstream.endpoint import Endpoint


class Hedge:
    """The second try's upstream listener. Once `adopted` it passes everything on to the exchange."""

    __slots__ = ("_breaker", "_exchange", "_over", "_tries", "adopted", "connect", "endpoint", "span_id",
                 "started", "stream")  # fmt: skip

    def __init__(self, exchange: Exchange, tries: Tries, endpoint: Endpoint, breaker: Breaker, now: float) -> None:
        """`breaker` counts it among its retries already."""
        self._exchange = exchange
        self._tries = tries
        self._breaker = breaker
        self._over = False
        self.endpoint = endpoint
        self.stream: UpstreamConnection | None = None
        self.started = now
        self.connect: float | None = None
        self.span_id = exchange.next_span() if exchange.trace is not None else b""
        self.adopted = False

    def begin(self) -> None:
        """Ask for a connection. Raises UpstreamError; `cancel` is still to be called then."""
        self.endpoint.active += 1
        stream = self.endpoint.pool.acquire(self, self._breaker, self.started, careful=False)
        if stream is not None:
            self.on_stream(stream)

    def cancel(self) -> None:
        """Give it up."""
        if self._over or self.adopted:
            return
        self._over = True
        self._breaker.retry_over()
        self.endpoint.active -= 1
        if self.stream is not None:
            self.stream.abort()
        else:
            self.endpoint.pool.cancel(self)

    def attempt(self, now: float, flag: str = "", reason: str = "", status: int = 0) -> Attempt:
        """Return this try as one that is over."""
        origin = self._exchange.started
        first_byte = now - self.started - (self.connect or 0.0) if status else None
        return Attempt(
            self.endpoint.name,
            flag,
            reason,
            status,
            self.started - origin,
            now - origin,
            self.connect,
            first_byte,
            self.span_id,
        )

    # --- from the pool ---

    def on_stream(self, stream: UpstreamConnection) -> None:
        """Send the request, if it may still be sent again: while this waited, the first try has gone on."""
        self.stream = stream
        if not stream.reused:
            self.connect = self._exchange.runtime.clock() - self.started
        if not self._tries.replayable:
            self._tries.hedge_lost(self)
            return
        self.endpoint.requests_total += 1
        self._exchange.send_copy(self, stream, self.endpoint, self.span_id)

    def on_no_stream(self, error: UpstreamError) -> None:
        """There is no connection to be had."""
        self._failed(error)

    # --- from the stream ---

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream broke."""
        if self.adopted:
            self._exchange.on_upstream_error(error)
        else:
            self._failed(error)

    def on_upstream_paused(self, paused: bool) -> None:
        """The app takes no more bytes for now; all of the request is with the transport already."""

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Take a response head."""
        if self.adopted:
            self._exchange.on_response(head, data, complete)
        elif head.status >= 200:
            self._tries.hedge_responded(self, head, data, complete)

    def on_data(self, data: bytes) -> None:
        """Take a piece of the response body."""
        if self.adopted:
            self._exchange.on_data(data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the response body."""
        if self.adopted:
            self._exchange.on_end(trailers)

    def _failed(self, error: UpstreamError) -> None:
        self._tries.hedge_failed(self, error)
