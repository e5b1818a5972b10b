"""An OpenTelemetry collector that keeps what it is sent: OTLP/HTTP with protobuf, on loopback.

`with OtlpSink() as sink:` and then `sink.url` (the base, without `/v1/…`), `sink.spans`, `sink.metrics`, `sink.logs`;
`sink.wait_for(lambda: len(sink.spans) == 2)`.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, TypeVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as MetricMessage

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One export, as it came; field names are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes  # no longer compressed


@dataclass(frozen=True)
class Span:
    """Ids are hexadecimal, `parent_id` empty for a root; times are unix nanoseconds; `kind` is `SERVER`, `CLIENT`, …"""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    flags: int
    start: int
    end: int
    attributes: dict[str, Any]
    status: str  # UNSET, OK or ERROR
    status_message: str
    resource: dict[str, Any]
    scope: str
    scope_version: str


@dataclass(frozen=True)
class Point:
    """One data point. `value` is a number, or the message of a histogram's or summary's point."""

    metric: str
    kind: str  # gauge, sum, histogram, exponential_histogram or summary
    unit: str
    description: str
    attributes: dict[str, Any]
    value: Any
    start: int
    time: int
    temporality: str  # CUMULATIVE, DELTA, or empty where the kind has none
    monotonic: bool
    exemplars: list[Any]  # messages
    resource: dict[str, Any]
    scope: str


@dataclass(frozen=True)
class LogRecord:
    """`body` is text or what else the record held; `severity` is its text."""

    body: Any
    severity: str
    time: int
    trace_id: str
    span_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str


class OtlpSink:
    """`status` is what further exports are answered with; whatever is not 200 is kept in `requests` alone."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[Request] = []
        self.spans: list[Span] = []
        self.metrics: list[Point] = []
        self.logs: list[LogRecord] = []
        self._changed = threading.Condition()
        self._server = _HttpServer(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, as `otlp_endpoint` takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def wait_for(self, condition: Callable[[], T], timeout: float = 10.0) -> T:
        """Return what `condition()` gives as soon as that is true; it is asked again after each export."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (value := condition()):
                assert self._changed.wait(deadline - time.monotonic()), f"not within {timeout:g} s: {condition}"
        return value

    def metric(self, name: str) -> list[Point]:
        """All points of one metric, in the order they came."""
        return [point for point in self.metrics if point.metric == name]

    def take(self, request: Request) -> tuple[int, bytes]:
        """Keep an export; return the answer's status and body."""
        with self._changed:
            status = self.status
            self.requests.append(request)
            try:
                answer = self._decode(request) if status == 200 else b""
            except KeyError:
                status, answer = 404, b""
            self._changed.notify_all()
        return status, answer

    def _decode(self, request: Request) -> bytes:
        assert request.headers.get("content-type") == "application/x-protobuf", request.headers
        return {"/v1/traces": self._take_spans, "/v1/metrics": self._take_metrics, "/v1/logs": self._take_logs}[
            request.path
        ](request.body)

    def _take_spans(self, body: bytes) -> bytes:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_span(span, resource, of_scope.scope) for span in of_scope.spans]
        answer: bytes = ExportTraceServiceResponse().SerializeToString()
        return answer

    def _take_metrics(self, body: bytes) -> bytes:
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    self.metrics += _points(metric, resource, of_scope.scope.name)
        answer: bytes = ExportMetricsServiceResponse().SerializeToString()
        return answer

    def _take_logs(self, body: bytes) -> bytes:
        for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_logs:
                self.logs += [
                    LogRecord(
                        body=_value(record.body),
                        severity=record.severity_text,
                        time=record.time_unix_nano,
                        trace_id=record.trace_id.hex(),
                        span_id=record.span_id.hex(),
                        attributes=attributes(record.attributes),
                        resource=resource,
                        scope=of_scope.scope.name,
                    )
                    for record in of_scope.log_records
                ]
        answer: bytes = ExportLogsServiceResponse().SerializeToString()
        return answer


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as a dictionary; a key that stands there twice is a mistake of the sender."""
    found: dict[str, Any] = {}
    for pair in pairs:
        assert pair.key not in found, f"two attributes {pair.key}"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def _span(span: SpanMessage, resource: dict[str, Any], scope: InstrumentationScope) -> Span:
    return Span(
        name=span.name,
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        flags=span.flags,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=attributes(span.attributes),
        status=("UNSET", "OK", "ERROR")[span.status.code],
        status_message=span.status.message,
        resource=resource,
        scope=scope.name,
        scope_version=scope.version,
    )


def _points(metric: MetricMessage, resource: dict[str, Any], scope: str) -> list[Point]:
    kind = metric.WhichOneof("data")
    assert kind is not None, f"the metric {metric.name} holds nothing"
    data = getattr(metric, kind)
    return [
        Point(
            metric=metric.name,
            kind=kind,
            unit=metric.unit,
            description=metric.description,
            attributes=attributes(point.attributes),
            value=getattr(point, point.WhichOneof("value")) if kind in ("gauge", "sum") else point,
            start=point.start_time_unix_nano,
            time=point.time_unix_nano,
            temporality=("", "DELTA", "CUMULATIVE")[getattr(data, "aggregation_temporality", 0)],
            monotonic=getattr(data, "is_monotonic", False),
            exemplars=list(getattr(point, "exemplars", ())),
            resource=resource,
            scope=scope,
        )
        for point in data.data_points
    ]


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = False  # server_close() waits for them

    def __init__(self, sink: OtlpSink) -> None:
        self.sink = sink
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0  # for a client that stops in the middle of a request

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        match self.headers.get("content-encoding"):
            case "gzip":
                body = gzip.decompress(body)
            case "deflate":
                body = zlib.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        assert isinstance(self.server, _HttpServer)
        status, answer = self.server.sink.take(Request(self.path, headers, body))
        with suppress(ConnectionError):  # the sender gave up waiting
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the tests look at what was kept."""
