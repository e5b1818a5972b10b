"""The figures that people watch live, `meshlet top` and the dashboard: totals, of which they take differences."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import TypeVar

    T = TypeVar("T", "RouteTraffic", "EndpointTraffic")


class RouteTraffic(Struct, frozen=True):
    """Requests of one route to one cluster since the start; TCP connections count as requests of a route `TCP`."""

    listener: str
    direction: str  # `inbound` or `outbound`
    route: str  # its name; empty where it has none, or no route took the request
    cluster: str  # empty where none was chosen
    requests: int
    failures: int  # 5xx, or a response that broke off; TCP: what ended with a flag
    retries: int
    active: int
    received: int  # bytes
    sent: int
    durations: tuple[int, ...]  # how many in each bucket of `Traffic.bounds`, and above all of them


class EndpointTraffic(Struct, frozen=True):
    """Tries sent to one endpoint since the start."""

    cluster: str
    endpoint: str
    state: str  # `available`, or what keeps requests from it, and why
    requests: int
    failures: int  # 5xx, or no response
    active: int
    connections: int
    durations: tuple[int, ...]  # from the request on a connection to the response head; buckets as above


class Traffic(Struct, frozen=True):
    """All of it, at one moment."""

    time: float  # unix seconds
    bounds: tuple[float, ...]  # upper bounds of the buckets in seconds
    routes: tuple[RouteTraffic, ...]
    endpoints: tuple[EndpointTraffic, ...]


def quantile(bounds: tuple[float, ...], counts: tuple[int, ...], share: float) -> float | None:
    """Return the value below which `share` (0 to 1) of the counted ones lie, None where there are none.

    Linear within a bucket, as Prometheus' `histogram_quantile`; above all bounds it is the last bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index == len(bounds):
                break
            start = bounds[index - 1] if index else 0.0
            return min(bounds[index], start + (bounds[index] - start) * (rank - below) / count)
        below += count
    return bounds[-1]


def merge_traffic(parts: Iterable[Traffic]) -> Traffic:
    """Add up what several processes tell; of an endpoint's states the first that is not `available` wins."""
    parts = list(parts)
    if not parts:
        return Traffic(0.0, (), (), ())
    routes = _merge(
        (item for part in parts for item in part.routes),
        lambda item: (item.listener, item.route, item.cluster),
        lambda a, b: replace(
            a,
            requests=a.requests + b.requests,
            failures=a.failures + b.failures,
            retries=a.retries + b.retries,
            active=a.active + b.active,
            received=a.received + b.received,
            sent=a.sent + b.sent,
            durations=tuple(map(add, a.durations, b.durations)),
        ),
    )
    endpoints = _merge(
        (item for part in parts for item in part.endpoints),
        lambda item: (item.cluster, item.endpoint),
        lambda a, b: replace(
            a,
            state=b.state if a.state == "available" else a.state,
            requests=a.requests + b.requests,
            failures=a.failures + b.failures,
            active=a.active + b.active,
            connections=a.connections + b.connections,
            durations=tuple(map(add, a.durations, b.durations)),
        ),
    )
    return Traffic(max(part.time for part in parts), parts[0].bounds, routes, endpoints)


def _merge(items: Iterable[T], key: Callable[[T], Hashable], plus: Callable[[T, T], T]) -> tuple[T, ...]:
    found: dict[Hashable, T] = {}
    for item in items:
        name = key(item)
        found[name] = plus(found[name], item) if name in found else item
    return tuple(found.values())
