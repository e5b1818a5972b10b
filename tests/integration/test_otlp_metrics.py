"""Metrics that meshlet pushes to an OpenTelemetry collector."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.fleet import fleet_with
from tests.support.http1 import Client
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import config_of, meshlet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


def config(app: ExampleApp, endpoint: str, interval: str) -> dict[str, Any]:
    metrics = {"otlp_endpoint": endpoint, "otlp_interval": interval}
    return config_of(app.address, telemetry={"metrics": metrics, "workload": {"name": "reviews-v1"}})


def test_the_sum_over_workers_is_exact(app: ExampleApp, sink: OtlpSink, tmp_path: Path) -> None:
    with fleet_with(tmp_path, config(app, sink.url, "100ms")) as process:
        for _ in range(30):
            with Client(process.address) as client:
                assert client.get("/status/204").status == 204
        last = sink.wait_for(
            lambda: [point for point in sink.metric("meshlet_requests_total") if point.value == 30], timeout=30
        )[0]
    assert (last.temporality, last.monotonic) == ("CUMULATIVE", True)
    assert last.attributes["response_code"] == "204"
    assert last.resource["service.name"] == "reviews-v1"
    values = [point.value for point in sink.metric("meshlet_requests_total")]
    assert values == sorted(values)
    durations = sink.metric("meshlet_request_duration_seconds")
    assert durations[-1].value.count == 30
    assert sink.metric("meshlet_workers")[-1].value == 2


def test_what_was_counted_last_is_pushed_at_the_end(app: ExampleApp, sink: OtlpSink, tmp_path: Path) -> None:
    with meshlet(tmp_path, config(app, sink.url, "1h")) as process:
        with process.client() as client:
            assert client.get("/status/204").status == 204
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert [point.value for point in sink.metric("meshlet_requests_total")] == [1]


def test_without_a_collector_requests_go_on_and_it_ends(app: ExampleApp, tmp_path: Path) -> None:
    with meshlet(tmp_path, config(app, "http://127.0.0.1:1", "50ms")) as process:
        with process.client() as client:
            for _ in range(100):
                assert client.get("/status/204").status == 204
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "metrics cannot be pushed to http://127.0.0.1:1/v1/metrics: " in process.stderr
        assert process.stderr.count("metrics cannot be pushed") == 1
