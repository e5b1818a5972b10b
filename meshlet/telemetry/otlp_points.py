"""Families in OpenTelemetry's data model, and its OTLP exporter. Importing this module loads OpenTelemetry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.sdk.version import __version__ as sdk_version

import meshlet
from meshlet.telemetry.metrics import HistogramData
from meshlet.telemetry.otlp_session import bounded_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from meshlet.telemetry.metrics import Family

# Points in one request: with all of Istio's labels some 5 MB, a quarter of what a collector accepts.
_MOST_POINTS = 4000

#: UCUM's units by the end of a name
_UNITS = {"seconds": "s", "milliseconds": "ms", "bytes": "By"}

_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Exporter:
    """Sends families to the collector's URL; `send` is for one thread at a time.

    `began` is when counting began, in unix seconds; `timeout` is for one request with its retries, in seconds.
    """

    def __init__(self, url: str, resource: Mapping[str, str], began: float, timeout: float) -> None:
        self._resource = Resource({"telemetry.sdk.version": sdk_version, **resource})
        self._scope = InstrumentationScope("meshlet", meshlet.__version__)
        self._began = began
        self._exporter = OTLPMetricExporter(
            url, timeout=timeout, compression=Compression.Gzip, session=bounded_session()
        )
        self._said = _Said()
        self._logger = logging.getLogger(OTLPMetricExporter.__module__)
        self._logger.addFilter(self._said)

    def send(self, families: Iterable[Family], now: float) -> str | None:
        """Send them as of `now`, in unix seconds. Return what went wrong, None where nothing did."""
        for metrics in _batches(metrics_of(families, self._began, now)):
            data = MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(self._scope, metrics, "")], "")])
            if self._exporter.export(data) is not MetricExportResult.SUCCESS:
                return self._said.message
        return None

    def close(self) -> None:
        """Send nothing more; a push that waits to be repeated ends."""
        self._exporter.shutdown()
        self._logger.removeFilter(self._said)


class _Said(logging.Filter):
    """Keeps a logger's last message, instead of having one logged for each push."""

    message = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.message = record.getMessage()
        return False


def _batches(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    batch: list[Metric] = []
    points = 0
    for metric in metrics:
        more = len(metric.data.data_points)
        if batch and points + more > _MOST_POINTS:
            yield batch
            batch, points = [], 0
        batch.append(metric)
        points += more
    if batch:
        yield batch


def metrics_of(families: Iterable[Family], began: float, now: float) -> Iterator[Metric]:
    """The families as metrics, those without samples left out; times are unix seconds.

    Names stay as Prometheus has them, as the collector's own receiver of Prometheus' format leaves them.
    """
    start, end = _nanoseconds(began), _nanoseconds(now)
    for family in families:
        if not family.samples:
            continue
        data: Gauge | Histogram | Sum
        if family.kind == "histogram":
            data = Histogram(
                [
                    _histogram(dict(sample.labels), start, end, sample.value)
                    for sample in family.samples
                    if isinstance(sample.value, HistogramData)
                ],
                _CUMULATIVE,
            )
        else:
            points = [
                NumberDataPoint(dict(sample.labels), start, end, sample.value)
                for sample in family.samples
                if not isinstance(sample.value, HistogramData)
            ]
            data = Gauge(points) if family.kind == "gauge" else Sum(points, _CUMULATIVE, is_monotonic=True)
        yield Metric(family.name, family.help, _unit(family.name), data)


def _histogram(attributes: dict[str, str], start: int, end: int, data: HistogramData) -> HistogramDataPoint:
    # Nobody keeps the extremes since the start; the protocol lets them be left out, its Python type does not.
    unknown = cast("float", None)
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=end,
        count=data.count,
        sum=data.sum,
        bucket_counts=data.counts,
        explicit_bounds=data.bounds,
        min=unknown,
        max=unknown,
        # The encoder wants a span for a trace; the trace alone is known.
        exemplars=[
            Exemplar({}, each.value, _nanoseconds(each.time), span_id=0, trace_id=int(each.trace_id, 16))
            for each in data.exemplars
        ],
    )


def _unit(name: str) -> str:
    return _UNITS.get(name.removesuffix("_total").rpartition("_")[2], "")


def _nanoseconds(seconds: float) -> int:
    # A float holds today's seconds to a microsecond at most.
    return round(seconds * 1e6) * 1000
