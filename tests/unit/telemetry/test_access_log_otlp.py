from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meshlet.config.schema import AccessLog as Config
from meshlet.telemetry.access_log import AccessLog
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import until
from tests.support.records import TCP, Ended

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP = Ended()
GRACE = 20.0


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with OtlpSink() as sink:
        yield sink


async def test_json_becomes_attributes(sink: OtlpSink) -> None:
    fields = {"status": "%RESPONSE_CODE%", "agent": "%REQ(user-agent)%", "none": "%REQ(x-none)%"}
    log = AccessLog(Config(otlp_endpoint=sink.url, fields=fields), resource={"service.name": "reviews"})
    log.record(HTTP)
    log.record(TCP)
    await log.close(GRACE)
    http, tcp = sink.logs
    assert http.attributes == {"status": 200, "agent": "curl/8"}
    assert tcp.attributes == {"status": 0}
    assert (http.body, tcp.body) == ("GET /a?b=c HTTP/1.1 200 -", "- - TCP 0 UF")
    assert (http.trace_id, http.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (tcp.trace_id, tcp.span_id) == ("", "")
    assert (http.time, http.resource, http.severity) == (1_700_000_000_123_900_000, {"service.name": "reviews"}, "INFO")
    assert (log.dropped, log.errors) == (0, 0)


async def test_text_is_the_body(sink: OtlpSink) -> None:
    log = AccessLog(Config(otlp_endpoint=sink.url, format='%PATH% "%REQ(x-none)%"'))
    log.record(replace(HTTP, target=b"/\xff"))
    await log.close(GRACE)
    assert [(record.body, record.attributes) for record in sink.logs] == [(r'/\xff "-"', {})]


async def test_many_lines_go_in_few_requests(sink: OtlpSink) -> None:
    log = AccessLog(Config(otlp_endpoint=sink.url, format="%PATH%"))
    for number in range(1000):
        log.record(replace(HTTP, target=b"/%d" % number))
    await log.close(GRACE)
    assert [record.body for record in sink.logs] == [f"/{number}" for number in range(1000)]
    assert len(sink.requests) <= 1000 // 128 + 1


async def test_what_the_collector_refuses_is_counted_and_logged_once(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.status = 400
    log = AccessLog(Config(otlp_endpoint=sink.url, format="%PATH%"))
    for _ in range(700):
        log.record(HTTP)
    await log.close(GRACE)
    assert log.dropped == 700
    assert log.errors >= 1
    assert caplog.text.count("its lines are lost") == 1


async def test_a_collector_that_is_gone_costs_lines_only(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        log = AccessLog(Config(otlp_endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", format="%PATH%"))
        log.record(replace(HTTP, target=b"/" + b"x" * 16000))
        log._flush()
        log._writer._max_backlog = 10000  # type: ignore[attr-defined]
        for _ in range(300):
            log.record(HTTP)
        assert log.dropped == 256
        await log.close(0.0)
        until(lambda: log.dropped == 301)
    assert "gave up sending the access log to http://127.0.0.1" in caplog.text


async def test_with_wrong_settings_in_the_environment_lines_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER", "nobody")
    log = AccessLog(Config(otlp_endpoint="http://127.0.0.1:9"))
    log.record(HTTP)
    await log.close(GRACE)
    assert (log.dropped, log.errors) == (1, 1)
    assert caplog.text.count("cannot be sent") == 1


async def test_a_log_that_had_nothing_to_send_starts_no_thread(sink: OtlpSink) -> None:
    log = AccessLog(Config(otlp_endpoint=sink.url))
    log.reopen()
    await log.close(GRACE)
    assert sink.requests == []
