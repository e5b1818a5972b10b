"""How a connection takes bytes off the wire: on and off as back-pressure asks for it, and in turns.

An event loop gives a connection all that its socket holds before anybody else has a turn: uvloop reads up to 32 times
in a row, 256,000 bytes each. A peer that sends fast what is dear to read would take everybody's time. So whoever has
done a turn's worth of work rests until the loop's next turn, with what is left in hand.
"""

from __future__ import annotations

import asyncio

# A read of this size may be followed by another one in the same turn of the loop; after a shorter one nothing is left.
FULL_READ = 131072  # bytes


class Intake(asyncio.Protocol):
    """The reading side of a connection."""

    __slots__ = ("_reading", "_resting", "_transport", "ended")

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self.ended = False  # the peer sends no more, but may still read: nothing to pause, nothing to resume
        self._reading = True  # nobody has asked for a pause
        self._resting = False  # until the loop's next turn

    def pause_reading(self) -> None:
        """Take no more bytes for now."""
        if self._reading and not self.ended and not self._transport.is_closing():
            self._reading = False
            if not self._resting:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again; those in hand come before those on the wire."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            if self._resting:
                return
            if self._behind:
                self._resting = True
                asyncio.get_running_loop().call_soon(self._go_on)
            else:
                self._transport.resume_reading()

    @property
    def _behind(self) -> bool:
        """Whether there are bytes in hand that could be read now."""
        return False

    def _read_on(self) -> None:
        """Read a turn's worth of the bytes in hand, and rest again where some are left."""

    def _rest(self) -> None:
        """Take no more bytes in this turn of the loop."""
        transport = self._transport
        if not self._resting and not transport.is_closing() and transport.get_protocol() is self:
            self._resting = True
            if self._reading and not self.ended:
                transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        transport = self._transport
        # Whoever took the transport over, as a tunnel does, sees to its reading.
        if transport.is_closing() or transport.get_protocol() is not self:
            return
        if self._reading and self._behind:
            self._read_on()
        if self._reading and not self._resting and not self.ended and not transport.is_closing():
            transport.resume_reading()
