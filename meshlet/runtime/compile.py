"""From a config to what the data plane uses: an immutable snapshot, compiled whole before any of it is used."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import asdict, replace

from meshlet.config.rules import tcp_cluster
from meshlet.config.units import Duration
from meshlet.http.head import HeadLimits
from meshlet.proxy.exchange import Exchange
from meshlet.proxy.settings import ListenerSettings, ListenerStats
from meshlet.routing.table import RouteTable, compile_match
from meshlet.runtime.kept import Kept
from meshlet.runtime.routes import Routes
from meshlet.telemetry.requests import Buckets
from meshlet.upstream.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from meshlet.config.schema import Config, Limits, Metrics
    from meshlet.config.schema import Listener as ListenerConfig
    from meshlet.proxy.settings import RouteAction
    from meshlet.runtime.recorders import Direction, Recorders
    from meshlet.timers import Timers


class Snapshot(NamedTuple):
    """A compiled config; a reload makes a new one and swaps it by one assignment."""

    config: Config
    clusters: dict[str, Cluster]
    listeners: dict[str, ListenerSettings]
    kept: Kept


class Compiler:
    """Compiles configs, one after another; what did not change is taken over from the snapshot before."""

    def __init__(self, timers: Timers, clock: Callable[[], float]) -> None:
        self._timers = timers
        self._clock = clock
        self.stats: dict[str, ListenerStats] = {}  # by listener; counters outlive reloads
        self.buckets = Buckets()  # of all histograms

    def compile(self, config: Config, previous: Snapshot | None, recorders: Recorders) -> Snapshot:
        """Return the snapshot of a config that `config.load` has found valid."""
        if not self.stats:
            # Histograms with other bounds would not add up, so those of the first config stay.
            self.buckets = buckets_of(config.telemetry.metrics)
        # Where the sidecar runs decides how a cluster chooses.
        old = previous.clusters if previous is not None and previous.config.zone == config.zone else {}
        clusters = {
            cluster.name: old[cluster.name]
            if cluster.name in old and old[cluster.name].config == cluster
            else Cluster(cluster, self._timers, self._clock, zone=config.zone, bounds=self.buckets.durations)
            for cluster in config.clusters
        }
        kept = Kept(previous.kept if previous is not None else None)
        listeners = {
            listener.name: self._listener(listener, clusters, recorders, kept) for listener in config.listeners
        }
        return Snapshot(config, clusters, listeners, kept)

    def _listener(
        self, config: ListenerConfig, clusters: Mapping[str, Cluster], recorders: Recorders, kept: Kept
    ) -> ListenerSettings:
        stats = self.stats.get(config.name)
        if stats is None:
            stats = self.stats[config.name] = ListenerStats(self.buckets)
        stats.direction = direction = direction_of(config)
        limits = _with_plain_floats(config.limits)
        compiler = Routes(config, clusters, stats, kept)
        routes = tuple((compile_match(route.match), compiler.action(route)) for route in config.routes)
        tcp = tcp_cluster(config)
        return ListenerSettings(
            name=config.name,
            direction=direction,
            protocol=config.protocol,
            routes=RouteTable(routes),
            tcp_cluster=clusters[tcp] if tcp is not None else None,
            tcp_cluster_routed=any(
                tcp == route.cluster or any(tcp == share.cluster for share in route.split) for route in config.routes
            ),
            limits=limits,
            head_limits=HeadLimits(limits.max_header_bytes, limits.max_headers, limits.max_target_bytes),
            trusted=tuple(ipaddress.ip_network(network) for network in config.trusted_peers),
            server_header=config.server_header,
            exchange=_exchange(action for _, action in routes),
            stats=stats,
            unrouted=stats.for_requests("", ""),
            logs=recorders.logs,
            tracer=recorders.tracers[direction],
            explanations=recorders.explanations,
            slow=recorders.slow,
        )


def direction_of(config: ListenerConfig) -> Direction:
    """Return whose traffic the listener takes: to the app, or from it."""
    return config.direction or ("outbound" if config.name.startswith("outbound") else "inbound")


def buckets_of(config: Metrics) -> Buckets:
    """Return the bounds of the histograms, as plain numbers: comparing subclasses costs more for each request."""
    return Buckets(tuple(map(float, config.duration_buckets)), tuple(map(int, config.size_buckets)))


def _exchange(actions: Iterable[RouteAction]) -> type[Exchange]:
    if not any(action.chain for action in actions):
        return Exchange
    from meshlet.proxy.filtered import FilteredExchange

    return FilteredExchange


def _with_plain_floats(limits: Limits) -> Limits:
    """Return the limits with durations as plain floats: arithmetic with a subclass of float costs more per request."""
    spans = {name: float(value) for name, value in asdict(limits).items() if isinstance(value, Duration)}
    return replace(limits, **spans)
