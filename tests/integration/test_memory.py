"""1 GB each way, and a reader who stops now and then: what waits is held up at its source, not kept in memory."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.http1 import dial
from tests.support.processes import Meshlet, config_of, meshlet, until
from tests.support.servers import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

MB = 1_000_000
BLOCKS = 1000
BLOCK = b"x" * MB
CHUNK = b"%x\r\n%b\r\n" % (MB, BLOCK)
MOST = 30 * MB  # what meshlet may grow by; a body kept whole would be 1000 MB


class Flow:
    """Bytes from one socket to another, which the reader lets stall until the writer has noticed."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def write(self, sock: socket.socket, block: bytes, end: bytes) -> None:
        for _ in range(BLOCKS):
            sock.sendall(block)
            self.sent += len(block)
        sock.sendall(end)

    def read(self, sock: socket.socket, stop: Callable[[bytes], bool]) -> None:
        """Read up to the end; stop at the beginning, after a third and after two thirds until nothing moves."""
        stalls = [0, BLOCKS * MB // 3, BLOCKS * MB * 2 // 3]
        tail = b""
        while not stop(tail):
            if stalls and self.received >= stalls[0]:
                del stalls[0]
                self._wait_until_nothing_moves()
            data = sock.recv(1 << 18)
            if not data:
                break
            self.received += len(data)
            tail = (tail + data)[-16:]

    def _wait_until_nothing_moves(self) -> None:
        last = [self.sent] * 20

        def at_rest() -> bool:
            last.append(self.sent)
            del last[0]
            return self.sent > 0 and len(set(last)) == 1

        until(at_rest)


@pytest.fixture
def flow() -> Flow:
    return Flow()


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Callable[[Server, str], Meshlet]]:
    """Starts meshlet and, in the end, looks at how much it has grown by at most."""
    started = []

    def start(app: Server, protocol: str) -> Meshlet:
        config = config_of(app.address, listener={"protocol": protocol})
        context = meshlet(tmp_path, config)
        process = context.__enter__()
        started.append((context, process, process.rss()))
        process.forget_peak()
        return process

    yield start
    for context, process, before in started:
        grown = process.rss("VmHWM") - before
        context.__exit__(None, None, None)
        assert grown < MOST, f"it grew by {grown / MB:.0f} MB"


def heads(length: str) -> tuple[bytes, bytes, bytes]:
    """The field that frames a body, one of its blocks, and its end."""
    if length == "chunked":
        return b"Transfer-Encoding: chunked", CHUNK, b"0\r\n\r\n"
    return b"Content-Length: %d" % (BLOCKS * MB), BLOCK, b""


@pytest.mark.parametrize("length", ["length", "chunked"])
def test_download(measured: Callable[[Server, str], Meshlet], flow: Flow, length: str) -> None:
    field, block, end = heads(length)

    def app(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n")
        flow.write(sock, block, end)

    with Server(app) as server, dial(measured(server, "http").address, timeout=30) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        flow.read(sock, lambda tail: False)
    assert flow.received > BLOCKS * MB


@pytest.mark.parametrize("length", ["length", "chunked"])
def test_upload(measured: Callable[[Server, str], Meshlet], flow: Flow, length: str) -> None:
    field, block, end = heads(length)

    def app(sock: socket.socket) -> None:
        flow.read(
            sock,
            (lambda tail: tail.endswith(b"\r\n0\r\n\r\n"))
            if length == "chunked"
            else (lambda tail: flow.received >= BLOCKS * MB + 200),
        )
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with Server(app) as server, dial(measured(server, "http").address, timeout=30) as sock:
        head = b"POST / HTTP/1.1\r\nHost: app\r\nX-Pad: " + b"x" * 200 + b"\r\n" + field + b"\r\n\r\n"
        sock.sendall(head)
        flow.write(sock, block, end)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert flow.received > BLOCKS * MB


@pytest.mark.parametrize("direction", ["up", "down"])
def test_tcp(measured: Callable[[Server, str], Meshlet], flow: Flow, direction: str) -> None:
    def write(sock: socket.socket) -> None:
        flow.write(sock, BLOCK, b"")

    def read(sock: socket.socket) -> None:
        flow.read(sock, lambda tail: flow.received == BLOCKS * MB)
        done.set()

    done = threading.Event()
    with Server(read if direction == "up" else write) as server:
        process = measured(server, "tcp")
        with dial(process.address, timeout=30) as sock:
            (write if direction == "up" else read)(sock)
            assert done.wait(30)


def test_answers_that_nobody_reads(measured: Callable[[Server, str], Meshlet]) -> None:
    """A client that asks on and on, and reads none of the answers, is not listened to any more."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000

    def app(sock: socket.socket) -> None:
        while sock.recv(65536):
            sock.sendall(answer)

    with Server(app) as server, dial(measured(server, "http").address, timeout=1) as sock:
        asked = 0
        with suppress(TimeoutError):
            while asked < 100 * MB:
                asked += sock.send(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n" * 1000)
        assert asked < 20 * MB
