"""The connections of a port that strangers may reach, bounded in number and in time.

Whoever connects and sends nothing, or half a request, must not keep others out: where there are as many connections as
may be, the one that has been without a request for longest makes room for the new one. One whose request has come whole
is left alone until its answer is sent. Where all are within requests, the new one is refused: to wait it would need a
queue that has to be bounded as well, and whoever probes or scrapes gives up soon and comes again.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

BACKLOG = 128  # connections that the kernel has opened and nobody has accepted yet


class Connections:
    """At most `most` connections, each for at most `lifetime` seconds, None: for as long as its protocol wants."""

    def __init__(self, most: int, lifetime: float | None = None) -> None:
        self._most = most
        self.lifetime = lifetime
        self._idle: dict[asyncio.Transport, None] = {}  # without a request, the longest first
        self._busy: set[asyncio.Transport] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    async def serve(self, sock: socket.socket, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Accept on a bound socket; `make` makes the protocol of each connection."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self, make()), sock=sock, backlog=BACKLOG)

    def abort(self) -> None:
        """Drop all that are open."""
        for transport in (*self._idle, *self._busy):
            transport.abort()

    @contextmanager
    def request(self, transport: asyncio.Transport | None) -> Iterator[None]:
        """Count a connection, None: one that is gone, as within a request; leave when the answer has been written."""
        self.begin(transport)
        try:
            yield
        finally:
            if transport is not None and transport in self._busy:
                self._busy.remove(transport)
                self._idle[transport] = None

    def begin(self, transport: asyncio.Transport | None) -> None:
        """A request has come whole."""
        if transport is not None and transport in self._idle:
            del self._idle[transport]
            self._busy.add(transport)

    def waits(self, transport: asyncio.Transport) -> bool:
        """Tell whether a request of this connection is still to come."""
        return transport in self._idle

    def admit(self, transport: asyncio.Transport) -> bool:
        """Take a new connection in, if there is room or can be made."""
        if len(self) >= self._most:
            # What has bytes of an answer left to send is not done with its request.
            oldest = next((each for each in self._idle if not each.get_write_buffer_size()), None)
            if oldest is None:
                return False
            self.forget(oldest)
            oldest.abort()
        self._idle[transport] = None
        return True

    def forget(self, transport: asyncio.Transport) -> None:
        """It is closed."""
        self._idle.pop(transport, None)
        self._busy.discard(transport)


class _Connection(asyncio.Protocol):
    """Stands before a connection's own protocol, which hears nothing of a connection that is refused."""

    _transport: asyncio.Transport
    _timer: asyncio.Handle | None = None

    def __init__(self, connections: Connections, protocol: asyncio.Protocol) -> None:
        self._connections = connections
        self._protocol = protocol
        self._seen = b""  # the last bytes of a head that has begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast("asyncio.Transport", transport)
        if not self._connections.admit(self._transport):
            self._protocol = asyncio.Protocol()  # which does nothing
            self._transport.abort()
            return
        lifetime = self._connections.lifetime
        if lifetime is not None:
            self._timer = asyncio.get_running_loop().call_later(lifetime, self._transport.abort)
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.forget(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._connections.waits(self._transport) and self._head_ends(data):
            # Here already: until the protocol has got round to the request, others may have connected.
            self._connections.begin(self._transport)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _head_ends(self, data: bytes) -> bool:
        """Whether the empty line behind a head has come; those in front of one do not count (RFC 9112 section 2.2)."""
        head = self._seen + data if self._seen else data.lstrip(b"\r\n")
        ends = b"\r\n\r\n" in head
        self._seen = b"" if ends else head[-3:]
        return ends
