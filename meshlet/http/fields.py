"""The fields of a request, wherever the codec keeps them: in the head's lines or in its attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.grammar import OWS
from meshlet.http.head import CHUNKED, field_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.http.head import RequestHead

#: fields that the codec takes out of `lines`
ATTRIBUTES: dict[bytes, Callable[[RequestHead], bytes | None]] = {
    b"transfer-encoding": lambda head: b"chunked" if head.length == CHUNKED else None,
    b"upgrade": lambda head: head.upgrade,
    b"x-forwarded-for": lambda head: head.forwarded_for,
    b"x-forwarded-proto": lambda head: head.forwarded_proto,
    b"x-request-id": lambda head: head.request_id,
}
#: what Envoy, which thinks in terms of HTTP/2, calls the parts of a request line and the Host field
PSEUDO: dict[bytes, Callable[[RequestHead], bytes | None]] = {
    b":authority": lambda head: field_value(head.lines, b"host"),
    b":method": lambda head: head.method,
    b":path": lambda head: head.target,
}


def all_values(name: bytes) -> Callable[[RequestHead], list[bytes]]:
    """Make the function that returns the values of all fields called `name` (lower case), in their order."""
    attribute = ATTRIBUTES.get(name, _of_envoy(name) if name.startswith(b"x-envoy-") else None)
    start = name + b":"
    size = len(start)

    def values(head: RequestHead) -> list[bytes]:
        # No start line begins so: a colon is in none of the characters before its first space or slash.
        return [line[size:].strip(OWS) for line in head.lines if line[:size].lower() == start]

    if attribute is None:
        return values
    kept_apart = attribute

    def value(head: RequestHead) -> list[bytes]:
        found = kept_apart(head)
        return values(head) if found is None else [found]

    return value


def _of_envoy(name: bytes) -> Callable[[RequestHead], bytes | None]:
    return lambda head: head.envoy.get(name) if head.envoy is not None else None


def first_value(name: bytes) -> Callable[[RequestHead], bytes | None]:
    """Make the function that returns the value of the first field called `name`, or None; pseudo headers too."""
    if name in PSEUDO:
        return PSEUDO[name]
    values = all_values(name)

    def first(head: RequestHead) -> bytes | None:
        found = values(head)
        return found[0] if found else None

    return first
