from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from meshlet.admin import tap
from meshlet.telemetry.tap import LEASE, TapFilter, TapRead

Client = TestClient[web.Request, web.Application]


class FakeBackend:
    """Answers each read with what is next of `answers`, and then with nothing."""

    def __init__(self) -> None:
        self.answers: deque[list[bytes]] = deque()
        self.reads: list[TapRead] = []
        self.closed = asyncio.Event()

    async def tap(self, read: TapRead) -> list[bytes]:
        self.reads.append(read)
        if read.last:
            self.closed.set()
        return self.answers.popleft() if self.answers else []


@pytest.fixture
async def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(
    backend: FakeBackend,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
    monkeypatch: pytest.MonkeyPatch,
) -> Client:
    monkeypatch.setattr(tap, "_INTERVAL", 0.01)
    app = web.Application()
    tap.end_with(app)
    app.add_routes(tap.routes(backend))
    return await aiohttp_client(app)


async def test_a_line_for_each_request_until_the_reader_leaves(client: Client, backend: FakeBackend) -> None:
    backend.answers += [[b'{"a":1}', b'{"a":2}'], [], [b'{"a":3}']]
    async with client.get("/tap?path=/api&status=5xx&bodies=1KiB&limit=7") as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        assert backend.reads, "the tap is open once there is an answer"
        lines = [await response.content.readline() for _ in range(4)]
        assert lines == [b'{"a":1}\n', b'{"a":2}\n', b"\n", b'{"a":3}\n']
        response.close()
    await asyncio.wait_for(backend.closed.wait(), 5)
    assert len({read.id for read in backend.reads}) == 1
    first, last = backend.reads[0], backend.reads[-1]
    assert (first.filter, first.bodies, first.max) == (TapFilter(path=("/api",), status=("5xx",)), 1024, 7)
    assert not first.last
    assert last.last


async def test_server_sent_events(client: Client, backend: FakeBackend) -> None:
    backend.answers += [[], [b'{"a":1}', b'{"a":2}']]
    async with client.get("/tap", headers={"Accept": "text/event-stream"}) as response:
        assert response.content_type == "text/event-stream"
        received = b"".join([await response.content.readline() for _ in range(6)])
        assert received == b':\n\ndata: {"a":1}\n\ndata: {"a":2}\n\n'
        response.close()


async def test_two_readers_have_taps_of_their_own(client: Client, backend: FakeBackend) -> None:
    for _ in range(2):
        async with client.get("/tap") as response:
            response.close()
    assert len({read.id for read in backend.reads}) == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("status=6xx", "status: found '6xx', expected a status such as 404"),
        ("bodies=1MB", "bodies: found '1MB', expected a size in bytes such as 512, 64KiB or 10MiB"),
        ("limit=0", "limit: found '0', expected a number from 1 to 1000"),
        ("limit=1001", "limit: found '1001', expected"),
        ("body=1", "found 'body', expected one of method, path"),
    ],
)
async def test_mistakes_are_explained(client: Client, backend: FakeBackend, query: str, message: str) -> None:
    async with client.get(f"/tap?{query}") as response:
        assert response.status == 400
        assert (await response.text()).startswith(message)
    assert backend.reads == []


async def test_too_many_taps(client: Client, backend: FakeBackend) -> None:
    backend.answers.append([b'{"refused":"8 taps are open already"}'])
    async with client.get("/tap") as response:
        assert (response.status, await response.text()) == (503, "8 taps are open already\n")


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200)])
async def test_another_page_cannot_open_taps(client: Client, backend: FakeBackend, site: str, status: int) -> None:
    async with client.get("/tap", headers={"Sec-Fetch-Site": site}) as response:
        assert response.status == status
        assert bool(backend.reads) is (status == 200)
        response.close()


async def test_the_stream_ends_with_the_port(
    client: Client, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "_INTERVAL", 60.0)
    backend.answers.append([b'{"a":1}'])
    async with client.get("/tap") as response:
        assert await response.content.readline() == b'{"a":1}\n'
        await client.app.shutdown()
        assert await asyncio.wait_for(response.content.read(), 5) == b""  # and no error: it is whole
    assert backend.reads[-1].last


async def test_a_reader_that_was_away_is_told(backend: FakeBackend) -> None:
    now = 0.0
    poll = tap.Poll(backend, TapRead("t"), lambda: now)
    backend.answers += [[b'{"a":1}'], [b'{"a":2}']]
    now = LEASE
    assert await poll() == [b'{"a":1}']
    now += LEASE + 1
    assert await poll() == [b'{"paused":6.0}', b'{"a":2}']
