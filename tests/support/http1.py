"""An HTTP/1.1 client that sends just the bytes it is told to, and reads answers by the book."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType


class Response(NamedTuple):
    """An answer; `head` is what came before the empty line."""

    status: int
    head: str
    body: bytes

    def fields(self, name: str) -> list[str]:
        """All values of a field."""
        lines = (line.partition(":") for line in self.head.splitlines()[1:])
        return [value.strip() for found, _, value in lines if found.lower() == name.lower()]

    def field(self, name: str) -> str | None:
        """The one value of a field, or None."""
        values = self.fields(name)
        assert len(values) < 2, f"{name} more than once in {self.head!r}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        return (self.field("connection") or "").lower() == "close"

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def dial(address: str, timeout: float = 10.0, source: str | None = None) -> socket.socket:
    """Connect to HOST:PORT, [IPV6]:PORT or unix:/PATH."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout, (source, 0) if source else None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    """One connection."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        self.sock = dial(address, timeout)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"") -> Response:
        """Send a request; `fields` must hold Host and, with a body, its length."""
        self.send("\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode() + body)
        return self.response(method)

    def get(self, target: str = "/", *fields: str) -> Response:
        return self.ask("GET", target, "Host: app", *fields)

    def response(self, method: str = "GET") -> Response:
        """Read the next answer, past interim ones. Raises EOFError where none comes."""
        while True:
            head = self.head()
            status = int(head.split(" ", 2)[1])
            if status >= 200 or status == 101:
                return Response(status, head, self._body(Response(status, head, b""), method))

    def head(self) -> str:
        """Read the head of the next answer, an interim one too."""
        lines = []
        while (line := self._file.readline()) not in (b"\r\n", b""):
            assert line.endswith(b"\r\n"), line
            lines.append(line)
        if not line:
            raise EOFError(f"the connection ended after {lines}")
        return b"".join(lines).decode("latin-1")

    def _body(self, response: Response, method: str) -> bytes:
        if method == "HEAD" or response.status in {101, 204, 304} or (method == "CONNECT" and response.status < 300):
            return b""
        length, coding = response.field("content-length"), response.field("transfer-encoding")
        assert length is None or coding is None, response.head
        if length is not None:
            return self.read(int(length))
        return self._chunked() if coding is not None else self._file.read()

    def _chunked(self) -> bytes:
        chunks = []
        while size := int(self._file.readline(), 16):
            chunks.append(self.read(size))
            assert self.read(2) == b"\r\n"
        while self._file.readline() not in (b"\r\n", b""):
            pass
        return b"".join(chunks)

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(f"the connection ended after {len(data)} of {size} bytes")
        return data

    def rest(self) -> bytes:
        """Read to the end of the connection; a reset counts as one."""
        data = b""
        try:
            while piece := self._file.read1():
                data += piece
        except ConnectionResetError:
            pass
        return data
