"""One request as a tap shows it: a JSON object, documented in docs/tap.md."""

from __future__ import annotations

import base64
import codecs
import re
from typing import TYPE_CHECKING, Any

import msgspec

from meshlet.http.head import field_value
from meshlet.telemetry import redact

if TYPE_CHECKING:
    from meshlet.http.attempt import Attempt
    from meshlet.telemetry.record import Record
    from meshlet.telemetry.tap.capture import Capture, Message

# The media types that are text although they are not called so.
_TEXT = re.compile(
    r"text/.*|.*[/+](?:json|xml|yaml)|"
    r"application/(?:ecmascript|graphql|javascript|x-javascript|x-ndjson|x-www-form-urlencoded|x-yaml)"
)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)")
# Control characters that text does not have; a terminal would obey them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FORM = "application/x-www-form-urlencoded"


def encode(capture: Capture, record: Record, bodies: int, redactor: redact.Redactor) -> bytes:
    """Return the object, with up to so many bytes of each body. `record` is the exchange at its end."""
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
        "target": redact.as_text(redact.redact_target(capture.target)),
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
        entry["request"]["body"] = _body(request, record.received, bodies)
        if entry["response"] is not None:
            entry["response"]["body"] = _body(response, record.sent, bodies)
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


def _body(message: Message, size: int, limit: int) -> dict[str, Any]:
    """Return a body as text where it is text, else in base64; `cut`: not all of it is there."""
    data = bytes(message.body[:limit])
    body: dict[str, Any] = {"cut": len(data) < size or not message.whole}
    content_type = redact.as_text(_field(message, b"content-type")).lower()
    if content_type.partition(";")[0].strip() == _FORM:
        hidden = redact.redact_pairs(data)
        if hidden != data:
            data, body["redacted"] = hidden, True
    text = None if _field(message, b"content-encoding") else _decoded(data, content_type, cut=body["cut"])
    if text is None:
        body["base64"] = base64.b64encode(data).decode("ascii")
    else:
        body["text"] = text
    return body


def _field(message: Message, name: bytes) -> bytes:
    return (field_value(message.lines, name) if message.lines else None) or b""


def _decoded(data: bytes, content_type: str, *, cut: bool) -> str | None:
    """Return what can be shown as text; None where it cannot."""
    media_type, _, parameters = content_type.partition(";")
    if media_type and not _TEXT.fullmatch(media_type.strip()):
        return None
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        return None
    try:
        # The end may be within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _text(value: bytes | None) -> str | None:
    return redact.as_text(value) if value is not None else None


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 6) if seconds is not None else None
