"""The last quarter of an hour, in spans of a few seconds: what the dashboard's charts begin with."""

from __future__ import annotations

from collections import deque
from operator import add, sub
from typing import TYPE_CHECKING, Any

from meshlet.telemetry.traffic import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.telemetry.traffic import RouteTraffic, Traffic

INTERVAL = 5.0  # seconds
KEPT = 900.0  # seconds

_DIRECTIONS = ("inbound", "outbound")


class History:
    """Takes totals and keeps what has happened between them."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=int(KEPT / INTERVAL))
        self._before: dict[str, tuple[int, int, list[int]]] | None = None

    def add(self, traffic: Traffic) -> None:
        """Take the totals of now; the first ones only say where to begin."""
        if not traffic.bounds:
            return  # no process has told anything
        now = {direction: _sum(traffic.routes, direction, len(traffic.bounds) + 1) for direction in _DIRECTIONS}
        before, self._before = self._before, now
        if before is not None:
            point: dict[str, Any] = {"time": traffic.time}
            for direction in _DIRECTIONS:
                point[direction] = _point(before[direction], now[direction], traffic.bounds)
            self._points.append(point)

    @property
    def points(self) -> list[dict[str, Any]]:
        """One object for each span, the oldest first; latencies in seconds, None where there were no requests."""
        return list(self._points)


def _sum(routes: Iterable[RouteTraffic], direction: str, size: int) -> tuple[int, int, list[int]]:
    requests = failures = 0
    durations = [0] * size
    for route in routes:
        if route.direction == direction and route.route != "TCP":
            requests += route.requests
            failures += route.failures
            durations = list(map(add, durations, route.durations))
    return requests, failures, durations


def _point(
    before: tuple[int, int, list[int]], now: tuple[int, int, list[int]], bounds: tuple[float, ...]
) -> dict[str, Any]:
    # A worker that died takes its totals along: then less than nothing would have happened.
    durations = tuple(max(0, count) for count in map(sub, now[2], before[2]))
    return {
        "requests": max(0, now[0] - before[0]),
        "failures": max(0, now[1] - before[1]),
        **{f"p{percent}": quantile(bounds, durations, percent / 100) for percent in (50, 95, 99)},
    }
