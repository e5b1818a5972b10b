"""A running estimate of a percentile of response times, for hedging."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import log

# Bucket borders grow by this factor, so an estimate is off by at most (factor - 1) / (factor + 1), 2.4 %.
_FACTOR = 1.05
_SCALE = 1 / log(_FACTOR)
# Seconds. What lies outside counts as the nearest of the two.
_SHORTEST = 1e-6
_LONGEST = 1000.0
_OFFSET = -log(_SHORTEST) * _SCALE
_BUCKETS = int(log(_LONGEST) * _SCALE + _OFFSET) + 1

# Fewer samples say nothing of a tail.
_FEW = 50
# Samples after which the estimate is made anew, and so its cost is shared.
_REFRESH = 32
# Past this many samples all count half; more where the percentile leaves only a few above it.
_FULL = 2000
_FULL_TAIL = 40


class LatencyQuantile:
    """Estimates a percentile of the last one or two thousand samples; of more for a percentile near 100.

    Old samples fade by number, not by age: an app that was idle is first expected to be as fast as it was.
    """

    __slots__ = ("_counts", "_due", "_full", "_percentile", "_total", "_value")

    def __init__(self, percentile: float) -> None:
        self._percentile = percentile
        self._full = max(_FULL, round(_FULL_TAIL / (1 - percentile / 100)))
        self._counts: list[float] = [0] * _BUCKETS
        self._total: float = 0
        self._due: float = _FEW  # the total from which on the value is out of date
        self._value: float | None = None

    def __repr__(self) -> str:
        return f"<LatencyQuantile p{self._percentile:g} {self._value} of {self._total:g}>"

    def add(self, seconds: float) -> None:
        """Count a response; called for each."""
        if seconds < _SHORTEST:
            seconds = _SHORTEST
        elif seconds > _LONGEST:
            seconds = _LONGEST
        self._counts[int(log(seconds) * _SCALE + _OFFSET)] += 1
        self._total += 1
        if self._total >= self._full:
            self._fade()

    @property
    def value(self) -> float | None:
        """Seconds, or None while there are too few samples."""
        if self._total >= self._due:
            self._refresh()
        return self._value

    def _fade(self) -> None:
        self._counts = [count / 2 for count in self._counts]
        self._total = sum(self._counts)
        self._due = 0

    def _refresh(self) -> None:
        sums = list(accumulate(self._counts))
        # Rounding must not let the rank lie beyond the last sample.
        number = min(bisect_left(sums, self._percentile * self._total / 100), _BUCKETS - 1)
        # The value in a bucket from which both of its borders are equally far in proportion.
        self._value = _SHORTEST * _FACTOR**number * 2 * _FACTOR / (1 + _FACTOR)
        self._due = self._total + _REFRESH
