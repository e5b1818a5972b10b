"""How a connection takes bytes off the wire: on and off as back-pressure asks for it, and in turns.

An event loop gives a connection all that its socket holds before anybody else has a turn: uvloop reads up to 32 times
in a row, 256,000 bytes each. A peer that sends fast what is dear to read would take everybody's time. So whoever has
done a turn's worth of work, a quarter of a millisecond, rests with what is left in hand. Those who rest go on one after
the other, one in each turn of the loop: a crowd of them takes no more of it than one.
"""

from __future__ import annotations

import asyncio
from collections import deque

# A read of this size may be followed by another one in the same turn of the loop; after a shorter one nothing is left.
FULL_READ = 131072  # bytes


class _Resting:
    """The connections of one event loop that rest, first come first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[Intake] = deque()

    def add(self, intake: Intake) -> None:
        """Have `go_on` called when its turn comes."""
        if not self._waiting:
            self.loop.call_soon(self._turn)
        self._waiting.append(intake)

    def _turn(self) -> None:
        intake = self._waiting.popleft()
        if self._waiting:
            self.loop.call_soon(self._turn)
        intake.go_on()


_resting: _Resting | None = None


def _rests(intake: Intake) -> None:
    global _resting  # noqa: PLW0603 - a process has one event loop; tests have one after the other
    loop = asyncio.get_running_loop()
    if _resting is None or _resting.loop is not loop:
        _resting = _Resting(loop)
    _resting.add(intake)


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
                _rests(self)
            else:
                self._transport.resume_reading()

    @property
    def _behind(self) -> bool:
        """Whether there are bytes in hand that could be read now."""
        return False

    def _read_on(self) -> None:
        """Read a turn's worth of the bytes in hand, and rest again where some are left."""

    def _rest(self) -> None:
        """Take no more bytes until it is this connection's turn again."""
        transport = self._transport
        if not self._resting and not transport.is_closing() and transport.get_protocol() is self:
            self._resting = True
            if self._reading and not self.ended:
                transport.pause_reading()
            _rests(self)

    def go_on(self) -> None:
        """End the rest: read what is in hand, then what is on the wire."""
        self._resting = False
        transport = self._transport
        # Whoever took the transport over, as a tunnel does, sees to its reading.
        if transport.is_closing() or transport.get_protocol() is not self:
            return
        if self._reading and self._behind:
            self._read_on()
        if self._reading and not self._resting and not self.ended and not transport.is_closing():
            transport.resume_reading()
