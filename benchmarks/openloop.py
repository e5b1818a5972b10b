"""Open-loop load: requests leave at fixed times, whether or not earlier ones were answered.

A closed loop such as wrk's waits for a slow answer before it sends the next request, so one stall of the proxy is one
slow request where real callers would have met it hundreds of times ("coordinated omission"). Here latency runs from
the moment a request was *meant* to leave, so a request that had to wait for a free connection counts its waiting.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.errors import BenchmarkError

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GRACE = 5.0


class Client:
    """A keep-alive connection with at most one request under way."""

    __slots__ = ("_received", "intended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.intended = 0.0
        self._received = b""

    def finished(self) -> bool:
        """Read what is there; True once the response is complete."""
        data = self.sock.recv(65536)
        if not data:
            raise BenchmarkError("the proxy closed a keep-alive connection")
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        length = _CONTENT_LENGTH.search(self._received, 0, head_end)
        if length is None or not self._received.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"unexpected answer: {self._received[:60]!r}")
        if len(self._received) < head_end + 4 + int(length[1]):
            return False
        self._received = b""
        return True


def request_bytes(port: int, headers: tuple[str, ...]) -> bytes:
    """The request of the keep-alive scenario, on the wire."""
    return "\r\n".join((f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}", *headers, "\r\n")).encode("ascii")


def run(port: int, rate: int, seconds: float, request: bytes, connections: int = 64) -> list[float]:
    """Send `rate` requests per second; the sorted latencies in seconds."""
    with ExitStack() as stack, precise_timers():
        poller = stack.enter_context(select.epoll())
        clients: dict[int, Client] = {}
        for _ in range(connections):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poller.register(sock.fileno(), select.EPOLLIN)
            clients[sock.fileno()] = Client(sock)
        return sorted(_drive(poller, clients, request, rate, round(rate * seconds)))


def _drive(poller: select.epoll, clients: dict[int, Client], request: bytes, rate: int, total: int) -> Iterator[float]:
    idle = list(clients.values())
    due: deque[float] = deque()
    start = time.perf_counter() + 0.01
    deadline = start + total / rate + _GRACE
    planned = answered = 0
    while answered < total:
        now = time.perf_counter()
        if now > deadline:
            raise BenchmarkError(f"only {answered} of {total} requests were answered in time")
        while planned < total and start + planned / rate <= now:
            due.append(start + planned / rate)
            planned += 1
        while due and idle:
            client = idle.pop()
            client.intended = due.popleft()
            client.sock.sendall(request)
        # epoll's own timeout is in milliseconds, longer than the pause between two requests; select's is in µs.
        wake = start + planned / rate if planned < total else deadline
        select.select([poller.fileno()], (), (), max(wake - time.perf_counter(), 0.0))
        for descriptor, _ in poller.poll(0):
            client = clients[descriptor]
            if client.finished():
                yield time.perf_counter() - client.intended
                idle.append(client)
                answered += 1


@contextmanager
def precise_timers() -> Iterator[None]:
    """No garbage collection of ours, and no timer slack (50 µs by default), in the measured latency."""
    slack = Path("/proc/self/timerslack_ns")
    gc.disable()
    with suppress(OSError):
        slack.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        gc.enable()
        with suppress(OSError):
            slack.write_text("0", encoding="ascii")  # 0 restores the default
