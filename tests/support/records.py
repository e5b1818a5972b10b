"""Records of ended exchanges, with plain attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlet.http.head import RequestHead, ResponseHead
from meshlet.telemetry.tracing.context import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.http.attempt import Attempt


def _head() -> RequestHead:
    return RequestHead(b"GET", b"/a?b=c", 1, [b"GET /a?b=c HTTP/1.1", b"Host: reviews:9080", b"User-Agent: curl/8"])


def _response() -> ResponseHead:
    return ResponseHead(200, 1, [b"HTTP/1.1 200 OK", b"X-From: app"])


def _trace() -> Trace:
    return Trace(b"0af7651916cd43dd8448eb211c80319c", None, b"b7ad6b7169203331", True, b"01\r\n")


@dataclass(frozen=True)
class Ended:
    """A request that went well; it satisfies `telemetry.record.Record`."""

    head: RequestHead | None = field(default_factory=_head)
    response_head: ResponseHead | None = field(default_factory=_response)
    listener_name: str = "inbound"
    direction: str = "inbound"
    protocol: str = "HTTP/1.1"
    route_name: str | None = "the-route"
    route_label: str | None = "the-route"
    cluster_name: str | None = "app"
    upstream_host: str | None = "127.0.0.1:8080"
    remote: str = "10.0.0.7:4711"
    remote_host: str = "10.0.0.7"
    local: str = "10.0.0.1:80"
    method: bytes | None = b"GET"
    target: bytes | None = b"/a?b=c"
    host: bytes | None = b"reviews:9080"
    scheme: bytes = b"http"
    request_id: bytes | None = b"0193-id"
    status: int = 200
    received: int = 5
    sent: int = 1234
    flag: str = ""
    error: str = ""
    attempts: int = 1
    tries: Sequence[Attempt] = ()
    acted: Sequence[str] = ()
    started_wall: float = 1_700_000_000.1239
    duration: float = 0.0129
    request_seconds: float | None = 0.0
    response_seconds: float | None = 0.0109
    service_seconds: float | None = 0.0099
    trace: Trace | None = field(default_factory=_trace)


TCP = Ended(
    head=None, response_head=None, listener_name="outbound", direction="outbound", protocol="TCP", route_name=None,
    route_label=None, cluster_name=None, upstream_host=None, method=None, target=None, host=None, request_id=None,
    status=0, received=0, sent=0, flag="UF", error="connection refused", attempts=0, started_wall=1_700_000_000.0,
    duration=2.5, request_seconds=None, response_seconds=None, service_seconds=None, trace=None,
)  # fmt: skip
