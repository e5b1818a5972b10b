"""How a message is framed once filters have changed its body.

Filters get bodies piece by piece, so the length of what they make of them is not known when the head leaves: the
message becomes chunked. Where a filter held it until it was whole, the length is known again.
"""

from __future__ import annotations

from meshlet.http.grammar import without_named
from meshlet.http.head import CHUNKED, RequestHead, ResponseHead

_CONTENT_LENGTH = frozenset({b"content-length"})


def chunk_request(head: RequestHead) -> None:
    """Have a request's body sent in chunks; a request without body stays as it is."""
    if head.length <= 0:
        return
    _without_length(head)
    head.length = CHUNKED
    _ensure_version(head)


def _ensure_version(head: RequestHead) -> None:
    """Have a request with chunks be HTTP/1.1, which it is not where a 1.0 client gave no Host."""
    if head.host is None and head.lines[0].endswith(b"HTTP/1.0"):
        head.lines[0] = b"%b %b HTTP/1.1" % (head.method, head.target)
        head.lines.append(b"Host:")  # what a client without a name to give sends (RFC 9112 section 3.2)


def chunk_response(head: ResponseHead, method: bytes) -> None:
    """Have a response's body sent in chunks; where there is none, forget how long it would have been.

    One that ends with its connection stays as it is, for the client gets chunks in any case.
    """
    if head.length > 0:
        _without_length(head)
        head.length = CHUNKED
    elif is_bodiless(head, method):
        _without_length(head)


def is_bodiless(head: ResponseHead, method: bytes) -> bool:
    """Say whether a response has no body whatever its fields say (RFC 9112 section 6.3)."""
    return method == b"HEAD" or head.status in (204, 304)


def set_length(head: RequestHead | ResponseHead, length: int) -> None:
    """Frame a message by the length of its body, which is known whole."""
    if head.length == length:
        return
    _without_length(head)
    head.length = length
    head.framed = True
    head.lines.append(b"content-length: %d" % length)


def drop_expectation(head: RequestHead) -> None:
    """Forget that the client waits for 100 Continue: it has been told to go on."""
    head.expects_continue = False
    head.lines = without_named(head.lines, frozenset({b"expect"}))


def _without_length(head: RequestHead | ResponseHead) -> None:
    head.lines = without_named(head.lines, _CONTENT_LENGTH)
