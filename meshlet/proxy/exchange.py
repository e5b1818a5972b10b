"""One request, from its head to the last byte of its response.

An exchange sits between a downstream stream and an upstream stream and knows no codec: it routes,
takes a stream from the pool, passes bodies on as they come, and counts what happened at the end.
Every error comes to `fail`, which makes of it a second send, a local reply, or an abort.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from meshlet.errors import (
    BadRequest,
    DownstreamGone,
    NoRoute,
    ProxyError,
    StreamIdle,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamReset,
    UpstreamTimeout,
)
from meshlet.http.head import UNTIL_CLOSE, field_value
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.proxy.settings import ListenerSettings, RequestStats, RouteAction, Runtime
    from meshlet.proxy.streams import DownstreamStream
    from meshlet.upstream.cluster import Endpoint
    from meshlet.upstream.connection import UpstreamConnection


class Progress(IntEnum):
    """How far one of the two messages is."""

    WAITING = 0  # no byte of it has been passed on
    BODY = 1
    COMPLETE = 2


_WAITING, _BODY, _COMPLETE = Progress

#: methods that may be sent twice (RFC 9110 section 9.2.2)
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

# A request body is kept for a second send while it is not larger than this.
_LONGEST_TAPE = 65536


class Exchange:
    """It is its upstream stream's listener; the downstream stream calls `start`, `request_data`, `request_end`."""

    __slots__ = (
        "_attempts",
        "_downstream",
        "_endpoint",
        "_moved",
        "_persistent",
        "_resent",
        "_route",
        "_runtime",
        "_settings",
        "_stats",
        "_tape",
        "_trailers",
        "_upstream",
        "continued",
        "flag",
        "head",
        "over",
        "received",
        "request",
        "response",
        "sent",
        "started",
        "status",
    )

    def __init__(
        self,
        downstream: DownstreamStream,
        head: RequestHead,
        settings: ListenerSettings,
        runtime: Runtime,
        now: float,
    ) -> None:
        self._downstream = downstream
        self._settings = settings
        self._runtime = runtime
        self.head = head
        self.started = now
        # where it goes
        self._route: RouteAction | None = None
        self._stats: RequestStats = settings.unrouted
        self._endpoint: Endpoint | None = None
        self._upstream: UpstreamConnection | None = None
        self._attempts = 0
        self._resent = False
        self._persistent = True  # the app keeps its connection
        # how far it is
        self.request: Progress = _WAITING
        self.response: Progress = _WAITING
        self.continued = False  # the app said 100 Continue
        self.over = False
        #: request body that may have to be sent (again); None where it is too long or cannot be needed any more
        self._tape: list[bytes] | None = None
        self._trailers: tuple[bytes, ...] = ()
        self._moved = 0
        # what the log tells
        self.status = 0
        self.flag = ""
        self.received = 0
        self.sent = 0

    # --- the request, from downstream ---

    def start(self, data: bytes, complete: bool) -> None:
        """Route the request and send it on its way, with what came of its body."""
        head = self.head
        if complete:
            self.request = _COMPLETE
        route = self._settings.routes.match(head)
        if route is None:
            self.fail(NoRoute("no route takes this request"))
            return
        self._route = route
        self._stats = stats = route.stats
        stats.active += 1
        if head.method == b"CONNECT" and not route.connect:
            self.fail(NoRoute("the route does not allow CONNECT", 405))
            return
        if head.upgrade is not None and not _allowed(head.upgrade, route.upgrades):
            head.upgrade = None  # the app is asked without; RFC 9110 section 7.8 lets a server ignore an upgrade
        if route.max_body is not None and head.length > route.max_body:
            self.fail(_too_large(route.max_body))
            return
        if complete:
            # From the request's last byte the route's timeout runs.
            timeout = route.timeout
            self._downstream.set_deadline(self.started + timeout if timeout else NEVER)
        else:
            self._await_movement(self.started)
        if head.length != 0:
            self.received = len(data)
            if route.max_body is not None and self.received > route.max_body:
                self.fail(_too_large(route.max_body))
                return
            self._tape = [data] if data else []
        self._attempt(fresh=False)

    def request_data(self, data: bytes) -> None:
        """Take a piece of the request body."""
        self.request = _BODY
        self.received += len(data)
        route = self._route
        assert route is not None
        if route.max_body is not None and self.received > route.max_body:
            self.fail(_too_large(route.max_body))
            return
        tape = self._tape
        if tape is not None:
            tape.append(data)
            if self.received > _LONGEST_TAPE and self._upstream is not None:
                self._tape = None
        if self._upstream is not None:
            self._upstream.send_data(data)
        else:
            self._downstream.pause_reading()  # until there is a connection

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the request body."""
        self.request = _COMPLETE
        self._trailers = trailers
        if self._upstream is not None:
            self._upstream.send_end(trailers)
        if self.response is _WAITING:
            assert self._route is not None
            timeout = self._route.timeout
            self._downstream.set_deadline(self._runtime.clock() + timeout if timeout else NEVER)

    def on_downstream_paused(self, paused: bool) -> None:
        """The client takes no more bytes for now, or takes them again."""
        if self._upstream is not None:
            if paused:
                self._upstream.pause_reading()
            else:
                self._upstream.resume_reading()

    # --- the way to the app ---

    def _attempt(self, *, fresh: bool) -> None:
        route = self._route
        assert route is not None
        self._endpoint = None
        try:
            self._endpoint = endpoint = route.cluster.pick()
            self._attempts += 1
            endpoint.active += 1
            if fresh:
                endpoint.pool.acquire_fresh(self)
                return
            stream = endpoint.pool.acquire(self, careful=self.head.method not in IDEMPOTENT)
        except UpstreamError as error:
            self.fail(error)
            return
        if stream is not None:
            self.on_stream(stream)

    def on_stream(self, stream: UpstreamConnection) -> None:
        """Take the connection that `_attempt` asked for."""
        self._upstream = stream
        head = self.head
        endpoint = self._endpoint
        assert endpoint is not None
        endpoint.requests_total += 1
        lines = self._downstream.upstream_lines(head)
        tape = self._tape
        if tape is None:
            stream.send_head(self, head, lines, b"", True)
            return
        complete = self.request is _COMPLETE
        stream.send_head(self, head, lines, b"".join(tape), complete and not self._trailers)
        if complete and self._trailers:
            stream.send_end(self._trailers)
        if not stream.reused or self.received > _LONGEST_TAPE:
            self._tape = None  # a fresh connection that dies is no stale one: nothing is sent twice
        if not complete:
            self._downstream.resume_reading()

    def on_no_stream(self, error: UpstreamError) -> None:
        """There is no connection to be had."""
        self.fail(error)

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream broke."""
        self.fail(error)

    def on_upstream_paused(self, paused: bool) -> None:
        """The app takes no more bytes for now, or takes them again."""
        if self.request is _COMPLETE:
            return
        if paused:
            self._downstream.pause_reading()
        else:
            self._downstream.resume_reading()

    # --- the response, from upstream ---

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Take a response head: an interim one, the final one, or the beginning of a tunnel."""
        status = head.status
        if status < 200:
            if status == 101:
                self._switch_protocols(head)
            elif self.head.minor == 1:  # a 1.0 client knows no interim responses
                self.continued |= status == 100
                self._downstream.send_interim(head)
            return
        self.status = status
        if self.head.method == b"CONNECT" and status < 300:
            self._tunnel(head)
            return
        self.response = _BODY
        self._persistent = not head.close and (head.minor == 1 or head.keep_alive) and head.length != UNTIL_CLOSE
        if head.timeout is not None:
            assert self._endpoint is not None
            self._endpoint.pool.learn_idle_timeout(head.timeout)
        now = self._runtime.clock()
        self._tape = None
        self.sent = len(data)
        self._downstream.send_head(head, int((now - self.started) * 1000), data, complete)
        if complete:
            self._finish(now)
        elif not self.over:
            self._await_movement(now)

    def on_data(self, data: bytes) -> None:
        """Take a piece of the response body."""
        self.sent += len(data)
        self._downstream.send_data(data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the response body."""
        self._downstream.send_end(trailers)
        self._finish(self._runtime.clock())

    # --- tunnels ---

    def _switch_protocols(self, head: ResponseHead) -> None:
        asked = self.head.upgrade
        if asked is None:
            self._break("the app switched protocols though nobody asked for it")
        elif head.upgrade is None or not _offered(head.upgrade, asked):
            self._break("the app switched to a protocol that was not asked for")
        else:
            self.status = 101
            head.lines += (b"Connection: upgrade", b"Upgrade: " + head.upgrade)
            self._tunnel(head)

    def _tunnel(self, head: ResponseHead) -> None:
        from meshlet.proxy.tunnel import join

        self.response = _BODY
        self._downstream.send_interim(head)
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        self._downstream.set_deadline(NEVER)
        relay = join(
            self._downstream.detach(), upstream.detach(), self._runtime, self._settings.limits, self._tunnel_closed
        )
        self._downstream.tunnel_started(relay)

    def _tunnel_closed(self, received: int, sent: int, flag: str) -> None:
        self.received, self.sent, self.flag = received, sent, flag
        self._upstream_over()
        now = self._runtime.clock()
        self._record(now)
        self._downstream.finished(now)

    # --- the end ---

    def _await_movement(self, now: float) -> None:
        idle = self._settings.limits.stream_idle_timeout
        self._downstream.set_deadline(now + idle if idle else NEVER)

    def on_deadline(self, now: float) -> float:
        """Fail where nothing moved for too long; return when to look again."""
        if self.response is _WAITING and self.request is _COMPLETE:
            assert self._route is not None
            self.fail(UpstreamTimeout(f"no response within {self._route.timeout:g} s"))
            return NEVER
        moved = self.received + self.sent
        idle = self._settings.limits.stream_idle_timeout
        if moved != self._moved:
            self._moved = moved
            return now + idle
        # A client that stopped half-way through its request, or an app (or client) half-way through the response.
        self.fail(StreamIdle(f"no byte moved for {idle:g} s", 408 if self.request is not _COMPLETE else 504))
        return NEVER

    def _break(self, detail: str) -> None:
        self.fail(UpstreamProtocolError(detail))

    def fail(self, error: ProxyError) -> None:
        """Turn an error into a second send, a local reply, or an abort. The one place where that is decided."""
        if self.over:
            return
        upstream, self._upstream = self._upstream, None
        if self._may_send_again(error, upstream):
            assert self._endpoint is not None
            self._resent = True
            self._endpoint.active -= 1
            self._attempt(fresh=True)
            return
        if upstream is not None:
            upstream.abort()
        elif self._endpoint is not None:
            self._endpoint.pool.cancel(self)
        self.flag = error.flag
        self._upstream_over()
        if isinstance(error, DownstreamGone):
            pass
        elif self.response is _WAITING:
            self.status = error.status
            self._downstream.send_local_reply(error, self._where())
        else:
            self._downstream.abort()
        self._finish(self._runtime.clock())

    def _may_send_again(self, error: ProxyError, upstream: UpstreamConnection | None) -> bool:
        """Say whether the app closed a pooled connection before it saw a request that may be sent twice."""
        if not (isinstance(error, UpstreamReset) and upstream is not None and upstream.reused):
            return False
        if upstream.response_began or self.response is not _WAITING or self.continued or self._resent:
            return False
        assert self._endpoint is not None
        pool = self._endpoint.pool
        pool.stale_total += 1
        pool.learn_idle_timeout(self.started - upstream.idle_since)
        return self.head.method in IDEMPOTENT and (self.head.length == 0 or self._tape is not None)

    def _where(self) -> str:
        if self._route is None:
            return ""
        attempts = f"{self._attempts} attempt{'' if self._attempts == 1 else 's'}"
        endpoint = f", endpoint {self._endpoint.name}" if self._endpoint is not None else ""
        return f"cluster {self._route.cluster.name}{endpoint}, {attempts}"

    def _upstream_over(self) -> None:
        if self._endpoint is not None and not self.over:
            self._endpoint.active -= 1

    def _finish(self, now: float) -> None:
        if self.over:
            return
        upstream = self._upstream
        if upstream is not None:
            self._upstream = None
            assert self._endpoint is not None
            self._endpoint.active -= 1
            # An app that answered before it had the whole request is not sent the rest.
            if self.request is _COMPLETE and self._persistent:
                upstream.release(now)
            else:
                upstream.abort()
        self.response = _COMPLETE
        self._record(now)
        self._downstream.finished(now)

    def _record(self, now: float) -> None:
        self.over = True
        duration = now - self.started
        if self._route is not None:
            self._stats.active -= 1
        self._stats.record(self.status, self.flag, duration, self.received, self.sent)
        log = self._settings.access_log
        if log is not None:
            head = self.head
            log.record(
                (
                    self._runtime.wall_clock() - duration,
                    duration,
                    self._settings.name,
                    self._route.cluster.name if self._route is not None else None,
                    "HTTP/1.1" if head.minor else "HTTP/1.0",
                    head.method,
                    head.target,
                    field_value(head.lines, b"host"),
                    self.status,
                    self.flag,
                    self.received,
                    self.sent,
                    self._downstream.remote,
                    self._endpoint.name if self._endpoint is not None else None,
                    head.request_id,
                    self._attempts,
                )
            )


def _too_large(limit: int) -> BadRequest:
    return BadRequest(f"the request body is larger than {limit} bytes", 413)


def _offered(protocol: bytes, offers: bytes) -> bool:
    return protocol.strip().lower() in {offer.strip().lower() for offer in offers.split(b",")}


def _allowed(offers: bytes, allowed: frozenset[bytes]) -> bool:
    # An h2c upgrade would let requests past every rule on this proxy, so no setting allows it.
    names = {offer.strip().partition(b"/")[0].lower() for offer in offers.split(b",")}
    return b"h2c" not in names and (b"*" in allowed or names <= allowed)
