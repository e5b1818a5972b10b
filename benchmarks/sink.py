"""An OpenTelemetry collector that only counts: `python -m benchmarks.sink PORT`, in a process of its own.

It answers every export over OTLP/HTTP at once. The spans in it are counted when somebody asks for `/spans`, so that
the load's core has no work with them during the load.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from aiohttp import web

# Kept at most, and the largest export.
_MOST_BYTES = 1 << 26
# ExportTraceServiceRequest.resource_spans, ResourceSpans.scope_spans, ScopeSpans.spans: opentelemetry-proto 1.x
_PATH_TO_SPANS = (1, 2, 2)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of protobuf's wire format, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def submessages(data: bytes, wanted: int) -> Iterator[bytes]:
    """The length-delimited fields with one number."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        match key & 7:
            case 0:
                _, at = varint(data, at)
            case 1:
                at += 8
            case 2:
                length, at = varint(data, at)
                if key >> 3 == wanted:
                    yield data[at : at + length]
                at += length
            case 5:
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def count_spans(export: bytes) -> int:
    """How many spans an export of traces has."""
    level = [export]
    for wanted in _PATH_TO_SPANS:
        level = [inner for message in level for inner in submessages(message, wanted)]
    return len(level)


class Sink:
    """Keeps what it is sent until it is asked for the count."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._spans = 0

    def app(self) -> web.Application:
        """What it answers."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_post("/v1/traces", self._take)
        app.router.add_get("/spans", self._tell)
        app.router.add_get("/", self._ready)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp has decompressed it
        if self._bytes + len(body) > _MOST_BYTES:
            self._count()
        self._waiting.append(body)
        self._bytes += len(body)
        return web.Response(content_type="application/x-protobuf")  # an empty message: everything was taken

    async def _tell(self, _: web.Request) -> web.Response:
        self._count()
        return web.Response(text=str(self._spans))

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response()

    def _count(self) -> None:
        self._spans += sum(map(count_spans, self._waiting))
        self._waiting.clear()
        self._bytes = 0


if __name__ == "__main__":
    web.run_app(Sink().app(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
