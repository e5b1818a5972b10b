"""What a slice and a run amount to: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.stats import Sample, median_of, percentile

# meshlet's p99 may be so much, in ms, or so many times Envoy's, whichever is more.
ENOUGH_MS = 50.0
TIMES_ENVOY = 3.0


def waits_sample(waits: Sequence[float], prefix: str = "") -> Sample:
    """Quantiles in ms of waits in seconds."""
    ordered = sorted(waits)
    return {
        f"{prefix}p50_ms": percentile(ordered, 50) * 1000,
        f"{prefix}p99_ms": percentile(ordered, 99) * 1000,
        f"{prefix}max_ms": ordered[-1] * 1000,
    }


class Verdict(NamedTuple):
    """meshlet's p99 under an attack beside what it may be, in ms; None: not measured."""

    value: float | None
    bar: float | None

    @property
    def text(self) -> str:
        """In a word."""
        if self.value is None or (self.bar is None and self.value > ENOUGH_MS):
            return "not measured"
        return "met" if self.bar is None or self.value <= self.bar else "not met"


def verdict(samples: Mapping[str, Sequence[Sample]]) -> Verdict:
    """Judge the samples of one attack, given by proxy; medians over the rounds."""
    envoy = median_of(samples.get("envoy", ()), "p99_ms")
    bar = None if envoy is None else max(ENOUGH_MS, TIMES_ENVOY * envoy)
    return Verdict(median_of(samples.get("meshlet", ()), "p99_ms"), bar)
