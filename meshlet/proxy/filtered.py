"""An exchange whose route has filters: both messages pass through the chain on their way.

The chain comes after the route's limits and before its rewrites. Retries come after the request has passed it, and
before the response does, so that filters see one request and one response however many tries there are.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlet.errors import ProxyError, StreamIdle, UpstreamError
from meshlet.filters import Outcome
from meshlet.http.head import ResponseHead
from meshlet.proxy.exchange import Exchange, Progress, deadline_passed
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.filters import Reply
    from meshlet.filters.run import ChainRun
    from meshlet.upstream.connection import UpstreamConnection
    from meshlet.upstream.endpoint import Endpoint

logger = logging.getLogger("meshlet.filters")

_WAITING, _BODY, _COMPLETE = Progress


class FilterFailed(ProxyError):
    """A filter raised an exception; the flag names its class."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the filter {name} failed; the log of meshlet says how")
        self.flag = f"FE:{name}"


class FilteredExchange(Exchange):
    """`request` tells how much of the request has passed the filters, `whole` whether the client has sent all."""

    __slots__ = (
        "_answered",
        "_app_waits",
        "_came",
        "_client_waits",
        "_request_waits",
        "_response_waits",
        "_run",
        "_upstream_done",
        "_whole",
    )

    _run: ChainRun | None

    def start(self, data: bytes, complete: bool) -> None:
        """Route the request; see Exchange."""
        self._run = None
        self._whole = complete
        self._answered = False  # the app's response is with the filters, or past them
        self._upstream_done = False  # and it is complete
        self._came = 0  # bytes of it
        # Two may ask for a pause of the same message; it goes on when neither does.
        self._request_waits = False  # a filter keeps the request waiting
        self._app_waits = False  # the app, or the lack of a connection to it, does
        self._response_waits = False  # a filter keeps the response waiting
        self._client_waits = False  # the client does
        super().start(data, complete)

    @property
    def whole(self) -> bool:
        """Whether the client has sent its whole request."""
        return self._whole

    # --- the request ---

    def _send(self) -> None:
        route = self._route
        assert route is not None
        if route.chain is None:
            super()._send()
            return
        self.keep_asked()
        self._run = run = route.chain.start(self, _Sink(self))
        data = b"".join(self.tape or ())
        if self.tape is not None:
            self.tape = []
        self.request = _WAITING
        self._downstream.set_deadline(self.soonest(self.runtime.clock()))
        if not self._whole:
            self.take_request()
        run.begin(data, self._whole)

    def on_filtered(self, data: bytes, complete: bool) -> None:
        """Send the request that the filters have let through."""
        route = self._route
        assert route is not None
        self.try_started = now = self.runtime.clock()
        end = self.started + route.deadline
        if now >= end:
            self.fail(deadline_passed())
            return
        if self.head.length != 0:
            self.tape = [data] if data else []
        for step in route.last_steps:
            outcome = step(self, now)
            if outcome is not None:
                assert not hasattr(outcome, "seconds")
                self.answer(outcome)
                return
        if complete:
            self.request = _COMPLETE
            self.expiry = min(now + route.timeout, end)
        self._downstream.set_deadline(self.soonest(now))
        super()._send()

    def request_data(self, data: bytes) -> None:
        """Take a piece of the request body from the client."""
        if self._run is None:
            super().request_data(data)
        elif self._count(data):
            self._run.data(data)

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the request from the client."""
        self._whole = True
        if self._run is None:
            super().request_end(trailers)
        else:
            self._run.end(trailers)

    def pause_request(self) -> None:
        """A filter takes no more of the request for now."""
        self._request_waits = True
        self._downstream.pause_reading()

    def resume_request(self) -> None:
        """A filter goes on with the request."""
        self._request_waits = False
        if not self._app_waits:
            self._downstream.resume_reading()

    def hold_request(self) -> None:
        """See Exchange."""
        self._app_waits = True
        super().hold_request()

    def take_request(self) -> None:
        """See Exchange."""
        self._app_waits = False
        if not self._request_waits:
            super().take_request()

    # --- the response ---

    def pause_response(self) -> None:
        """A filter takes no more of the response for now."""
        self._response_waits = True
        super().on_downstream_paused(True)

    def resume_response(self) -> None:
        """A filter goes on with the response."""
        self._response_waits = False
        if not self._client_waits:
            super().on_downstream_paused(False)

    def on_downstream_paused(self, paused: bool) -> None:
        """The client takes no more bytes for now, or takes them again."""
        self._client_waits = paused
        if paused or not self._response_waits:
            super().on_downstream_paused(paused)

    def _deliver(self, head: ResponseHead, data: bytes, complete: bool, now: float) -> None:
        if self._run is None:
            super()._deliver(head, data, complete, now)
            return
        self._answered = True
        self._upstream_done = complete
        self._came = len(data)
        self._moved = -1  # what moved before was another count
        self._downstream.set_deadline(self.soonest(now))
        self._run.response_head(head, data, complete)

    def on_data(self, data: bytes) -> None:
        """Take a piece of the response body from the app."""
        if self._run is None:
            super().on_data(data)
        else:
            self._came += len(data)
            self._run.response_data(data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the response from the app."""
        if self._run is None:
            super().on_end(trailers)
        else:
            self._upstream_done = True
            self._run.response_end(trailers)

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The stream broke; what was complete by then is complete."""
        if self._upstream_done:
            self.upstream = None
            self.leave_endpoint()
        else:
            super().on_upstream_error(error)

    # --- what the filters decide ---

    def on_reply(self, name: str, reply: Reply) -> None:
        """Answer with what the filter of that class says."""
        self.extras.filter = name
        self._drop_upstream(f"given up: the filter {name} answered")
        self.answer(reply.answer())

    def on_filter_failed(self, name: str, error: BaseException) -> None:
        """Fail the request of which a filter could not make anything."""
        logger.error("filter %s failed: %s %s", name, self.head.method, self.head.target, exc_info=error)
        self.extras.filter = name
        self._drop_upstream(f"given up: the filter {name} failed")
        self.fail(FilterFailed(name))

    def _drop_upstream(self, reason: str) -> None:
        """Leave the app, whose response nobody gets any more."""
        if not self.over and self.upstream_host is not None and (self.endpoint is not None or self._answered):
            status = self.status if self._answered else 0
            now = self.runtime.clock()
            self._more().failures.append(self.attempt(self.upstream_host, now, "", reason, status))
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            if self.endpoint is not None:
                self.endpoint.pool.cancel(self)
        elif self._upstream_done and self._persistent and self.request is _COMPLETE:
            upstream.release(self.runtime.clock())
        else:
            upstream.abort()
        self.leave_endpoint()

    # --- deadlines and the end ---

    def soonest(self, now: float) -> float:
        if self._answered and self.response is _WAITING:
            assert self._route is not None
            return now + self._route.idle_timeout
        return super().soonest(now)

    def on_deadline(self, now: float) -> float:
        """Fail where nothing moved for too long; see Exchange."""
        if not (self._answered and self.response is _WAITING):
            return super().on_deadline(now)
        if self._came == self._moved:
            assert self._route is not None
            self.fail(StreamIdle(f"no byte moved for {self._route.idle_timeout:g} s"))
        self._moved = self._came
        return NEVER if self.over else self.soonest(now)

    def _retry_error(
        self, error: UpstreamError, endpoint: Endpoint | None, upstream: UpstreamConnection | None, now: float
    ) -> bool:
        if not self._answered:
            return super()._retry_error(error, endpoint, upstream, now)
        # The filters have seen a response; they cannot be shown another one.
        if endpoint is not None:
            self._note_broken(error, endpoint, now)
        return False

    def _record(self, now: float) -> None:
        super()._record(now)
        run, self._run = self._run, None
        if run is not None:
            run.complete(Outcome(self.status, self.flag, now - self.started, self.received, self.sent))


class _Sink:
    """What comes out of the chain goes on as in an exchange without filters."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: FilteredExchange) -> None:
        self._exchange = exchange

    def request_ready(self, data: bytes, complete: bool) -> None:
        self._exchange.on_filtered(data, complete)

    def request_data(self, data: bytes) -> None:
        self._exchange.pass_data(data)

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        Exchange.request_end(self._exchange, trailers)

    def request_wanted(self) -> None:
        self._exchange.downstream.send_interim(ResponseHead(100, 1, [b"HTTP/1.1 100 Continue"]))

    def pause_request(self) -> None:
        self._exchange.pause_request()

    def resume_request(self) -> None:
        self._exchange.resume_request()

    def response_ready(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        exchange = self._exchange
        Exchange._deliver(exchange, head, data, complete, exchange.now)  # noqa: SLF001

    def response_data(self, data: bytes) -> None:
        Exchange.on_data(self._exchange, data)

    def response_end(self, trailers: tuple[bytes, ...]) -> None:
        Exchange.on_end(self._exchange, trailers)

    def pause_response(self) -> None:
        self._exchange.pause_response()

    def resume_response(self) -> None:
        self._exchange.resume_response()

    def reply(self, name: str, reply: Reply) -> None:
        self._exchange.on_reply(name, reply)

    def filter_failed(self, name: str, error: BaseException) -> None:
        self._exchange.on_filter_failed(name, error)
