"""Outlier detection: endpoints that fail are taken out of the choice for a while, by what the traffic itself shows.

The rules are Envoy's (source/common/upstream/outlier_detection_impl.cc), with three differences. An ejection ends when
its time is up, not at the next interval. The maximum share holds as well when endpoints leave: those due soonest come
back early. And an endpoint without others is never ejected, whatever the share.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import OutlierDetection, SuccessRate

T = TypeVar("T")

CONSECUTIVE_5XX = "consecutive-5xx"
CONSECUTIVE_GATEWAY_FAILURES = "consecutive-gateway-failures"
CONSECUTIVE_LOCAL_FAILURES = "consecutive-local-failures"
SUCCESS_RATE = "success-rate"
REASONS = (CONSECUTIVE_5XX, CONSECUTIVE_GATEWAY_FAILURES, CONSECUTIVE_LOCAL_FAILURES, SUCCESS_RATE)
#: what `on_change` is told when an ejection is over
RETURNED = "returned"

_GATEWAY_FAILURES = frozenset((502, 503, 504))
# Rates that are equal differ by rounding from their mean; nothing may be ejected for that.
_ROUNDING = 1e-9


class Monitor(Generic[T]):
    """What the responses of one endpoint say about it. Made by `OutlierDetector.add`."""

    __slots__ = (
        "_detector",
        "_failing",
        "ejected",
        "ejected_at",
        "endpoint",
        "errors",
        "failures",
        "gateway_failures",
        "local_failures",
        "requests",
        "returned_at",
        "times",
        "until",
    )

    def __init__(self, endpoint: T, detector: OutlierDetector[T]) -> None:
        self.endpoint = endpoint
        self._detector = detector
        # in a row
        self._failing = False  # one of the three counts is not 0
        self.errors = 0  # 5xx and local failures
        self.gateway_failures = 0  # 502, 503, 504 and local failures
        self.local_failures = 0
        # in this interval
        self.requests = 0
        self.failures = 0
        # ejections
        self.ejected = False
        self.times = 0  # what the base time is multiplied by: ejections so far, less intervals spent healthy since
        # of the last one
        self.ejected_at = -math.inf
        self.until = -math.inf
        self.returned_at = -math.inf

    def __repr__(self) -> str:
        state = f"ejected until {self.until:g}" if self.ejected else "in"
        return f"<Monitor {self.endpoint} {state} times={self.times} errors={self.errors}>"

    def on_status(self, status: int) -> None:
        """Count a response; called for each."""
        if status < 500:
            self.on_success()
            return
        self.requests += 1
        self.failures += 1
        self._failing = True
        self.errors += 1
        self.gateway_failures = self.gateway_failures + 1 if status in _GATEWAY_FAILURES else 0
        self.local_failures = 0
        self._detector.on_failure(self)

    def on_success(self) -> None:
        """Count what went well, a response or a connection for TCP; it ends what failed in a row."""
        self.requests += 1
        if self._failing:
            self.clear()

    def on_local_failure(self) -> None:
        """Count a request without a response: no connection, a reset, a timeout."""
        self.requests += 1
        self.failures += 1
        self._failing = True
        self.errors += 1
        self.gateway_failures += 1
        self.local_failures += 1
        self._detector.on_failure(self)

    def clear(self) -> None:
        """Forget what failed in a row."""
        self._failing = False
        self.errors = self.gateway_failures = self.local_failures = 0


class OutlierDetector(Generic[T]):
    """Decides which endpoints of one cluster are out.

    `on_change(monitor, reason, seconds)` is called after an ejection (one of REASONS, how long it lasts) and after its
    end (RETURNED, how long it lasted). `wake` and `on_timer` are for `Timers`: schedule the detector for
    `next_change()` once it is made and at each ejection. Nothing is due while nothing is out and no rates are compared.
    """

    def __init__(
        self,
        config: OutlierDetection,
        clock: Callable[[], float],
        on_change: Callable[[Monitor[T], str, float], None],
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._errors = config.consecutive_5xx or math.inf
        self._gateway_failures = config.consecutive_gateway_failures or math.inf
        self._local_failures = config.consecutive_local_failures or math.inf
        self._success_rate = config.success_rate
        self._interval: float = config.interval
        self._base: float = config.base_ejection_time
        self._max: float = config.max_ejection_time
        self._max_percent = config.max_ejection_percent
        self._monitors: dict[Monitor[T], None] = {}
        self._interval_ends = clock() + self._interval
        self.wake = math.inf
        # figures
        self.active = 0  # endpoints that are out
        self.ejections_total = dict.fromkeys(REASONS, 0)
        self.overflows_total = 0  # endpoints left in only because too many were out

    def add(self, endpoint: T) -> Monitor[T]:
        """Watch one more endpoint."""
        monitor = Monitor(endpoint, self)
        self._monitors[monitor] = None
        return monitor

    def remove(self, monitor: Monitor[T]) -> None:
        """Forget an endpoint that has left. Add those that replace it first: its share counts until then."""
        del self._monitors[monitor]
        if monitor.ejected:
            monitor.ejected = False
            self.active -= 1
        now = self._clock()
        while self.active and not self._may_be_out(self.active):
            self._take_back(min(self._ejected(), key=_due), now)

    def next_change(self) -> float:
        """Return when `on_timer` has something to do at the earliest."""
        when = min(map(_due, self._ejected()), default=math.inf)
        if self._success_rate is not None or any(each.times and not each.ejected for each in self._monitors):
            when = min(when, self._interval_ends)
        return when

    def on_timer(self, now: float) -> float:
        """End ejections whose time is up, end the interval if it is over, and return `next_change()`."""
        for monitor in [each for each in self._ejected() if each.until <= now]:
            self._take_back(monitor, now)
        if now >= self._interval_ends:
            self._end_interval(now)
        return self.next_change()

    def on_failure(self, monitor: Monitor[T]) -> None:
        """Eject `monitor` if it has failed too often in a row."""
        if monitor.ejected:  # it still answers what was sent before
            return
        reason = None
        # A count that is reached starts anew: where no more may be ejected, that is tried again later.
        if monitor.errors >= self._errors:
            monitor.errors = 0
            reason = CONSECUTIVE_5XX
        if monitor.gateway_failures >= self._gateway_failures:
            monitor.gateway_failures = 0
            reason = CONSECUTIVE_GATEWAY_FAILURES
        if monitor.local_failures >= self._local_failures:
            monitor.local_failures = 0
            reason = CONSECUTIVE_LOCAL_FAILURES
        if reason is not None:
            self._eject(monitor, reason, self._clock())

    # --- in and out ---

    def _ejected(self) -> list[Monitor[T]]:
        return [each for each in self._monitors if each.ejected] if self.active else []

    def _may_be_out(self, number: int) -> bool:
        of = len(self._monitors)
        return of > 1 and 100 * number <= self._max_percent * of

    def _eject(self, monitor: Monitor[T], reason: str, now: float) -> None:
        if monitor not in self._monitors:  # it has left and still answers what was sent before
            return
        if not self._may_be_out(self.active + 1):
            self.overflows_total += 1
            return
        if monitor.times * self._base < self._max:  # no further, or healthy intervals would have to undo it in vain
            monitor.times += 1
        seconds = min(monitor.times * self._base, self._max)
        monitor.ejected = True
        monitor.ejected_at = now
        monitor.until = now + seconds
        self.active += 1
        self.ejections_total[reason] += 1
        self._on_change(monitor, reason, seconds)

    def _take_back(self, monitor: Monitor[T], now: float) -> None:
        monitor.ejected = False
        monitor.returned_at = now
        monitor.clear()
        self.active -= 1
        self._on_change(monitor, RETURNED, now - monitor.ejected_at)

    # --- intervals ---

    def _end_interval(self, now: float) -> None:
        self._interval_ends = now + self._interval
        if self._success_rate is not None:
            self._compare(self._success_rate, now)
        for monitor in self._monitors:
            monitor.requests = monitor.failures = 0
            if monitor.times and not monitor.ejected and now >= monitor.returned_at + self._interval:
                monitor.times -= 1

    def _compare(self, config: SuccessRate, now: float) -> None:
        """Eject the endpoints whose success rate is far below the mean of all."""
        rated = sorted(  # the worst first, as not all may be out at once
            (
                (1 - each.failures / each.requests, number, each)
                for number, each in enumerate(self._monitors)
                if not each.ejected and each.requests >= config.min_requests
            ),
        )
        if len(rated) < config.min_endpoints:
            return
        mean = math.fsum(rate for rate, _, _ in rated) / len(rated)
        deviation = math.sqrt(math.fsum((rate - mean) ** 2 for rate, _, _ in rated) / len(rated))
        least = mean - config.deviations * deviation - _ROUNDING
        for rate, _, monitor in rated:
            if rate < least:
                self._eject(monitor, SUCCESS_RATE, now)


def _due(monitor: Monitor[T]) -> float:
    return monitor.until
