"""A client's HTTP/1.1 connection: requests in, responses out, one at a time and in order.

IDLE --first byte--> HEAD --last byte of the head--> EXCHANGE --finished--> IDLE | FLUSHING | DISCARDING | CLOSED
FLUSHING (the client does not read its answers) --it does--> IDLE
DISCARDING (the rest of a request that was answered early) --last byte--> IDLE
any --refused--> LINGERING (the reply is out, the rest is read and thrown away) --> CLOSED
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, cast

from meshlet.errors import BadRequest, DownstreamGone, HeadTimeout, ProxyError
from meshlet.http.chunked import encode_chunk, encode_chunks, encode_last_chunk
from meshlet.http.grammar import without_named
from meshlet.http.head import RequestHead, ResponseHead, field_value
from meshlet.http.reader import RequestReader, State
from meshlet.http.reply import Report, date_line, local_reply, own_response
from meshlet.http.response import encode_response
from meshlet.intake import FULL_READ, Intake
from meshlet.proxy.exchange import Exchange, Progress
from meshlet.proxy.tapped import tapped
from meshlet.proxy.transports import is_reset, peer_name, reset
from meshlet.timers import NEVER

if TYPE_CHECKING:
    import asyncio

    from meshlet.http.answer import Answer
    from meshlet.proxy.listener import Listener
    from meshlet.proxy.relay import Relay


class Phase(IntEnum):
    """What the connection is busy with."""

    IDLE = 0
    HEAD = 1
    EXCHANGE = 2
    FLUSHING = 3
    DISCARDING = 4
    LINGERING = 5
    TUNNEL = 6
    CLOSED = 7


_IDLE, _HEAD, _EXCHANGE, _FLUSHING, _DISCARDING, _LINGERING, _TUNNEL, _CLOSED = Phase

_DONE = State.DONE
_COMPLETE = Progress.COMPLETE

# Further requests that a client may send ahead of its answers, in bytes; past it reading stops.
_PIPELINE = 65536
# How much of a request that was answered early is read and thrown away to keep the connection.
_DISCARD = 262144
# Closing at once while the client still sends would destroy our last words on their way (RFC 9112 section 9.6).
_LINGER = 2.0  # seconds
_FIRST_WAKE = 5.0  # seconds
# How long after a client's end of stream we find out whether it is gone, and how long its answer takes.
_PROBE_AFTER = 1.0
_PROBE_ANSWER = 0.02
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBE_BETWEEN_CHUNKS = b"0"
# While draining, a connection that was not told to close gets one more moment to send the request it may have begun.
_DRAIN_IDLE = 1.0  # seconds


class DownstreamConnection(Intake):
    """An HTTP/1.1 connection is its own single downstream stream. `wake` belongs to `Timers`."""

    __slots__ = (
        "_blocked",
        "_chunked",
        "_close_after",
        "_deadline",
        "_discard",
        "_exchange",
        "_listener",
        "_phase",
        "_probed",
        "_reader",
        "_requests",
        "_scheme_lines",
        "_trusted",
        "_tunnel",
        "remote",
        "remote_host",
        "wake",
    )

    def __init__(self, listener: Listener, peer: object) -> None:
        """`peer` is the client's address, as `socket.accept` gives it."""
        super().__init__()
        # per connection
        self._listener = listener
        self._reader = RequestReader(self, listener.settings.head_limits)
        #: the client's address and port, and without the port
        self.remote = peer_name(peer)
        self.remote_host = host = peer[0] if isinstance(peer, tuple) else "unknown"
        self._trusted = listener.settings.trusts(host)
        self._scheme_lines = b"x-forwarded-for: %b\r\nx-forwarded-proto: http\r\nx-request-id: " % host.encode()
        self._requests = 0
        self._probed = False
        self._blocked = False  # more is waiting to be sent than the client takes
        self._tunnel: Relay | None = None
        self.wake = NEVER
        # per request
        self._phase: Phase = _IDLE
        self._exchange: Exchange | None = None
        self._deadline = NEVER
        self._chunked = False  # the response is sent in chunks
        self._close_after = False
        self._discard = 0  # bytes of a request that was answered early which may still come

    def __repr__(self) -> str:
        return f"<DownstreamConnection {self.remote} {self._phase.name} requests={self._requests}>"

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        listener = self._listener
        listener.opened(self)
        now = listener.runtime.clock()
        self._deadline = now + (_DRAIN_IDLE if listener.draining else listener.settings.limits.idle_timeout)
        # Woken before that once, so that the first request's deadline needs no other place among the timers.
        listener.runtime.timers.schedule(self, min(self._deadline, now + _FIRST_WAKE))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
        except BadRequest as error:
            self._refuse(error)
            return
        if reader.state is _DONE:
            if reader.waiting > _PIPELINE:
                self.pause_reading()
        elif len(data) >= FULL_READ or reader.behind:
            self._rest()
        elif self._phase is _IDLE and reader.head_began:
            self._await_head_end()

    @property
    def _behind(self) -> bool:
        return self._reader.behind

    def _read_on(self) -> None:
        self.data_received(b"")
        if self.ended and self._phase is _IDLE and not self._reader.unread:
            self._close()  # that was the client's last request

    def eof_received(self) -> bool:
        if self._exchange is None:
            # Its answers may still be on their way, with requests behind them that wait.
            self.ended = self._phase is _FLUSHING
            return self.ended
        if not self._exchange.whole:
            # A body cut short must not look whole to the app.
            self._exchange.fail(BadRequest("the client closed its side before the end of the request body"))
            return False
        self.ended = True
        # Its answer may still be read, or nobody may be there any more: an end of stream looks the same.
        runtime = self._listener.runtime
        runtime.timers.schedule(self, runtime.clock() + _PROBE_AFTER)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._phase is _TUNNEL:
            return
        exchange, self._exchange = self._exchange, None
        self._forget()
        if exchange is not None:
            exchange.fail(DownstreamGone("the client closed the connection"))

    def pause_writing(self) -> None:
        self._blocked = True
        if self._exchange is not None:
            self._exchange.on_downstream_paused(True)

    def resume_writing(self) -> None:
        self._blocked = False
        if self._exchange is not None:
            self._exchange.on_downstream_paused(False)
        elif self._phase is _FLUSHING:
            self._next_request(self._listener.runtime.clock())

    # --- requests, from the reader ---

    def on_request(self, head: RequestHead, data: bytes, complete: bool) -> None:
        """Begin an exchange."""
        listener = self._listener
        settings = listener.settings
        runtime = listener.runtime
        self._requests = requests = self._requests + 1
        self._phase = _EXCHANGE
        self._close_after = (
            head.close
            or (head.minor == 0 and not head.keep_alive)
            or listener.draining
            or requests == settings.limits.max_requests_per_connection
        )
        now = runtime.clock()
        if head.request_id is None or not self._trusted:
            head.request_id = runtime.new_request_id(now)
        kind = settings.exchange
        if runtime.taps.active:
            kind = tapped(kind)
        self._exchange = exchange = kind(self, head, settings, runtime, now)
        exchange.start(data, complete)

    def on_data(self, data: bytes) -> None:
        """Pass a piece of the request body on, or throw it away where the response is out already."""
        if self._exchange is not None:
            self._exchange.request_data(data)
        elif self._phase is _DISCARDING:
            self._discard -= len(data)
            if self._discard < 0:
                self._linger()

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """End the request body."""
        if self._exchange is not None:
            self._exchange.request_end(trailers)
        elif self._phase is _DISCARDING:
            self._next_request(self._listener.runtime.clock())

    # --- the downstream stream, as an exchange sees it ---

    def upstream_lines(self, head: RequestHead) -> bytes:
        """Return the header lines that the request gets on its way to the app."""
        request_id = head.request_id
        assert request_id is not None
        if head.forwarded_for is None and head.forwarded_proto is None:
            lines = b"%b%b\r\n" % (self._scheme_lines, request_id)
        else:
            lines = self._forwarded_lines(head, request_id)
        if head.upgrade is not None:
            lines += b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade
        return lines

    def _forwarded_lines(self, head: RequestHead, request_id: bytes) -> bytes:
        peer = self._scheme_lines.partition(b": ")[2].partition(b"\r\n")[0]
        chain = peer if head.forwarded_for is None else head.forwarded_for + b", " + peer
        proto = b"http"
        if self._trusted and head.forwarded_proto in (b"http", b"https"):
            proto = head.forwarded_proto
        return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-request-id: %b\r\n" % (chain, proto, request_id)

    @property
    def local(self) -> str:
        """The address and port that the client has reached."""
        return peer_name(self._transport.get_extra_info("sockname"))

    @property
    def trusted(self) -> bool:
        """Whether the client has a say in how its requests are treated."""
        return self._trusted

    def set_deadline(self, when: float) -> None:
        """Have `on_timer` act at that time; one that is moved before it is due costs nothing."""
        self._deadline = when
        if when < self.wake:
            self._listener.runtime.timers.schedule(self, when)

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response, or the head that begins a tunnel."""
        self._transport.write(encode_response(head, b""))

    def send_head(self, head: ResponseHead, milliseconds: int, data: bytes, complete: bool) -> None:
        """Send the response head, framed as this client can read it, and what is there of the body, in one write."""
        exchange = self._exchange
        assert exchange is not None
        request = exchange.head
        extra = b"x-envoy-upstream-service-time: %d\r\n" % milliseconds
        if not head.has_date:
            extra += date_line()
        if self._listener.settings.server_header != "keep":
            extra += self._server_line(head)
        self._chunked = False
        if head.length < 0:  # CHUNKED or UNTIL_CLOSE
            if request.minor == 1:
                self._chunked = True
                extra += b"transfer-encoding: chunked\r\n"
            else:
                self._close_after = True
        # Nobody knows whether a client that waits for 100 Continue will send its body after a final response.
        if not exchange.whole and request.expects_continue and not exchange.continued:
            self._close_after = True
        if self._close_after or self._listener.draining:
            self._close_after = True
            extra += b"connection: close\r\n"
        elif request.minor == 0:
            extra += b"connection: keep-alive\r\n"
        if self._chunked:
            data = encode_chunks(data, complete=complete)
        self._transport.write(encode_response(head, extra, data))

    def _server_line(self, head: ResponseHead) -> bytes:
        if self._listener.settings.server_header == "overwrite":
            head.lines = without_named(head.lines, frozenset({b"server"}))
        elif field_value(head.lines, b"server") is not None:
            return b""
        return b"server: meshlet\r\n"

    def send_data(self, data: bytes) -> None:
        """Send a piece of the response body."""
        self._transport.write(encode_chunk(data) if self._chunked else data)

    def send_end(self, trailers: tuple[bytes, ...]) -> None:
        """End the response body."""
        if self._chunked:
            self._transport.write(encode_last_chunk(trailers))

    def send_local_reply(self, error: ProxyError, report: Report) -> None:
        """Send a whole response for an error; after a fault of the client's the connection is closed."""
        exchange = self._exchange
        assert exchange is not None
        if isinstance(error, BadRequest) or not exchange.whole or self._listener.draining:
            self._close_after = True
        if not self._transport.is_closing():
            reply = local_reply(error, exchange.head, report, close=self._close_after, decorate=exchange.decorate_own)
            self._send_own(exchange, reply)

    def send_answer(self, answer: Answer) -> None:
        """Send a whole response of our own."""
        exchange = self._exchange
        assert exchange is not None
        if not exchange.whole or self._listener.draining:
            self._close_after = True
        if not self._transport.is_closing():
            response = own_response(answer, exchange.head, close=self._close_after, decorate=exchange.decorate_own)
            self._send_own(exchange, response)

    def _send_own(self, exchange: Exchange, response: bytes) -> None:
        exchange.sent = len(response) - response.index(b"\r\n\r\n") - 4
        self._transport.write(response)

    def abort(self) -> None:
        """Make the client see that its response is not whole: a reset, for the end of stream may mean `complete`."""
        if self._tunnel is not None:
            self._tunnel.abort("")
        elif self._phase is not _CLOSED:
            self._close_after = True
            reset(self._transport)

    def finished(self, now: float) -> None:
        """Go on after the exchange."""
        exchange, self._exchange = self._exchange, None
        # `whole` says more, but mostly no more than `request` does, without a call.
        if self._phase is _EXCHANGE and exchange is not None and (exchange.request is _COMPLETE or exchange.whole):
            self._next_request(now)
        elif self._phase is _TUNNEL:
            self._forget()
        elif self._phase is _EXCHANGE and not self._transport.is_closing():
            self.resume_reading()
            if self._close_after:
                self._linger()
            else:
                self._phase = _DISCARDING
                self._discard = _DISCARD
                self.set_deadline(now + _LINGER)

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport for a tunnel, with what the client has sent into it already."""
        self._phase = _TUNNEL
        return self._transport, self._reader.tunnel()

    def tunnel_started(self, relay: Relay) -> None:
        """Remember whom to abort."""
        if self._phase is _TUNNEL:
            self._tunnel = relay

    # --- between requests ---

    def drain(self) -> None:
        """Close as soon as no request is in flight; one may be on its way already."""
        if self._phase is _IDLE:
            self._await(_DRAIN_IDLE, self._listener.runtime.clock())

    def _next_request(self, now: float) -> None:
        if self._close_after:
            self._close()
            return
        if self._blocked:
            # A client that asks on and on and never reads would fill our memory with its answers.
            self._phase = _FLUSHING
            self._await(self._listener.settings.limits.stream_idle_timeout, now)
            return
        self._phase = _IDLE
        listener = self._listener
        idle = _DRAIN_IDLE if listener.draining else listener.settings.limits.idle_timeout
        self._deadline = deadline = now + idle
        if deadline < self.wake:
            listener.runtime.timers.schedule(self, deadline)
        paused = not self._reading
        if paused:
            self.resume_reading()
        try:
            self._reader.next()
        except BadRequest as error:
            self._refuse(error)
            return
        if paused and self._reader.waiting > _PIPELINE:
            self.pause_reading()
        if self._phase is _IDLE:
            if self._reader.unread:
                self._rest()
            elif self.ended:
                if not self._reader.pumping:
                    self._close()
            elif self._reader.head_began:
                self._await_head_end()

    def _await_head_end(self) -> None:
        """From a head's first byte on, the time for it runs; more bytes do not prolong it."""
        self._phase = _HEAD
        self._await(self._listener.settings.limits.head_timeout, self._listener.runtime.clock())

    def _await(self, timeout: float, now: float) -> None:
        self.set_deadline(now + timeout if timeout else NEVER)

    # --- the end ---

    def _refuse(self, error: BadRequest) -> None:
        """Answer what cannot be read, and read no more of it."""
        self._reader.stop()
        if self._exchange is not None:
            # Within a body: the app has a part of the request already, and must not take it for the whole.
            self._exchange.fail(error)
        elif self._phase is _DISCARDING:
            self._linger()
        elif not self._transport.is_closing():
            runtime = self._listener.runtime
            nameless = RequestHead(b"", b"", 1, [b""])
            nameless.request_id = request_id = runtime.new_request_id(runtime.clock())
            self._listener.refused(error, request_id, (self.remote, self.remote_host, self.local))
            self._transport.write(local_reply(error, nameless, Report(), close=True))
            self._linger()

    def refuse(self, error: BadRequest) -> None:
        """Refuse what has been found to become no request, unless the reader has found it too."""
        if self._phase is _IDLE or self._phase is _HEAD:
            self._refuse(error)

    def _close(self) -> None:
        self._phase = _CLOSED
        self._transport.close()
        # What is still to be sent is sent, but a client that takes none of it is not waited for.
        self._await(_LINGER if self.ended else 15 * _LINGER, self._listener.runtime.clock())

    def _linger(self) -> None:
        """End our side, and throw away what the client still sends, for a short while."""
        self._reader.stop()
        if self.ended or self._transport.is_closing() or not self._transport.can_write_eof():
            self._close()
            return
        self._phase = _LINGERING
        self._transport.write_eof()
        self.resume_reading()
        self._await(_LINGER, self._listener.runtime.clock())

    def _forget(self) -> None:
        self._phase = _CLOSED
        self._reader.let_go()
        self._listener.runtime.timers.cancel(self)
        self._listener.closed(self)

    # --- timers ---

    def on_timer(self, now: float) -> float:
        """Act where the deadline has passed; it may have moved since this was scheduled."""
        if self.ended and self._phase is _EXCHANGE:
            again = self._probe(now)
            if again is not None:
                return again
        if now < self._deadline:
            return self._deadline
        self._deadline = NEVER
        match self._phase:
            case Phase.EXCHANGE:
                assert self._exchange is not None
                deadline = self._exchange.on_deadline(now)
                # Failing may have begun another phase, with a deadline of its own.
                self._deadline = min(self._deadline, deadline)
            case Phase.HEAD:
                self._refuse(HeadTimeout("the request head did not arrive in time"))
            case Phase.IDLE:
                self._close()
            case Phase.LINGERING | Phase.DISCARDING:
                self._transport.abort()
            case _:
                # What the client has not taken by now must not look whole to it.
                reset(self._transport)
        return self._deadline

    def _probe(self, now: float) -> float | None:
        """Find out whether a client that ended its side still reads; return when to look, or None when done.

        Only bytes make a host say that nobody is there, and an interim response is what every HTTP/1.1 client must
        ignore (RFC 9110 section 15.2); of all of them 100 is the one that none forgets. Within a chunked response it is
        a zero in front of the next chunk's size, where RFC 9112 section 7.1 allows any number of them.
        """
        exchange = self._exchange
        assert exchange is not None
        if not self._probed:
            self._probed = True
            if exchange.response is Progress.WAITING and exchange.head.minor == 1:
                self._transport.write(_PROBE)
                return now + _PROBE_ANSWER
            if exchange.response is Progress.BODY and self._chunked:
                self._transport.write(_PROBE_BETWEEN_CHUNKS)
                return now + _PROBE_ANSWER
        elif is_reset(self._transport):
            self._close_after = True  # no request that waits behind this one is begun
            exchange.fail(DownstreamGone("the client closed the connection"))
            self._transport.abort()
            return NEVER
        return None
