"""What an exchange tells about itself: to header rules, filters, logs, spans and explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.proxy.extras import Extras
    from meshlet.proxy.settings import ListenerSettings, RouteAction, Runtime, Target
    from meshlet.proxy.streams import DownstreamStream
    from meshlet.proxy.tries import Tries
    from meshlet.telemetry.tracing.context import Trace

# What the flags of answers of our own say of who gave them.
_ACTED = {"RL": "rate limit", "DI": "fault: delay", "FI": "fault: abort"}


class ExchangeFacts:
    """The part of an exchange that is read by others; see `telemetry.record.Record` and `http.template.Facts`."""

    __slots__ = (
        "_began",
        "_connect",
        "_downstream",
        "_extras",
        "_failures",
        "_request_ended",
        "_responded",
        "_route",
        "_settings",
        "_tries",
        "attempts",
        "duration",
        "error",
        "flag",
        "head",
        "received",
        "response_head",
        "runtime",
        "sent",
        "service_seconds",
        "span_id",
        "started",
        "status",
        "target_cluster",
        "trace",
        "try_started",
        "upstream_host",
    )

    runtime: Runtime
    head: RequestHead
    started: float  # the clock's time, when the request head was there
    try_started: float  # likewise, when this try (or with it the wait for its response) began
    attempts: int
    upstream_host: str | None
    received: int
    sent: int
    status: int
    flag: str
    error: str
    duration: float
    response_head: ResponseHead | None
    service_seconds: float | None
    trace: Trace | None
    span_id: bytes  # of this try, where it is traced
    target_cluster: Target | None
    _began: float  # the clock's time, when this try began
    _connect: float | None  # how long it waited for a new connection
    _responded: float | None  # the clock's time, when the app's response head came
    _request_ended: float | None  # likewise, the request's last byte
    _downstream: DownstreamStream
    _settings: ListenerSettings
    _route: RouteAction | None
    _tries: Tries | None
    _extras: Extras | None
    _failures: Sequence[Attempt]  # of `_tries`, once that is gone

    # --- where ---

    @property
    def listener_name(self) -> str:
        """The listener that it came in by."""
        return self._settings.name

    @property
    def direction(self) -> str:
        """`inbound` or `outbound`."""
        return self._settings.direction

    @property
    def route_name(self) -> str | None:
        """The route's name, if it has one."""
        return self._route.name if self._route is not None else None

    @property
    def route_label(self) -> str | None:
        """What the route is known by, if there is one."""
        return self._route.label if self._route is not None else None

    @property
    def cluster_name(self) -> str | None:
        """The cluster it goes to."""
        return self.target_cluster.cluster.name if self.target_cluster is not None else None

    @property
    def downstream(self) -> DownstreamStream:
        """The client."""
        return self._downstream

    @property
    def remote(self) -> str:
        """The client's address and port."""
        return self._downstream.remote

    @property
    def remote_host(self) -> str:
        """The client's address."""
        return self._downstream.remote_host

    @property
    def local(self) -> str:
        """The address and port that the client has reached."""
        return self._downstream.local

    # --- the messages ---

    @property
    def protocol(self) -> str:
        """The client's."""
        return "HTTP/1.1" if self.head.minor else "HTTP/1.0"

    @property
    def method(self) -> bytes:
        """The request's method."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """What the client has asked for."""
        extras = self._extras
        return self.head.target if extras is None or extras.asked is None else extras.asked

    @property
    def host(self) -> bytes | None:
        """The Host field that the client has sent."""
        return self.head.authority

    @property
    def request_id(self) -> bytes | None:
        """The request's id."""
        return self.head.request_id

    @property
    def scheme(self) -> bytes:
        """`http` or `https`, as the client has it."""
        proto = self.head.forwarded_proto
        return proto if self._downstream.trusted and proto in (b"http", b"https") else b"http"

    # --- how it went ---

    @property
    def tries(self) -> Sequence[Attempt]:
        """All tries, in the order in which they ended."""
        failures = self._tries.failures if self._tries is not None else self._failures
        if self.error or len(failures) >= self.attempts or self.upstream_host is None:
            return failures
        return (*failures, self.attempt(self.upstream_host, self.started + self.duration, status=self.status))

    def attempt(self, endpoint: str, now: float, flag: str = "", reason: str = "", status: int = 0) -> Attempt:
        """Return the current try as one that is over."""
        first_byte = None
        if status and self._responded is not None:
            first_byte = self._responded - max(self.try_started, self._began + (self._connect or 0.0))
        return Attempt(
            endpoint,
            flag,
            reason,
            status,
            self._began - self.started,
            now - self.started,
            self._connect,
            first_byte,
            self.span_id,
        )

    @property
    def acted(self) -> Sequence[str]:
        """What answered in the app's stead, or held the request up."""
        acted = [_ACTED[flag] for flag in self.flag.split(",") if flag in _ACTED]
        if self._extras is not None and self._extras.filter is not None:
            acted.append(f"filter {self._extras.filter}")
        return acted

    # --- times ---

    @property
    def now(self) -> float:
        """The clock's time."""
        return self.runtime.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the request head was there."""
        return self.runtime.clock() - self.started

    @property
    def started_wall(self) -> float:
        """When the request head was there, in unix seconds."""
        return self.runtime.wall_clock() - (self.runtime.clock() - self.started)

    @property
    def request_seconds(self) -> float | None:
        """From the request head to the request's last byte."""
        return self._request_ended - self.started if self._request_ended is not None else None

    @property
    def response_seconds(self) -> float | None:
        """From the request head to the response head."""
        return self._responded - self.started if self._responded is not None else None
