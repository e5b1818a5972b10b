"""What a slice and a run amount to: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


class Measured(NamedTuple):
    """What came of one slice."""

    sample: Sample
    unmeant: Sequence[str]
    """Statuses that the attacker got and should not have got: the attack is another one than its title says."""


@dataclass
class Outcome:
    """What came of one attack, by proxy."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """One for each round."""
    unmeant: dict[str, set[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a proxy could not be measured."""

    def add(self, proxy: str, measured: Measured) -> None:
        """One more slice."""
        self.samples.setdefault(proxy, []).append(measured.sample)
        if measured.unmeant:
            self.unmeant.setdefault(proxy, set()).update(measured.unmeant)

    def median(self, proxy: str, figure: str) -> float | None:
        """Over the rounds; None where there is none."""
        return median_of(self.samples.get(proxy, ()), figure)


class Verdict(NamedTuple):
    """meshlet's p99 under an attack beside what it may be, in ms; None: not measured."""

    value: float | None
    bar: float | None

    @property
    def text(self) -> str:
        """In words."""
        if self.value is None or (self.bar is None and self.value > ENOUGH_MS):
            return "not measured"
        return "met" if self.bar is None or self.value <= self.bar else "not met"


def verdict(outcome: Outcome) -> Verdict:
    """Judge meshlet's median; without Envoy it can still be good enough."""
    envoy = outcome.median("envoy", "p99_ms")
    bar = None if envoy is None else max(ENOUGH_MS, TIMES_ENVOY * envoy)
    return Verdict(outcome.median("meshlet", "p99_ms"), bar)
