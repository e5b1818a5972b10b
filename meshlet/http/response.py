"""Response heads: strict parsing of what the app says (RFC 9112 section 4 and 6), and what the client gets.

The app is suspected as much as the client: a response that two readers could frame differently
would let one client's answer leak into another's.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from meshlet.errors import UpstreamProtocolError
from meshlet.http.grammar import FIELD, OWS, Memo, connection_options, is_token, looks_like, without_named
from meshlet.http.head import CHUNKED, HeadLimits, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LENGTH = 18
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: [^\r\n]*)?")
_TIMEOUT = re.compile(rb"(?:^|[,\s])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


def parse_response(raw: bytes, limits: HeadLimits, method: bytes) -> ResponseHead:
    """Parse the head of a response to a request of `method`, given without its final empty line.

    Raises UpstreamProtocolError where it is malformed, ambiguous, or past a limit.
    """
    lines = raw.split(b"\r\n")
    if len(raw.translate(None, FIELD)) != 2 * len(lines) - 2:
        raise UpstreamProtocolError("a control character, or a bare CR or LF, in the response head")
    minor, status = _status_lines[lines[0]]
    head = ResponseHead(status, minor, lines)
    if minor == 0:
        lines[0] = b"HTTP/1.1" + lines[0][8:]
    if len(lines) - 1 > limits.headers:
        raise UpstreamProtocolError(f"more than {limits.headers} header fields in the response")

    for line in lines[1:]:  # a copy: handlers change the list
        name, colon, value = line.partition(b":")
        if not colon:
            raise UpstreamProtocolError("a header line without a colon in the response")
        handler = _handlers[name]
        if handler is not None:
            handler(head, line, value)

    if head.length == CHUNKED and minor == 0:
        raise UpstreamProtocolError("Transfer-Encoding in an HTTP/1.0 response")
    if status < 200 or status in (204, 304) or method == b"HEAD" or (method == b"CONNECT" and status < 300):
        _no_body(head)
    if head.named is not None:
        head.lines = without_named(head.lines, head.named - _KEPT)
    return head


def _no_body(head: ResponseHead) -> None:
    # 1xx, 204 and a 2xx to CONNECT must not have these fields (RFC 9110 section 8.6, RFC 9112 section 6.1);
    # for HEAD and 304 Content-Length says what a GET would have got.
    if head.framed and head.status < 300 and head.status not in (200, 203, 206, 226):
        head.lines = without_named(head.lines, frozenset({b"content-length"}))
    head.length = 0


def _parse_status_line(line: bytes) -> tuple[int, int]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError("the status line is not HTTP/1.1 and three digits")
    return min(int(match[1]), 1), int(match[2])


_status_lines = Memo(_parse_status_line, entries=256)

# --- handlers of the fields that mean something to a proxy: (head, line, value) ---

#: what a Connection field cannot name away
_KEPT = frozenset({b"content-length", b"date", b"server"})


def _on_connection(head: ResponseHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    options = connection_options[value]
    head.close |= options.close
    head.keep_alive |= options.keep_alive
    if options.named:
        head.named = options.named if head.named is None else head.named | options.named


def _on_content_length(head: ResponseHead, line: bytes, value: bytes) -> None:
    if head.framed:
        raise UpstreamProtocolError("more than one field that frames the response body")
    digits = value.strip(OWS)
    if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
        raise UpstreamProtocolError("Content-Length of the response is not a decimal number")
    head.framed = True
    head.length = int(digits)
    if digits[0] == 0x30 and len(digits) > 1:  # some read a leading zero as octal
        head.lines[head.lines.index(line)] = b"Content-Length: %d" % head.length


def _on_transfer_encoding(head: ResponseHead, line: bytes, value: bytes) -> None:
    if head.framed:
        raise UpstreamProtocolError("more than one field that frames the response body")
    if value.strip(OWS).lower() != b"chunked":
        raise UpstreamProtocolError("a Transfer-Encoding other than a single chunked in the response")
    head.framed = True
    head.length = CHUNKED
    head.lines.remove(line)


def _on_keep_alive(head: ResponseHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    match = _TIMEOUT.search(value)
    if match is not None:
        head.timeout = float(match[1])


def _on_upgrade(head: ResponseHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    head.upgrade = value.strip(OWS)


def _on_date(head: ResponseHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.has_date = True


def _on_server(head: ResponseHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.has_server = True


def _drop(head: ResponseHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.lines.remove(line)


def _on_invalid_name(head: ResponseHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    raise UpstreamProtocolError("a field name that is not a token in the response")


_SPECIAL: dict[bytes, Callable[[ResponseHead, bytes, bytes], None]] = {
    b"connection": _on_connection,
    b"content-length": _on_content_length,
    b"transfer-encoding": _on_transfer_encoding,
    b"keep-alive": _on_keep_alive,
    b"upgrade": _on_upgrade,
    b"date": _on_date,
    b"server": _on_server,
    b"proxy-connection": _drop,
    b"te": _drop,
    # meshlet writes this one itself
    b"x-envoy-upstream-service-time": _drop,
}


def _handler_of(name: bytes) -> Callable[[ResponseHead, bytes, bytes], None] | None:
    if not is_token(name) or looks_like(name, _FRAMING):
        return _on_invalid_name
    return _SPECIAL.get(name.lower())


_handlers: Memo[Callable[[ResponseHead, bytes, bytes], None] | None] = Memo(_handler_of)


def encode_response(head: ResponseHead, extra: bytes) -> bytes:
    """Write the head for the client: its lines, then `extra` (whole lines, each ending in CRLF)."""
    return b"%b\r\n%b\r\n" % (b"\r\n".join(head.lines), extra)


def status_line(status: int) -> bytes:
    """Return `HTTP/1.1 404 Not Found` for a response of our own."""
    return b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())
