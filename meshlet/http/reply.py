"""The responses that meshlet makes itself: status, flag, and one line that says what happened."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from meshlet.http.head import field_value
from meshlet.http.response import status_line

if TYPE_CHECKING:
    from meshlet.errors import ProxyError
    from meshlet.http.head import RequestHead

# The gRPC status for an HTTP status, as gRPC itself maps them (grpc/doc/http-grpc-status-mapping.md).
_GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2

_date = b""
_date_second = 0


def date_line() -> bytes:
    """Return `date: …` with CRLF, made once a second (RFC 9110 section 6.6.1)."""
    global _date, _date_second  # noqa: PLW0603
    now = int(time.time())
    if now != _date_second:
        _date_second = now
        _date = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
    return _date


def local_reply(error: ProxyError, head: RequestHead | None, where: str, *, close: bool) -> bytes:
    """Return a whole response for `error`.

    `where` names cluster, endpoint and attempts ("" where it did not come so far). It is JSON where
    the client accepts JSON, a trailers-only response for gRPC, else plain text.
    """
    line = f"{error.flag or 'error'}: {error}" + (f"; {where}" if where else "")
    accept = field_value(head.lines, b"accept") if head is not None else None
    content_type = field_value(head.lines, b"content-type") if head is not None else None
    fields = [b"server: meshlet", b"x-meshlet-flag: " + (error.flag or "-").encode(), date_line()[:-2]]
    if head is not None and head.request_id is not None:
        fields.append(b"x-request-id: " + head.request_id)
    status = error.status
    if content_type is not None and content_type.startswith(b"application/grpc"):
        fields += [
            b"content-type: application/grpc",
            b"grpc-status: %d" % _GRPC_STATUS.get(status, _GRPC_UNKNOWN),
            b"grpc-message: " + _percent_encode(line),
        ]
        status, body = 200, b""
    elif accept is not None and b"application/json" in accept:
        fields.append(b"content-type: application/json")
        body = json.dumps({"status": status, "flag": error.flag, "message": str(error), "where": where}).encode()
    else:
        fields.append(b"content-type: text/plain; charset=utf-8")
        body = line.encode() + b"\n"
    fields.append(b"content-length: %d" % len(body))
    if status == 405:
        fields.append(b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if close:
        fields.append(b"connection: close")
    elif head is not None and head.minor == 0:
        fields.append(b"connection: keep-alive")
    if head is not None and head.method == b"HEAD":
        body = b""
    return b"%b\r\n%b\r\n\r\n%b" % (status_line(status), b"\r\n".join(fields), body)


def _percent_encode(text: str) -> bytes:
    return "".join(
        c if " " <= c <= "~" and c != "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in text
    ).encode()
