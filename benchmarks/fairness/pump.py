"""Prepared bytes through non-blocking sockets, at little cost: the attackers and their app are made of it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

# Seconds between two bites of a paced script. Not a divisor of the victim's interval: the two must not march in step.
TICK = 0.003
_RECEIVE = bytearray(1 << 20)


@dataclass(frozen=True)
class Script:
    """What one connection sends."""

    prefix: bytes = b""
    """Once."""
    cycle: bytes = b""
    """Then over and over; empty: nothing more."""
    after_answer: bool = False
    """The cycle waits for the other side's first bytes."""
    bite: int | None = None
    """At most so many bytes in a tick; None: as fast as they are read."""


class Pump:
    """A connection that plays a script and throws away what comes."""

    def __init__(self, sock: socket.socket, script: Script) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.script = script
        self.sent = self.received = 0
        self.first = b""
        """The first bytes that came."""
        self._left = memoryview(script.prefix)

    @property
    def wants_to_send(self) -> bool:
        """Whether there is anything to send just now."""
        return bool(self._left) or bool(self.script.cycle and (self.received or not self.script.after_answer))

    def send(self, most: int | None) -> None:
        """Send as much as the kernel takes, and no more than `most` bytes. Raises OSError where the peer is gone."""
        if not self._left:
            self._left = memoryview(self.script.cycle)
        try:
            sent = self.sock.send(self._left[:most])
        except BlockingIOError:
            return
        self.sent += sent
        self._left = self._left[sent:]

    def receive(self) -> bool:
        """Throw away what is there; False once the peer has ended. Raises OSError where it is gone."""
        try:
            size = self.sock.recv_into(_RECEIVE)
        except BlockingIOError:
            return True
        if not self.first:
            self.first = bytes(_RECEIVE[: min(size, 16)])
        self.received += size
        return size > 0


class Engine:
    """Drives pumps, some hundreds at most, on one thread."""

    def __init__(self) -> None:
        self._poller = select.epoll()
        self._pumps: dict[int, Pump] = {}
        self._masks: dict[int, int] = {}

    def add(self, pump: Pump) -> None:
        """Drive one more."""
        number = pump.sock.fileno()
        self._pumps[number] = pump
        self._masks[number] = self._mask(pump)
        self._poller.register(number, self._masks[number])

    def remove(self, pump: Pump) -> None:
        """Close it."""
        number = pump.sock.fileno()
        del self._pumps[number], self._masks[number]
        self._poller.unregister(number)
        pump.sock.close()

    def poll(self, seconds: float) -> list[Pump]:
        """Move what can be moved at once, after so long a wait at most; the pumps whose peers have gone."""
        ready = [(self._pumps[number], events) for number, events in self._poller.poll(seconds)]
        return [pump for pump, events in ready if not self._move(pump, events)]

    def bite(self, ticks: int) -> list[Pump]:
        """Send what is due of the paced scripts; the pumps whose peers have gone."""
        gone = []
        for pump in self._pumps.values():
            if pump.script.bite and pump.wants_to_send:
                try:
                    pump.send(pump.script.bite * ticks)
                except OSError:
                    gone.append(pump)
        return gone

    def _move(self, pump: Pump, events: int) -> bool:
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not pump.receive():
                return False
            if events & select.EPOLLOUT:
                pump.send(None)
        except OSError:
            return False
        self._update(pump)
        return True

    def _update(self, pump: Pump) -> None:
        number, mask = pump.sock.fileno(), self._mask(pump)
        if mask != self._masks[number]:
            self._masks[number] = mask
            self._poller.modify(number, mask)

    @staticmethod
    def _mask(pump: Pump) -> int:
        sends = pump.wants_to_send and pump.script.bite is None
        return select.EPOLLIN | (select.EPOLLOUT if sends else 0)


class Ticks:
    """How many ticks are due since the last look; a late one is made up for, but no more than a few at once."""

    _MOST = 4

    def __init__(self, start: float) -> None:
        self.next = start

    def due(self, now: float) -> int:
        """Count them off."""
        number = int((now - self.next) / TICK) + 1 if now >= self.next else 0
        self.next += number * TICK
        return min(number, self._MOST)


def connect(port: int, scripts: Iterable[Script]) -> list[Pump]:
    """A connection for each script."""
    return [Pump(socket.create_connection(("127.0.0.1", port), timeout=5), script) for script in scripts]


def sleep_until(moment: float) -> None:
    """By the monotonic clock."""
    time.sleep(max(moment - time.monotonic(), 0.0))
