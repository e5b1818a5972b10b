"""The fleet: five small HTTP/1.1 servers that fail as the schedule says, and the ledger of what they did."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.chaos.schedule import STALL, Fault, Request, content, deaths, fault

_NUMBER = re.compile(rb"\r\nx-chaos-number: *(\d+)", re.IGNORECASE)
_ATTEMPT = re.compile(rb"\r\nx-envoy-attempt-count: *(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LINGER_NEVER = struct.pack("ii", 1, 0)  # close() sends a reset
_CUT_AFTER = 0.02  # seconds: what was written is with the proxy by then
_IDLE_PAUSE = 0.1  # mean seconds between two closings of idle connections


@dataclass
class Ledger:
    """What the apps saw and did in one phase. Requests are known by their numbers."""

    arrivals: Counter[int] = field(default_factory=Counter)
    executions: Counter[int] = field(default_factory=Counter)
    attempts: dict[int, int] = field(default_factory=dict)
    """The highest `x-envoy-attempt-count` that was seen."""
    cut: set[int] = field(default_factory=set)
    """Requests whose response was broken off in its body."""
    faults: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    idle_closed: int = 0
    wrong: list[str] = field(default_factory=list)
    """Requests that came in otherwise than they were sent."""
    retries: int = 0
    """Tries that are not the first of their request, in flight now."""
    most_retries: int = 0


class Fleet:
    """All apps, in the event loop that runs."""

    def __init__(self, ports: Sequence[int], seed: int, load: Sequence[Request]) -> None:
        self.apps = [_App(self, port) for port in ports]
        self.load = load
        self.ledger = Ledger()
        self._seed = seed
        self._chaotic = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All apps up, and no fault, for as long as the block lasts."""
        try:
            for app in self.apps:
                await app.start()
            yield
        finally:
            for app in self.apps:
                app.end()

    @asynccontextmanager
    async def chaos(self) -> AsyncIterator[None]:
        """The faults, for as long as the block lasts."""
        self._chaotic = True
        tasks = [asyncio.create_task(self._kill()), asyncio.create_task(self._close_idle())]
        try:
            yield
        finally:
            self._chaotic = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for app in self.apps:
                await app.start()

    def fault(self, number: int) -> Fault | None:
        """Count a try of a request, and say what becomes of it."""
        earlier = self.ledger.arrivals[number]
        self.ledger.arrivals[number] += 1
        found = fault(self._seed, number, earlier) if self._chaotic else None
        if found is not None:
            self.ledger.faults[found.value] += 1
        return found

    def close_idle(self) -> None:
        """Close all connections without a request, so that a proxy is left with none."""
        for app in self.apps:
            for connection in app.idle():
                connection.close()

    async def _kill(self) -> None:
        async with asyncio.TaskGroup() as group:
            for death in deaths(self._seed):
                await asyncio.sleep(death.after)
                group.create_task(self._die(self.apps[death.app], death.seconds))

    async def _die(self, app: _App, seconds: float) -> None:
        if app.up:
            self.ledger.deaths += 1
            app.die()
            await asyncio.sleep(seconds)
            await app.start()

    async def _close_idle(self) -> None:
        dice = random.Random(f"{self._seed}/idle")
        while True:
            await asyncio.sleep(dice.expovariate(1 / _IDLE_PAUSE))
            connections = [connection for app in self.apps for connection in app.idle()]
            if connections:
                connection = dice.choice(connections)
                self.ledger.idle_closed += 1
                if dice.random() < 0.5:
                    connection.close()
                else:
                    connection.reset()


class _App:
    """One app on one port."""

    def __init__(self, fleet: Fleet, port: int) -> None:
        self.port = port
        self.connections: set[_Connection] = set()
        self._fleet = fleet
        self._server: asyncio.Server | None = None
        self._place: socket.socket | None = None

    @property
    def up(self) -> bool:
        return self._server is not None

    def idle(self) -> list[_Connection]:
        return [connection for connection in self.connections if connection.idle]

    async def start(self) -> None:
        if self._place is None:
            # Bound but not listening, it keeps the port from others while the app is dead: connecting is refused.
            self._place = socket.socket()
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._place.bind(("127.0.0.1", self.port))
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Connection(self._fleet, self.connections), "127.0.0.1", self.port, reuse_port=True
            )

    def end(self) -> None:
        """Die for good."""
        self.die()
        if self._place is not None:
            self._place.close()
            self._place = None

    def die(self) -> None:
        """As a process that is killed: nothing listens any more, and all connections are reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for connection in list(self.connections):
                connection.reset()


class _Connection(asyncio.Protocol):
    """One connection to an app; proxies send one request after the other."""

    _transport: asyncio.Transport

    def __init__(self, fleet: Fleet, connections: set[_Connection]) -> None:
        self._fleet = fleet
        self._connections = connections
        self._received = bytearray()
        # of the request under way:
        self._number: int | None = None
        self._fault: Fault | None = None
        self._body_left: int | None = None
        self._retry: Ledger | None = None  # where this try counts as a retry in flight
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self._body_left is None and not self._received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._end()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._body_left is None:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0 or self._transport.is_closing():
                return
            head = bytes(self._received[: head_end + 2])
            del self._received[: head_end + 4]
            self._on_head(head)
        if self._timer is None and self._body_left is not None and len(self._received) >= self._body_left:
            self._on_request()

    def close(self) -> None:
        """End it in order."""
        self._transport.close()

    def reset(self) -> None:
        """End it with a TCP reset."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NEVER)
        self._transport.abort()
        self._end()

    def _on_head(self, head: bytes) -> None:
        length, number, attempt = _LENGTH.search(head), _NUMBER.search(head), _ATTEMPT.search(head)
        self._body_left = int(length[1]) if length else 0
        if number is None:
            self._number = self._fault = None  # to see whether the proxy works
            return
        self._number = int(number[1])
        self._fault = self._fleet.fault(self._number)
        ledger = self._fleet.ledger
        count = int(attempt[1]) if attempt else 1
        ledger.attempts[self._number] = max(count, ledger.attempts.get(self._number, 0))
        if count > 1:
            self._retry = ledger
            ledger.retries += 1
            ledger.most_retries = max(ledger.most_retries, ledger.retries)
        if self._fault is Fault.RESET_BEFORE:
            self.reset()

    def _on_request(self) -> None:
        """All of it is here: execute it at once, so that whatever goes wrong from now on comes after the execution."""
        assert self._body_left is not None
        body = bytes(self._received[: self._body_left])
        del self._received[: self._body_left]
        loop = asyncio.get_running_loop()
        if self._number is None:
            self._timer = loop.call_later(0, self._answer, b"200 OK", b"ready")
            return
        request, ledger = self._fleet.load[self._number], self._fleet.ledger
        if body != content(request.number, request.body):
            ledger.wrong.append(f"request {request.number} came with {len(body)} of {request.body} bytes, or others")
        if self._fault is Fault.UNAVAILABLE:
            self._timer = loop.call_later(request.service, self._answer, b"503 Service Unavailable", b"not now")
            return
        ledger.executions[request.number] += 1
        if self._fault is Fault.RESET_AFTER:
            self._timer = loop.call_later(request.service, self.reset)
        elif self._fault is Fault.CUT:
            self._timer = loop.call_later(request.service, self._cut, request)
        else:
            pause = STALL if self._fault is Fault.STALL else request.service
            self._timer = loop.call_later(pause, self._answer, b"200 OK", content(request.number, request.answer))

    def _answer(self, status: bytes, body: bytes) -> None:
        self._transport.write(_head(status, len(body)) + body)
        self._end()
        if self._received:
            self._fleet.ledger.wrong.append(f"a request before the answer to the last: {bytes(self._received[:60])!r}")

    def _cut(self, request: Request) -> None:
        self._fleet.ledger.cut.add(request.number)
        body = content(request.number, request.answer)
        self._transport.write(_head(b"200 OK", len(body)) + body[: len(body) // 2])
        self._timer = asyncio.get_running_loop().call_later(_CUT_AFTER, self.reset)

    def _end(self) -> None:
        self._body_left = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._retry is not None:
            self._retry.retries -= 1
            self._retry = None


def _head(status: bytes, length: int) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % (status, length)
