from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from meshlet.config.schema import Tracing, Workload
from meshlet.http.attempt import Attempt
from meshlet.telemetry.tracing.export import SpanExport
from meshlet.telemetry.tracing.resource import resource_attributes
from tests.support.otlp_sink import OtlpSink, Span
from tests.support.processes import until
from tests.unit.telemetry.tracing.samples import SPAN_ID, TRACE_ID, FakeRecord, head, tracer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal

START = 1_700_000_000_500_000_000
RESOURCE = {"service.name": "shop", "k8s.pod.name": "shop-0"}
ALWAYS = Tracing(sample=1)
PARENT = f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-01".encode()


@asynccontextmanager
async def exporting(url: str, *, room: int = 2048, grace: float = 10.0) -> AsyncIterator[SpanExport]:
    export = SpanExport(url, RESOURCE, room=room, delay=0.01)
    try:
        yield export
    finally:
        await export.close(grace)


async def spans_of(
    record: FakeRecord, *fields: bytes, direction: Literal["inbound", "outbound"] = "inbound"
) -> list[Span]:
    """The spans of one request, as the collector gets them."""
    with OtlpSink() as sink:
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, direction, export)
            request = head(*fields)
            trace = one.begin(request)
            record.head = request
            one.end(record, trace)
        assert export.exported == len(sink.spans) > 0
        assert export.dropped == {"queue": 0, "failed": 0}
        assert export.in_flight == 0
        assert all(request.path == "/v1/traces" for request in sink.requests)
        return sink.spans


async def server_span(record: FakeRecord, *fields: bytes) -> Span:
    (span,) = await spans_of(record, *fields)
    return span


async def test_an_inbound_request_is_a_server_span() -> None:
    tries = [Attempt("127.0.0.1:8080", status=200, ended=0.2)]
    span = await server_span(FakeRecord(route_name="all", tries=tries), PARENT, b"tracestate: foo=1,bar@x=2")
    assert (span.name, span.kind, span.status, span.status_message) == ("GET all", "SERVER", "UNSET", "")
    assert (span.trace_id, span.parent_id, span.trace_state) == (TRACE_ID, SPAN_ID, "foo=1,bar@x=2")
    assert span.flags == 0x300, "the parent is another process's"
    assert span.start == pytest.approx(START, abs=1000)
    assert span.end - span.start == 250_000_000
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "all",
        "http.request.body.size": 3,
        "http.response.body.size": 40,
        "url.scheme": "http",
        "url.path": "/a",
        "url.query": "b=c",
        "server.address": "shop.example",
        "server.port": 80,
        "client.address": "10.0.0.9",
        "network.peer.address": "10.0.0.9",
        "network.peer.port": 41000,
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "meshlet.listener": "in",
        "meshlet.route": "prefix /",
        "meshlet.cluster": "app",
        "meshlet.request_id": "r-1",
        "meshlet.upstream.address": "127.0.0.1:8080",
        "meshlet.attempts": 1,
    }
    assert span.resource.items() >= RESOURCE.items()
    assert span.resource["telemetry.sdk.version"]
    assert span.scope == "meshlet"
    assert span.scope_version


async def test_the_span_is_the_one_that_the_app_was_told_of() -> None:
    with OtlpSink() as sink:
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, export=export)
            trace = one.begin(head())
            one.end(FakeRecord(), trace)
    (span,) = sink.spans
    assert trace.lines() == f"traceparent: 00-{span.trace_id}-{span.span_id}-01\r\n".encode()
    assert span.parent_id == ""


async def test_each_try_of_an_outbound_request_is_a_client_span() -> None:
    first, second, third = b"a" * 16, b"b" * 16, b"c" * 16
    tries = [
        Attempt("10.1.0.2:80", "UT", "no answer", 0, began=0.05, ended=0.08, span_id=second),
        Attempt("10.1.0.1:80", "", "answered 503", 503, began=0.0, ended=0.09, connect=0.02, span_id=first),
        Attempt("[fd00::3]:80", "", "", 200, began=0.1, ended=0.25, span_id=third),
    ]
    spans = await spans_of(FakeRecord(tries=tries), PARENT, direction="outbound")
    spans.sort(key=lambda span: span.start)
    assert [span.span_id for span in spans] == ["a" * 16, "b" * 16, "c" * 16]
    assert {(span.kind, span.name, span.trace_id, span.parent_id) for span in spans} == {
        ("CLIENT", "GET", TRACE_ID, SPAN_ID)
    }
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
    assert [span.attributes["network.peer.address"] for span in spans] == ["10.1.0.1", "10.1.0.2", "fd00::3"]
    assert [span.attributes.get("http.response.status_code") for span in spans] == [503, None, 200]
    assert [span.attributes.get("error.type") for span in spans] == ["503", "UT", None]
    assert [(span.status, span.status_message) for span in spans] == [
        ("ERROR", "answered 503"),
        ("ERROR", "no answer"),
        ("UNSET", ""),
    ]
    assert [span.end - span.start for span in spans] == [90_000_000, 30_000_000, 150_000_000]
    assert spans[0].attributes["meshlet.connect.duration"] == 0.02
    assert {span.attributes["url.full"] for span in spans} == {"http://shop.example/a?b=c"}


async def test_an_outbound_request_that_reached_nobody_is_one_span_with_the_error() -> None:
    record = FakeRecord(status=503, flag="UH", error="no endpoint", upstream_host=None, attempts=0)
    (span,) = await spans_of(record, PARENT, direction="outbound")
    assert (span.kind, span.parent_id, span.status, span.status_message) == ("CLIENT", SPAN_ID, "ERROR", "no endpoint")
    assert span.attributes["error.type"] == "UH"
    assert span.attributes["meshlet.response_flags"] == "UH"
    assert "network.peer.address" not in span.attributes
    assert span.end - span.start == 250_000_000


async def test_what_ends_a_response_that_has_begun_is_its_last_try_s() -> None:
    tries = [Attempt("10.1.0.1:80", "", "", 200, ended=0.1, span_id=b"a" * 16)]
    record = FakeRecord(status=200, flag="DC", error="the client left", tries=tries)
    (span,) = await spans_of(record, direction="outbound")
    assert (span.status, span.status_message) == ("ERROR", "the client left")
    assert span.attributes["error.type"] == "DC"


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (FakeRecord(status=404), None),
        (FakeRecord(status=404, flag="NR", error="no route"), None),
        (FakeRecord(status=200, flag="DI"), None),
        (FakeRecord(status=500), "500"),
        (FakeRecord(status=503, flag="UO", error="too many"), "UO"),
        (FakeRecord(status=200, flag="UC", error="broke off"), "UC"),
        (FakeRecord(status=0, flag="DC", error="the client left"), "DC"),
        (FakeRecord(status=500, flag="DI"), "500"),
    ],
    ids=lambda value: f"{value.status}{value.flag}" if isinstance(value, FakeRecord) else None,
)
async def test_what_is_an_error_of_a_server(record: FakeRecord, error: str | None) -> None:
    span = await server_span(record)
    assert span.attributes.get("error.type") == error
    assert span.status == ("ERROR" if error else "UNSET")
    assert span.status_message == (record.error if error else "")


async def test_a_try_that_was_given_up_is_no_error() -> None:
    tries = [
        Attempt("a:1", "", "the other try was faster", 0, span_id=b"a" * 16),
        Attempt("b:1", "", "", 200, began=0.1, ended=0.2, span_id=b"b" * 16),
    ]
    spans = await spans_of(FakeRecord(tries=tries), direction="outbound")
    assert [span.status for span in spans] == ["UNSET", "UNSET"]
    assert [span.attributes.get("meshlet.reason") for span in spans] == ["the other try was faster", None]


async def test_a_client_takes_a_4xx_for_an_error() -> None:
    (span,) = await spans_of(
        FakeRecord(status=404, tries=[Attempt("a:1", status=404, span_id=b"a" * 16)]), direction="outbound"
    )
    assert (span.status, span.attributes["error.type"]) == ("ERROR", "404")


async def test_a_method_that_nobody_knows_is_no_part_of_a_name() -> None:
    span = await server_span(FakeRecord(method=b"BREW", route_name="pots"))
    assert span.name == "HTTP pots"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


async def test_secrets_in_a_url_are_hidden() -> None:
    query = b"/a;jsessionid=s3cret?X-Amz-Signature=s3cret&b=c&sig=s3cret;s3cret&design=1&Signature=s3cret&sig"
    query += b"&AWSAccessKeyId=s3cret&X-Goog-Signature=s3cret&session=s3cret&next=http://me:s3cret@host/"
    hidden = "X-Amz-Signature=REDACTED&b=c&sig=REDACTED&design=1&Signature=REDACTED&sig"
    hidden += "&AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED&session=REDACTED&next=http://REDACTED@host/"
    span = await server_span(FakeRecord(target=query))
    assert span.attributes["url.query"] == hidden
    assert span.attributes["url.path"] == "/a;jsessionid=REDACTED"
    (span,) = await spans_of(FakeRecord(target=query), direction="outbound")
    assert span.attributes["url.full"] == f"http://shop.example/a;jsessionid=REDACTED?{hidden}"


@pytest.mark.parametrize(
    ("record", "address", "port"),
    [
        (FakeRecord(host=b"shop:8080"), "shop", 8080),
        (FakeRecord(host=b"[fd00::1]"), "fd00::1", 80),
        (FakeRecord(host=b"[fd00::1]:81"), "fd00::1", 81),
        (FakeRecord(host=b"shop", scheme=b"https"), "shop", 443),
        (FakeRecord(host=None), "10.0.0.1", 15006),
        (FakeRecord(host=None, local="unix:/run/m.sock"), "/run/m.sock", None),
        (FakeRecord(method=b"CONNECT", target=b"db.example:5432"), "db.example", 5432),
    ],
)
async def test_the_server_is_the_one_that_was_asked_for(record: FakeRecord, address: str, port: int | None) -> None:
    for direction in ("inbound", "outbound"):
        (span,) = await spans_of(record, direction=direction)
        assert span.attributes["server.address"] == address
        assert span.attributes.get("server.port") == port


@pytest.mark.parametrize(
    ("record", "url"),
    [
        (FakeRecord(method=b"CONNECT", target=b"db.example:5432"), "http://db.example:5432"),
        (FakeRecord(method=b"OPTIONS", target=b"*"), "http://shop.example"),
        (FakeRecord(host=None, target=b"/\xff"), "http://10.0.0.1:15006/\ufffd"),
    ],
)
async def test_odd_targets(record: FakeRecord, url: str) -> None:
    (span,) = await spans_of(record, direction="outbound")
    assert span.attributes["url.full"] == url


async def test_a_client_on_a_unix_socket_has_no_address() -> None:
    span = await server_span(FakeRecord(remote="unix:", remote_host=""))
    assert not [name for name in span.attributes if name.startswith(("client.", "network.peer."))]


async def test_a_tracestate_that_the_sdk_does_not_know_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    span = await server_span(FakeRecord(), PARENT, b"tracestate: foo@@bar=1,baz=2")
    assert span.trace_state == ""
    assert caplog.text == ""


async def test_the_resource_reaches_the_collector_whole() -> None:
    workload = Workload(name="cart", namespace="sales", version="v2", cluster="eu")
    resource = resource_attributes({"team": "a"}, workload, {"POD_NAME": "cart-0"})
    with OtlpSink() as sink:
        export = SpanExport(sink.url, resource, delay=0.01)
        one = tracer(ALWAYS, export=export)
        one.end(FakeRecord(), one.begin(head()))
        await export.close(10)
    assert sink.spans[0].resource.items() >= resource.items()
    assert sink.spans[0].resource["service.namespace"] == "sales"


async def test_spans_are_sent_without_waiting_for_the_end() -> None:
    with OtlpSink() as sink:
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, export=export)
            for count in (1, 2, 3):
                one.end(FakeRecord(), one.begin(head()))
                sink.wait_for(lambda count=count: len(sink.spans) == count)  # type: ignore[misc]
            until(lambda: export.exported == 3)


async def test_many_spans_all_arrive() -> None:
    with OtlpSink() as sink:
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, export=export)
            traces = [one.begin(head()) for _ in range(500)]
            for trace in traces:
                one.end(FakeRecord(), trace)
        assert sorted(span.span_id for span in sink.spans) == sorted(trace.span_id.decode() for trace in traces)
        assert export.exported == 500


async def test_nothing_is_started_before_the_first_span() -> None:
    before = threading.active_count()
    async with exporting("http://127.0.0.1:9") as export:
        one = tracer(Tracing(sample=0), export=export)
        one.end(FakeRecord(), one.begin(head()))
        assert threading.active_count() == before


async def test_what_there_is_no_room_for_is_dropped_and_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # its backlog takes connections, and nobody answers them
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with exporting(url, room=10, grace=0.2) as export:
            one = tracer(ALWAYS, "outbound", export)
            three = FakeRecord(tries=[Attempt("a:1", span_id=bytes([97 + n]) * 16) for n in range(3)])
            for _ in range(5):
                one.end(three, one.begin(head()))
            assert export.in_flight == 9
            assert export.dropped == {"queue": 6, "failed": 0}
        assert export.exported == 0
        assert export.dropped == {"queue": 6, "failed": 9}
        assert export.in_flight == 0
        silent.settimeout(5)
        silent.accept()[0].close()  # wakes the thread that still waits


async def test_a_collector_that_never_answers_holds_up_neither_a_request_nor_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        export = SpanExport(f"http://127.0.0.1:{silent.getsockname()[1]}", RESOURCE, delay=0.01)
        one = tracer(ALWAYS, export=export)
        one.end(FakeRecord(), one.begin(head()))
        silent.settimeout(30)
        taken, _ = silent.accept()  # the span is on its way
        with taken:
            one.end(FakeRecord(), one.begin(head()))
            began = time.monotonic()
            await export.close(0.2)
            assert time.monotonic() - began < 5
            assert export.dropped == {"queue": 0, "failed": 2}
            one.end(FakeRecord(), one.begin(head()))
            assert export.dropped == {"queue": 1, "failed": 2}, "after the end there is no room"


async def test_nobody_at_the_collector_s_address(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    async with exporting(url, grace=0.3) as export:
        one = tracer(ALWAYS, export=export)
        one.end(FakeRecord(), one.begin(head()))
    assert export.exported == 0
    assert export.dropped == {"queue": 0, "failed": 1}


async def test_a_collector_that_refuses_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with OtlpSink() as sink:
        sink.status = 401
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, export=export)
            for count in (1, 2):
                one.end(FakeRecord(), one.begin(head()))
                until(lambda count=count: export.dropped["failed"] == count)  # type: ignore[misc]
            (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert record.name.startswith("meshlet.")
            assert "401" in record.getMessage()
            sink.status = 200
            one.end(FakeRecord(), one.begin(head()))
            until(lambda: export.exported == 1)
        assert caplog.messages[-1].endswith("again")
        assert export.dropped == {"queue": 0, "failed": 2}


async def test_a_request_that_no_span_can_be_made_of_costs_only_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with OtlpSink() as sink:
        async with exporting(sink.url) as export:
            one = tracer(ALWAYS, export=export)
            for _ in range(2):
                one.end(FakeRecord(remote=None), one.begin(head()))  # type: ignore[arg-type]
            one.end(FakeRecord(), one.begin(head()))
        assert len(sink.spans) == 1
    assert export.dropped == {"queue": 0, "failed": 2}
    assert caplog.text.count("no span could be made") == 1


async def test_with_wrong_settings_in_the_environment_spans_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "nobody")
    async with exporting("http://127.0.0.1:9") as export:
        one = tracer(ALWAYS, export=export)
        for count in (1, 2):
            one.end(FakeRecord(), one.begin(head()))
            until(lambda count=count: export.dropped["failed"] == count)  # type: ignore[misc]
    assert "no span can be sent" in caplog.text
