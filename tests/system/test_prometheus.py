"""A real Prometheus scrapes meshlet, and promtool judges its metrics."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import yaml

from benchmarks.processes import free_port
from meshlet.example_app import ExampleApp
from tests.support import tools
from tests.support.fleet import fleet_with
from tests.support.http1 import Client
from tests.support.processes import Meshlet, Process, meshlet, running, until
from tests.support.servers import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system("prometheus", "promtool")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUESTS = {200: 20, 404: 3, 503: 2}

Series = dict[str, str]


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


@contextmanager
def app_metrics() -> Iterator[str]:
    """The URL of metrics that an app tells in OpenMetrics; there is one name in them that is meshlet's."""

    def handle(sock: socket.socket) -> None:
        head = sock.recv(65536)
        assert b"application/openmetrics-text" in head
        body = (
            b"# HELP app_orders Orders.\n# TYPE app_orders counter\napp_orders_total 17\n"
            b"# TYPE meshlet_ready gauge\nmeshlet_ready 5\n# EOF\n"
        )
        sock.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )

    with Server(handle) as server:
        yield f"http://{server.address}/metrics"


def config(endpoint: str, **metrics: Any) -> dict[str, Any]:
    routes = [{"name": "all", "cluster": "app"}]
    return {
        "listeners": [
            {"name": "in", "address": "127.0.0.1:0", "routes": routes},
            {"name": "outbound", "address": "127.0.0.1:0", "routes": routes},
            {"name": "tcp", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"},
        ],
        "clusters": [{"name": "app", "endpoints": [endpoint], "service": "reviews.shop.svc.cluster.local"}],
        "telemetry": {
            "metrics": metrics,
            "workload": {"name": "reviews-v1", "namespace": "shop", "app": "reviews", "version": "v1"},
            "tracing": {"sample": 1.0},
        },
        "admin": {"address": "127.0.0.1:0"},
        "shutdown": {"grace": "0s"},
    }


def metrics_address(process: Meshlet) -> str:
    """Of the metrics port, from the start-up line."""
    match = re.search(r"metrics on ([^\s,]+)", process.stderr)
    assert match is not None, process.stderr
    return match[1]


def make_traffic(process: Meshlet) -> None:
    for listener in ("in", "outbound"):
        with Client(process.listeners[listener]) as client:
            for status, count in REQUESTS.items():
                for _ in range(count):
                    assert (
                        client.get(f"/status/{status}", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01").status == status
                    )
    with Client(process.listeners["tcp"]) as client:
        assert client.ask("GET", "/", "Host: app", "Connection: close").status == 200
    until(lambda: process.get("/stats").text.count("tcp_connections_closed_total{") == 1)


@pytest.mark.parametrize("naming", ["meshlet", "istio"])
def test_promtool_finds_nothing_wrong(app: ExampleApp, tmp_path: Path, naming: str) -> None:
    with meshlet(tmp_path, config(app.address, naming=naming)) as process:
        make_traffic(process)
        text = process.get("/stats/prometheus").text
    assert f"# TYPE {naming}_requests_total counter\n" in text
    assert f'{naming}_tcp_connections_closed_total{{reporter="destination",' in text
    command = [tools.require("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=60)
    # The one name of Istio's that is against the rules of Prometheus.
    unit = 'istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"\n'
    assert done.stderr == (unit if naming == "istio" else "")


class Prometheus:
    """Its HTTP API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, what: str, **parameters: str | float) -> Any:
        with Client(self._address) as client:
            target = f"/api/v1/{what}?{urlencode(parameters)}"
            answer = json.loads(client.ask("GET", target, "Host: prometheus", "Connection: close").text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[Series, float]]:
        return [(each["metric"], float(each["value"][1])) for each in self.get("query", query=expression)["result"]]

    def wait_for(self, expression: str) -> list[tuple[Series, float]]:
        return until(lambda: self.query(expression), 30)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus, which scrapes the target four times a second."""
    folder.mkdir()
    scrape = {"job_name": "mesh", "scrape_interval": "250ms", "scrape_timeout": "250ms"}
    document = {"scrape_configs": [scrape | {"static_configs": [{"targets": [target]}]}]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    process = Process(
        [
            tools.require("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ],
        folder / "process",
    )
    with running(process):
        until(lambda: "Server is ready to receive web requests" in process.stderr or not process.running, 60)
        assert process.running, process.stderr
        yield Prometheus(address)


def test_prometheus_gets_all_of_it(app: ExampleApp, tmp_path: Path) -> None:
    with (
        app_metrics() as url,
        meshlet(tmp_path, config(app.address, address="127.0.0.1:0", app=url)) as process,
        prometheus(tmp_path / "prometheus", metrics_address(process)) as found,
    ):
        make_traffic(process)
        by_code = "sum by (response_code) (meshlet_requests_total{reporter='destination'})"
        codes = {"200": 20, "404": 3, "503": 2}
        until(lambda: {each["response_code"]: value for each, value in found.query(by_code)} == codes, 30)
        check_labels(found)
        check_quantiles(found)
        check_exemplars(found)
        assert found.query("up") == [({"__name__": "up", "instance": metrics_address(process), "job": "mesh"}, 1.0)]
        # the app's own, and the name that both have
        assert [value for _, value in found.query("app_orders_total")] == [17]
        assert [value for _, value in found.query("meshlet_ready")] == [1]
        assert [value for _, value in found.query("meshlet_app_scrape_failures_total")] == [0]
        metadata = found.get("targets/metadata")
        types = {each["metric"]: each["type"] for each in metadata}
        assert (types["meshlet_requests"], types["app_orders"]) == ("counter", "counter")
        assert types["meshlet_request_duration_seconds"] == types["meshlet_response_bytes"] == "histogram"
        # A rate is that of a counter that has grown between two scrapes.
        with Client(process.listeners["in"]) as client:
            assert client.get("/status/404").status == 404
        rates = found.wait_for("sum by (response_code) (rate(meshlet_requests_total[1m])) > 0")
        assert [each["response_code"] for each, _ in rates] == ["404"]


def check_labels(found: Prometheus) -> None:
    [(inbound, value)] = found.query("meshlet_requests_total{reporter='destination', response_code='503'}")
    assert value == 2
    assert (inbound["destination_workload"], inbound["destination_workload_namespace"]) == ("reviews-v1", "shop")
    assert (inbound["destination_canonical_service"], inbound["destination_canonical_revision"]) == ("reviews", "v1")
    assert (inbound["source_workload"], inbound["connection_security_policy"]) == ("unknown", "none")
    assert (inbound["listener"], inbound["route"], inbound["cluster"]) == ("in", "all", "app")
    [(outbound, value)] = found.query("meshlet_requests_total{reporter='source', response_code='200'}")
    assert value == 20
    assert (outbound["source_workload"], outbound["destination_service_name"]) == ("reviews-v1", "reviews")
    assert outbound["destination_service"] == "reviews.shop.svc.cluster.local"
    [(tcp, value)] = found.query("meshlet_tcp_sent_bytes_total")
    assert value > 100
    assert (tcp["request_protocol"], tcp["response_flags"]) == ("tcp", "-")


def check_quantiles(found: Prometheus) -> None:
    duration = "sum by (le) (meshlet_request_duration_seconds_bucket{reporter='destination'})"
    [(_, p95)] = found.query(f"histogram_quantile(0.95, {duration})")
    assert 0 < p95 < 1
    [(_, size)] = found.query("histogram_quantile(0.5, sum by (le) (meshlet_response_bytes_bucket))")
    assert 0 <= size < 16384
    [(_, lag)] = found.query("meshlet_event_loop_lag_seconds_count")
    assert lag >= 0


def check_exemplars(found: Prometheus) -> None:
    now = time.time()
    series = found.get(
        "query_exemplars", query="meshlet_request_duration_seconds_bucket", start=now - 600, end=now + 600
    )
    exemplars = [exemplar for each in series for exemplar in each["exemplars"]]
    assert {exemplar["labels"]["trace_id"] for exemplar in exemplars} == {TRACE}
    assert all(0 < float(exemplar["value"]) < 10 and abs(exemplar["timestamp"] - now) < 600 for exemplar in exemplars)


def test_workers_are_one_target(app: ExampleApp, tmp_path: Path) -> None:
    with (
        fleet_with(tmp_path, config(app.address, address="127.0.0.1:0", naming="istio")) as process,
        prometheus(tmp_path / "prometheus", metrics_address(process)) as found,
    ):
        for _ in range(20):
            with Client(process.listeners["in"]) as client:
                assert client.get("/status/200", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01").status == 200
        until(lambda: [value for _, value in found.query("istio_requests_total")] == [20], 30)
        # As Istio's own dashboards ask.
        [(service, rate)] = found.wait_for(
            'sum by (destination_service) (istio_requests_total{reporter=~"destination",response_code!~"5.*"})'
        )
        assert (service["destination_service"], rate) == ("reviews.shop.svc.cluster.local", 20)
        [(_, p50)] = found.query(
            "histogram_quantile(0.5, sum by (le) (istio_request_duration_milliseconds_bucket{reporter='destination'}))"
        )
        assert 0.1 < p50 < 1000
        assert [value for _, value in found.query("meshlet_workers")] == [2]
        series = found.get(
            "query_exemplars",
            query="istio_request_duration_milliseconds_bucket",
            start=time.time() - 600,
            end=time.time() + 600,
        )
        assert {exemplar["labels"]["trace_id"] for each in series for exemplar in each["exemplars"]} == {TRACE}
