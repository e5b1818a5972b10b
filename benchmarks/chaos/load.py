"""The callers: keep-alive connections that send the load through a proxy, once each, and look at every answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.chaos.schedule import Kind, Request, content

CONNECTIONS = 32
_TIMEOUT = 10.0
_HEADERS = (
    "host: shop.example.com\r\nuser-agent: chaos/1\r\naccept: */*\r\naccept-encoding: gzip, br\r\n"
    "authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiZW5jaCJ9.c2lnbmF0dXJl\r\nx-tenant: example\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ATTEMPTS = re.compile(rb"\r\nx-envoy-attempt-count: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Result(NamedTuple):
    """What came of a request."""

    number: int
    kind: Kind
    seconds: float
    attempts: int
    """As the response says; 1 where it does not."""
    problem: str
    """Empty where the right answer came, whole."""


async def run(port: int, load: Sequence[Request], connections: int = CONNECTIONS) -> list[Result]:
    """Send all of it; the results are in the order of their ends."""
    waiting, results = iter(load), list[Result]()
    await asyncio.gather(*(_caller(port, waiting, results) for _ in range(connections)))
    return results


async def answers(port: int) -> bool:
    """Whether a GET through the proxy is answered with 200."""
    caller = _Caller(port)
    try:
        async with asyncio.timeout(1):
            head, _ = await caller.ask(b"GET / HTTP/1.1\r\nhost: ready\r\n\r\n")
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        caller.close()
    return head.startswith(b"HTTP/1.1 200")


async def _caller(port: int, waiting: Iterator[Request], results: list[Result]) -> None:
    caller = _Caller(port)
    try:
        for request in waiting:
            await asyncio.sleep(request.think)
            results.append(await _send(caller, request))
    finally:
        caller.close()


async def _send(caller: _Caller, request: Request) -> Result:
    head, problem = b"", ""
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(_TIMEOUT):
            head, body = await caller.ask(message(request))
        if not head.startswith(b"HTTP/1.1 200"):
            problem = f"{head[9:12].decode()} {body[:100].decode(errors='replace')}".strip()
        elif body != content(request.number, request.answer):
            problem = "another request's answer"
    except (OSError, EOFError, TimeoutError) as error:
        problem = f"{type(error).__name__}: {error}"
        caller.close()
    seconds = time.perf_counter() - begin
    attempts = _ATTEMPTS.search(head)
    return Result(request.number, request.kind, seconds, int(attempts[1]) if attempts else 1, problem)


def message(request: Request) -> bytes:
    """The request on the wire."""
    method = "GET" if request.kind is Kind.GET else "POST"
    lines = f"{method} /items/{request.number} HTTP/1.1\r\n{_HEADERS}x-chaos-number: {request.number}\r\n"
    if request.kind is Kind.KEYED:
        lines += f'idempotency-key: "order-{request.number}"\r\n'
    if request.kind is not Kind.GET:
        lines += f"content-type: text/plain\r\ncontent-length: {request.body}\r\n"
    return lines.encode("ascii") + b"\r\n" + content(request.number, request.body)


class _Caller:
    """A connection that is opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes) -> tuple[bytes, bytes]:
        """Send a request and return head and body. Raises OSError and EOFError where no whole response comes."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None:
            raise EOFError(f"no length: {head!r}")
        body = await reader.readexactly(int(length[1]))
        if _CLOSE.search(head):
            self.close()
        return head, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
