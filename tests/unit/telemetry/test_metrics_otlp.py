"""Metrics on their way to an OpenTelemetry collector."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.telemetry import otlp_points
from meshlet.telemetry.metrics import Exemplar, Family, HistogramData, Sample
from meshlet.telemetry.otlp import signal_url
from meshlet.telemetry.otlp_metrics import OtlpMetrics
from tests.support.otlp_sink import OtlpSink

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCE = {"service.name": "reviews"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def families() -> list[Family]:
    requests = Family("meshlet_requests_total", "counter", "Requests.")
    requests.add(3, cluster="app", response_code="200")
    requests.add(1, cluster="app", response_code="503")
    data = HistogramData((0.1, 1.0), (1, 2, 3), 9.5, (Exemplar(TRACE, 0.5, 1700000000.25),))
    return [
        requests,
        Family("meshlet_request_duration_seconds", "histogram", "Time.", [Sample((("cluster", "app"),), data)]),
        Family("meshlet_connections", "gauge", "Open.", [Sample((), 2.5)]),
        Family("meshlet_tcp_sent_bytes_total", "counter", "Bytes.", [Sample((), 7)]),
        Family("meshlet_nothing_total", "counter", "Never happened."),
    ]


async def give() -> list[Family]:
    return families()


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


def pusher(url: str, interval: float = 1000.0) -> OtlpMetrics:
    times = iter(range(100, 200))
    return OtlpMetrics(url, interval, give, RESOURCE, clock=lambda: float(next(times)))


async def test_what_a_collector_gets(sink: OtlpSink) -> None:
    metrics = pusher(sink.url)
    metrics.start()
    await metrics.close(grace=20.0)
    assert (metrics.pushes_total, metrics.failures_total) == (1, 0)
    assert all(point.resource["service.name"] == "reviews" and point.scope == "meshlet" for point in sink.metrics)
    assert {(point.start, point.time) for point in sink.metrics if point.kind != "gauge"} == {
        (100 * 10**9, 101 * 10**9)
    }
    requests = sink.metric("meshlet_requests_total")
    assert [(point.kind, point.temporality, point.monotonic, point.value) for point in requests] == [
        ("sum", "CUMULATIVE", True, 3),
        ("sum", "CUMULATIVE", True, 1),
    ]
    assert requests[0].attributes == {"cluster": "app", "response_code": "200"}
    [duration] = sink.metric("meshlet_request_duration_seconds")
    assert (duration.kind, duration.temporality, duration.unit) == ("histogram", "CUMULATIVE", "s")
    assert (duration.value.count, duration.value.sum) == (6, 9.5)
    assert (list(duration.value.explicit_bounds), list(duration.value.bucket_counts)) == ([0.1, 1.0], [1, 2, 3])
    assert not duration.value.HasField("min")
    assert not duration.value.HasField("max")
    [exemplar] = duration.exemplars
    assert (exemplar.trace_id.hex(), exemplar.as_double, exemplar.time_unix_nano) == (TRACE, 0.5, 1700000000250000000)
    [connections] = sink.metric("meshlet_connections")
    assert (connections.kind, connections.value, connections.description) == ("gauge", 2.5, "Open.")
    assert [point.unit for point in sink.metric("meshlet_tcp_sent_bytes_total")] == ["By"]
    assert sink.metric("meshlet_nothing_total") == []


async def test_it_pushes_again_and_again(sink: OtlpSink) -> None:
    metrics = pusher(sink.url, interval=0.01)
    metrics.start()
    await asyncio.to_thread(sink.wait_for, lambda: len(sink.requests) >= 3, 20.0)
    await metrics.close()
    assert metrics.pushes_total >= 3


def test_large_pushes_are_sent_in_parts(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_points, "_MOST_POINTS", 2)
    exporter = otlp_points.Exporter(signal_url(sink.url, "metrics"), RESOURCE, 0.0, 5.0)
    assert exporter.send(families(), 1.0) is None
    exporter.close()
    assert len(sink.requests) == 3
    assert len(sink.metrics) == 5


async def test_a_collector_that_refuses_costs_pushes_and_one_line(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.status = 400
    metrics = pusher(sink.url, interval=0.01)
    metrics.start()
    await asyncio.to_thread(sink.wait_for, lambda: len(sink.requests) >= 3, 20.0)
    sink.status = 200
    await asyncio.to_thread(sink.wait_for, lambda: sink.metrics, 20.0)
    await metrics.close()
    assert metrics.failures_total >= 3
    assert metrics.pushes_total >= 1
    assert caplog.text.count("metrics cannot be pushed to") == 1
    assert len(caplog.records) == 1, caplog.text


async def test_a_dead_collector_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as silent:  # it accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        metrics = pusher(f"http://127.0.0.1:{silent.getsockname()[1]}", interval=0.5)
        metrics.start()
        await metrics._push()
        assert metrics.failures_total == 1
        began = time.monotonic()
        await metrics.close(grace=0.05)
        assert time.monotonic() - began < 1.0
    assert "cannot be pushed" in caplog.text


async def test_a_last_push_waits_for_the_one_under_way(sink: OtlpSink) -> None:
    metrics = pusher(sink.url)
    metrics.start()
    under_way = asyncio.create_task(metrics._push())
    await asyncio.sleep(0)
    await metrics.close(grace=20.0)
    await under_way
    assert metrics.pushes_total == len(sink.requests) == 2


async def test_metrics_that_are_not_to_be_had_are_a_failed_push(sink: OtlpSink) -> None:
    async def fails() -> list[Family]:
        raise OSError("no worker answers")

    metrics = OtlpMetrics(sink.url, 1000.0, fails, RESOURCE)
    metrics.start()
    await metrics.close()
    assert (metrics.pushes_total, metrics.failures_total) == (0, 1)


async def test_close_before_start() -> None:
    await pusher("http://127.0.0.1:1").close()


def test_opentelemetry_is_loaded_by_the_first_push_only() -> None:
    code = "import sys, meshlet.telemetry.otlp_metrics; print([name for name in sys.modules if 'opentel' in name])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_whole_model_is_converted() -> None:
    """Whatever a family holds, none of its samples is lost."""
    found: dict[str, Any] = {metric.name: metric for metric in otlp_points.metrics_of(families(), 0.0, 1.0)}
    for family in families():
        if family.samples:
            assert len(found[family.name].data.data_points) == len(family.samples)
