"""Families as text: Prometheus' format and OpenMetrics for scrapers, plain lines for people.

prometheus-client costs 5 MB and 30 ms of import, so it is loaded by the first scrape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family, HistogramData, Labels

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_OPENMETRICS = "application/openmetrics-text"


def prometheus(families: Sequence[Family], accept: str = "") -> tuple[bytes, str]:
    """The families for a scraper whose Accept header is given: the body and its content type.

    OpenMetrics where it is asked for, else Prometheus' text format. Thousands of samples take
    tens of milliseconds: call it in a thread.
    """
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Scrape(Collector):
        def collect(self) -> Iterator[Metric]:
            return map(_metric, families)

    # The library's own negotiation fails on a malformed version; every scraper of OpenMetrics reads 1.0.0.
    encode, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept.lower() else "")
    return encode(Scrape()), content_type


def lines(families: Iterable[Family]) -> list[str]:
    """One sorted line `name{label="value"} value` for each number; of histograms only count and sum."""
    return sorted(
        f"{name}{_braces(sample.labels)} {_number(value)}"
        for family in families
        for sample in family.samples
        for name, value in _numbers(family.name, sample.value)
    )


def _numbers(name: str, value: float | HistogramData) -> tuple[tuple[str, float], ...]:
    if isinstance(value, HistogramData):
        return (f"{name}_count", value.count), (f"{name}_sum", value.sum)
    return ((name, value),)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _metric(family: Family) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    names = [name for name, _ in family.samples[0].labels] if family.samples else []
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=names)
        for sample in family.samples:
            if isinstance(sample.value, HistogramData):
                histogram.add_metric(_values(sample.labels, names), _cumulative(sample.value), sample.value.sum)
        return histogram
    scalar = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(
        family.name, family.help, labels=names
    )
    for sample in family.samples:
        if not isinstance(sample.value, HistogramData):
            scalar.add_metric(_values(sample.labels, names), sample.value)
    return scalar


def _values(labels: Labels, names: list[str]) -> list[str]:
    # The library pairs names and values by position and would mislabel silently.
    if [name for name, _ in labels] != names:
        raise ValueError(f"samples of one family with different labels: {names} and {labels}")
    return [value for _, value in labels]


def _cumulative(data: HistogramData) -> list[tuple[str, float]]:
    # OpenMetrics wants a bound of one second written 1.0.
    bounds = [*map(str, data.bounds), "+Inf"]
    return list(zip(bounds, accumulate(data.counts), strict=True))
