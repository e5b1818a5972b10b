from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from meshlet.admin import lazy as lazy_module
from meshlet.admin import server as server_module
from meshlet.admin.server import AdminServer
from tests.unit.admin.test_app import FakeBackend

REQUEST = b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def bound(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    return sock


async def ask(sock: socket.socket) -> bytes:
    name = sock.getsockname()
    reader, writer = await (
        asyncio.open_unix_connection(name) if isinstance(name, str) else asyncio.open_connection(*name[:2])
    )
    writer.write(REQUEST)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def turned_away(sock: socket.socket) -> bool:
    """Say whether a connection is closed without an answer."""
    try:
        return not await ask(sock)
    except ConnectionError:
        return True


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with bound() as sock:
        yield sock


@pytest.fixture
async def server(sock: socket.socket) -> AsyncIterator[AdminServer]:
    server = AdminServer(sock, FakeBackend())
    server.start()
    yield server
    await server.close()


async def test_the_first_connection_is_answered_and_so_are_the_next(server: AdminServer, sock: socket.socket) -> None:
    answers = await asyncio.gather(*(ask(sock) for _ in range(3)))
    answers.append(await ask(sock))
    assert all(answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"live\n") for answer in answers)


def test_it_works_on_uvloop_too() -> None:
    async def main() -> bytes:
        with bound() as sock:
            server = AdminServer(sock, FakeBackend())
            server.start()
            answer = await ask(sock)
            await server.close()
            return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()).endswith(b"live\n")


async def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "admin"))
        server = AdminServer(sock, FakeBackend())
        server.start()
        assert (await ask(sock)).endswith(b"live\n")
        await server.close()


async def test_close_without_a_connection_frees_the_port(sock: socket.socket) -> None:
    address = sock.getsockname()
    server = AdminServer(sock, FakeBackend())
    server.start()
    await server.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_close_while_starting_waits_for_it(sock: socket.socket) -> None:
    server = AdminServer(sock, FakeBackend())
    server.start()
    server._on_connection()
    await server.close()
    assert sock.fileno() == -1


async def test_close_after_an_answer_frees_the_port(server: AdminServer, sock: socket.socket) -> None:
    address = sock.getsockname()
    await ask(sock)
    await server.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_only_loopback_is_served(host: str) -> None:
    with bound(host) as sock, pytest.raises(ValueError, match="expected a loopback address, not"):
        AdminServer(sock, FakeBackend())


def fail_at_first(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """Let what the admin port needs be loaded only after so many failures."""
    real = server_module._load
    left = [OSError(errno.EMFILE, os.strerror(errno.EMFILE), "web.py")] * failures

    def fails(backend: FakeBackend) -> object:
        if left:
            raise left.pop()
        return real(backend)

    monkeypatch.setattr(server_module, "_load", fails)
    monkeypatch.setattr(lazy_module, "_RETRY_DELAY", 0.01)


async def test_a_start_that_fails_costs_the_connection_and_a_line(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_at_first(monkeypatch, 2)
    server = AdminServer(sock, FakeBackend())
    server.start()
    assert await turned_away(sock)
    assert await turned_away(sock)
    assert (await ask(sock)).endswith(b"live\n")
    lines = [record.getMessage() for record in caplog.records if record.name == "meshlet.admin.lazy"]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot serve the admin port 127.0.0.1:")
        assert line.endswith("[Errno 24] Too many open files: 'web.py'; the next connection tries again")
    assert not any(record.exc_info for record in caplog.records)
    await server.close()


async def test_a_connection_that_cannot_even_be_closed_waits_and_is_told_of_once(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_at_first(monkeypatch, 5)
    server = AdminServer(sock, FakeBackend())
    monkeypatch.setattr(server, "_turn_away", lambda: False)
    server.start()
    assert (await ask(sock)).endswith(b"live\n")
    assert caplog.text.count("cannot serve the admin port 127.0.0.1:") == 1
    await server.close()


async def test_close_between_a_failure_and_the_next_try(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(backend: FakeBackend) -> object:
        raise ImportError("never")

    monkeypatch.setattr(server_module, "_load", fails)
    server = AdminServer(sock, FakeBackend())
    server.start()
    server._on_connection()
    assert server._starting is not None
    await server._starting
    assert server._retry is not None
    await server.close()
    assert server._retry.cancelled()


def test_aiohttp_is_loaded_by_the_first_connection_only() -> None:
    code = """
import asyncio, socket, sys
from meshlet.admin.server import AdminServer
async def main():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = AdminServer(sock, None)
    server.start()
    await asyncio.sleep(0)
    print("aiohttp" in sys.modules)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET /live HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n")
    await reader.read()
    writer.close()
    print("aiohttp" in sys.modules)
    await server.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]
