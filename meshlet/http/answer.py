"""What may be done with a request in place of sending it on: answering it, or holding it for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.errors import ProxyError


@dataclass(slots=True)
class Answer:
    """A response of our own though nothing is wrong: a redirect, a preflight, a filter's reply.

    Framing, date and the like are added by who renders it. `flag` is the response flag, if any.
    """

    status: int
    fields: tuple[bytes, ...] = ()  # whole lines without CRLF
    body: bytes = b""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Delay:
    """Hold the request for `seconds` (response flag DI), then do `then`; None lets it go on."""

    seconds: float
    then: Answer | ProxyError | None = None
    flag: str = "DI"
