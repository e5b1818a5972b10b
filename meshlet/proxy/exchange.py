"""One request, from its head to the last byte of its response.

An exchange sits between a downstream stream and an upstream stream and knows no codec: it routes,
takes a stream from the pool, passes bodies on as they come, and counts what happened at the end.
Every error comes to `fail`, which makes of it another try, a local reply, or an abort. What only
a request with more than one try needs is kept in `Tries`.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from meshlet.errors import (
    BadRequest,
    DownstreamGone,
    NoRoute,
    ProxyError,
    QueueTimeout,
    StreamIdle,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from meshlet.http.answer import Delay
from meshlet.http.grammar import without_named
from meshlet.http.head import UNTIL_CLOSE, ResponseHead
from meshlet.http.reply import Report
from meshlet.proxy.asked import asked_for
from meshlet.proxy.extras import Extras
from meshlet.proxy.facts import ExchangeFacts
from meshlet.proxy.mirror import MirroredRequest
from meshlet.proxy.tries import Tries
from meshlet.proxy.tunnel import join
from meshlet.resilience.retry import IDEMPOTENT
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.http.answer import Answer
    from meshlet.http.head import RequestHead
    from meshlet.proxy.settings import ListenerSettings, RouteAction, Runtime, Target
    from meshlet.proxy.streams import DownstreamStream
    from meshlet.resilience.breaker import Breaker
    from meshlet.resilience.retry import RetryPolicy
    from meshlet.telemetry.requests import RequestStats
    from meshlet.upstream.connection import UpstreamConnection, UpstreamUser
    from meshlet.upstream.endpoint import Endpoint


class Progress(IntEnum):
    """How far one of the two messages is."""

    WAITING = 0  # no byte of it has been passed on
    BODY = 1
    COMPLETE = 2


_WAITING, _BODY, _COMPLETE = Progress


class Exchange(ExchangeFacts):
    """It is its upstream stream's listener; the downstream stream calls `start`, `request_data`, `request_end`."""

    __slots__ = (
        "_moved",
        "_persistent",
        "breaker",
        "continued",
        "endpoint",
        "expiry",
        "over",
        "request",
        "response",
        "stats",
        "tape",
        "trailers",
        "upstream",
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
        self.runtime = runtime
        self.head = head
        self.started = now
        # where it goes
        self._route = None
        self.breaker: Breaker | None = None  # that counts it
        self.stats: RequestStats
        self.endpoint: Endpoint | None = None
        self.upstream: UpstreamConnection | None = None
        self.upstream_host = None  # the endpoint of the last try
        self.attempts = 0
        self._tries = None
        # how far it is
        self.request: Progress = _WAITING
        self.response: Progress = _WAITING
        self.continued = False  # the app said 100 Continue
        self.over = False
        self.expiry = NEVER  # when the whole wait for a response ends
        self.try_started = now
        #: request body that may have to be sent (again); None where it is too long or cannot be needed any more
        self.tape: list[bytes] | None = None
        self.trailers: tuple[bytes, ...] = ()
        self._moved = 0
        self._extras = None
        self._failures = ()
        # what the log tells
        self.status = 0
        self.flag = ""
        self.error = ""
        self.received = 0
        self.sent = 0
        self.response_head = None
        self.service_seconds = None
        self.span_id = b""
        self._connect = None
        self._responded = None
        self._request_ended = None

    # --- the request, from downstream ---

    def start(self, data: bytes, complete: bool) -> None:
        """Route the request and send it on its way, with what came of its body."""
        head = self.head
        if complete:
            self.request = _COMPLETE
            self._request_ended = self.started
        settings = self._settings
        self.trace = settings.tracer.begin(head) if settings.tracer is not None else None
        self._route = route = settings.routes.match(head)
        if route is None:
            self.target_cluster = None
            self.stats = settings.unrouted
            self.fail(NoRoute(f"no route takes this request; listener {settings.name} has {len(settings.routes)}"))
            return
        target = route.target
        if target is None and route.split is not None:
            assert head.request_id is not None
            target = route.split.choose(head.request_id)
        self.target_cluster = target
        self.stats = stats = route.stats if target is None else target.stats
        stats.active += 1
        if head.method == b"CONNECT" and not route.connect:
            self.fail(NoRoute("the route does not allow CONNECT", 405))
            return
        if head.upgrade is not None and not _allowed(head.upgrade, route.upgrades):
            head.upgrade = None  # the app is asked without; RFC 9110 section 7.8 lets a server ignore an upgrade
        if route.max_body is not None and head.length > route.max_body:
            self.fail(_too_large(route.max_body))
            return
        if head.envoy is not None or route.deadline_header is not None:
            self._route = route = asked_for(route, head, trusted=self._downstream.trusted)
            if not route.timeout:
                self.fail(deadline_passed())
                return
        if complete:
            # From the request's last byte the route's timeout runs.
            self.expiry = self.started + route.timeout
            self._downstream.set_deadline(self.started + route.soonest)
        else:
            self._downstream.set_deadline(self.started + route.idle_timeout)
        if head.length != 0:
            self.received = len(data)
            if route.max_body is not None and self.received > route.max_body:
                self.fail(_too_large(route.max_body))
                return
            self.tape = [data] if data else []
        if route.steps:
            self._take_steps(0, self.started)
        else:
            self._send()

    def request_data(self, data: bytes) -> None:
        """Take a piece of the request body."""
        if self._count(data):
            self.pass_data(data)

    def _count(self, data: bytes) -> bool:
        """Count a piece of the request body; say whether it is within the limit."""
        self.received += len(data)
        route = self._route
        assert route is not None
        if route.max_body is not None and self.received > route.max_body:
            self.fail(_too_large(route.max_body))
            return False
        return True

    def pass_data(self, data: bytes) -> None:
        """Pass a piece of the request body on, and keep it as long as it may be needed again."""
        self.request = _BODY
        tape = self.tape
        if tape is not None:
            tape.append(data)
            if self.received > self.policy.max_body and self.upstream is not None:
                self.tape = None
        if self._extras is not None and self._extras.mirror is not None:
            self._extras.mirror.send_data(data)
        if self.upstream is not None:
            self.upstream.send_data(data)
        else:
            self.hold_request()  # until there is a connection

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the request body."""
        self.request = _COMPLETE
        self.trailers = trailers
        if self._extras is not None and self._extras.mirror is not None:
            self._extras.mirror.send_end(trailers)
        if self.upstream is not None:
            self.upstream.send_end(trailers)
        if self.response is _WAITING:
            route = self._route
            assert route is not None
            self._request_ended = self.try_started = now = self.runtime.clock()
            self.expiry = min(now + route.timeout, self.started + route.deadline)
            if route.hedge is not None and self.breaker is not None:
                self._more().arm_hedge(route.hedge)
            self._downstream.set_deadline(self.soonest(now))

    def on_downstream_paused(self, paused: bool) -> None:
        """The client takes no more bytes for now, or takes them again."""
        if self.upstream is not None:
            if paused:
                self.upstream.pause_reading()
            else:
                self.upstream.resume_reading()

    # --- before it is sent ---

    def _take_steps(self, first: int, now: float) -> None:
        """Take the route's steps from `first` on; send the request unless one of them answers it."""
        route = self._route
        assert route is not None
        for index in range(first, len(route.steps)):
            outcome = route.steps[index](self, now)
            if outcome is None:
                continue
            if isinstance(outcome, Delay):
                self._more().flags.append(outcome.flag)
                self._more().pause(outcome.seconds, now, partial(self._after_delay, index + 1, outcome))
            else:
                self.answer(outcome)
            return
        self._send()

    def _after_delay(self, index: int, delay: Delay) -> None:
        now = self.runtime.clock()
        assert self._route is not None
        # The app's time begins now; the client's does not.
        end = self.started + self._route.deadline
        if now >= end:
            self.fail(deadline_passed())
            return
        if self.request is _COMPLETE:
            self.expiry = min(now + self._route.timeout, end)
        self.try_started = now
        if delay.then is not None:
            self.answer(delay.then)
            return
        self._downstream.set_deadline(self.soonest(now))
        self._take_steps(index, now)

    def answer(self, answer: Answer | ProxyError) -> None:
        """End the exchange with a response of our own."""
        if isinstance(answer, ProxyError):
            self.fail(answer)
            return
        if self.over:
            return
        self.status = answer.status
        self.flag = self._flags(answer.flag)
        self._downstream.send_answer(answer)
        self._finish(self.runtime.clock())

    def keep_asked(self) -> None:
        """Remember what the client has asked for, before something changes it."""
        self.extras.asked = self.head.target

    def _more(self) -> Tries:
        tries = self._tries
        if tries is None:
            tries = self._tries = Tries(self)
        return tries

    # --- the way to the app ---

    def _send(self) -> None:
        """Begin the first try."""
        target = self.target_cluster
        route = self._route
        assert target is not None
        assert route is not None
        self.breaker = breaker = target.breaker
        # Breaker.enter, without the call.
        if breaker.requests >= breaker.max_requests:
            self.breaker = None
            self.fail(breaker.overflow())
            return
        breaker.requests += 1
        if route.accompanied:
            self._accompany(route)
        self._attempt(fresh=False)

    def _accompany(self, route: RouteAction) -> None:
        """Begin what goes beside the first try."""
        if route.mirror is not None and self.runtime.random() < route.mirror.share:
            self._copy_to(route.mirror.target)
        if route.hedge is not None and self.request is _COMPLETE:
            self._more().arm_hedge(route.hedge)
            self._downstream.set_deadline(self.soonest(self.started))

    def _copy_to(self, target: Target) -> None:
        head = self.head
        if head.upgrade is not None or head.method == b"CONNECT":
            return  # a tunnel has no copy
        lines = self._downstream.upstream_lines(head)
        if self.trace is not None:
            lines += self.trace.lines()
        self.extras.mirror = copy = MirroredRequest(head, lines, target, self.runtime)
        copy.begin(b"".join(self.tape or ()), self.request is _COMPLETE and not self.trailers)
        if self.trailers:
            copy.send_end(self.trailers)

    def _attempt(self, *, fresh: bool) -> None:
        target = self.target_cluster
        assert target is not None
        cluster = target.cluster
        tries = self._tries
        head = self.head
        try:
            if tries is None and not cluster.hashes:
                endpoint = cluster.pick()
            else:
                key = cluster.key_of(head, self._downstream.remote_host) if cluster.hashes else None
                endpoint = cluster.pick(key, tries.tried if tries is not None else ())
            self.endpoint = endpoint
            self.upstream_host = endpoint.name
            self.attempts += 1
            self._began = self.try_started
            if self.trace is not None:
                self.span_id = self.trace.span_id if self.attempts == 1 else self.next_span()
            endpoint.active += 1
            if fresh:
                endpoint.pool.acquire_fresh(self, target.breaker)
                return
            careful = head.method not in IDEMPOTENT
            stream = endpoint.pool.acquire(self, target.breaker, self.try_started, careful=careful)
        except UpstreamError as error:
            self.fail(error)
            return
        if stream is not None:
            self._begin_try(stream)

    def next_span(self) -> bytes:
        """Return the span id of a further try: its own where each try is a span, else that of the request."""
        tracer, trace = self._settings.tracer, self.trace
        assert tracer is not None
        assert trace is not None
        tracer.next_attempt(trace)
        return trace.span_id

    def trace_lines(self, span_id: bytes) -> bytes:
        """Return the header lines that carry the trace to the app, in the name of one try's span."""
        trace = self.trace
        assert trace is not None
        trace.renew(span_id)  # a hedge may have got an id since
        return trace.lines()

    def on_stream(self, stream: UpstreamConnection) -> None:
        """Take the connection that was waited for."""
        now = self.runtime.clock()
        self._connect = now - self._began
        if self.policy.per_try_timeout and self.request is _COMPLETE:
            self.try_started = now
            self._begin_try(stream)
            if not self.over:
                self._downstream.set_deadline(self.soonest(now))
        else:
            self._begin_try(stream)

    def _begin_try(self, stream: UpstreamConnection) -> None:
        """Send the request, or what there is of it."""
        self.upstream = stream
        head = self.head
        endpoint = self.endpoint
        assert endpoint is not None
        endpoint.requests_total += 1
        route = self._route
        assert route is not None
        lines = self.attempt_lines() if route.annotates else self._downstream.upstream_lines(head)
        trace = self.trace
        if trace is not None:
            lines += trace.lines() if self._tries is None else self.trace_lines(self.span_id)
        tape = self.tape
        if tape is None:
            stream.send_head(self, head, lines, b"", True)
            return
        complete = self.request is _COMPLETE
        if not complete:
            self.take_request()  # before the app may say, within `send_head`, that this is more than it takes
        stream.send_head(self, head, lines, b"".join(tape), complete and not self.trailers)
        if complete and self.trailers:
            stream.send_end(self.trailers)
        policy = route.policy
        # Without a policy nothing is sent twice but what a stale connection has lost, or a hedge.
        wanted = stream.reused or policy.configured or route.hedge is not None
        if not wanted or self.received > policy.max_body:
            self.tape = None

    def attempt_lines(self) -> bytes:
        """Return the header lines that this try's request gets, and prepare its head."""
        head = self.head
        lines = self._downstream.upstream_lines(head)
        route = self._route
        assert route is not None
        if not route.annotates:
            return lines
        if route.attempt_rules is not None:
            tries = self._more()
            if tries.lines is None:
                tries.lines = head.lines
            head.lines = list(tries.lines)
            route.attempt_rules.apply(head.lines, self)
        if route.attempt_count:
            lines += b"x-envoy-attempt-count: %d\r\n" % self.attempts
        if route.deadline_header is not None:
            # Until the whole request is there, all of the time is left.
            now = self.runtime.clock()
            left = min(route.timeout, self.expiry - now, self.started + route.deadline - now)
            if left < NEVER:
                lines += b"%b: %d\r\n" % (route.deadline_header, round(max(0.0, left) * 1000))
        return lines

    def on_no_stream(self, error: UpstreamError) -> None:
        """There is no connection to be had."""
        error.unseen = True
        self.fail(error)

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream broke."""
        self.fail(error)

    def on_upstream_paused(self, paused: bool) -> None:
        """The app takes no more bytes for now, or takes them again."""
        if self.request is _COMPLETE:
            return
        if paused:
            self.hold_request()
        else:
            self.take_request()

    def hold_request(self) -> None:
        """Take no more of the request for now: the app cannot have it yet."""
        self._downstream.pause_reading()

    def take_request(self) -> None:
        """Take more of the request."""
        self._downstream.resume_reading()

    # --- the response, from upstream ---

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Take a response head: an interim one, the final one, or the beginning of a tunnel."""
        status = head.status
        if status < 200:
            if status == 101:
                self._switch_protocols(head)
            elif self.head.minor == 1:  # a 1.0 client knows no interim responses
                if status == 100:
                    self.continued = True
                else:
                    self._more().hinted = True
                self._downstream.send_interim(head)
            return
        self._responded = now = self.runtime.clock()
        self.service_seconds = seconds = now - self.try_started
        endpoint = self.endpoint
        assert endpoint is not None
        if status == 408 and self._more().after_timeout(head, endpoint, now):
            return
        endpoint.responded(status, seconds)
        if (
            status >= 400
            and status in self.policy.statuses
            and self._more().after_response(head, endpoint, complete and self.request is _COMPLETE, now)
        ):
            return
        self.status = status
        self.response_head = head
        if self._tries is not None:
            self._tries.settle()
            self.flag = self._flags("")
        if self.head.method == b"CONNECT" and status < 300:
            self._tunnel(head)
            return
        # whether the app keeps its connection
        self._persistent = not head.close and (head.minor == 1 or head.keep_alive) and head.length != UNTIL_CLOSE
        if head.timeout is not None:
            endpoint.pool.learn_idle_timeout(head.timeout)
        self.tape = None
        self._deliver(head, data, complete, now)

    def _deliver(self, head: ResponseHead, data: bytes, complete: bool, now: float) -> None:
        """Begin the client's response."""
        self.response = _BODY
        route = self._route
        assert route is not None
        if route.decorates or self._extras is not None:
            self._decorate(head, route)
        self.sent = len(data)
        assert self.service_seconds is not None
        self._downstream.send_head(head, int(self.service_seconds * 1000), data, complete)
        if complete:
            self._finish(now)
        elif not self.over:
            self._downstream.set_deadline(now + route.idle_timeout)

    def _decorate(self, head: ResponseHead, route: RouteAction) -> None:
        """Change the head as the route says, and as filters and limits asked."""
        rules = route.response_rules
        if rules is not None:
            rules.apply(head.lines, self)
        if route.attempt_count:
            head.lines.append(b"x-envoy-attempt-count: %d" % self.attempts)
        extras = self._extras
        if extras is not None and extras.extra_response:
            if extras.replaced_response:
                head.lines = without_named(head.lines, extras.replaced_response)
            head.lines += self._extra_lines

    def decorate_own(self, status: int, lines: list[bytes]) -> None:
        """Change the head of a response of our own as that of an app's would be."""
        route = self._route
        self.response_head = head = ResponseHead(status, 1, lines)
        if route is not None and (route.decorates or self._extras is not None):
            self._decorate(head, route)
            lines[:] = head.lines

    @property
    def _extra_lines(self) -> list[bytes]:
        return self.extra_response.split(b"\r\n")[:-1]

    def on_data(self, data: bytes) -> None:
        """Take a piece of the response body."""
        self.sent += len(data)
        self._downstream.send_data(data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the response body."""
        self._downstream.send_end(trailers)
        self._finish(self.runtime.clock())

    # --- tunnels ---

    def _switch_protocols(self, head: ResponseHead) -> None:
        asked = self.head.upgrade
        if asked is None:
            self._break("the app switched protocols though nobody asked for it")
        elif head.upgrade is None or not _offered(head.upgrade, asked):
            self._break("the app switched to a protocol that was not asked for")
        else:
            self.status = 101
            self.response_head = head
            self._responded = self.runtime.clock()
            self.service_seconds = self._responded - self.try_started
            if self._tries is not None:
                self._tries.settle()
            head.lines += (b"Connection: upgrade", b"Upgrade: " + head.upgrade)
            self._tunnel(head)

    def _tunnel(self, head: ResponseHead) -> None:
        self.response = _BODY
        self._downstream.send_interim(head)
        upstream, self.upstream = self.upstream, None
        assert upstream is not None
        self._downstream.set_deadline(NEVER)
        relay = join(
            self._downstream.detach(), upstream.detach(), self.runtime, self._settings.limits, self._tunnel_closed
        )
        self._downstream.tunnel_started(relay)

    def _tunnel_closed(self, received: int, sent: int, flag: str) -> None:
        self.received, self.sent, self.flag = received, sent, self._flags(flag)
        self.leave_endpoint()
        now = self.runtime.clock()
        self._record(now)
        self._downstream.finished(now)

    def _break(self, detail: str) -> None:
        self.fail(UpstreamProtocolError(detail))

    # --- deadlines ---

    def soonest(self, now: float) -> float:
        """Return when `on_deadline` has something to do."""
        tries = self._tries
        if tries is not None and tries.resume_at < NEVER:
            # The time may have begun to run within the pause. What comes before the first try has none.
            return tries.resume_at if self.breaker is None else min(tries.resume_at, self.expiry)
        route = self._route
        assert route is not None
        if self.response is not _WAITING or self.request is not _COMPLETE:
            return now + route.idle_timeout
        # Silence bounds this wait as well (as in Envoy): where there is no timeout, nothing else would.
        soonest = min(self.expiry, self.try_started + route.idle_timeout)
        if self.policy.per_try_timeout and not self._queued:
            soonest = min(soonest, self.try_started + self.policy.per_try_timeout)
        return min(soonest, tries.hedge_at) if tries is not None else soonest

    def on_deadline(self, now: float) -> float:
        """Go on after a pause, or fail where nothing moved for too long; return when to look again."""
        tries = self._tries
        if tries is not None and tries.resume_at < NEVER and (self.breaker is None or now < self.expiry):
            tries.go_on(now)
        elif self.response is _WAITING and self.request is _COMPLETE:
            self._waited(now, tries)
        else:
            moved = self.received + self.sent
            if moved == self._moved:
                assert self._route is not None
                # A client that stopped half-way through its request, or an app (or client) within the response.
                status = 504 if self.whole else 408
                self.fail(StreamIdle(f"no byte moved for {self._route.idle_timeout:g} s", status))
            self._moved = moved
        return NEVER if self.over else self.soonest(now)

    @property
    def _queued(self) -> bool:
        """Whether there is no room for its connection yet: no try has begun, and no endpoint is to blame."""
        return self.upstream is None and self.endpoint is not None and self.endpoint.pool.queues(self)

    def _waited(self, now: float, tries: Tries | None) -> None:
        """Do what the wait for a response has made due."""
        route = self._route
        assert route is not None
        if now >= self.expiry:
            if self._queued:
                self.fail(QueueTimeout(f"no free connection within {route.timeout:g} s"))
            else:
                self.fail(UpstreamTimeout(f"no response within {route.timeout:g} s"))
            return
        if now >= self.try_started + route.idle_timeout:
            self.fail(StreamIdle(f"no byte moved for {route.idle_timeout:g} s"))
            return
        if tries is not None and tries.hedge_at <= now:
            tries.begin_hedge(now)
        limit = self.policy.per_try_timeout
        if limit and self.endpoint is not None and not self._queued and now >= self.try_started + limit:
            self.stats.try_timeouts += 1
            error = UpstreamTimeout(f"no response to this try within {limit:g} s")
            error.unseen = self.upstream is None  # still connecting
            self.fail(error)

    # --- further tries ---

    def fail(self, error: ProxyError) -> None:
        """Turn an error into another try, a local reply, or an abort. The one place where that is decided."""
        if self.over:
            return
        now = self.runtime.clock()
        upstream, self.upstream = self.upstream, None
        endpoint = self.endpoint
        if upstream is not None:
            upstream.abort()
        elif endpoint is not None:
            endpoint.pool.cancel(self)
            self._connect = now - self._began
        self.leave_endpoint()
        if self.response is _WAITING and isinstance(error, UpstreamError):
            if self._retry_error(error, endpoint, upstream, now):
                return
        elif endpoint is not None:
            self._note_broken(error, endpoint, now)
        self.flag = self._flags(error.flag)
        self.error = str(error)
        if isinstance(error, DownstreamGone):
            if self.response is _WAITING:  # filters may have the app's
                self.status = 0
                self.response_head = None
        elif self.response is _WAITING:
            self.status = error.status
            self._downstream.send_local_reply(error, self._report())
        else:
            self._downstream.abort()
        self._finish(self.runtime.clock())

    def _retry_error(
        self, error: UpstreamError, endpoint: Endpoint | None, upstream: UpstreamConnection | None, now: float
    ) -> bool:
        """Try again after an error if that is safe and allowed; say whether."""
        return endpoint is not None and self._more().after_error(error, endpoint, upstream, now)

    def _note_broken(self, error: ProxyError, endpoint: Endpoint, now: float) -> None:
        """Note a try that is not to be followed by another."""
        self._more().failures.append(self.attempt(endpoint.name, now, error.flag, str(error), self.status))
        if isinstance(error, UpstreamError) and self.status < 500:
            endpoint.failures_total += 1

    def adopt(self, began: float, connect: float | None, span_id: bytes) -> None:
        """Take another try's place in time and in the trace."""
        self._began, self._connect, self.span_id = began, connect, span_id
        self._responded = self.service_seconds = None

    def try_again(self, *, fresh: bool = False) -> None:
        """Make another try; `fresh`: on a connection that has not been idle."""
        self.try_started = now = self.runtime.clock()
        self._connect = self._responded = self.service_seconds = None
        self._downstream.set_deadline(self.soonest(now))
        self._attempt(fresh=fresh)

    def send_copy(self, user: UpstreamUser, stream: UpstreamConnection, endpoint: Endpoint, span_id: bytes) -> None:
        """Send the whole request once more, to `endpoint`, on behalf of `user`, whose span has that id."""
        head = self.head
        host, self.upstream_host = self.upstream_host, endpoint.name  # the lines may tell it
        lines = self.attempt_lines()
        if self.trace is not None:
            lines += self.trace_lines(span_id)
        self.upstream_host = host
        stream.send_head(user, head, lines, b"".join(self.tape or ()), not self.trailers)
        if self.trailers:
            stream.send_end(self.trailers)

    # --- the end ---

    def _flags(self, flag: str) -> str:
        """Return the response flag behind those that were noted on the way, as Envoy writes them."""
        if self._tries is None or not self._tries.flags:
            return flag
        return ",".join(dict.fromkeys(filter(None, (*self._tries.flags, flag))))

    def _report(self) -> Report:
        cluster = self.target_cluster.cluster.name if self.target_cluster is not None else None
        failures = self._tries.failures if self._tries is not None else []
        return Report(self.flag, cluster, self.upstream_host, self.attempts, tuple(failures))

    def leave_endpoint(self) -> None:
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is not None:
            endpoint.active -= 1

    def _finish(self, now: float) -> None:
        if self.over:
            return
        upstream = self.upstream
        if upstream is not None:
            endpoint = self.endpoint
            assert endpoint is not None
            self.upstream = self.endpoint = None
            endpoint.active -= 1
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
        if self._tries is not None:
            self._tries.end()
        if self._extras is not None and self._extras.mirror is not None and self.request is not _COMPLETE:
            self._extras.mirror.abort()
        if self.breaker is not None:
            self.breaker.requests -= 1
        self.duration = duration = now - self.started
        if self._route is not None:
            self.stats.active -= 1
        if self._tries is not None:
            # They refer to each other, and only the garbage collector would free them.
            self._failures = self._tries.failures
            self._tries = None
        self.tape = None  # a log keeps the exchange for a moment
        self._tell(duration)

    def _tell(self, duration: float) -> None:
        """Count it, and have it recorded by whoever wants to."""
        settings = self._settings
        series = self.stats.record(self.status, self.flag, duration, self.received, self.sent)
        trace = self.trace
        if trace is not None:
            if trace.sampled:
                self.stats.exemplify(series, duration, trace.trace_id, self.runtime.wall_clock())
            assert settings.tracer is not None
            if trace.sampled or settings.tracer.sample_errors:
                settings.tracer.end(self, trace)
        if (
            self.flag or duration >= settings.slow or self.status >= 500 or self.attempts > 1
        ) and settings.explanations is not None:
            settings.explanations.add(self)
        for log in settings.logs:
            log.record(self)

    # --- what others ask for ---

    @property
    def whole(self) -> bool:
        """Whether the client has sent its whole request."""
        return self.request is _COMPLETE

    @property
    def extras(self) -> Extras:
        """What only some exchanges need."""
        extras = self._extras
        if extras is None:
            extras = self._extras = Extras()
        return extras

    @property
    def extra_response(self) -> bytes:
        """Lines, each ending in CRLF, for the head of the response."""
        return self._extras.extra_response if self._extras is not None else b""

    @extra_response.setter
    def extra_response(self, lines: bytes) -> None:
        self.extras.extra_response = lines

    @property
    def replaced_response(self) -> frozenset[bytes]:
        """Fields of the app's response that they take the place of."""
        return self._extras.replaced_response if self._extras is not None else frozenset()

    @replaced_response.setter
    def replaced_response(self, names: frozenset[bytes]) -> None:
        self.extras.replaced_response = names

    @property
    def policy(self) -> RetryPolicy:
        """When it may be sent again."""
        assert self._route is not None
        return self._route.policy


def deadline_passed() -> UpstreamTimeout:
    """Return the error for a request that nobody waits for any more."""
    return UpstreamTimeout("the client's deadline has passed")


def _too_large(limit: int) -> BadRequest:
    return BadRequest(f"the request body is larger than {limit} bytes", 413)


def _offered(protocol: bytes, offers: bytes) -> bool:
    return protocol.strip().lower() in {offer.strip().lower() for offer in offers.split(b",")}


def _allowed(offers: bytes, allowed: frozenset[bytes]) -> bool:
    # An h2c upgrade would let requests past every rule on this proxy, so no setting allows it.
    names = {offer.strip().partition(b"/")[0].lower() for offer in offers.split(b",")}
    return b"h2c" not in names and (b"*" in allowed or names <= allowed)
