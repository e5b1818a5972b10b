"""Ended requests for tests of what is told about them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from meshlet.config.schema import Explain
from meshlet.telemetry.explain.ring import Explanations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.http.attempt import Attempt


@dataclass
class EndedRequest:
    """A `telemetry.record.Record`; what a test does not say is that of a GET that went well."""

    listener_name: str = "outbound"
    direction: str = "outbound"
    protocol: str = "HTTP/1.1"
    route_name: str | None = "shop"
    route_label: str | None = "shop"
    cluster_name: str | None = "reviews"
    upstream_host: str | None = "10.0.0.1:8080"
    remote: str = "10.9.9.9:51234"
    remote_host: str = "10.9.9.9"
    local: str = "127.0.0.1:15001"
    head: Any = None
    method: bytes | None = b"GET"
    target: bytes | None = b"/reviews/7"
    host: bytes | None = b"reviews.example"
    scheme: bytes = b"http"
    request_id: bytes | None = b"id-1"
    response_head: Any = None
    status: int = 200
    received: int = 0
    sent: int = 0
    flag: str = ""
    error: str = ""
    attempts: int = 1
    tries: Sequence[Attempt] = ()
    acted: Sequence[str] = ()
    started_wall: float = 1_700_000_000.25
    duration: float = 0.5
    request_seconds: float | None = 0.0
    response_seconds: float | None = None
    service_seconds: float | None = None
    trace: Any = None


def trace(trace_id: bytes) -> Any:
    """What a traced request has."""
    return SimpleNamespace(trace_id=trace_id)


def explained(**values: Any) -> dict[str, Any]:
    """The explanation of a request, as the admin port hands it out."""
    ring = Explanations(Explain())
    ring.add(EndedRequest(**values))
    (found,) = ring.recent(1)
    return found
