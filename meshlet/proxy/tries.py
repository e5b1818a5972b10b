"""What an exchange needs once one try is not enough: retries, pauses, hedging. Made when it comes to that, not before.

Whether a request may be sent again is decided here and nowhere else: `after_error` and `after_response`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.errors import UpstreamError, UpstreamReset
from meshlet.http.head import field_value
from meshlet.proxy.hedge import Hedge
from meshlet.resilience.retry import IDEMPOTENT
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.http.attempt import Attempt
    from meshlet.http.head import ResponseHead
    from meshlet.proxy.exchange import Exchange
    from meshlet.proxy.settings import HedgeSettings
    from meshlet.upstream.connection import UpstreamConnection
    from meshlet.upstream.endpoint import Endpoint

# A proxy before the app says so where a retry could only make things worse (Envoy: router filter, HTTP headers).
_VETOES = (b"x-envoy-overloaded", b"x-envoy-ratelimited")

_GIVEN_UP = "given up: another try was answered first"
_ENDED = "given up: the request had ended"

# A connection that was closed while it was idle shows it within a round trip; later it is the app that failed.
_STALE_SHOWS_IN = 1.0  # seconds


class Tries:
    """The tries of one exchange."""

    __slots__ = (
        "_exchange",
        "_in_budget",
        "_resent",
        "_resume",
        "_retries",
        "failures",
        "flags",
        "hedge",
        "hedge_at",
        "hinted",
        "lines",
        "resume_at",
        "tried",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.failures: list[Attempt] = []  # tries that are over, without the one whose response the client gets
        self.tried: list[Endpoint] = []
        self.flags: list[str] = []  # beyond the last error's own
        self.lines: list[bytes] | None = None  # the request head before what each try adds
        self.hinted = False  # the client has got an interim response other than 100
        self._retries = 0
        self._resent = False  # after a stale connection, which is no retry of the policy's
        self._in_budget = False  # it counts among the retries of its breaker
        # a pause: before a retry, or because a step asked for it
        self.resume_at = NEVER
        self._resume: Callable[[], None] | None = None
        # the second try beside the first
        self.hedge_at = NEVER
        self.hedge: Hedge | None = None

    # --- pauses ---

    def pause(self, seconds: float, now: float, resume: Callable[[], None]) -> None:
        """Call `resume` after so many seconds, unless the exchange is over by then."""
        self._resume = resume
        self.resume_at = now + seconds
        self._exchange.downstream.set_deadline(self.resume_at)

    def go_on(self, now: float) -> None:
        """End the pause if its time has come."""
        if self.resume_at <= now:
            resume, self._resume, self.resume_at = self._resume, None, NEVER
            assert resume is not None
            resume()

    # --- retries ---

    def after_error(
        self, error: UpstreamError, endpoint: Endpoint, upstream: UpstreamConnection | None, now: float
    ) -> bool:
        """Try again after an error if that is safe and allowed; say whether. `upstream` is what broke, if any."""
        exchange = self._exchange
        self.failures.append(exchange.attempt(endpoint.name, now, error.flag, str(error)))
        began = upstream is not None and upstream.response_began
        if (
            upstream is not None
            and not began
            and isinstance(error, UpstreamReset)
            and _raced(upstream, exchange.try_started, now)
        ):
            self._note_race(upstream, endpoint)
            if self._may_resend(now):
                self._resend()
                return True
        endpoint.failed(error, now - exchange.try_started)
        self.tried.append(endpoint)
        if now < exchange.expiry and self._adopt_hedge():
            return True
        policy = exchange.policy
        if not policy.wants_error(error, response_began=began) or not self.replayable:
            return False
        if not error.unseen and not policy.may_repeat(exchange.head.method, exchange.head.lines):
            return False
        pause = 0.0
        if policy.configured:
            pause = policy.pause(self._retries + 1, exchange.runtime.random)
        else:
            assert exchange.target_cluster is not None
            if not exchange.target_cluster.cluster.has_other(self.tried):
                return False
        if not self._may_retry(pause, now, unseen=error.unseen):
            return False
        self._go_on_in(pause, now)
        return True

    def after_timeout(self, head: ResponseHead, endpoint: Endpoint, now: float) -> bool:
        """Try again where a 408 is no answer, but the app's last word on a connection that was idle; say whether.

        RFC 9110 section 15.5.9: the app says that it has received no complete request, and that the request may be
        repeated on a new connection. HAProxy and Node.js send one to idle connections. Where the request must not be
        sent again, the client gets the 408: it says truly what happened, and it may be the app's own after all.
        """
        exchange = self._exchange
        upstream = exchange.upstream
        assert upstream is not None
        if head.persistent or not _raced(upstream, exchange.try_started, now) or not self._may_resend(now):
            return False
        self._note_race(upstream, endpoint)
        reason = f"{endpoint.name} closed the idle connection with a 408"
        self.failures.append(exchange.attempt(endpoint.name, now, "", reason, head.status))
        exchange.upstream = None
        exchange.leave_endpoint()
        upstream.abort()
        self._resend()
        return True

    def after_response(self, head: ResponseHead, endpoint: Endpoint, complete: bool, now: float) -> bool:
        """Try again instead of passing a response on, if that is safe and allowed; say whether.

        `complete`: both messages are, so that the connection may carry another request.
        """
        exchange = self._exchange
        policy, upstream = exchange.policy, exchange.upstream
        assert upstream is not None
        if not self.replayable or not policy.may_repeat(exchange.head.method, exchange.head.lines):
            return False
        if any(field_value(head.lines, name) is not None for name in _VETOES):
            return False
        asked = policy.retry_after(head.lines, exchange.runtime.wall_clock())
        pause = policy.pause(self._retries + 1, exchange.runtime.random, asked)
        hedged = self.hedge is not None and self.hedge.stream is not None
        if not hedged and not self._may_retry(pause, now):
            return False
        reason = f"{endpoint.name} answered {head.status}"
        self.failures.append(exchange.attempt(endpoint.name, now, "", reason, head.status))
        self.tried.append(endpoint)
        exchange.upstream = None
        exchange.leave_endpoint()
        if complete and head.persistent:
            upstream.release(now)
        else:
            upstream.abort()
        if not self._adopt_hedge():
            self._go_on_in(pause, now)
        return True

    def _note_race(self, upstream: UpstreamConnection, endpoint: Endpoint) -> None:
        """Count a connection that the app had closed while it was idle, and learn from it."""
        exchange = self._exchange
        endpoint.pool.stale_total += 1
        if exchange.head.length == 0:  # behind a body it is not known for how long the connection was idle
            endpoint.pool.learn_idle_timeout(exchange.try_started - upstream.idle_since)

    def _may_resend(self, now: float) -> bool:
        """Whether what met such a connection may be sent again: once, by every route's default.

        RFC 9110 section 9.2.2. Nobody is to blame for that race, so it is no failure of the endpoint's; and it adds no
        load to the app, so the budget has no say.
        """
        exchange = self._exchange
        return not self._resent and exchange.head.method in IDEMPOTENT and self.replayable and now < exchange.expiry

    def _resend(self) -> None:
        """Send it again, unless there is another try already that may be waited for."""
        if self._adopt_hedge():
            return
        self._resent = True
        self._exchange.stats.retries += 1
        self._exchange.try_again(fresh=True)

    @property
    def replayable(self) -> bool:
        """Whether all of the request that was sent could be sent again, and the client has not got a byte."""
        exchange = self._exchange
        return not (exchange.continued or self.hinted) and (exchange.head.length == 0 or exchange.tape is not None)

    def _may_retry(self, pause: float, now: float, *, unseen: bool = False) -> bool:
        """Count one more retry if the policy, the time left and the budget allow it.

        `unseen`: no app has seen a byte of the try that failed. Another one then adds no load that the budget would
        have to bound.
        """
        exchange = self._exchange
        policy = exchange.policy
        if now >= exchange.expiry:
            return False
        if self._retries >= policy.attempts:
            if policy.configured:
                self.flags.append("URX")
                exchange.stats.retries_exhausted += 1
            return False
        if now + pause >= exchange.expiry or not (unseen or self._enter_budget()):
            return False
        self._retries += 1
        exchange.stats.retries += 1
        return True

    def _enter_budget(self) -> bool:
        exchange = self._exchange
        assert exchange.breaker is not None
        if not self._in_budget:
            if not exchange.breaker.try_retry():
                self.flags.append("UO")
                exchange.stats.retries_over_budget += 1
                return False
            self._in_budget = True
        return True

    def _go_on_in(self, pause: float, now: float) -> None:
        self.hedge_at = NEVER  # that was for a first try that is slow; this one has failed, and is followed up
        if pause:
            self.pause(pause, now, self._exchange.try_again)
        else:
            self._exchange.try_again()

    # --- a second try beside the first ---

    def arm_hedge(self, hedge: HedgeSettings) -> None:
        """Have a second try begun when the first one takes long."""
        exchange = self._exchange
        assert exchange.target_cluster is not None
        after = hedge.after
        if after is None:
            after = hedge.latency[exchange.target_cluster.cluster.name].value
        if after is not None and exchange.head.upgrade is None:
            self.hedge_at = exchange.try_started + after

    def begin_hedge(self, now: float) -> None:
        """Begin a second try, if that is safe and allowed."""
        exchange = self._exchange
        head, target, breaker = exchange.head, exchange.target_cluster, exchange.breaker
        self.hedge_at = NEVER
        assert target is not None
        assert breaker is not None
        if exchange.endpoint is None or not self.replayable or not exchange.policy.may_repeat(head.method, head.lines):
            return
        if not breaker.try_retry():
            exchange.stats.retries_over_budget += 1
            return
        try:
            endpoint = target.cluster.pick(None, (*self.tried, exchange.endpoint))
        except UpstreamError:
            breaker.retry_over()
            return
        exchange.stats.hedges += 1
        exchange.attempts += 1
        self.hedge = hedge = Hedge(exchange, self, endpoint, breaker, now)
        try:
            hedge.begin()
        except UpstreamError as error:
            self.hedge_failed(hedge, error)

    def hedge_failed(self, hedge: Hedge, error: UpstreamError) -> None:
        """Go on without the second try."""
        now = self._exchange.runtime.clock()
        hedge.endpoint.failed(error, now - hedge.started)
        self.failures.append(hedge.attempt(now, error.flag, str(error)))
        self.tried.append(hedge.endpoint)
        self.hedge_lost(hedge)

    def hedge_lost(self, hedge: Hedge) -> None:
        """The second try is over, or not needed any more."""
        self.hedge = None
        hedge.cancel()

    def hedge_responded(self, hedge: Hedge, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Take the response of the second try, unless the first one may still do better."""
        exchange = self._exchange
        now = exchange.runtime.clock()
        assert hedge.stream is not None
        stale = head.status == 408 and not head.persistent and _raced(hedge.stream, hedge.started, now)
        if stale or head.status in exchange.policy.statuses:
            hedge.endpoint.responded(head.status, now - hedge.started)
            reason = f"{hedge.endpoint.name} answered {head.status}"
            self.failures.append(hedge.attempt(now, "", reason, head.status))
            self.tried.append(hedge.endpoint)
            self.hedge_lost(hedge)
            return
        exchange.stats.hedges_won += 1
        upstream, endpoint = exchange.upstream, exchange.endpoint
        assert endpoint is not None
        self.failures.append(exchange.attempt(endpoint.name, now, "", _GIVEN_UP))
        if upstream is not None:
            upstream.abort()
        else:
            endpoint.pool.cancel(exchange)
        exchange.leave_endpoint()
        self._adopt_hedge()
        exchange.on_response(head, data, complete)

    def _adopt_hedge(self) -> bool:
        """Go on with the second try as the only one; say whether there is one that has been sent."""
        exchange = self._exchange
        hedge, self.hedge = self.hedge, None
        if hedge is None:
            return False
        if hedge.stream is None:
            hedge.cancel()
            return False
        exchange.endpoint, exchange.upstream = hedge.endpoint, hedge.stream
        exchange.upstream_host = hedge.endpoint.name
        exchange.try_started = hedge.started
        exchange.adopt(hedge.started, hedge.connect, hedge.span_id)
        hedge.adopted = True
        # Its place among the retries goes on with the exchange, which has one at most.
        assert exchange.breaker is not None
        if self._in_budget:
            exchange.breaker.retry_over()
        self._in_budget = True
        return True

    # --- the end ---

    def settle(self, reason: str = _GIVEN_UP) -> None:
        """Give back what was for further tries: there will be none, for that reason."""
        exchange = self._exchange
        self.hedge_at = NEVER
        if self.hedge is not None:
            self.failures.append(self.hedge.attempt(exchange.runtime.clock(), "", reason))
            self.hedge_lost(self.hedge)
        if self._in_budget:
            self._in_budget = False
            assert exchange.breaker is not None
            exchange.breaker.retry_over()

    def end(self) -> None:
        """The exchange is over."""
        exchange = self._exchange
        self._resume = None
        self.settle(_ENDED)
        if (self._retries or self._resent) and exchange.status < 500 and not exchange.flag:
            exchange.stats.retries_successful += 1


def _raced(upstream: UpstreamConnection, started: float, now: float) -> bool:
    """Whether what ended a try that was `started` then can have been said while the connection was idle."""
    return upstream.reused and now - started < _STALE_SHOWS_IN
