"""The metrics model that a scrape yields, and the one primitive that needs more than an integer.

Counters and gauges are plain attributes of the objects they belong to. A scrape reads them into
families, which travel between processes (msgspec encodes them) and add up.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import add
from typing import Literal

from msgspec import Struct

Labels = tuple[tuple[str, str], ...]

# Seconds, which is Prometheus' base unit; Istio's own metric counts milliseconds.
DURATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Prometheus' text format puts these behind a histogram's name; any other metric that ends so would be mistaken.
_RESERVED_SUFFIXES = ("_bucket", "_count", "_sum", "_created")


class HistogramData(Struct, frozen=True, array_like=True):
    """A histogram at one moment.

    `counts` has one entry for each bound (values up to and including it, above the bound before)
    and a last one for what lies above all bounds: not cumulative, unlike Prometheus' own text.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __add__(self, other: HistogramData) -> HistogramData:
        if self.bounds != other.bounds:
            raise ValueError(f"histograms with different bounds do not add up: {self.bounds} and {other.bounds}")
        return HistogramData(self.bounds, tuple(map(add, self.counts, other.counts)), self.sum + other.sum)


class Sample(Struct, frozen=True, array_like=True):
    """One value of a family; `labels` are in the same order in all samples of the family."""

    labels: Labels
    value: float | HistogramData


class Family(Struct, array_like=True):
    """A metric: its name, what it means, and one sample for each set of labels.

    Raises ValueError for a name that breaks Prometheus' naming rules: counters, and they alone,
    end in `_total`. A unit in the name is a base unit (`_seconds`, `_bytes`).
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[Sample] = []

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.endswith(_RESERVED_SUFFIXES):
            raise ValueError(f"not a metric name: {self.name}")
        if self.name.endswith("_total") != (self.kind == "counter"):
            raise ValueError(f"counters, and they alone, end in _total: {self.kind} {self.name}")
        if not self.help:
            raise ValueError(f"a metric needs a help text: {self.name}")

    def add(self, value: float | HistogramData, **labels: str) -> None:
        """Append one sample."""
        self.samples.append(Sample(tuple(labels.items()), value))


class Histogram:
    """Counts values into buckets, one bisect and two additions each; without locks, so for one thread."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = DURATION_BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        # bisect_left: a value equal to a bound belongs under it, as `le` says.
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def data(self) -> HistogramData:
        return HistogramData(self.bounds, tuple(self.counts), self.sum)


def merge(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """Add up the families of several processes by name and labels, gauges too; the parts stay as they are.

    Raises ValueError where the parts disagree on what a name is.
    """
    kinds: dict[str, Family] = {}
    values: dict[str, dict[Labels, float | HistogramData]] = {}
    for family in chain.from_iterable(parts):
        first = kinds.setdefault(family.name, family)
        if first.kind != family.kind:
            raise ValueError(f"{family.name} is both a {first.kind} and a {family.kind}")
        totals = values.setdefault(family.name, {})
        for sample in family.samples:
            before = totals.get(sample.labels)
            totals[sample.labels] = sample.value if before is None else _sum(before, sample.value)
    return [
        Family(name, first.kind, first.help, [Sample(labels, value) for labels, value in values[name].items()])
        for name, first in kinds.items()
    ]


def _sum(a: float | HistogramData, b: float | HistogramData) -> float | HistogramData:
    if isinstance(a, HistogramData) and isinstance(b, HistogramData):
        return a + b
    if isinstance(a, HistogramData) or isinstance(b, HistogramData):
        raise ValueError("a histogram and a number do not add up")
    return a + b
