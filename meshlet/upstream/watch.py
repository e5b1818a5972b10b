"""What is learned from each answer of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.errors import UpstreamError
    from meshlet.resilience.outlier import Monitor
    from meshlet.resilience.quantile import LatencyQuantile
    from meshlet.upstream.balancers.peak_ewma import Ewma
    from meshlet.upstream.endpoint import Endpoint


class Watch:
    """Tells those who want to know how an endpoint's attempts ended: outlier detection, peak EWMA, hedging."""

    __slots__ = ("_ewma", "_monitor", "_quantiles")

    def __init__(
        self, monitor: Monitor[Endpoint] | None, ewma: Ewma | None, quantiles: Iterable[LatencyQuantile]
    ) -> None:
        self._monitor = monitor
        self._ewma = ewma
        self._quantiles = tuple(quantiles)

    def responded(self, status: int, seconds: float) -> None:
        """Take a final response, so long after its request was sent."""
        if self._monitor is not None:
            self._monitor.on_status(status)
        if self._ewma is not None:
            self._ewma.observe(seconds)
        for quantile in self._quantiles:
            quantile.add(seconds)

    def connected(self) -> None:
        """Take a connection for TCP; no response follows that could tell more."""
        if self._monitor is not None:
            self._monitor.on_success()

    def failed(self, error: UpstreamError, seconds: float) -> None:
        """Take an attempt that ended without a response."""
        if self._monitor is not None:
            self._monitor.on_local_failure()
        if self._ewma is not None:
            self._ewma.fail(seconds)
