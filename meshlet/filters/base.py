"""The base class of filters, and what their hooks may return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshlet.filters.call import Call
    from meshlet.filters.reply import Reply


@dataclass(frozen=True, slots=True)
class Hold:
    """Returned by a head hook: the message waits at this filter until its body is whole.

    The filter's data hook is then called once, with all of the body, and may still change the head. A request body
    of more than `max_bytes` is answered with 413, a response body with 500.
    """

    max_bytes: int


class _Skip(Enum):
    SKIP_BODY = "skip body"


#: Returned by a head hook: the filter's data hook is not called for this message, whose framing stays as it is.
SKIP_BODY: Literal[_Skip.SKIP_BODY] = _Skip.SKIP_BODY

HeadResult: TypeAlias = "Reply | Hold | Literal[_Skip.SKIP_BODY] | None"
BodyResult: TypeAlias = "bytes | Reply"


class Outcome(NamedTuple):
    """How a request ended."""

    status: int  # what the client got; 0 where it got nothing
    flag: str  # the response flag, "" where all went well
    seconds: float
    received: int  # bytes of the request body
    sent: int  # bytes of the response body


class Filter:
    """The base of all filters: one object serves all requests of its place in the config.

    Every hook may be left out, which costs nothing. All but `on_complete` may be `async def`: the message then waits,
    and nothing more of it is read meanwhile; a hook that waits is cancelled when the client leaves. Hooks run on the
    event loop, so they must not block.
    """

    #: what the value of `config:` is converted to: a dataclass, a msgspec.Struct, or another type that msgspec knows,
    #: such as dict[str, int]; None for a filter without config
    Config: ClassVar[Any] = None

    def __init__(self, config: Any = None) -> None:
        """`config` is a `Config`; a filter without one is made without the argument."""
        self.config = config

    def on_request_head(self, call: Call) -> HeadResult | Awaitable[HeadResult]:
        """See (or change) the request's head. None lets it go on; a Reply answers it here."""
        return None

    def on_request_data(self, call: Call, data: bytes, end: bool) -> BodyResult | Awaitable[BodyResult]:
        """Return what takes the place of a piece of the request body.

        `end` comes with the last piece, which may be empty. Where the response has not begun, a Reply is answered
        instead. Not called for a request without body, unless the filter holds it.
        """
        return data

    def on_response_head(self, call: Call) -> HeadResult | Awaitable[HeadResult]:
        """See (or change) the head of the app's response; a Reply takes its place."""
        return None

    def on_response_data(self, call: Call, data: bytes, end: bool) -> BodyResult | Awaitable[BodyResult]:
        """Return what takes the place of a piece of the response body; as `on_request_data`."""
        return data

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        """The request is over, however it ended. Called once by every filter that the request came to."""
