"""The health port: `/healthz/ready` and nothing else.

It may be reachable from outside the Pod, so it is small and bounded in everything: one request a
connection, no body, no state that a client could build up. Connections that say nothing make room
for those that come; see `connections`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import cast

from meshlet.admin.backend import Readiness
from meshlet.admin.connections import Connections
from meshlet.telemetry.log import escape

_log = logging.getLogger(__name__)

PATH = b"/healthz/ready"

_MAX_HEAD = 8192  # bytes
_MAX_CONNECTIONS = 128
_TIMEOUT = 5.0  # seconds, for all of a connection
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[0-9]")

ReadinessCheck = Callable[[], Awaitable[Readiness]]


class HealthServer:
    """Answers probes on a bound socket, which it owns from now on."""

    def __init__(
        self,
        sock: socket.socket,
        readiness: ReadinessCheck,
        *,
        timeout: float = _TIMEOUT,
        max_connections: int = _MAX_CONNECTIONS,
    ) -> None:
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._readiness = readiness
        self.connections = Connections(max_connections, timeout)

    async def start(self) -> None:
        self._server = await self.connections.serve(self._sock, lambda: _Probe(self._readiness))

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        self.connections.abort()
        # The loop needs one turn to close the sockets of what was aborted.
        await asyncio.sleep(0)
        self._sock.close()


class _Probe(asyncio.Protocol):
    """One connection: reads a head, answers, closes."""

    def __init__(self, readiness: ReadinessCheck) -> None:
        self._readiness = readiness
        self._head = bytearray()
        self._answer: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._answer is not None or self._transport.is_closing():
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if len(head) > _MAX_HEAD:
            self._respond(431, f"expected a request head of at most {_MAX_HEAD} bytes")
        elif end:
            self._on_request(bytes(head.partition(b"\r\n")[0]))

    def eof_received(self) -> bool:
        # A client may close its side after the request and still wait for the answer.
        return self._answer is not None

    def _on_request(self, line: bytes) -> None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            self._respond(400, "expected a request line such as GET /healthz/ready HTTP/1.1")
        elif match[2].partition(b"?")[0] != PATH:
            self._respond(404, f"expected {PATH.decode()}")
        elif match[1] not in {b"GET", b"HEAD"}:
            self._respond(405, "expected GET or HEAD", "allow: GET, HEAD\r\n")
        else:
            self._answer = asyncio.get_running_loop().create_task(self._check(body=match[1] == b"GET"))

    async def _check(self, *, body: bool) -> None:
        try:
            readiness = await self._readiness()
        except Exception:  # noqa: BLE001 - a probe gets an answer whatever fails
            _log.exception("cannot tell whether meshlet is ready")
            readiness = Readiness(ready=False, reasons=["the check failed"])
        if readiness.ready:
            self._respond(200, "ready", body=body)
        else:
            self._respond(503, _not_ready(readiness), body=body)

    def _respond(self, status: int, text: str, fields: str = "", *, body: bool = True) -> None:
        content = f"{text}\n".encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "server: meshlet\r\n"
            "content-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(content)}\r\n"
            "cache-control: no-store\r\n"
            f"{fields}"
            "connection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + (content if body else b""))
        self._transport.close()


def _not_ready(readiness: Readiness) -> str:
    reasons = "; ".join(map(escape, readiness.reasons))
    return f"not ready: {reasons}" if reasons else "not ready"
