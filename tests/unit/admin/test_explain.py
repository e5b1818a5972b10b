from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from meshlet.admin.backend import AdminBackend, Dump
from meshlet.admin.explain import routes
from tests.support.explanations import explained

Client = TestClient[web.Request, web.Application]


class FakeBackend:
    def __init__(self) -> None:
        self.kept = [explained(request_id=f"id-{number}".encode(), status=503) for number in range(60)]

    async def explain(self, request_id: str) -> list[Dump]:
        return [each for each in self.kept if each["request_id"] == request_id]

    async def recent(self, limit: int) -> list[Dump]:
        return self.kept[::-1][:limit]


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(backend: FakeBackend, aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> Client:
    app = web.Application()
    app.add_routes(routes(cast("AdminBackend", backend)))
    return await aiohttp_client(app)


async def get(client: Client, path: str) -> tuple[int, str, str]:
    async with client.get(path) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def get_json(client: Client, path: str) -> Any:
    async with client.get(path) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


async def test_one_request_by_its_id(client: Client, backend: FakeBackend) -> None:
    assert await get_json(client, "/explain?id=id-7&format=json") == [backend.kept[7]]
    status, content_type, text = await get(client, "/explain?id=id-7")
    assert (status, content_type) == (200, "text/plain; charset=utf-8")
    assert "  request id  id-7\n" in text
    assert "timeline" in text


async def test_its_id_may_stand_in_the_path(client: Client, backend: FakeBackend) -> None:
    async with client.get("/explain/id-7", headers={"Accept": "application/json"}) as response:
        assert (response.status, await response.json()) == (200, [backend.kept[7]])
    assert (await get(client, "/explain/other"))[0] == 404


async def test_the_last_ones(client: Client, backend: FakeBackend) -> None:
    assert await get_json(client, "/explain?format=json&limit=2") == [backend.kept[59], backend.kept[58]]
    assert len(await get_json(client, "/explain?format=json")) == 50
    assert (await get(client, "/explain"))[2].count("timeline") == 50


async def test_none(client: Client, backend: FakeBackend) -> None:
    backend.kept.clear()
    assert (await get(client, "/explain"))[::2] == (200, "no request has failed or was slow\n")
    assert await get_json(client, "/explain?format=json") == []


@pytest.mark.parametrize("query", ["id=nowhere", "id=nowhere&format=json", "id="])
async def test_not_found_says_what_is_kept(client: Client, query: str) -> None:
    status, _, text = await get(client, f"/explain?{query}")
    assert status == 404
    assert "nothing is kept about this request" in text
    assert "telemetry.explain.slow" in text
    assert "the last 500" in text


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "99999999999999999999999", "many", "", "²", "1.5"])
async def test_a_limit_that_is_wrong(client: Client, limit: str) -> None:
    assert (await get(client, f"/explain?limit={limit}"))[::2] == (400, "limit: expected a number from 1 to 1000\n")


async def test_a_format_that_is_wrong(client: Client) -> None:
    assert (await get(client, "/explain?format=xml"))[::2] == (400, "format: expected text or json\n")
