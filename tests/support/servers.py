"""Servers for the far side of meshlet: a thread for each connection, all ended with the block."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class Server:
    """Calls `handle(socket)` in a thread for each connection; the socket is closed when that returns."""

    def __init__(self, handle: Callable[[socket.socket], None], host: str | Path = "127.0.0.1") -> None:
        self._handle = handle
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopping = False
        if isinstance(host, str):
            self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            port = self._listener.getsockname()[1]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(host))
            self._listener.listen()
            self.address = f"unix:{host}"

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopping = True
            for sock in (self._listener, *self._open):
                # Wakes the threads that wait in accept() and recv(); close() alone would not.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads), "a server's thread does not end"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopping:
                    sock.close()
                    return
                self._open.add(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with suppress(OSError):  # whoever was there has left
                self._handle(sock)
        finally:
            with self._lock:
                self._open.discard(sock)
                sock.close()


class Recorder(Server):
    """An origin that writes down every byte of every connection, and answers what it is asked.

    It reads requests with rules of its own, simpler than meshlet's: what it makes of the bytes is what an app would.
    """

    def __init__(self) -> None:
        super().__init__(self._record)
        self._connections: list[bytearray] = []

    @property
    def received(self) -> list[bytes]:
        """What came, for each connection that brought anything."""
        return [bytes(received) for received in self._connections if received]

    def forget(self) -> None:
        """Begin anew; what comes on connections that are open is written down again."""
        for received in self._connections:
            received.clear()

    def _record(self, sock: socket.socket) -> None:
        received = bytearray()
        self._connections.append(received)
        stream = _Recorded(sock, received)
        while (head := stream.read_until(b"\r\n\r\n")) is not None:
            if b"expect: 100-continue" in head.lower():
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *([0-9]+)\r\n", head, re.IGNORECASE)
            if length is not None:
                stream.read(int(length[1]))
            elif re.search(rb"\r\ntransfer-encoding: *chunked\r\n", head, re.IGNORECASE):
                while (line := stream.read_until(b"\r\n")) is not None and int(line, 16):
                    stream.read(int(line, 16) + 2)
                while stream.read_until(b"\r\n") not in (b"\r\n", None):
                    pass
            body = b"" if head.startswith(b"HEAD ") else b"ok"
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)


class _Recorded:
    """Reads from a socket and writes down what it read."""

    def __init__(self, sock: socket.socket, received: bytearray) -> None:
        self._sock = sock
        self._received = received
        self._buffer = b""

    def _more(self) -> bool:
        data = self._sock.recv(65536)
        self._received += data
        self._buffer += data
        return bool(data)

    def read_until(self, mark: bytes) -> bytes | None:
        while mark not in self._buffer:
            if not self._more():
                return None
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def read(self, size: int) -> None:
        while len(self._buffer) < size and self._more():
            pass
        self._buffer = self._buffer[size:]
