from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Self

import pytest
import uvloop

from meshlet.admin.backend import Readiness
from meshlet.admin.health import HealthServer

PROBE = b"GET /healthz/ready HTTP/1.1\r\nhost: pod:15021\r\nuser-agent: kube-probe/1.31\r\n\r\n"


class State:
    """A readiness that tests set; `release` holds the answer back until it is set."""

    def __init__(self) -> None:
        self.readiness: Readiness | Exception = Readiness(ready=True)
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def check(self) -> Readiness:
        self.asked.set()
        await self.release.wait()
        if isinstance(self.readiness, Exception):
            raise self.readiness
        return self.readiness


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


class Port:
    """A health server and a client of it."""

    def __init__(self, **limits: float) -> None:
        self.state = State()
        self.sock = bound()
        self.address = self.sock.getsockname()
        self.server = HealthServer(self.sock, self.state.check, **limits)  # type: ignore[arg-type]

    async def ask(self, *parts: bytes, half_close: bool = False) -> bytes:
        """Send the parts one by one, then read to the end."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            if half_close:
                writer.write_eof()
            return await reader.read()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with Port() as port:
        yield port


async def test_ready(port: Port) -> None:
    head, _, body = (await port.ask(PROBE)).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"connection: close", b"content-length: 6", b"server: meshlet"} < set(lines)
    assert body == b"ready\n"


async def test_not_ready_says_why_on_one_line(port: Port) -> None:
    port.state.readiness = Readiness(ready=False, reasons=["draining", "app\nunreachable"])
    answer = await port.ask(PROBE)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.endswith(b"\r\n\r\nnot ready: draining; app\\nunreachable\n")


async def test_head_has_no_body(port: Port) -> None:
    answer = await port.ask(PROBE.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_check_that_fails_is_not_ready(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    port.state.readiness = RuntimeError("boom")
    assert (await port.ask(PROBE)).endswith(b"not ready: the check failed\n")
    assert "boom" in caplog.text


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /healthz/ready?verbose HTTP/1.0", 200),
        (b"GET / HTTP/1.1", 404),
        (b"GET /healthz/ready/x HTTP/1.1", 404),
        (b"GET http://pod/healthz/ready HTTP/1.1", 404),
        (b"POST /healthz/ready HTTP/1.1", 405),
        (b"GET /healthz/ready HTTP/2.0", 400),
        (b"GET /healthz/ready", 400),
        (b"GET  /healthz/ready HTTP/1.1", 400),
        (b"GET /healthz/ready\nx: HTTP/1.1", 400),
        (b"G\x00T /healthz/ready HTTP/1.1", 400),
        (b"\x16\x03\x01", 400),
        (b"", 400),
    ],
)
async def test_status_of_a_request(port: Port, request_line: bytes, status: int) -> None:
    answer = await port.ask(request_line + b"\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in answer
    assert (b"\r\nallow: GET, HEAD\r\n" in answer) == (status == 405)


async def test_a_head_in_single_bytes(port: Port) -> None:
    assert (await port.ask(*(PROBE[i : i + 1] for i in range(len(PROBE))))).startswith(b"HTTP/1.1 200")


async def test_what_follows_the_request_is_ignored(port: Port) -> None:
    answer = await port.ask(PROBE + PROBE)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_what_follows_while_the_check_runs_is_ignored(port: Port) -> None:
    port.state.release.clear()
    answer = asyncio.create_task(port.ask(PROBE, PROBE))
    await port.state.asked.wait()
    port.state.release.set()
    assert (await answer).count(b"HTTP/1.1") == 1


async def test_a_client_that_closes_its_side_still_gets_the_answer(port: Port) -> None:
    assert (await port.ask(PROBE, half_close=True)).endswith(b"ready\n")


async def test_half_a_request_gets_no_answer(port: Port) -> None:
    assert await port.ask(PROBE[:20], half_close=True) == b""


async def test_a_head_without_end_is_cut_off(port: Port) -> None:
    answer = await port.ask(b"GET /healthz/ready HTTP/1.1\r\nx: ".ljust(8193, b"y"))
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_too_long_a_head_is_refused_even_when_it_comes_whole(port: Port) -> None:
    answer = await port.ask(PROBE.replace(b"pod", b"p" * 8192))
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_slow_head_is_cut_off() -> None:
    async with Port(timeout=0.01) as port:
        assert await port.ask(PROBE[:20]) == b""
        assert not port.server.connections


async def test_a_check_that_hangs_is_cut_off() -> None:
    async with Port(timeout=0.01) as port:
        port.state.release.clear()
        assert await port.ask(PROBE) == b""
        assert not port.server.connections


async def test_connections_beyond_the_cap_are_dropped() -> None:
    async with Port(max_connections=1) as port:
        port.state.release.clear()
        first = asyncio.create_task(port.ask(PROBE))
        await port.state.asked.wait()
        assert await port.ask() == b""
        port.state.release.set()
        assert (await first).endswith(b"ready\n")
        assert (await port.ask(PROBE)).endswith(b"ready\n")


async def test_close_drops_what_is_open() -> None:
    async with Port() as port:
        port.state.release.clear()
        first = asyncio.create_task(port.ask(PROBE))
        await port.state.asked.wait()
    assert await first == b""
    with pytest.raises(ConnectionRefusedError):
        await port.ask(PROBE)


def test_it_works_on_uvloop_too() -> None:
    async def main() -> bytes:
        async with Port() as port:
            return await port.ask(PROBE)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()).endswith(b"ready\n")
