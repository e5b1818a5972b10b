"""Bytes between two connections, both ways, until both have ended: TCP, and tunnels after an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from meshlet.intake import FULL_READ, Intake
from meshlet.proxy.transports import reset
from meshlet.timers import NEVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from meshlet.proxy.settings import Runtime


class RelayEnd(Intake):
    """One of the two connections of a relay: what it receives, the other one sends."""

    __slots__ = ("_relay", "other", "received")

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self.other: RelayEnd | None = None  # once both are joined
        self.received = 0  # bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @property
    def transport(self) -> asyncio.Transport:
        """The connection."""
        return self._transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.other._transport.write(data)  # type: ignore[union-attr]  # noqa: SLF001 - of its own class
        if len(data) >= FULL_READ:
            self._rest()

    def eof_received(self) -> bool:
        self.ended = True
        self._relay.on_end(self)
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.on_lost(self, exc)


class Relay:
    """Two ends, an idle timeout, and a call when all is over. `wake` belongs to `Timers`."""

    def __init__(self, runtime: Runtime, idle_timeout: float, on_close: Callable[[int, int, str], None]) -> None:
        """`on_close(bytes from the client, bytes from the app, flag)` is called once."""
        self.downstream = RelayEnd(self)
        self.upstream = RelayEnd(self)
        self.wake = NEVER
        self._runtime = runtime
        self._idle_timeout = idle_timeout
        self._on_close: Callable[[int, int, str], None] | None = on_close
        self._moved = 0  # bytes, when the timer last looked
        self._flag = ""

    def start(self, from_downstream: bytes = b"", from_upstream: bytes = b"") -> None:
        """Join the two ends, which have their transports by now; begin with bytes received before."""
        down, up = self.downstream, self.upstream
        down.other, up.other = up, down
        if from_downstream:
            down.data_received(from_downstream)
        if from_upstream:
            up.data_received(from_upstream)
        if down.ended:
            self.on_end(down)
        if up.ended:
            self.on_end(up)
        if self._idle_timeout:
            self._runtime.timers.schedule(self, self._runtime.clock() + self._idle_timeout)

    def on_end(self, end: RelayEnd) -> None:
        """One end has said its last byte: tell the other one, after all bytes before it."""
        if end.other is None:  # not joined yet; `start` makes up for it
            return
        other = end.other.transport
        if self.downstream.ended and self.upstream.ended:
            # Both have ended: what is still in the buffers is sent, then both are closed.
            other.close()
            end.transport.close()
        elif not other.is_closing() and other.can_write_eof():
            other.write_eof()

    def on_lost(self, end: RelayEnd, exc: Exception | None) -> None:
        """One end is gone: the other one must not take what it has for the whole."""
        other = end.other
        end.ended = True
        if other is not None and not other.transport.is_closing():
            if exc is not None or not other.ended:
                if not self._flag:
                    self._flag = "DC" if end is self.downstream else "UC"
                reset(other.transport)
            else:
                other.transport.close()
        self._close()

    def abort(self, flag: str) -> None:
        """End both at once."""
        self._flag = self._flag or flag
        for end in (self.downstream, self.upstream):
            reset(end.transport)
        self._close()

    def on_timer(self, now: float) -> float:
        """Look whether any byte has moved since the last time."""
        moved = self.downstream.received + self.upstream.received
        if moved == self._moved:
            self.abort("SI")
            return NEVER
        self._moved = moved
        return now + self._idle_timeout

    def _close(self) -> None:
        if self._on_close is None:
            return
        self._runtime.timers.cancel(self)
        on_close, self._on_close = self._on_close, None
        on_close(self.downstream.received, self.upstream.received, self._flag)
