"""The responses that meshlet makes itself: status, flag, and one line that says what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from meshlet.http.answer import Answer
from meshlet.http.head import field_value
from meshlet.http.response import status_line

if TYPE_CHECKING:
    from meshlet.errors import ProxyError
    from meshlet.http.attempt import Attempt
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


class Report(NamedTuple):
    """What became of a request that gets a local reply; all of it is empty where it did not come so far."""

    flag: str = ""  # all response flags, where they are more than the error's own
    cluster: str | None = None
    endpoint: str | None = None  # of the last try
    attempts: int = 0
    failures: tuple[Attempt, ...] = ()

    @property
    def where(self) -> str:
        """Cluster, endpoint and number of attempts in words; where there were several, why each of them failed."""
        if self.cluster is None:
            return ""
        endpoint = f", endpoint {self.endpoint}" if self.endpoint is not None else ""
        attempts = f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        if len(self.failures) > 1:
            attempts += f" ({'; '.join(_told(number, failure) for number, failure in enumerate(self.failures, 1))})"
        return f"cluster {self.cluster}{endpoint}, {attempts}"


def _told(number: int, failure: Attempt) -> str:
    at = "" if failure.endpoint in failure.reason else f"{failure.endpoint}: "
    return f"{number}: {at}{failure.reason}"


Decorate = Callable[[int, list[bytes]], None]


def local_reply(
    error: ProxyError, head: RequestHead | None, report: Report, *, close: bool, decorate: Decorate | None = None
) -> bytes:
    """Return a whole response for `error`; see `own_response`.

    It is JSON where the client accepts JSON, a trailers-only response for gRPC, else plain text.
    """
    flag = report.flag or error.flag
    where = report.where
    line = f"{flag or 'error'}: {error}" + (f"; {where}" if where else "")
    accept = field_value(head.lines, b"accept") if head is not None else None
    content_type = field_value(head.lines, b"content-type") if head is not None else None
    status = error.status
    fields = [*error.fields]
    if content_type is not None and content_type.startswith(b"application/grpc"):
        fields += [
            b"content-type: application/grpc",
            b"grpc-status: %d" % _GRPC_STATUS.get(status, _GRPC_UNKNOWN),
            b"grpc-message: " + _percent_encode(line),
        ]
        status, body = 200, b""
    elif accept is not None and b"application/json" in accept:
        fields.append(b"content-type: application/json")
        failures = [{key: getattr(each, key) for key in ("endpoint", "flag", "reason")} for each in report.failures]
        body = json.dumps(
            {"status": status, "flag": flag, "message": str(error), "where": where, "failures": failures}
        ).encode()
    else:
        fields.append(b"content-type: text/plain; charset=utf-8")
        body = line.encode() + b"\n"
    if status == 405:
        fields.append(b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    return own_response(Answer(status, tuple(fields), body, flag), head, close=close, decorate=decorate)


def own_response(answer: Answer, head: RequestHead | None, *, close: bool, decorate: Decorate | None = None) -> bytes:
    """Return a response that meshlet makes itself, with what all of these carry.

    `decorate(status, lines)` may change the lines of its head, the status line first; what frames it comes after them.
    """
    status, body = answer.status, answer.body
    lines = [status_line(status), b"server: meshlet", b"x-meshlet-flag: " + (answer.flag or "-").encode()]
    lines.append(date_line()[:-2])
    if head is not None and head.request_id is not None:
        lines.append(b"x-request-id: " + head.request_id)
    lines += answer.fields
    if decorate is not None:
        decorate(status, lines)
    if status not in (204, 304):
        lines.append(b"content-length: %d" % len(body))
    if close:
        lines.append(b"connection: close")
    elif head is not None and head.minor == 0:
        lines.append(b"connection: keep-alive")
    if status in (204, 304) or (head is not None and head.method == b"HEAD"):
        body = b""
    return b"%b\r\n\r\n%b" % (b"\r\n".join(lines), body)


def _percent_encode(text: str) -> bytes:
    return "".join(
        c if " " <= c <= "~" and c != "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in text
    ).encode()
