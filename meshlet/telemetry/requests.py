"""What is counted about requests on their way: integers and buckets, without locks, for one event loop."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from meshlet.telemetry.metrics import DURATION_BOUNDS, SIZE_BOUNDS, Exemplar

#: what further combinations of status and flag are counted under, once there are `_MOST_SERIES`
OTHER = (0, "other")

# An app can answer any of 900 statuses; nobody has use for so many series of one route.
_MOST_SERIES = 64


class Buckets(NamedTuple):
    """Upper bounds of the histograms, ascending."""

    durations: tuple[float, ...] = DURATION_BOUNDS  # seconds
    sizes: tuple[float, ...] = SIZE_BOUNDS  # bytes


class Series:
    """Requests that ended with one status and response flag. Each list has a last bucket above all bounds."""

    __slots__ = ("count", "durations", "exemplars", "received", "received_sizes", "seconds", "sent", "sent_sizes")

    def __init__(self, buckets: Buckets) -> None:
        self.count = 0
        self.durations = [0] * (len(buckets.durations) + 1)
        self.seconds = 0.0
        self.received_sizes = [0] * (len(buckets.sizes) + 1)
        self.received = 0  # bytes of bodies from clients
        self.sent_sizes = [0] * (len(buckets.sizes) + 1)
        self.sent = 0  # and to them
        #: the last sampled request in each bucket of durations
        self.exemplars: dict[int, Exemplar] = {}


class RequestStats:
    """What is counted about the requests (or TCP connections) of one route to one cluster."""

    __slots__ = (
        "_buckets",
        "active",
        "hedges",
        "hedges_won",
        "mirrors",
        "mirrors_dropped",
        "opened",
        "retries",
        "retries_exhausted",
        "retries_over_budget",
        "retries_successful",
        "series",
        "try_timeouts",
    )

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self.series: dict[tuple[int, str], Series] = {}  # by status and response flag
        self.active = 0
        self.opened = 0  # TCP connections
        self.retries = 0
        self.retries_successful = 0  # requests that were answered well after a retry
        self.retries_exhausted = 0  # requests that failed after all the tries their route allows
        self.retries_over_budget = 0
        self.try_timeouts = 0  # tries that took longer than their route lets one take
        self.hedges = 0
        self.hedges_won = 0
        self.mirrors = 0
        self.mirrors_dropped = 0

    def record(self, status: int, flag: str, seconds: float, received: int, sent: int) -> Series:
        """Count one that has ended."""
        try:
            series = self.series[status, flag]
        except KeyError:
            series = self._begin(status, flag)
        durations, sizes = self._buckets
        series.count += 1
        # bisect_left: a value equal to a bound belongs under it, as `le` says.
        series.durations[bisect_left(durations, seconds)] += 1
        series.seconds += seconds
        series.received_sizes[bisect_left(sizes, received) if received else 0] += 1
        series.received += received
        series.sent_sizes[bisect_left(sizes, sent)] += 1
        series.sent += sent
        return series

    def _begin(self, status: int, flag: str) -> Series:
        key = (status, flag) if len(self.series) < _MOST_SERIES else OTHER
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(self._buckets)
        return series

    def exemplify(self, series: Series, seconds: float, trace_id: bytes, wall_time: float) -> None:
        """Show one sampled request as an example of its bucket."""
        exemplar = Exemplar(trace_id.decode(), seconds, wall_time)
        series.exemplars[bisect_left(self._buckets.durations, seconds)] = exemplar

    @property
    def codes(self) -> dict[tuple[int, str], int]:
        """How many ended with each status and response flag."""
        return {key: series.count for key, series in self.series.items()}
