"""An endpoint of a cluster: an address, its connections, and how it is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.config.schema import EndpointConfig
    from meshlet.resilience.outlier import Monitor
    from meshlet.upstream.balancers.peak_ewma import Ewma
    from meshlet.upstream.pool import Pool
    from meshlet.upstream.watch import Watch


class Endpoint:
    """One address of a cluster. What is read for each request is a plain attribute."""

    __slots__ = (
        "active",
        "address",
        "check_failures_total",
        "checks_total",
        "ewma",
        "health_error",
        "healthy",
        "monitor",
        "name",
        "pool",
        "priority",
        "requests_total",
        "share",
        "watch",
        "weight",
        "zone",
    )

    def __init__(self, config: EndpointConfig, pool: Pool) -> None:
        self.address = config.address
        self.name = str(config.address)
        self.pool = pool
        self.configure(config)
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

    def __repr__(self) -> str:
        state = "available" if self.available else "ejected" if self.ejected else "unhealthy"
        return f"<Endpoint {self.name} {state} active={self.active}>"

    def configure(self, config: EndpointConfig) -> None:
        """Take what discovery says of an endpoint besides its address."""
        self.weight = config.weight
        self.zone = config.zone
        self.priority = config.priority
        #: its weight, less while it starts slowly
        self.share = float(config.weight)

    @property
    def ejected(self) -> bool:
        """Whether outlier detection keeps requests from it."""
        return self.monitor is not None and self.monitor.ejected

    @property
    def available(self) -> bool:
        """Whether it may be chosen."""
        return self.healthy and not self.ejected
