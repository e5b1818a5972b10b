"""One try of a request, as logs, traces and local replies tell it."""

from __future__ import annotations

from typing import NamedTuple


class Attempt(NamedTuple):
    """Where a try went, how long it took, and what became of it. Times are seconds."""

    endpoint: str  # its address
    flag: str = ""  # empty where a response came
    reason: str = ""  # why it failed; empty where its response is the client's
    status: int = 0  # of its response; 0 where none came
    began: float = 0.0  # after the request's head
    ended: float = 0.0  # likewise: when it failed, or its response was complete
    connect: float | None = None  # the wait for a new connection; None where a pooled one was used
    first_byte: float | None = None  # from the request on this connection to the response head
    span_id: bytes = b""  # 16 hexadecimal digits, where the request is traced
