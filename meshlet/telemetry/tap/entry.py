"""One request as a tap shows it: a JSON object, documented in docs/tap.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from meshlet.http.head import field_value
from meshlet.telemetry import redact
from meshlet.telemetry.tap import body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.http.attempt import Attempt
    from meshlet.telemetry.record import Record
    from meshlet.telemetry.tap.capture import Capture, Message


def encode(capture: Capture, record: Record, bodies: int, secrets: Iterable[str]) -> bytes:
    """Return the object, with up to so many bytes of each body. `record` is the exchange at its end.

    `secrets`: names of what is hidden besides what is known for it.
    """
    redactor = redact.Redactor(secrets)
    request = capture.request
    response = capture.response
    lines = request.lines or []
    host = field_value(lines, b"host") if lines else None
    trace = record.trace
    entry: dict[str, Any] = {
        "time": round(record.started_wall, 6),
        "request_id": _text(record.request_id),
        "listener": record.listener_name,
        "direction": record.direction,
        "client": record.remote,
        "protocol": record.protocol,
        "scheme": record.scheme.decode("latin-1"),
        "method": redact.as_text(capture.method),
        "host": _text(host),
        "target": redact.as_text(redact.redact_target(capture.target, redactor.hides)),
        "route": record.route_label,
        "cluster": record.cluster_name,
        "endpoint": record.upstream_host,
        "attempts": record.attempts,
        "tries": [_try(each) for each in record.tries],
        "acted": list(record.acted),
        "status": record.status,
        "flag": record.flag,
        "error": record.error,
        "duration": round(record.duration, 6),
        "request_seconds": _rounded(record.request_seconds),
        "response_seconds": _rounded(record.response_seconds),
        "service_seconds": _rounded(record.service_seconds),
        "received": record.received,
        "sent": record.sent,
        "trace_id": _text(trace.trace_id) if trace is not None else None,
        "tunnel": capture.tunnel,
        "aborted": capture.aborted,
        "request": _message(request, redactor),
        "response": {"reason": _reason(response), **_message(response, redactor)} if response.lines else None,
    }
    if bodies and not capture.tunnel:
        entry["request"]["body"] = body.shown(request, record.received, bodies, redactor)
        if entry["response"] is not None:
            entry["response"]["body"] = body.shown(response, record.sent, bodies, redactor)
    return msgspec.json.encode(entry)


def _try(attempt: Attempt) -> dict[str, Any]:
    return {
        "endpoint": attempt.endpoint,
        "status": attempt.status,
        "flag": attempt.flag,
        "reason": attempt.reason,
        "began": _rounded(attempt.began),
        "ended": _rounded(attempt.ended),
        "connect": _rounded(attempt.connect),
        "first_byte": _rounded(attempt.first_byte),
    }


def _message(message: Message, redactor: redact.Redactor) -> dict[str, Any]:
    lines = message.lines or []
    return {"headers": redactor.fields(lines[1:]), "trailers": redactor.fields(message.trailers)}


def _reason(response: Message) -> str:
    line = response.lines[0] if response.lines else b""
    return redact.as_text(line.partition(b" ")[2].partition(b" ")[2])


def _text(value: bytes | None) -> str | None:
    return redact.as_text(value) if value is not None else None


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 6) if seconds is not None else None
