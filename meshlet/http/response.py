"""Response heads: strict parsing of what the app says (RFC 9112 section 4 and 6), and what the client gets.

The app is suspected as much as the client: a response that two readers could frame differently
would let one client's answer leak into another's.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from meshlet.errors import UpstreamProtocolError
from meshlet.http.grammar import FIELD, OWS, Memo, connection_options, is_token, looks_like, remember, without_named
from meshlet.http.head import CHUNKED, HeadLimits, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_LENGTH = 18
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: ([^\r\n]*))?")
_TIMEOUT = re.compile(rb"(?:^|[,\s])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)


def parse_response(raw: bytes, limits: HeadLimits, method: bytes) -> ResponseHead:
    """Parse the head of a response to a request of `method`, given without its final empty line.

    Raises UpstreamProtocolError where it is malformed, ambiguous, or past a limit.
    """
    lines = raw.split(b"\r\n")
    if len(raw.translate(None, FIELD)) != 2 * len(lines) - 2:
        raise UpstreamProtocolError("a control character, or a bare CR or LF, in the response head")
    minor, status, lines[0] = _status_lines[lines[0]]
    head = ResponseHead(status, minor, lines)
    if len(lines) - 1 > limits.headers:
        raise UpstreamProtocolError(f"more than {limits.headers} header fields in the response")

    handlers = _handlers
    for line in lines[1:]:  # a copy: handlers change the list
        name, colon, value = line.partition(b":")
        if not colon:
            raise UpstreamProtocolError("a header line without a colon in the response")
        try:
            handler = handlers[name]
        except KeyError:
            handler = _learn(name)
        if handler is not None:
            handler(head, line, value)

    if head.length == CHUNKED and minor == 0:
        raise UpstreamProtocolError("Transfer-Encoding in an HTTP/1.0 response")
    if status < 200 or status == 204 or (method == b"CONNECT" and status < 300):
        # These must not have one (RFC 9110 section 8.6), and who believes it would wait for a body.
        if head.framed:
            head.lines = without_named(head.lines, frozenset({b"content-length"}))
        head.length = 0
    elif status == 304 or method == b"HEAD":
        head.length = 0  # Content-Length, if any, says what a GET would have got
    if head.named is not None:
        head.lines = without_named(head.lines, head.named - _KEPT)
    return head


def _parse_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Return the minor version, the status, and the line with our own version (RFC 9110 section 2.5)."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError("the status line is not HTTP/1.1 and three digits")
    # Apps that leave out the reason often leave out the space before it too, which not every client forgives.
    return min(int(match[1]), 1), int(match[2]), b"HTTP/1.1 %b %b" % (match[2], match[3] or b"")


_status_lines = Memo(_parse_status_line, entries=256)

_KNOWN_STATUSES = frozenset(HTTPStatus)

# --- handlers of the fields that mean something to a proxy: (head, line, value) ---

#: what a Connection field cannot name away
_KEPT = frozenset({b"content-length", b"date", b"server"})


def _on_connection(head: ResponseHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    options = connection_options[value]
    if options.close:
        head.close = True
    if options.keep_alive:
        head.keep_alive = True
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
    if head.status != 426:  # Upgrade Required says what is required (RFC 9110 section 15.5.22)
        head.lines.remove(line)
    head.upgrade = value.strip(OWS)


def _on_date(head: ResponseHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.has_date = True


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
    b"proxy-connection": _drop,
    b"te": _drop,
    # meshlet writes these itself
    b"x-envoy-upstream-service-time": _drop,
    b"x-envoy-attempt-count": _drop,
}


def _handler_of(name: bytes) -> Callable[[ResponseHead, bytes, bytes], None] | None:
    if not is_token(name) or looks_like(name, _FRAMING):
        return _on_invalid_name
    return _SPECIAL.get(name.lower())


_handlers: dict[bytes, Callable[[ResponseHead, bytes, bytes], None] | None] = {}


def _learn(name: bytes) -> Callable[[ResponseHead, bytes, bytes], None] | None:
    return remember(_handlers, name, _handler_of(name))


def encode_response(head: ResponseHead, extra: bytes, body: bytes = b"") -> bytes:
    """Write the head for the client: its lines, then `extra` (whole lines, each ending in CRLF).

    `body` is what is there of the body, framed by the caller.
    """
    return b"%b\r\n%b\r\n%b" % (b"\r\n".join(head.lines), extra, body)


def status_line(status: int) -> bytes:
    """Return `HTTP/1.1 404 Not Found` for a response of our own; a status without a name has none."""
    phrase = HTTPStatus(status).phrase if status in _KNOWN_STATUSES else ""
    return b"HTTP/1.1 %d %b" % (status, phrase.encode())
