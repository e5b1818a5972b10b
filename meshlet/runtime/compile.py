"""From a config to what the data plane uses: an immutable snapshot, compiled whole before any of it is used."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import asdict, replace

from meshlet.config.dump import dump
from meshlet.config.units import Duration
from meshlet.http.head import HeadLimits
from meshlet.proxy.settings import ListenerSettings, ListenerStats, RouteAction
from meshlet.routing.table import Matcher, RouteTable
from meshlet.upstream.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshlet.config.schema import Config, Limits, Match, Route
    from meshlet.config.schema import Listener as ListenerConfig
    from meshlet.telemetry.access_log import AccessLog
    from meshlet.timers import Timers


class Snapshot(NamedTuple):
    """A compiled config; a reload makes a new one and swaps it by one assignment."""

    config: Config
    version: str  # a digest of the config, the same for the same config
    clusters: dict[str, Cluster]
    listeners: dict[str, ListenerSettings]


class Compiler:
    """Compiles configs, one after another; what did not change is taken over from the snapshot before."""

    def __init__(self, timers: Timers, clock: Callable[[], float]) -> None:
        self._timers = timers
        self._clock = clock
        self.stats: dict[str, ListenerStats] = {}  # by listener; counters outlive reloads

    def compile(self, config: Config, previous: Snapshot | None, access_log: AccessLog | None) -> Snapshot:
        """Return the snapshot of a config that `config.load` has found valid."""
        old = previous.clusters if previous is not None else {}
        clusters = {
            cluster.name: old[cluster.name]
            if cluster.name in old and old[cluster.name].config == cluster
            else Cluster(cluster, self._timers, self._clock)
            for cluster in config.clusters
        }
        listeners = {listener.name: self._listener(listener, clusters, access_log) for listener in config.listeners}
        return Snapshot(config, digest(config), clusters, listeners)

    def _listener(
        self, config: ListenerConfig, clusters: Mapping[str, Cluster], access_log: AccessLog | None
    ) -> ListenerSettings:
        stats = self.stats.setdefault(config.name, ListenerStats())
        limits = _with_plain_floats(config.limits)
        routes = tuple((matcher(route.match), self._action(route, config, clusters, stats)) for route in config.routes)
        tcp = config.cluster
        if tcp is None:
            catch_all = [action.cluster.name for match, action in routes if match.catches_all]
            tcp = catch_all[-1] if catch_all else None
        return ListenerSettings(
            name=config.name,
            protocol=config.protocol,
            routes=RouteTable(routes),
            tcp_cluster=clusters[tcp] if tcp is not None else None,
            limits=limits,
            head_limits=HeadLimits(limits.max_header_bytes, limits.max_headers, limits.max_target_bytes),
            trusted=tuple(ipaddress.ip_network(network) for network in config.trusted_peers),
            server_header=config.server_header,
            stats=stats,
            unrouted=stats.for_requests(""),
            access_log=access_log,
        )

    @staticmethod
    def _action(
        route: Route, listener: ListenerConfig, clusters: Mapping[str, Cluster], stats: ListenerStats
    ) -> RouteAction:
        return RouteAction(
            cluster=clusters[route.cluster],
            stats=stats.for_requests(route.cluster),
            timeout=float(route.timeout),
            upgrades=frozenset(name.lower().encode() for name in route.upgrades),
            connect=route.connect,
            max_body=route.max_body if route.max_body is not None else listener.limits.max_body,
        )


def _with_plain_floats(limits: Limits) -> Limits:
    """Return the limits with durations as plain floats: arithmetic with a subclass of float costs more per request."""
    spans = {name: float(value) for name, value in asdict(limits).items() if isinstance(value, Duration)}
    return replace(limits, **spans)


def matcher(match: Match) -> Matcher:
    """Return the compiled conditions of a route."""
    methods = (match.method,) if isinstance(match.method, str) else match.method
    return Matcher(
        host=match.host.lower().encode() if match.host is not None else None,
        path=match.path.encode() if match.path is not None else None,
        prefix=match.prefix.encode() if match.prefix is not None else None,
        regex=re.compile(match.regex.encode()) if match.regex is not None else None,
        methods=frozenset(method.encode() for method in methods) if methods is not None else None,
    )


def digest(config: Config) -> str:
    """Return a short name of the config's content."""
    return hashlib.sha256(json.dumps(dump(config), sort_keys=True).encode()).hexdigest()[:12]
