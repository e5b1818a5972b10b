"""What a run of a chain calls back: the exchange, or `testing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshlet.filters.reply import Reply
    from meshlet.http.head import ResponseHead


class ChainSink(Protocol):
    """Takes what comes out of a run. After `reply` and `filter_failed` nothing else does."""

    def request_ready(self, data: bytes, complete: bool) -> None:
        """All filters let the request's head go on: send it, with what is there of the body.

        No other call follows for a `complete` one. The head is the same object, changed in place.
        """
        ...

    def request_data(self, data: bytes) -> None:
        """Take a piece of the request body, never empty."""
        ...

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the request body."""
        ...

    def request_wanted(self) -> None:
        """A filter waits for the body of a client that waits for 100 Continue: send that."""
        ...

    def pause_request(self) -> None:
        """Read no more of the request for now. Never called twice without `resume_request` between."""
        ...

    def resume_request(self) -> None:
        """Read on."""
        ...

    def response_ready(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """As `request_ready`, for the response."""
        ...

    def response_data(self, data: bytes) -> None:
        """Take a piece of the response body, never empty."""
        ...

    def response_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the response body."""
        ...

    def pause_response(self) -> None:
        """Read no more of the response for now."""
        ...

    def resume_response(self) -> None:
        """Read on."""
        ...

    def reply(self, name: str, reply: Reply) -> None:
        """Answer the request with this; no byte of another response has been passed on."""
        ...

    def filter_failed(self, name: str, error: BaseException) -> None:
        """A hook of the filter class `name` raised."""
        ...
