"""What a listener needs from the config, compiled: an immutable snapshot, swapped whole by a reload."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlet.telemetry.requests import RequestStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from meshlet.config.schema import Limits
    from meshlet.filters.chain import Chain
    from meshlet.filters.steps import Verdict
    from meshlet.http.head import HeadLimits
    from meshlet.proxy.exchange import Exchange
    from meshlet.resilience.breaker import Breaker
    from meshlet.resilience.quantile import LatencyQuantile
    from meshlet.resilience.retry import RetryPolicy
    from meshlet.routing.header_rules import Rules as HeaderRules
    from meshlet.routing.split import WeightedChoice
    from meshlet.routing.table import RouteTable
    from meshlet.telemetry.access_log import AccessLog
    from meshlet.telemetry.explain.ring import Explanations
    from meshlet.telemetry.requests import Buckets
    from meshlet.telemetry.tap import Taps
    from meshlet.telemetry.tracing.tracer import Tracer
    from meshlet.timers import Timers
    from meshlet.upstream.cluster import Cluster

if TYPE_CHECKING:
    Step: TypeAlias = Callable[[Exchange, float], Verdict]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ListenerStats:
    """What is counted about a listener's connections. It outlives reloads."""

    __slots__ = (
        "_buckets",
        "accept_errors_total",
        "accepted_total",
        "detected",
        "direction",
        "open",
        "requests",
        "shed_total",
        "tcp",
    )

    def __init__(self, buckets: Buckets, direction: str = "inbound") -> None:
        self._buckets = buckets
        self.direction = direction  # `inbound` or `outbound`
        self.accepted_total = 0
        self.open = 0
        self.shed_total = 0
        self.accept_errors_total = 0
        self.detected: dict[str, int] = {}  # connections of `auto` listeners by what they turned out to be
        #: by the route's name and the cluster; "" for no name, no cluster, no route
        self.requests: dict[tuple[str, str], RequestStats] = {}
        self.tcp: dict[str, RequestStats] = {}  # by cluster

    def for_requests(self, route: str, cluster: str) -> RequestStats:
        """Return the counters of requests that `route` sends to `cluster`."""
        found = self.requests.get((route, cluster))
        if found is None:
            found = self.requests[route, cluster] = RequestStats(self._buckets)
        return found

    def for_tcp(self, cluster: str) -> RequestStats:
        """Return the counters of TCP connections to `cluster`."""
        found = self.tcp.get(cluster)
        if found is None:
            found = self.tcp[cluster] = RequestStats(self._buckets)
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster that a route sends requests to."""

    cluster: Cluster
    breaker: Breaker  # of the route's priority
    stats: RequestStats


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When a second try begins."""

    after: float | None  # seconds
    latency: dict[str, LatencyQuantile]  # or as long as most responses take, by cluster


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """Where copies go."""

    target: Target
    share: float  # of the requests, 0 to 1


@dataclass(frozen=True, slots=True)
class RouteAction:
    """Where and how the requests of a route go."""

    name: str | None
    label: str  # the name, or what it matches
    #: None where `split` chooses, or where a step answers every request
    target: Target | None
    split: WeightedChoice[Target] | None
    stats: RequestStats
    #: what is done with a request head before it is sent, in this order; each may answer instead
    steps: tuple[Step, ...]
    chain: Chain | None  # filters, which come after the steps
    last_steps: tuple[Step, ...]  # where there are filters: what comes after them
    annotates: bool  # each try's request gets lines of its own:
    attempt_rules: HeaderRules | None  # those that are known only once there is an endpoint
    decorates: bool  # the response head is changed:
    response_rules: HeaderRules | None
    timeout: float  # seconds, or NEVER
    deadline: float  # seconds from the request's head to when the client waits no longer, whatever happens; or NEVER
    soonest: float  # seconds from the request's end to the first look at the clock: the least of the timeouts
    idle_timeout: float  # seconds, or NEVER
    policy: RetryPolicy
    accompanied: bool  # something goes beside the first try:
    hedge: HedgeSettings | None
    mirror: MirrorSettings | None
    deadline_header: bytes | None  # lower case
    attempt_count: bool
    upgrades: frozenset[bytes]  # protocol names in lower case; `*` for any
    connect: bool
    max_body: int | None  # bytes


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One listener's part of a config snapshot. An exchange keeps the one that it began with."""

    name: str
    direction: str  # `inbound` or `outbound`
    protocol: str
    routes: RouteTable[RouteAction]
    tcp_cluster: Cluster | None  # of what is not HTTP; None: it is refused
    tcp_cluster_routed: bool  # requests go there too
    limits: Limits
    head_limits: HeadLimits
    trusted: tuple[Network, ...]
    server_header: str
    exchange: type[Exchange]  # what plays a request: with filters or without
    stats: ListenerStats
    unrouted: RequestStats
    logs: tuple[AccessLog, ...]
    tracer: Tracer | None
    explanations: Explanations | None
    slow: float  # seconds from which on a request is explained although it went well
    #: the hosts that were asked for lately: a bounded cache of `trusts`
    known_peers: dict[str, bool] = field(default_factory=dict, compare=False)

    def trusts(self, host: str) -> bool:
        """Say whether the peer's x-request-id and x-forwarded-proto are believed."""
        known = self.known_peers
        trusted = known.get(host)
        if trusted is None:
            if len(known) >= _MOST_KNOWN_PEERS:
                known.clear()
            trusted = known[host] = _contains(self.trusted, host)
        return trusted


_MOST_KNOWN_PEERS = 1024


def _contains(networks: tuple[Network, ...], host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # The client of a Unix socket has no address; the socket's permissions say who may connect.
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks if network.version == address.version)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What connections share with their process."""

    timers: Timers
    clock: Callable[[], float]  # seconds, monotonic
    wall_clock: Callable[[], float]  # unix seconds
    new_request_id: Callable[[float], bytes]  # of the clock's time
    random: Callable[[], float]  # evenly from 0 up to but without 1
    taps: Taps
