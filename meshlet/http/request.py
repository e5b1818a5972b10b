"""Request heads: strict parsing (RFC 9112 section 3 and 6) and what is written to the app.

Whatever two readers could frame or route differently is refused, never repaired: a proxy that
mends a message is one half of a request-smuggling attack.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlet.errors import BadRequest
from meshlet.http.grammar import (
    FIELD,
    OWS,
    TARGET,
    Memo,
    connection_options,
    is_token,
    looks_like,
    parse_authority,
    remember,
    without_named,
)
from meshlet.http.head import CHUNKED, HeadLimits, RequestHead

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_LONGEST_METHOD = 64
# More digits than any body has bytes; it keeps int() and the peers' counters out of trouble.
_LONGEST_LENGTH = 18
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade", b"expect"})
# What apps believe because meshlet writes it.
_VOUCHED = frozenset(
    {
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
        b"x-envoy-attempt-count",
        b"x-envoy-internal",
        b"x-envoy-external-address",
        b"x-envoy-original-path",
        b"x-envoy-original-host",
    }
)
_ABSOLUTE = re.compile(rb"(?i:https?)://(?P<authority>[^/?]*)(?P<rest>.*)", re.DOTALL)
_PORT = re.compile(rb":[0-9]+\Z")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")


def parse_request(raw: bytes, limits: HeadLimits) -> RequestHead:
    """Parse a request head, given without its final empty line.

    Raises BadRequest, with the status that the client gets, where the head is malformed,
    ambiguous, or past a limit.
    """
    lines = raw.split(b"\r\n")
    if len(raw.translate(None, FIELD)) != 2 * len(lines) - 2:
        raise BadRequest("a control character, or a bare CR or LF, in the request head")
    parts = lines[0].split(b" ")
    if len(parts) != 3:
        raise BadRequest("the request line is not METHOD TARGET VERSION with single spaces")
    method, target, version = parts
    if method not in _METHODS and not (is_token(method) and len(method) <= _LONGEST_METHOD):
        raise BadRequest("the method is not a token of at most 64 characters")
    if version == b"HTTP/1.1":
        head = RequestHead(method, target, 1, lines)
    else:
        head = RequestHead(method, target, _minor(version), lines)
        lines[0] = b"%b %b HTTP/1.1" % (method, target)
    section = len(raw) - len(lines[0])
    if len(target) > limits.target_bytes or len(lines) - 1 > limits.headers or section > limits.header_bytes:
        raise _past_limit(target, section, limits)

    handlers = _handlers
    for line in lines[1:]:  # a copy: handlers change the list
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadRequest("a header line without a colon")
        try:
            handler = handlers[name]
        except KeyError:
            handler = _learn(name)
        if handler is not None:
            handler(head, line, value)

    # What most requests are needs no closer look: a path that the app can be asked for, and no body.
    if target[:1] != b"/" or method == b"CONNECT" or target.translate(None, TARGET):
        _check_target(head)
    elif head.host is None and head.minor == 1:
        raise BadRequest("no Host field")
    if head.framed or head.upgrade is not None or head.minor == 0:
        _check_framing(head)
    if head.named is not None:
        head.lines = without_named(head.lines, head.named - _KEPT)
    return head


def _past_limit(target: bytes, section: int, limits: HeadLimits) -> BadRequest:
    if len(target) > limits.target_bytes:
        return BadRequest(f"the request target is longer than {limits.target_bytes} bytes", 414)
    if section > limits.header_bytes:
        return BadRequest(f"the header section is larger than {limits.header_bytes} bytes", 431)
    return BadRequest(f"more than {limits.headers} header fields", 431)


def _minor(version: bytes) -> int:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise BadRequest("the version of the request line is not HTTP/1.1")
    if match[1] != b"1":
        raise BadRequest("the HTTP version is not supported on this port", 505)
    # A higher minor version is served as the highest that we know (RFC 9110 section 2.5).
    return min(int(match[2]), 1)


def _check_target(head: RequestHead) -> None:
    target = head.target
    if target.translate(None, TARGET) or not target:
        raise BadRequest("the request target holds a control character, a space or a fragment, or is empty")
    if head.host is None and head.minor == 1:
        raise BadRequest("no Host field")
    if head.method == b"CONNECT":
        host = parse_authority(target)
        if host is None or _PORT.search(target) is None:
            raise BadRequest("the target of CONNECT is not HOST:PORT")
        _replace_host(head, target, host)
    elif target[0] != 0x2F and not (target == b"*" and head.method == b"OPTIONS"):
        _absolute_form(head)


def _absolute_form(head: RequestHead) -> None:
    """Turn an absolute-form target into origin-form."""
    match = _ABSOLUTE.fullmatch(head.target)
    host = parse_authority(match["authority"]) if match is not None else None
    if match is None or host is None:
        raise BadRequest("the request target is neither a path, an http URI nor (for OPTIONS) an asterisk")
    rest = match["rest"]
    if not rest:
        rest = b"*" if head.method == b"OPTIONS" else b"/"
    elif rest[0] != 0x2F:
        rest = b"/" + rest
    _replace_host(head, match["authority"], host)
    head.target = rest
    head.lines[0] = b"%b %b HTTP/1.1" % (head.method, rest)


def _replace_host(head: RequestHead, authority: bytes, host: bytes) -> None:
    """Have the authority in the target win over Host (RFC 9112 section 3.2.2), for the app as for our routes."""
    line = b"Host: " + authority
    for index, old in enumerate(head.lines):
        if index and old[:5].lower() == b"host:":
            head.lines[index] = line
            break
    else:
        head.lines.insert(1, line)
    head.authority, head.host = authority, host


def _check_framing(head: RequestHead) -> None:
    if head.method == b"CONNECT" and head.length:
        raise BadRequest("CONNECT with a body")
    if head.length == CHUNKED and head.minor == 0:
        raise BadRequest("Transfer-Encoding in HTTP/1.0")
    if head.host is None:
        # HTTP/1.1 must have a Host, and there is no name to make one of: the app gets it as it came, in HTTP/1.0.
        head.lines[0] = b"%b %b HTTP/1.0" % (head.method, head.target)
    # A 1.0 client cannot be sent a 1xx, so its expectation is ignored (RFC 9110 section 10.1.1).
    if head.expects_continue and head.minor == 0:
        head.expects_continue = False
        head.lines = without_named(head.lines, frozenset({b"expect"}))
    # An upgrade together with a body would leave it open which protocol the body is in.
    if head.upgrade is not None and not (head.wants_upgrade and head.minor == 1 and not head.length):
        head.upgrade = None


# --- handlers of the fields that mean something to a proxy: (head, line, value) ---

#: what a Connection field cannot name away: its removal would change routing or framing for the app
_KEPT = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})

_hosts: Memo[bytes | None] = Memo(parse_authority)


def _on_host(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    if head.host is not None:
        raise BadRequest("more than one Host field")
    head.authority = value = value.strip(OWS)
    head.host = _hosts[value]
    if head.host is None:
        raise BadRequest("the Host field is not HOST or HOST:PORT")


def _on_connection(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    options = connection_options[value]
    if options.close:
        head.close = True
    if options.keep_alive:
        head.keep_alive = True
    if options.upgrade:
        head.wants_upgrade = True
    if options.named:
        head.named = options.named if head.named is None else head.named | options.named


def _on_content_length(head: RequestHead, line: bytes, value: bytes) -> None:
    if head.framed:
        raise BadRequest("more than one field that frames the body: Content-Length or Transfer-Encoding")
    digits = value.strip(OWS)
    # isdigit() of bytes is true for ASCII digits only.
    if not digits.isdigit() or len(digits) > _LONGEST_LENGTH:
        raise BadRequest("Content-Length is not a decimal number")
    head.framed = True
    head.length = int(digits)
    if digits[0] == 0x30 and len(digits) > 1:  # some read a leading zero as octal
        head.lines[head.lines.index(line)] = b"Content-Length: %d" % head.length


def _on_transfer_encoding(head: RequestHead, line: bytes, value: bytes) -> None:
    if head.framed:
        raise BadRequest("more than one field that frames the body: Content-Length or Transfer-Encoding")
    if value.strip(OWS).lower() != b"chunked":
        raise BadRequest("a Transfer-Encoding other than a single chunked")
    head.framed = True
    head.length = CHUNKED
    head.lines.remove(line)


def _on_upgrade(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    value = value.strip(OWS)
    head.upgrade = value if head.upgrade is None else head.upgrade + b", " + value


def _on_expect(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.expects_continue |= value.strip(OWS).lower() == b"100-continue"


def _on_forwarded_for(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    value = value.strip(OWS)
    if value:
        head.forwarded_for = value if head.forwarded_for is None else head.forwarded_for + b", " + value


def _on_forwarded_proto(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    head.forwarded_proto = value.strip(OWS).lower()


def _on_request_id(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    if head.request_id is None:
        head.request_id = value.strip(OWS) or None


def _on_envoy(head: RequestHead, line: bytes, value: bytes) -> None:
    head.lines.remove(line)
    if head.envoy is None:
        head.envoy = {}
    head.envoy.setdefault(line.partition(b":")[0].lower(), value.strip(OWS))


def _on_trace(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    # It stays among the lines: only where tracing is on has it to be read, and replaced.
    if head.trace is None:
        head.trace = [line]
    else:
        head.trace.append(line)


def _drop(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    head.lines.remove(line)


def _on_invalid_name(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    raise BadRequest("a field name that is not a token: white space before a colon, or a folded line")


def _on_lookalike(head: RequestHead, line: bytes, value: bytes) -> None:  # noqa: ARG001
    raise BadRequest("a field name that some servers read as a framing field")


_SPECIAL: dict[bytes, Callable[[RequestHead, bytes, bytes], None]] = {
    b"host": _on_host,
    b"connection": _on_connection,
    b"content-length": _on_content_length,
    b"transfer-encoding": _on_transfer_encoding,
    b"upgrade": _on_upgrade,
    b"expect": _on_expect,
    b"x-forwarded-for": _on_forwarded_for,
    b"x-forwarded-proto": _on_forwarded_proto,
    b"x-request-id": _on_request_id,
    # hop by hop (RFC 9110 section 7.6.1); HTTP2-Settings belongs to an h2c upgrade, which is never passed on
    b"keep-alive": _drop,
    b"proxy-connection": _drop,
    b"te": _drop,
    b"http2-settings": _drop,
    # Envoy's way to ask a proxy for retries; a client that is not trusted gets none, and the app never sees them
    b"x-envoy-retry-on": _on_envoy,
    b"x-envoy-retry-grpc-on": _on_envoy,
    b"x-envoy-max-retries": _on_envoy,
    b"x-envoy-retriable-status-codes": _on_envoy,
    b"x-envoy-retriable-header-names": _on_envoy,
    b"x-envoy-upstream-rq-timeout-ms": _on_envoy,
    b"x-envoy-upstream-rq-per-try-timeout-ms": _on_envoy,
    b"x-envoy-upstream-rq-timeout-alt-response": _on_envoy,
    b"x-envoy-hedge-on-per-try-timeout": _on_envoy,
    b"x-envoy-expected-rq-timeout-ms": _on_envoy,
    # what proxies tell apps: a client that is not trusted tells them nothing by it
    b"x-envoy-internal": _on_envoy,
    b"x-envoy-external-address": _on_envoy,
    b"x-envoy-original-path": _on_envoy,
    b"x-envoy-original-host": _on_envoy,
    # trace context: W3C Trace Context, and B3 in its two forms
    b"traceparent": _on_trace,
    b"tracestate": _on_trace,
    b"b3": _on_trace,
    b"x-b3-traceid": _on_trace,
    b"x-b3-spanid": _on_trace,
    b"x-b3-parentspanid": _on_trace,
    b"x-b3-sampled": _on_trace,
    b"x-b3-flags": _on_trace,
    # what meshlet tells the app, where a route says so
    b"x-envoy-attempt-count": _drop,
}


def _handler_of(name: bytes) -> Callable[[RequestHead, bytes, bytes], None] | None:
    if not is_token(name):
        return _on_invalid_name
    if looks_like(name, _FRAMING):
        return _on_lookalike
    if looks_like(name, _VOUCHED):  # an app in a CGI-like environment would take it for what meshlet says
        return _drop
    return _SPECIAL.get(name.lower())


#: field names met so far. A plain dict: a subclass with `__missing__` costs a third more on this hottest of paths.
_handlers: dict[bytes, Callable[[RequestHead, bytes, bytes], None] | None] = {}


def _learn(name: bytes) -> Callable[[RequestHead, bytes, bytes], None] | None:
    return remember(_handlers, name, _handler_of(name))


def encode_request(head: RequestHead, extra: bytes, body: bytes = b"") -> bytes:
    """Write the head for the app: its lines, then `extra` (whole lines, each ending in CRLF), then the framing.

    `body` is what is there of the body, framed by the caller.
    """
    block = b"\r\n".join(head.lines)
    if head.length == CHUNKED:
        return b"%b\r\n%btransfer-encoding: chunked\r\n\r\n%b" % (block, extra, body)
    return b"%b\r\n%b\r\n%b" % (block, extra, body)
