"""Steps: what an exchange asks, in order, before it sends a request on.

A step is a function `step(exchange, now) -> Verdict`. It needs no body and waits for nothing, so it is cheaper than a
filter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from meshlet.errors import ProxyError
from meshlet.http.answer import Answer, Delay
from meshlet.http.head import RequestHead


class StepExchange(Protocol):
    """What a step sees of an exchange."""

    #: lines that the response gets, each ending in CRLF; steps append to it
    extra_response: bytes
    #: fields of the app's response, in lower case, that `extra_response` takes the place of
    replaced_response: frozenset[bytes]

    @property
    def head(self) -> RequestHead:
        """The request's head."""
        ...

    @property
    def remote_host(self) -> str:
        """The client's IP address, without a port."""
        ...


Verdict: TypeAlias = Answer | ProxyError | Delay | None
Step: TypeAlias = Callable[[StepExchange, float], Verdict]
