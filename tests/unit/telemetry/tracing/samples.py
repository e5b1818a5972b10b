"""Requests and records to trace."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlet.config.schema import Tracing
from meshlet.http.head import RequestHead
from meshlet.telemetry.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from meshlet.http.attempt import Attempt
    from meshlet.http.head import ResponseHead
    from meshlet.telemetry.tracing.context import Trace
    from meshlet.telemetry.tracing.export import SpanExport

TRACE_ID = "12345678901234567890123456789012"
SPAN_ID = "1234567890123456"


def tracer(
    config: Tracing | None = None,
    direction: Literal["inbound", "outbound"] = "inbound",
    export: SpanExport | None = None,
    seed: int = 1,
) -> Tracer:
    return Tracer(config or Tracing(), direction, export, random.Random(seed).getrandbits)


def head(*fields: bytes) -> RequestHead:
    """A request with trace fields between others; each field is a whole line."""
    lines = [b"GET /a?b=c HTTP/1.1", b"Host: shop.example", *fields, b"User-Agent: curl/8"]
    request = RequestHead(b"GET", b"/a?b=c", 1, lines)
    request.trace = list(fields) or None
    return request


def sent(trace: Trace) -> dict[str, str]:
    """The fields that a trace is passed on with."""
    lines = trace.lines()
    assert not lines or lines.endswith(b"\r\n")
    pairs = [line.split(": ", 1) for line in lines.decode("ascii").split("\r\n")[:-1]]
    found = dict(pairs)
    assert len(found) == len(pairs), "a field stands there twice"
    return found


def passed_on(*fields: bytes, config: Tracing | None = None) -> dict[str, str]:
    """What goes to the app for a request with these fields."""
    return sent(tracer(config).begin(head(*fields)))


@dataclass
class FakeRecord:
    """A `telemetry.record.Record`."""

    listener_name: str = "in"
    direction: str = "inbound"
    protocol: str = "HTTP/1.1"
    route_name: str | None = None
    route_label: str | None = "prefix /"
    cluster_name: str | None = "app"
    upstream_host: str | None = "127.0.0.1:8080"
    remote: str = "10.0.0.9:41000"
    remote_host: str = "10.0.0.9"
    local: str = "10.0.0.1:15006"
    head: RequestHead | None = None
    method: bytes | None = b"GET"
    target: bytes | None = b"/a?b=c"
    host: bytes | None = b"shop.example"
    scheme: bytes = b"http"
    request_id: bytes | None = b"r-1"
    response_head: ResponseHead | None = None
    status: int = 200
    received: int = 3
    sent: int = 40
    flag: str = ""
    error: str = ""
    attempts: int = 1
    tries: Sequence[Attempt] = ()
    acted: Sequence[str] = ()
    started_wall: float = 1_700_000_000.5
    duration: float = 0.25
    request_seconds: float | None = 0.01
    response_seconds: float | None = 0.2
    service_seconds: float | None = 0.15
    trace: Trace | None = None
