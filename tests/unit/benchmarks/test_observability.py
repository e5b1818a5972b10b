from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.errors import BenchmarkError
from benchmarks.observability import ACCESS_LOG, FIELDS, SAMPLED, Evidence
from benchmarks.proxies import ALL, render
from benchmarks.scenarios import ALL as SCENARIOS
from benchmarks.sink import Sink, count_spans
from meshlet.config.load import loads
from meshlet.config.schema import AccessLog

VALUES = {
    "port": 18080,
    "backend_port": 18081,
    "admin_port": 18082,
    "sink_port": 18083,
    "meshlet_protocol": "http",
    "workdir": "/tmp/bench",
}


def template(proxy: str) -> str:
    return render(ALL[proxy].template("observability").read_text(encoding="utf-8"), VALUES, ["/"])


# --- the configs ---


def test_meshlet_and_envoy_alone_take_part() -> None:
    assert "observability" in SCENARIOS
    assert [name for name, proxy in ALL.items() if proxy.template("observability").exists()] == ["meshlet", "envoy"]


def test_what_meshlet_has_on() -> None:
    config = loads(template("meshlet"), "meshlet.yaml")
    log, tracing = config.telemetry.access_log, config.telemetry.tracing
    assert log == AccessLog(path=f"/tmp/bench/{ACCESS_LOG}")  # its default JSON, unfiltered
    assert tracing is not None
    assert (tracing.sample, tracing.otlp_endpoint) == (SAMPLED, "http://127.0.0.1:18083")
    assert config.listeners[0].routes[0].retry is not None


def test_what_envoy_has_on() -> None:
    parts = yaml.safe_load(template("envoy"))["static_resources"]
    manager = parts["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    log = manager["access_log"][0]["typed_config"]
    assert log["path"] == f"/tmp/bench/{ACCESS_LOG}"
    assert log["log_format"]["json_format"].keys() == FIELDS
    assert manager["tracing"]["random_sampling"]["value"] == SAMPLED * 100
    assert manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"]["num_retries"] == 3
    app, sink = parts["clusters"]
    assert "circuit_breakers" in app
    assert sink["name"] == "sink"


# --- the evidence ---


def write(log: Path, lines: int, fields: Any = FIELDS) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(dict.fromkeys(fields, 1)) + "\n" for _ in range(lines))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / ACCESS_LOG


def test_a_log_is_counted_and_emptied(log: Path) -> None:
    evidence = Evidence()
    for _ in range(2):
        write(log, 5000)
        evidence.read(log, 5000)
        assert log.stat().st_size == 0
    assert (evidence.requests, evidence.lines, evidence.fields) == (10000, 10000, FIELDS)
    evidence.check(100)


def test_a_line_that_is_not_whole_does_not_count(log: Path) -> None:
    evidence = Evidence()
    write(log, 2)
    with log.open("a", encoding="utf-8") as file:
        file.write('{"start_ti')
    evidence.read(log, 2)
    assert (evidence.lines, evidence.fields) == (2, FIELDS)


@pytest.mark.parametrize(
    ("evidence", "spans", "problem"),
    [
        (Evidence(100_000, 0, FIELDS), 1000, "0 lines in its log for 100000 requests"),
        (Evidence(100_000, 90_000, FIELDS), 1000, "90000 lines in its log"),
        (Evidence(100_000, 100_000, FIELDS - {"trace_id", "method"}), 1000, "its log lacks method, trace_id"),
        (Evidence(100_000, 100_000, FIELDS), 0, "0 spans where 774 to 1226 were due"),
        (Evidence(100_000, 100_000, FIELDS), 100_000, "100000 spans"),
    ],
)
def test_a_proxy_that_does_not_do_the_work_is_found_out(evidence: Evidence, spans: int, problem: str) -> None:
    with pytest.raises(BenchmarkError, match=problem):
        evidence.check(spans)


# --- the sink ---


def export(*scopes: int) -> bytes:
    """An export with so many spans in each scope."""
    message = ExportTraceServiceRequest()
    for spans in scopes:
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = "bench"
        scope = resource.scope_spans.add(schema_url="https://opentelemetry.io/schemas/1.30.0")
        for number in range(spans):
            span = scope.spans.add(name="GET", trace_id=bytes(16), start_time_unix_nano=number + 1, kind=2, flags=257)
            span.attributes.add(key="http.response.status_code").value.int_value = 200
            span.attributes.add(key="ratio").value.double_value = 0.5
            span.attributes.add(key="path").value.string_value = "/" * 300
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("scopes", [(), (0,), (1,), (3, 0, 200)])
def test_spans_are_counted(scopes: tuple[int, ...]) -> None:
    assert count_spans(export(*scopes)) == sum(scopes)


async def test_the_sink_counts_what_it_is_sent() -> None:
    async with TestClient(TestServer(Sink().app())) as client:
        body = export(2, 3)
        async with client.post("/v1/traces", data=body) as response:
            assert response.status == 200
        async with client.post(
            "/v1/traces", data=gzip.compress(body), headers={"content-encoding": "gzip"}
        ) as response:
            assert await response.read() == b""
        for _ in range(2):  # asking does not change it
            async with client.get("/spans") as response:
                assert await response.text() == "10"
