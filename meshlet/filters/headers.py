"""A head's fields as a filter sees them: text, any case, and changeable as far as that is safe.

What frames a message, what concerns one hop, what was routed by, and what apps believe because meshlet vouches for
it can be read but not set: a filter with a bug must not be able to split a message in two or to forge a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from meshlet.http.fields import ATTRIBUTES
from meshlet.http.grammar import FIELD, OWS, Memo, is_token, looks_like
from meshlet.http.head import CHUNKED, RequestHead, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Iterator

D = TypeVar("D")

_OF_ONE_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OF_REQUESTS = _OF_ONE_HOP | {
    b"expect",
    b"host",
    b"http2-settings",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-request-id",
}
_OF_RESPONSES = _OF_ONE_HOP | {b"date"}
# What is said between proxies; meshlet reads and writes these itself.
_BETWEEN_PROXIES = b"x-envoy-"


class Headers:
    """The fields of one head, in the order they came in. Names are case-insensitive; text is latin-1."""

    __slots__ = ("_head", "_refusals")

    def __init__(self, head: RequestHead | ResponseHead) -> None:
        self._head = head
        self._refusals = _of_requests if isinstance(head, RequestHead) else _of_responses

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: D) -> str | D: ...
    def get(self, name: str, default: D | None = None) -> str | D | None:
        """Return the value of the first field of that name, or `default`."""
        start = _start(name)
        length = len(start)
        lines = self._head.lines
        for index in range(1, len(lines)):
            line = lines[index]
            if line[:length].lower() == start:
                return line[length:].strip(OWS).decode("latin-1")
        elsewhere = _elsewhere(self._head, start[:-1])
        return default if elsewhere is None else elsewhere.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields of that name."""
        start = _start(name)
        length = len(start)
        found = [line[length:] for line in self._head.lines[1:] if line[:length].lower() == start]
        elsewhere = _elsewhere(self._head, start[:-1])
        if elsewhere is not None:
            found.append(elsewhere)
        return [value.strip(OWS).decode("latin-1") for value in found]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def items(self) -> Iterator[tuple[str, str]]:
        """Return all fields; names are in lower case."""
        for line in self._head.lines[1:]:
            name, _, value = line.partition(b":")
            yield name.lower().decode("latin-1"), value.strip(OWS).decode("latin-1")
        for name in _names_elsewhere(self._head):
            elsewhere = _elsewhere(self._head, name)
            if elsewhere is not None:
                yield name.decode(), elsewhere.decode("latin-1")

    def set(self, name: str, value: str) -> None:
        """Make this the only field of that name. Raises ValueError where the head must not have it."""
        new = self._line(name, value)
        start = _start(name)
        length = len(start)
        lines = self._head.lines
        places = [index for index in range(1, len(lines)) if lines[index][:length].lower() == start]
        if not places:
            lines.append(new)
            return
        lines[places[0]] = new
        for index in reversed(places[1:]):
            del lines[index]

    def add(self, name: str, value: str) -> None:
        """Add one more field. Raises ValueError where the head must not have it."""
        self._head.lines.append(self._line(name, value))

    def remove(self, name: str) -> None:
        """Remove all fields of that name. Raises ValueError where the head must keep them."""
        self._check(name)
        start = _start(name)
        length = len(start)
        lines = self._head.lines
        lines[1:] = [line for line in lines[1:] if line[:length].lower() != start]

    def _line(self, name: str, value: str) -> bytes:
        self._check(name)
        return _line(name, value)

    def _check(self, name: str) -> None:
        refusal = self._refusals[name.encode("latin-1")]
        if refusal:
            raise ValueError(refusal)


def reply_line(name: str, value: str) -> bytes:
    """Return the line of a field in a response of a filter's own. Raises ValueError."""
    refusal = _of_responses[name.encode("latin-1")]
    if refusal:
        raise ValueError(refusal)
    return _line(name, value)


def _start(name: str) -> bytes:
    return name.lower().encode("latin-1") + b":"


def _line(name: str, value: str) -> bytes:
    raw = value.encode("latin-1")
    if raw.translate(None, FIELD):
        raise ValueError(f"the value of {name} holds a control character")
    return b"%b: %b" % (name.encode("latin-1"), raw.strip(OWS))


def _refusal(name: bytes, reserved: frozenset[bytes]) -> str:
    shown = name.decode("latin-1")
    if not is_token(name):
        return f"{shown!r} is not a header name"
    lower = name.lower()
    if lower in reserved or lower.startswith(_BETWEEN_PROXIES) or looks_like(name, reserved):
        return f"{shown} is written by meshlet alone"
    return ""


#: by name, why it cannot be set; "" where it can
_of_requests: Memo[str] = Memo(lambda name: _refusal(name, _OF_REQUESTS))
_of_responses: Memo[str] = Memo(lambda name: _refusal(name, _OF_RESPONSES))

# --- fields that the parser has taken out of the lines ---


def _elsewhere(head: RequestHead | ResponseHead, name: bytes) -> bytes | None:
    if isinstance(head, ResponseHead):
        return _of_response(head, name)
    attribute = ATTRIBUTES.get(name)
    if attribute is not None:
        return attribute(head)
    return head.envoy.get(name) if head.envoy is not None else None


def _of_response(head: ResponseHead, name: bytes) -> bytes | None:
    if name == b"transfer-encoding":
        return b"chunked" if head.length == CHUNKED else None
    return head.upgrade if name == b"upgrade" and head.status != 426 else None  # there it is among the lines


def _names_elsewhere(head: RequestHead | ResponseHead) -> tuple[bytes, ...]:
    if isinstance(head, ResponseHead):
        return (b"transfer-encoding", b"upgrade")
    return (*ATTRIBUTES, *(head.envoy or ()))
