"""What meshlet is held to, and what it wants to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.stats import Sample, median_of, median_ratio

Samples = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Scenario, then proxy, to its samples, one a round."""


class Bar(NamedTuple):
    """A figure of meshlet with its bar (must) and aim (wanted); less is better in all of them."""

    title: str
    scenario: str
    figure: str
    against: str | None
    """The proxy whose figure divides meshlet's; None: the figure itself."""
    bar: float
    aim: float
    unit: str = ""


BARS = (
    Bar("CPU per request, keep-alive, 12 headers", "keepalive", "cpu_us", "envoy", 0.60, 0.50),
    Bar("the same, against nginx", "keepalive", "cpu_us", "nginx", 1.7, 1.4),
    Bar("CPU per request, policies on", "policies", "cpu_us", "envoy", 0.60, 0.50),
    Bar("CPU per request, log and traces on", "observability", "cpu_us", "envoy", 0.60, 0.50),
    Bar("RSS, log and traces on", "observability", "rss_mb", "envoy", 0.8, 0.6),
    Bar("CPU per request, new connection each", "connect", "cpu_us", "envoy", 1.0, 0.8),
    Bar("CPU per GB, 1 MB downloads", "download", "cpu_ms_per_gb", "envoy", 1.2, 0.9),
    Bar("CPU per GB, 1 MB uploads", "upload", "cpu_ms_per_gb", "envoy", 1.2, 0.9),
    Bar("CPU per request, TCP relay", "tcp", "cpu_us", "envoy", 0.9, 0.8),
    Bar("p99 at a fixed moderate rate", "latency", "p99_ms", "envoy", 1.2, 1.0),
    Bar("RSS after load", "keepalive", "rss_mb", "envoy", 0.75, 0.6),
    Bar("memory per idle connection", "idle", "bytes_per_connection", "envoy", 1.0, 0.5),
    Bar("1,000 routes against 10, CPU per request", "routes", "growth", None, 1.1, 1.02),
    Bar("start to first proxied response", "startup", "ready_s", None, 0.5, 0.25, " s"),
)


class Verdict(NamedTuple):
    """A bar beside what was measured."""

    bar: Bar
    value: float | None

    @property
    def text(self) -> str:
        """In words."""
        if self.value is None:
            return "not measured"
        return "aim met" if self.value <= self.bar.aim else "met" if self.value <= self.bar.bar else "not met"


def judge(samples: Samples) -> list[Verdict]:
    """Every bar with the figure of this run, where it has one."""
    return [Verdict(bar, _value(bar, samples.get(bar.scenario, {}))) for bar in BARS]


def _value(bar: Bar, by_proxy: Mapping[str, Sequence[Sample]]) -> float | None:
    ours = by_proxy.get("meshlet", ())
    if bar.against is None:
        return median_of(ours, bar.figure)
    return median_ratio(ours, by_proxy.get(bar.against, ()), bar.figure)
