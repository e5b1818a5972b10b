"""What an app says or does on connections that carry no request, while meshlet has no chance to look."""

from __future__ import annotations

import re
import selectors
import signal
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.http1 import Client
from tests.support.processes import Meshlet, config_of, meshlet, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS = 40
# At most so many retries of what apps may have seen: none, so that nobody can hide behind the budget.
NO_BUDGET = {"percent": 0, "min_concurrency": 0}

FIN, RST = b"FIN", b"RST"
LAST_WORDS = {
    "fin": FIN,
    "reset": RST,
    "200": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold",
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "408 and fin": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n" + FIN,
    "half a head": b"HTTP/1.1 200 OK\r\nX-Old: ",
    "end of a head": b"\r\n\r\n",
    "garbage": b"220 mail.example.com ESMTP\r\n",
    "a byte": b"H",
}


class Asked(NamedTuple):
    """A request that the app has got, and where."""

    sock: socket.socket
    target: str


class App:
    """An app of one thread, the test's: it reads and answers when it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def take(self, count: int) -> list[Asked]:
        """Read so many requests."""
        found: list[Asked] = []
        while len(found) < count:
            events = self._selector.select(10)
            assert events, f"only {len(found)} of {count} requests have come"
            for key, _ in events:
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is self._listener:
                    sock, _ = self._listener.accept()
                    # Or its last words would wait for the acknowledgement of the words before.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(sock, selectors.EVENT_READ)
                else:
                    found += self._read(key.fileobj)
        return found

    def _read(self, sock: socket.socket) -> Iterator[Asked]:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self._forget(sock)
        for line in re.findall(rb"^[A-Z]+ (\S+) HTTP/1.1\r$", data, re.MULTILINE):
            yield Asked(sock, line.decode())

    def _forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def answer(self, requests: Sequence[Asked]) -> None:
        """Answer with what was asked for."""
        for sock, target in requests:
            sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(target)}\r\n\r\n{target}".encode())

    def say(self, sock: socket.socket, words: bytes) -> None:
        """Send bytes; end or reset the connection."""
        if words == RST:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._forget(sock)
            return
        if words != FIN:
            sock.sendall(words.removesuffix(FIN))
        if words.endswith(FIN):
            sock.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    app = App()
    yield app
    app.close()


@pytest.fixture(scope="module")
def proxy(app: App, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    cluster = {"name": "app", "endpoints": [app.address], "retry_budget": NO_BUDGET}
    with meshlet(tmp_path_factory.mktemp("idle"), config_of(app.address, clusters=[cluster])) as process:
        yield process


@pytest.fixture
def clients(proxy: Meshlet) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(proxy.client()) for _ in range(CONNECTIONS)]


def stop(process: Meshlet) -> None:
    """Keep it from running."""
    process.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{process.pid}/stat")
    until(lambda: stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T")


@pytest.mark.parametrize("first", ["app", "client"])
@pytest.mark.parametrize("words", LAST_WORDS.values(), ids=LAST_WORDS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_old_bytes_are_nobodys_answer(
    app: App, proxy: Meshlet, clients: list[Client], method: str, words: bytes, first: str
) -> None:
    """The app's last words wait in the kernel's buffers of all idle connections when forty requests come at once."""
    for number, client in enumerate(clients):
        client.send(b"GET /warm/%d HTTP/1.1\r\nHost: app\r\n\r\n" % number)
    requests = app.take(CONNECTIONS)
    app.answer(requests)
    assert [client.response().status for client in clients] == [200] * CONNECTIONS
    until(lambda: proxy.metric("meshlet_endpoint_connections_idle") == CONNECTIONS)
    stop(proxy)
    if first == "client":
        ask(clients, method)
    for sock, _ in requests:
        app.say(sock, words)
    if first == "app":
        ask(clients, method)
    proxy.signal(signal.SIGCONT)
    again = app.take(CONNECTIONS)
    app.answer(again)
    responses = [client.response() for client in clients]
    assert [(response.status, response.text) for response in responses] == [
        (200, f"/{number}") for number in range(CONNECTIONS)
    ]
    assert not any("X-Old" in response.head for response in responses)
    # And none was executed twice.
    assert sorted(each.target for each in again) == sorted(f"/{number}" for number in range(CONNECTIONS))
    assert proxy.metric("meshlet_retries_total") == proxy.metric("meshlet_retries_over_budget_total") == 0


def ask(clients: Sequence[Client], method: str) -> None:
    length = b"Content-Length: 0\r\n" if method == "POST" else b""
    for number, client in enumerate(clients):
        client.send(b"%b /%d HTTP/1.1\r\nHost: app\r\n%b\r\n" % (method.encode(), number, length))
