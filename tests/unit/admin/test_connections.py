"""Who is let in, and who goes, where a port is full: the health, the metrics and the admin port over real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from meshlet.admin import health, scrape_app
from meshlet.admin import server as server_module
from meshlet.admin.backend import Readiness
from meshlet.admin.connections import Connections, _Connection
from meshlet.admin.health import HealthServer
from meshlet.admin.scrape import ScrapeServer
from meshlet.admin.server import AdminServer
from meshlet.telemetry.metrics import Family, Sample
from tests.unit.admin.test_app import FakeBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

N = 20  # connections beyond what a port takes


class Port:
    """A port, what a probe of it sends, and how many connections it takes."""

    def __init__(self, name: str, path: str, most: int) -> None:
        self.name = name
        self.probe = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.most = most
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.padding = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.address = sock.getsockname()
            server = self._server(sock)
            if isinstance(server, HealthServer):
                await server.start()
            else:
                server.start()
            try:
                await self.ask()  # loads what is loaded late
                yield
            finally:
                self.release.set()
                await server.close()

    def _server(self, sock: socket.socket) -> HealthServer | ScrapeServer | AdminServer:
        if self.name == "health":
            return HealthServer(sock, self._readiness, timeout=60)
        if self.name == "metrics":
            return ScrapeServer(sock, self._families)
        backend = FakeBackend()
        backend.readiness = self._readiness  # type: ignore[method-assign]
        return AdminServer(sock, backend)

    async def _readiness(self) -> Readiness:
        self.asked.set()
        await self.release.wait()
        return Readiness(ready=True)

    async def _families(self) -> list[Family]:
        self.asked.set()
        await self.release.wait()
        return [Family("meshlet_requests_total", "counter", "x", [Sample((("cluster", self.padding),), 7)])]

    async def ask(self) -> None:
        """Probe it on a connection of its own."""
        async with Client(self) as client:
            await client.send(self.probe)
            assert await client.status() == 200


class Client:
    """A connection to a port."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._port.address, limit=2**26)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        """The status of an answer, which is read whole."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
        await self._reader.readexactly(int(length[16:]))
        return int(head.split()[1])

    async def is_closed(self) -> bool:
        """Wait for the end, which must come without a byte."""
        try:
            return await self._reader.read(1) == b""
        except ConnectionError:
            return True


PORTS = {
    "health": ("/healthz/ready", health._MAX_CONNECTIONS),
    "metrics": ("/metrics", scrape_app._MAX_CONNECTIONS),
    "admin": ("/ready", server_module._MAX_CONNECTIONS),
}


def on_each(*names: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run a test against each of these ports, on asyncio's own loop and on the one that meshlet uses."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @pytest.mark.parametrize("name", names)
        @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
        def run(name: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
            async def main() -> None:
                port = Port(name, *PORTS[name])
                async with asyncio.timeout(60), port.serving():
                    await test(port)

            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(main())

        run.__name__ = test.__name__
        return run

    return decorate


async def opened(stack: AsyncExitStack, port: Port, count: int, data: bytes = b"") -> list[Client]:
    clients = []
    for _ in range(count):
        client = await stack.enter_async_context(Client(port))
        await client.send(data)
        clients.append(client)
    return clients


@on_each("health", "metrics", "admin")
async def test_idle_connections_do_not_keep_a_probe_out(port: Port) -> None:
    async with AsyncExitStack() as stack:
        idle = await opened(stack, port, port.most + N)
        await port.ask()
        for client in idle[: N + 1]:  # the oldest, one of them for the probe
            assert await client.is_closed()
        # the newest are still served
        await idle[-1].send(port.probe)
        assert await idle[-1].status() == 200
        await idle[N + 1].send(port.probe)
        assert await idle[N + 1].status() == 200


@on_each("health", "metrics", "admin")
async def test_nor_do_those_that_send_half_a_request(port: Port) -> None:
    async with AsyncExitStack() as stack:
        idle = await opened(stack, port, port.most + N, port.probe[:-2])
        await port.ask()
        for client in idle[-port.most + 1 :]:  # more bytes of it do not make them newer
            await client.send(b"x: y\r\n")
        await port.ask()
        for client in idle[: N + 1]:
            assert await client.is_closed()
        await idle[-1].send(b"\r\n")
        assert await idle[-1].status() == 200


@on_each("metrics", "admin")
async def test_nor_those_that_send_empty_lines(port: Port) -> None:
    async with AsyncExitStack() as stack:
        await opened(stack, port, port.most // 2, b"\r\n\r\n\r\n\r\n")
        await opened(stack, port, port.most // 2 + N, b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n")
        await port.ask()
        await port.ask()


@on_each("health", "metrics", "admin")
async def test_who_is_within_a_request_is_not_shut_out(port: Port) -> None:
    async with AsyncExitStack() as stack:
        [first] = await opened(stack, port, 1)
        port.release.clear()
        port.asked.clear()
        await first.send(port.probe)
        await port.asked.wait()
        idle = await opened(stack, port, port.most + N)
        assert await idle[0].is_closed()
        port.release.set()
        assert await first.status() == 200


@on_each("health", "metrics", "admin")
async def test_a_request_that_has_just_come_counts_at_once(port: Port) -> None:
    async with AsyncExitStack() as stack:
        first, *_ = await opened(stack, port, port.most)
        await first.send(port.probe[:30])
        # In the same turn of the loop the request comes whole and others connect.
        first._writer.write(port.probe[30:])
        others = []
        for _ in range(N):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            assert sock.connect_ex(port.address) in {0, 115}
            others.append(sock)
        assert await first.status() == 200


@on_each("health", "metrics", "admin")
async def test_where_all_are_within_requests_a_new_one_is_refused_until_one_is_answered(port: Port) -> None:
    async with AsyncExitStack() as stack:
        port.release.clear()
        busy = await opened(stack, port, port.most, port.probe)
        async with Client(port) as refused:
            assert await refused.is_closed()
        port.release.set()
        for client in busy:
            assert await client.status() == 200
        await port.ask()


@on_each("admin")
async def test_a_connection_that_is_kept_alive_is_as_old_as_its_last_request(port: Port) -> None:
    async with AsyncExitStack() as stack:
        [kept] = await opened(stack, port, 1)
        for _ in range(3):  # more than there is room for, each time between two probes
            await kept.send(port.probe)
            assert await kept.status() == 200
            await opened(stack, port, port.most - 1)
        await opened(stack, port, 1)
        assert await kept.is_closed()  # now it was the one without a request for longest
        await port.ask()


@on_each("metrics")
async def test_an_answer_that_is_still_being_sent_is_not_cut_off(port: Port) -> None:
    port.padding = "x" * 2**24
    async with AsyncExitStack() as stack:
        [slow] = await opened(stack, port, 1)
        transport = cast("asyncio.Transport", slow._writer.transport)
        transport.pause_reading()
        await slow.send(port.probe)
        await port.ask()
        idle = await opened(stack, port, port.most + N)
        assert await idle[0].is_closed()
        transport.resume_reading()
        assert await slow.status() == 200


# --- without sockets ---


class Transport:
    """What Connections asks of a transport."""

    def __init__(self) -> None:
        self.aborted = False
        self.unsent = 0

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


def made() -> asyncio.Transport:
    return cast("asyncio.Transport", Transport())


def test_what_is_closed_already_is_not_counted_again() -> None:
    connections = Connections(1)
    transport = made()
    assert connections.admit(transport)
    with connections.request(transport):
        connections.forget(transport)
    connections.begin(transport)
    with connections.request(None):
        pass
    assert len(connections) == 0


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["admit", "begin", "end", "unsent", "lost"]), st.integers(0, 9))),
)
def test_whatever_happens(most: int, steps: list[tuple[str, int]]) -> None:
    """Never more than `most`; none within a request goes; none is refused while another one is idle."""
    connections = Connections(most)
    open_: dict[asyncio.Transport, bool] = {}  # whether it is within a request
    for step, number in steps:
        if step == "admit":
            new = made()
            idle = [each for each, busy in open_.items() if not busy and not each.get_write_buffer_size()]
            admitted = connections.admit(new)
            assert admitted == (len(open_) < most or bool(idle))
            for each in list(open_):
                if each.aborted:  # type: ignore[attr-defined]
                    assert not open_.pop(each)
            if admitted:
                open_[new] = False
        elif open_:
            each = list(open_)[number % len(open_)]
            if step == "lost":
                connections.forget(each)
                del open_[each]
            elif step == "unsent":
                each.unsent = number % 2  # type: ignore[attr-defined]
            elif step == "begin":
                connections.begin(each)
                open_[each] = True
            elif open_[each]:
                with connections.request(each):
                    pass
                open_[each] = False
        assert len(connections) == len(open_) <= most
        assert not any(each.aborted for each in open_)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r", False),
        (b"\r\n\r\n\r\n\r\n", False),
        (b"\r\n\r\nG\r\n", False),
        (b"", False),
    ],
)
def test_where_a_head_ends_however_it_is_cut(text: bytes, ends: bool) -> None:
    for size in range(1, len(text) + 1):
        connection = _Connection(Connections(1), asyncio.Protocol())
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        assert any(connection._head_ends(part) for part in parts) == ends
