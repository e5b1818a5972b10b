"""The victim, a process of its own: `python -m benchmarks.fairness.victim PORT DIRECT_PORT SECONDS`.

It asks through the proxy, and between those requests the same backend without the proxy: what that takes is the noise
of the measurement. Like the attacker it says "ready" and reads from stdin when to begin; it prints all waits.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from contextlib import suppress

from benchmarks.errors import BenchmarkError
from benchmarks.fairness.schedule import INTERVAL, LIMIT, Schedule
from benchmarks.openloop import Client, precise_timers

_REQUEST = b"GET /victim HTTP/1.1\r\nHost: fairness\r\n\r\n"
# Seconds. The proxy has seen a few requests before anything counts.
_WARM_UP = 0.2


class Asker:
    """One keep-alive connection that asks by a schedule; a request waits for the answers of those before it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = self._connect()
        self._busy = False
        self._schedule = Schedule(0.0, 0.0)
        self._sent = 0.0
        self.waits: list[float] = []
        """In seconds, from the time at which a request was due."""
        self.replies: list[float] = []
        """From the time at which it was sent."""
        self.failed = 0

    def _connect(self) -> Client:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(sock)

    def begin(self, schedule: Schedule) -> None:
        """Forget what was, and ask by this schedule from now on."""
        self._schedule, self.waits, self.replies, self.failed = schedule, [], [], 0

    @property
    def done(self) -> bool:
        """Whether every request has come to its end."""
        return len(self.waits) == self._schedule.count

    @property
    def sock(self) -> socket.socket:
        """Of the connection as it is now."""
        return self._client.sock

    def wakes(self) -> float:
        """When something has to be done although no byte has come."""
        number = len(self.waits)
        return self._schedule.expires(number) if self._busy else self._schedule.due(number)

    def look(self, readable: bool, now: float) -> None:
        """Do what there is to do at this time."""
        try:
            if readable:
                self._receive(now)
            if not self.done and now >= self.wakes():
                self._send_or_give_up(now)
        except (OSError, BenchmarkError):
            self._fail()

    def _receive(self, now: float) -> None:
        if not self._busy:  # a proxy may close a connection on which nothing is asked
            self._reconnect()
        elif self._client.finished():
            self._end(self._schedule.wait(len(self.waits), now), now - self._sent)

    def _send_or_give_up(self, now: float) -> None:
        if self._busy:
            self._fail()
        elif now >= self._schedule.expires(len(self.waits)):  # the one before it took all of its time
            self.failed += 1
            self.waits.append(LIMIT)
        else:
            self.sock.sendall(_REQUEST)
            self._busy, self._sent = True, now

    def _end(self, wait: float, reply: float) -> None:
        self.waits.append(wait)
        self.replies.append(reply)
        self._busy = False

    def _fail(self) -> None:
        """Count the request as never answered, and go on with another connection."""
        self.failed += 1
        self._end(LIMIT, LIMIT)
        self._reconnect()

    def _reconnect(self) -> None:
        self.sock.close()
        with suppress(OSError):  # no proxy there any more: the next request fails when it is due
            self._client = self._connect()


def ask(askers: list[Asker]) -> None:
    """Until all are done."""
    while waiting := [asker for asker in askers if not asker.done]:
        now = time.monotonic()
        socks = [asker.sock for asker in waiting if asker.sock.fileno() >= 0]
        readable, _, _ = select.select(socks, (), (), max(min(asker.wakes() for asker in waiting) - now, 0.0))
        for asker in waiting:
            asker.look(asker.sock in readable, time.monotonic())


def main() -> None:
    """Ask once through and through."""
    port, direct_port, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    proxied, direct = askers = [Asker(port), Asker(direct_port)]
    with precise_timers():
        _schedule(askers, time.monotonic(), _WARM_UP)
        print("ready", flush=True)
        _schedule(askers, float(sys.stdin.readline()), seconds)
    seen = {"waits": proxied.waits, "replies": proxied.replies, "failed": proxied.failed, "direct": direct.waits}
    print(json.dumps(seen))


def _schedule(askers: list[Asker], start: float, seconds: float) -> None:
    for place, asker in enumerate(askers):
        asker.begin(Schedule(start + INTERVAL * place / len(askers), seconds))
    ask(askers)


if __name__ == "__main__":
    main()
