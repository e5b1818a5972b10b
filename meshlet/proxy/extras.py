"""What only some exchanges carry: a copy for another cluster, further response fields. Most have none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.http.head import ResponseHead
    from meshlet.proxy.mirror import MirroredRequest


class Extras:
    """Kept apart from the exchange, whose every attribute is paid for by every request."""

    __slots__ = ("asked", "extra_response", "mirror", "replaced_response", "response_head")

    def __init__(self) -> None:
        #: target and Host as the client sent them, where they were changed
        self.asked: tuple[bytes, bytes | None] | None = None
        self.mirror: MirroredRequest | None = None
        #: lines, each ending in CRLF, for the head of the response, whoever makes it
        self.extra_response = b""
        #: fields of the app's response that they take the place of, in lower case
        self.replaced_response: frozenset[bytes] = frozenset()
        #: the app's response once it is passed on, for header rules and logs
        self.response_head: ResponseHead | None = None
