"""An endpoint of a cluster: where it is, its connections, and how it is doing."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from meshlet.errors import Overflow, QueueTimeout
from meshlet.telemetry.metrics import DURATION_BOUNDS
from meshlet.upstream.destination import Destination

if TYPE_CHECKING:
    from meshlet.errors import UpstreamError
    from meshlet.resilience.outlier import Monitor
    from meshlet.upstream.balancers.peak_ewma import Ewma
    from meshlet.upstream.discovery.base import Found
    from meshlet.upstream.pool import Pool
    from meshlet.upstream.watch import Watch


class Endpoint:
    """One server of a cluster. What is read for each request is a plain attribute."""

    __slots__ = (
        "active",
        "address",
        "bounds",
        "check_failures_total",
        "checks_total",
        "durations",
        "ewma",
        "failures_total",
        "health_error",
        "healthy",
        "monitor",
        "name",
        "pool",
        "priority",
        "requests_total",
        "seconds",
        "share",
        "unanswered_total",
        "watch",
        "weight",
        "zone",
    )

    def __init__(
        self, address: Destination, found: Found, pool: Pool, bounds: tuple[float, ...] = DURATION_BOUNDS
    ) -> None:
        """`bounds` are those of the histogram of its response times, in seconds."""
        self.address = address
        self.name = str(address)
        self.pool = pool
        self.configure(found)
        # how it is doing
        self.healthy = True  # by the active health check, where there is one
        self.health_error: str | None = None  # what the last check found wrong
        self.monitor: Monitor[Endpoint] | None = None  # outlier detection's
        self.watch: Watch | None = None
        self.ewma: Ewma | None = None
        # figures
        self.active = 0  # exchanges in flight
        self.requests_total = 0
        self.checks_total = 0
        self.check_failures_total = 0
        self.failures_total = 0  # 5xx, or no response
        self.unanswered_total = 0  # no response
        #: responses by how long they took, the last bucket above all bounds; and the sum
        self.bounds = bounds
        self.durations = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def __repr__(self) -> str:
        state = "available" if self.available else "ejected" if self.ejected else "unhealthy"
        return f"<Endpoint {self.name} {state} active={self.active}>"

    def configure(self, found: Found) -> None:
        """Take what discovery says of an endpoint besides its first address."""
        config, other, families = found
        self.address.change(other, families)
        self.weight = config.weight
        self.zone = config.zone
        self.priority = config.priority
        #: its weight, less while it starts slowly
        self.share = float(config.weight)

    def responded(self, status: int, seconds: float) -> None:
        """Take a final response, so long after its request was sent."""
        self.durations[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds
        if status >= 500:
            self.failures_total += 1
        if self.watch is not None:
            self.watch.responded(status, seconds)

    def failed(self, error: UpstreamError, seconds: float) -> None:
        """Take a try that ended without a response."""
        if isinstance(error, Overflow | QueueTimeout):  # our own limits say nothing about the endpoint
            return
        self.failures_total += 1
        self.unanswered_total += 1
        if self.watch is not None:
            self.watch.failed(error, seconds)

    @property
    def ejected(self) -> bool:
        """Whether outlier detection keeps requests from it."""
        return self.monitor is not None and self.monitor.ejected

    @property
    def available(self) -> bool:
        """Whether it may be chosen."""
        return self.healthy and not self.ejected
