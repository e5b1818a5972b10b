"""The totals that `meshlet top` and the dashboard watch, read from the counters of the data plane."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

from meshlet.telemetry.traffic import EndpointTraffic, RouteTraffic, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from meshlet.proxy.settings import ListenerStats
    from meshlet.telemetry.requests import Buckets, RequestStats
    from meshlet.upstream.cluster import Cluster
    from meshlet.upstream.endpoint import Endpoint


# Flags of a response that broke off, whatever its status had promised.
_BROKEN = frozenset({"UC", "UPE", "UT", "SI"})


def traffic(
    stats: dict[str, ListenerStats], clusters: Iterable[Cluster], buckets: Buckets, wall_time: float
) -> Traffic:
    """Return the totals at this moment."""
    return Traffic(
        wall_time,
        buckets.durations,
        tuple(_routes(stats, len(buckets.durations) + 1)),
        tuple(
            EndpointTraffic(
                cluster.name,
                endpoint.name,
                state_of(endpoint),
                # One that could not be connected to was a try as well; of TCP there are no responses to count.
                max(endpoint.requests_total, sum(endpoint.durations) + endpoint.unanswered_total),
                endpoint.failures_total,
                endpoint.active,
                endpoint.pool.open,
                tuple(endpoint.durations),
            )
            for cluster in clusters
            for endpoint in cluster.endpoints
        ),
    )


def state_of(endpoint: Endpoint) -> str:
    """Return `available`, or what keeps requests from the endpoint, and why."""
    if not endpoint.healthy:
        return f"unhealthy: {endpoint.health_error or 'not checked yet'}"
    return "ejected" if endpoint.ejected else "available"


def _routes(stats: dict[str, ListenerStats], size: int) -> Iterator[RouteTraffic]:
    for name, listener in stats.items():
        for (route, cluster), counts in listener.requests.items():
            if counts.series or counts.active:
                yield _route((name, listener.direction, route, cluster), counts, size, _failed)
        for cluster, counts in listener.tcp.items():
            if counts.opened:  # each connection of an `auto` listener might have become one of TCP
                yield _route((name, listener.direction, "TCP", cluster), counts, size, _failed_tcp)


def _failed(status: int, flag: str) -> bool:
    return status >= 500 or not _BROKEN.isdisjoint(flag.split(","))


def _failed_tcp(status: int, flag: str) -> bool:  # noqa: ARG001
    return flag not in ("", "DC")


def _route(
    place: tuple[str, str, str, str], counts: RequestStats, size: int, failed: Callable[[int, str], bool]
) -> RouteTraffic:
    durations = [0] * size
    for series in counts.series.values():
        durations = list(map(add, durations, series.durations))
    return RouteTraffic(
        *place,
        requests=sum(each.count for each in counts.series.values()),
        failures=sum(each.count for key, each in counts.series.items() if failed(*key)),
        retries=counts.retries,
        active=counts.active,
        received=sum(each.received for each in counts.series.values()),
        sent=sum(each.sent for each in counts.series.values()),
        durations=tuple(durations),
    )
