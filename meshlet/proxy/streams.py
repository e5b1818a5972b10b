"""What an exchange sees of the client, whatever codec carries it; `upstream.connection` has the app's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from meshlet.errors import ProxyError
    from meshlet.http.answer import Answer
    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.http.reply import Report
    from meshlet.proxy.relay import Relay


class DownstreamStream(Protocol):
    """What an exchange sees of the client."""

    @property
    def remote(self) -> str:
        """The client's address and port."""
        ...

    @property
    def remote_host(self) -> str:
        """The client's address."""
        ...

    @property
    def local(self) -> str:
        """The address and port that the client has reached."""
        ...

    @property
    def trusted(self) -> bool:
        """Whether the client has a say in how its requests are treated."""
        ...

    def upstream_lines(self, head: RequestHead) -> bytes:
        """Return the header lines that the request gets on its way to the app."""
        ...

    def set_deadline(self, when: float) -> None:
        """Have `on_deadline` called at that time, or NEVER."""
        ...

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response."""
        ...

    def send_head(self, head: ResponseHead, milliseconds: int, data: bytes, complete: bool) -> None:
        """Send the response head, which the app took so long for, with what is there of the body."""
        ...

    def send_data(self, data: bytes) -> None:
        """Send a piece of the response body."""
        ...

    def send_end(self, trailers: tuple[bytes, ...]) -> None:
        """End the response body."""
        ...

    def send_local_reply(self, error: ProxyError, report: Report) -> None:
        """Send a whole response for an error."""
        ...

    def send_answer(self, answer: Answer) -> None:
        """Send a whole response of our own."""
        ...

    def abort(self) -> None:
        """Make the client see that its response is not whole."""
        ...

    def finished(self, now: float) -> None:
        """The exchange is over."""
        ...

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the transport for a tunnel, with what the client has sent into it already."""
        ...

    def tunnel_started(self, relay: Relay) -> None:
        """The transport is a tunnel's now; `finished` is called when that has ended."""
        ...

    def pause_reading(self) -> None:
        """Stop taking request bytes."""
        ...

    def resume_reading(self) -> None:
        """Take request bytes again."""
        ...
