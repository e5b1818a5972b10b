"""One HTTP/1.1 connection to an endpoint; it carries one exchange at a time."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol, cast

from meshlet.errors import UpstreamError, UpstreamReset
from meshlet.http.chunked import encode_chunk, encode_chunks, encode_last_chunk
from meshlet.http.head import CHUNKED, HeadLimits, RequestHead
from meshlet.http.reader import ResponseReader, ResponseSink
from meshlet.http.request import encode_request
from meshlet.intake import FULL_READ, Intake

if TYPE_CHECKING:
    import asyncio

    from meshlet.upstream.pool import Pool


class UpstreamUser(ResponseSink, Protocol):
    """What an exchange listens to on its upstream stream."""

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream failed; it is gone already."""
        ...

    def on_upstream_paused(self, paused: bool) -> None:
        """The app takes no more bytes for now, or takes them again."""
        ...


class UpstreamConnection(Intake):
    """An HTTP/1.1 connection is its own single upstream stream."""

    __slots__ = (
        "_blocked",
        "_chunked",
        "_closed",
        "_poll",
        "_pool",
        "_reader",
        "_user",
        "idle_since",
        "reused",
    )

    def __init__(self, pool: Pool, limits: HeadLimits) -> None:
        super().__init__()
        # per connection
        self._pool = pool
        self._reader = ResponseReader(limits)
        self._closed = False
        self._blocked = False  # more is waiting to be sent than the app takes
        self._poll: select.poll | None = None  # made when it is first asked
        self.idle_since = 0.0  # the clock's time when it last came back to the pool
        self.reused = False  # it has carried an exchange before
        # per exchange
        self._user: UpstreamUser | None = None
        self._chunked = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._user is None else "active"
        return f"<UpstreamConnection {state} reused={self.reused}>"

    # --- the upstream stream, as an exchange sees it ---

    def send_head(self, user: UpstreamUser, head: RequestHead, extra: bytes, data: bytes, complete: bool) -> None:
        """Begin an exchange: the head, with what is there of the body, in one write.

        `extra` holds header lines to add, each ending in CRLF; `complete`: the body has no other data or trailers.
        """
        self._user = user
        self._reader.expect(head.method, user)
        self._chunked = chunked = head.length == CHUNKED
        if chunked:
            data = encode_chunks(data, complete=complete)
        self._transport.write(encode_request(head, extra, data))

    def send_data(self, data: bytes) -> None:
        """Send a piece of the request body."""
        self._transport.write(encode_chunk(data) if self._chunked else data)

    def send_end(self, trailers: tuple[bytes, ...]) -> None:
        """End the request body."""
        if self._chunked:
            self._transport.write(encode_last_chunk(trailers))

    def release(self, now: float) -> None:
        """Give the stream back after both messages ended cleanly."""
        self._user = None
        self._reader.let_go()
        self.reused = True
        if self._closed:
            return
        if not self._reading:
            self.resume_reading()
        # An app that does not read its request to the end may take the next one for the rest of it.
        if self._reader.surplus or self._blocked:
            self.abort()
        else:
            self._pool.release(self, now)

    def abort(self) -> None:
        """Give the stream up; the app sees its connection closed at once."""
        self._user = None
        self._reader.stop()
        if not self._closed:
            self._closed = True
            self._transport.abort()
            self._pool.lost(self)

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport for a tunnel, with what the app has sent into it already."""
        self._user = None
        self._closed = True
        self._pool.lost(self)
        return self._transport, self._reader.tunnel()

    @property
    def closed(self) -> bool:
        """Whether it can carry no exchange any more."""
        return self._closed or self._transport.is_closing()

    @property
    def stale(self) -> bool:
        """Whether the app has closed (or written to) the idle connection, though the loop has not seen it yet."""
        poll = self._poll
        if poll is None:
            self._poll = poll = select.poll()
            poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def response_began(self) -> bool:
        """Whether any byte of the current response has come."""
        return self._reader.began

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._user is None:
            # Nobody asked: whatever this is, it must not become the next request's answer.
            self.abort()
            return
        reader = self._reader
        try:
            reader.feed(data)
        except UpstreamError as error:
            self._fail(error)
            return
        if reader.unread or len(data) >= FULL_READ:
            self._rest()

    @property
    def _behind(self) -> bool:
        return self._reader.behind

    def _read_on(self) -> None:
        self.data_received(b"")

    def eof_received(self) -> bool:
        if self._user is None:
            self.abort()  # at once: `connection_lost` comes a turn later, and a request may take it in between
            return False
        try:
            self._reader.eof()
        except UpstreamError as error:
            self._fail(error)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        if self._user is not None:
            reason = "was reset by the app" if exc is not None else "was closed by the app"
            self._fail(UpstreamReset(f"the connection {reason} before the response was complete"))
            return
        self._closed = True
        self._pool.lost(self)

    def pause_writing(self) -> None:
        self._blocked = True
        if self._user is not None:
            self._user.on_upstream_paused(True)

    def resume_writing(self) -> None:
        self._blocked = False
        if self._user is not None:
            self._user.on_upstream_paused(False)

    def _fail(self, error: UpstreamError) -> None:
        user = self._user
        self.abort()
        if user is not None:
            user.on_upstream_error(error)
