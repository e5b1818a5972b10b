"""Copies of requests to another cluster: fire and forget, and never in the way of the request itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.errors import UpstreamError, UpstreamTimeout
from meshlet.http.head import UNTIL_CLOSE, RequestHead
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.http.head import ResponseHead
    from meshlet.proxy.settings import Runtime, Target
    from meshlet.upstream.connection import UpstreamConnection

# What is kept of a body until there is a connection; a copy whose body is longer by then is given up.
_MOST_WAITING = 65536  # bytes
# For the whole copy, however long the client's own request may take.
_TIMEOUT = 15.0  # seconds


class MirroredRequest:
    """One copy; it is its upstream stream's listener. `wake` belongs to `Timers`."""

    __slots__ = ("_endpoint", "_head", "_lines", "_over", "_runtime", "_started", "_stream", "_target", "_trailers",
                 "_waiting", "_whole", "wake")  # fmt: skip

    def __init__(self, head: RequestHead, lines: bytes, target: Target, runtime: Runtime) -> None:
        """`lines` are the header lines that the request gets on its way, as they were when it was sent."""
        copy = RequestHead(head.method, head.target, 1, list(head.lines))
        copy.length = head.length
        self._head = copy
        self._lines = lines
        self._target = target
        self._runtime = runtime
        self._started = runtime.clock()
        self._stream: UpstreamConnection | None = None
        self._waiting = bytearray()
        self._whole = False
        self._trailers: tuple[bytes, ...] = ()
        self._over = True
        self.wake = NEVER

    def begin(self, data: bytes, whole: bool) -> None:
        """Send the copy, with what is there of the body."""
        target = self._target
        self._waiting += data
        self._whole = whole
        target.stats.mirrors += 1
        try:
            target.breaker.enter()
        except UpstreamError:
            target.stats.mirrors_dropped += 1
            return
        self._over = False
        try:
            self._endpoint = target.cluster.pick()
        except UpstreamError:
            target.stats.mirrors_dropped += 1
            self._over = True
            target.breaker.leave()
            return
        self._endpoint.active += 1
        self._runtime.timers.schedule(self, self._started + _TIMEOUT)
        try:
            stream = self._endpoint.pool.acquire(self, target.breaker, self._started, careful=False)
        except UpstreamError:
            self.abort()
            return
        if stream is not None:
            self.on_stream(stream)

    # --- the request ---

    def send_data(self, data: bytes) -> None:
        """Copy a piece of the request body."""
        if self._over:
            return
        if self._stream is not None:
            self._stream.send_data(data)
            return
        self._waiting += data
        if len(self._waiting) > _MOST_WAITING:
            self.abort()

    def send_end(self, trailers: tuple[bytes, ...]) -> None:
        """Copy the end of the request body."""
        self._whole = True
        self._trailers = trailers
        if self._stream is not None and not self._over:
            self._stream.send_end(trailers)

    def abort(self) -> None:
        """Give the copy up."""
        if self._over:
            return
        if self._stream is None:
            self._endpoint.pool.cancel(self)
        self._target.stats.mirrors_dropped += 1
        self._end(reuse=False)

    def on_stream(self, stream: UpstreamConnection) -> None:
        """Take the connection."""
        self._stream = stream
        self._endpoint.requests_total += 1
        data = bytes(self._waiting)
        self._waiting.clear()
        stream.send_head(self, self._head, self._lines, data, self._whole and not self._trailers)
        if self._whole and self._trailers:
            stream.send_end(self._trailers)

    def on_no_stream(self, error: UpstreamError) -> None:
        """There is no connection to be had."""
        self._fail(error)

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream broke."""
        self._fail(error)

    def on_upstream_paused(self, paused: bool) -> None:
        """The app takes no more bytes for now: what more comes would have to be kept, so that is the end."""
        if paused and not self._whole:
            self.abort()

    # --- the response, of which nobody hears ---

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Throw the response away, but keep its connection."""
        if head.status == 101:
            self.abort()
        elif head.status >= 200:
            self._endpoint.responded(head.status, self._runtime.clock() - self._started)
            if not head.persistent or head.length == UNTIL_CLOSE:
                self._end(reuse=False)
            elif complete:
                self.on_end(())

    def on_data(self, data: bytes) -> None:
        """Throw it away."""

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Give the connection back."""
        if not self._over:
            self._end(reuse=self._whole)

    def on_timer(self, now: float) -> float:
        """The time is up."""
        self._fail(UpstreamTimeout(f"no response within {_TIMEOUT:g} s"))
        return NEVER

    def _fail(self, error: UpstreamError) -> None:
        if self._over:
            return
        self._endpoint.failed(error, self._runtime.clock() - self._started)
        self.abort()

    def _end(self, *, reuse: bool) -> None:
        self._over = True
        stream, self._stream = self._stream, None
        if stream is not None:
            if reuse:
                stream.release(self._runtime.clock())
            else:
                stream.abort()
        self._waiting.clear()
        self._endpoint.active -= 1
        self._target.breaker.leave()
        self._runtime.timers.cancel(self)
