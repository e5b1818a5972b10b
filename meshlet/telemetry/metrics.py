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

# Bytes of a body.
SIZE_BOUNDS = (0, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 24, 1 << 28)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Prometheus' text format puts these behind a histogram's name; any other metric that ends so would be mistaken.
_RESERVED_SUFFIXES = ("_bucket", "_count", "_sum", "_created")


# A scrape makes tens of thousands of the three structs below. None of them can be part of a cycle, so the garbage
# collector need not look at them (gc=False); without that, it takes more time than all the rest.


class Exemplar(Struct, frozen=True, array_like=True, gc=False):
    """One request in a bucket of a histogram, by which its trace is found."""

    trace_id: str
    value: float  # what was counted
    time: float  # unix seconds


class HistogramData(Struct, frozen=True, array_like=True, gc=False):
    """A histogram at one moment.

    `counts` has one entry for each bound (values up to and including it, above the bound before)
    and a last one for what lies above all bounds: not cumulative, unlike Prometheus' own text.
    `exemplars` are at most one for each bucket, which is known by their value.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar, ...] = ()

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __add__(self, other: HistogramData) -> HistogramData:
        """Add the counts and keep the newest exemplars.

        Of different bounds the common ones remain: so the sum is exact, and that of a process whose bounds
        a reload has changed still adds up.
        """
        if self.bounds != other.bounds:
            common = tuple(sorted(set(self.bounds) & set(other.bounds)))
            return self._onto(common) + other._onto(common)
        exemplars = self.exemplars
        if other.exemplars:
            exemplars = tuple(_newest(self.bounds, (*exemplars, *other.exemplars)).values())
        return HistogramData(self.bounds, tuple(map(add, self.counts, other.counts)), self.sum + other.sum, exemplars)

    def _onto(self, bounds: tuple[float, ...]) -> HistogramData:
        """Return the same with some of its bounds only."""
        counts = [0] * (len(bounds) + 1)
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            counts[bisect_left(bounds, bound)] += count
        return HistogramData(bounds, tuple(counts), self.sum, tuple(_newest(bounds, self.exemplars).values()))

    def examples(self) -> dict[int, Exemplar]:
        """Return the exemplars by the index of their bucket."""
        return _newest(self.bounds, self.exemplars)


def _newest(bounds: Sequence[float], exemplars: Iterable[Exemplar]) -> dict[int, Exemplar]:
    found: dict[int, Exemplar] = {}
    for exemplar in exemplars:
        bucket = bisect_left(bounds, exemplar.value)
        if bucket not in found or found[bucket].time < exemplar.time:
            found[bucket] = exemplar
    return found


class Sample(Struct, frozen=True, array_like=True, gc=False):
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
