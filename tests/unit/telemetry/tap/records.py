"""Exchanges as a tap sees them at their end, without a data plane."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from meshlet.http.head import HeadLimits
from meshlet.http.request import parse_request
from meshlet.telemetry.tap import Came

if TYPE_CHECKING:
    from meshlet.telemetry.record import Record
    from meshlet.telemetry.tap import TapRead, Taps

REQUEST = "GET /a?b=1 HTTP/1.1\r\nHost: a.example"


def came(raw: str = REQUEST) -> Came:
    return Came(parse_request(raw.encode(), HeadLimits()), "10.0.0.9", "in")


def record(**changed: Any) -> Record:
    facts: dict[str, Any] = {
        "listener_name": "in",
        "direction": "inbound",
        "protocol": "HTTP/1.1",
        "route_label": "all",
        "cluster_name": "app",
        "upstream_host": "10.0.1.1:80",
        "remote": "10.0.0.9:4000",
        "scheme": b"http",
        "request_id": b"r1",
        "status": 200,
        "received": 0,
        "sent": 0,
        "flag": "",
        "error": "",
        "attempts": 1,
        "tries": [],
        "acted": [],
        "started_wall": 1767225600.25,
        "duration": 0.5,
        "request_seconds": 0.1,
        "response_seconds": 0.4,
        "service_seconds": 0.3,
        "trace": None,
    }
    return cast("Record", SimpleNamespace(**facts | changed))


def play(
    taps: Taps,
    raw: str = REQUEST,
    body: bytes = b"",
    answer: tuple[str, bytes] | None = ("HTTP/1.1 200 OK", b""),
    **changed: Any,
) -> bool:
    """Play a whole exchange; say whether any tap may want it."""
    capture = taps.begin(came(raw))
    if capture is None:
        return False
    capture.request.add(body)
    capture.request.end(())
    if answer is not None:
        head, content = answer
        capture.response.take_lines(head.encode().split(b"\r\n"))
        capture.response.add(content)
        capture.response.end(())
    sizes = {"received": len(body), "sent": len(answer[1]) if answer is not None else 0}
    taps.end(capture, record(**{"status": 200 if answer is not None else 0} | sizes | changed))
    return True


def entries(taps: Taps, read: TapRead) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in taps.read(read)]
