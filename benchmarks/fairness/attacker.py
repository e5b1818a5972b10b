"""The attacker, a process of its own: `python -m benchmarks.fairness.attacker NAME PORT RELAY_PORT SECONDS`.

It says "ready", reads from stdin when to begin (by the monotonic clock), attacks, and prints what it did.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from benchmarks.fairness import attacks
from benchmarks.fairness.pump import TICK, Engine, Pump, Script, Ticks, connect, sleep_until

# Seconds until the opening request has surely reached its place.
_OPENING = 0.2


def main() -> None:
    """Attack once."""
    attack = attacks.ALL[sys.argv[1]]
    port = int(sys.argv[3 if attack.relay else 2])
    with ExitStack() as stack:
        if attack.opening:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            sock.sendall(attack.opening)
            time.sleep(_OPENING)
        script = attack.script()
        attacker = Flood(port, script.prefix) if attack.flood else Streams(port, [script] * attack.connections)
        print("ready", flush=True)
        start = float(sys.stdin.readline())
        end = start + float(sys.argv[4])
        sleep_until(start)
        ticks = Ticks(start)
        while (now := time.monotonic()) < end and attacker.moved < attacks.MOST_BYTES:
            attacker.step(ticks.due(now), ticks)
        print(json.dumps({**attacker.tell(), "cpu_s": time.process_time()}))


class Streams:
    """A connection for each script; one that is closed is opened again."""

    def __init__(self, port: int, scripts: Sequence[Script]) -> None:
        self._port = port
        self._engine = Engine()
        self._done = Counter({"sent": 0, "received": 0, "opened": len(scripts)})
        self._statuses = set[str]()
        self._pumps = connect(port, scripts)
        for pump in self._pumps:
            self._engine.add(pump)

    @property
    def moved(self) -> int:
        """Bytes, of the connections that are open."""
        return sum(pump.sent + pump.received for pump in self._pumps)

    def step(self, due: int, ticks: Ticks) -> None:
        """Do what can be done, until the next tick at most."""
        gone = self._engine.bite(due) if due else []
        gone += self._engine.poll(min(TICK, max(ticks.next - time.monotonic(), 0.0)))
        for pump in set(gone):
            self._count(pump)
            self._pumps.remove(pump)
            self._engine.remove(pump)
            self._done["opened"] += 1
            with suppress(OSError):
                self._reopen(pump)

    def _reopen(self, pump: Pump) -> None:
        (fresh,) = connect(self._port, [pump.script])
        self._pumps.append(fresh)
        self._engine.add(fresh)

    def tell(self) -> dict[str, Any]:
        """What it did."""
        for pump in self._pumps:
            self._count(pump)
        return {**self._done, "statuses": sorted(self._statuses - {""}) or [""]}

    def _count(self, pump: Pump) -> None:
        self._done["sent"] += pump.sent
        self._done["received"] += pump.received
        self._statuses.add(pump.first[9:12].decode("ascii", "replace") if pump.first.startswith(b"HTTP/") else "")


class Flood:
    """New connections in every tick; the oldest are reset, so that only so many are open."""

    # Without TIME_WAIT: a few seconds of this would use up all local ports.
    _RESET = struct.pack("ii", 1, 0)

    def __init__(self, port: int, first: bytes) -> None:
        self._port = port
        self._first = first
        self._open: deque[socket.socket] = deque()
        self._opened = self.moved = 0

    def step(self, due: int, ticks: Ticks) -> None:
        """Open what is due, then wait for the next tick."""
        for _ in range(due * attacks.FLOOD_PER_TICK):
            self._add()
        sleep_until(ticks.next)

    def _add(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, self._RESET)
        sock.connect_ex(("127.0.0.1", self._port))
        with suppress(OSError):  # the backlog is full, and the connection not there yet
            self.moved += sock.send(self._first) if self._first else 0
        self._open.append(sock)
        self._opened += 1
        if len(self._open) > attacks.FLOOD_OPEN:
            self._open.popleft().close()

    def tell(self) -> dict[str, Any]:
        """What it did."""
        return {"sent": self.moved, "received": 0, "opened": self._opened, "statuses": [""]}


if __name__ == "__main__":
    main()
