"""What only some exchanges carry: a copy for another cluster, further response fields. Most have none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.proxy.mirror import MirroredRequest


class Extras:
    """Kept apart from the exchange, whose every attribute is paid for by every request."""

    __slots__ = ("asked", "extra_response", "filter", "mirror", "replaced_response")

    def __init__(self) -> None:
        #: the target as the client sent it, where it was changed
        self.asked: bytes | None = None
        self.mirror: MirroredRequest | None = None
        #: lines, each ending in CRLF, for the head of the response, whoever makes it
        self.extra_response = b""
        #: fields of the app's response that they take the place of, in lower case
        self.replaced_response: frozenset[bytes] = frozenset()
        #: the filter that answered, or failed
        self.filter: str | None = None
