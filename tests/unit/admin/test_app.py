from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from meshlet.admin.app import make_app
from meshlet.admin.backend import Dump, Readiness
from meshlet.admin.connections import Connections
from meshlet.telemetry import log
from meshlet.telemetry.metrics import Family, Sample
from meshlet.telemetry.tap import TapRead
from meshlet.telemetry.traffic import Traffic

Client = TestClient[web.Request, web.Application]


class FakeBackend:
    def __init__(self) -> None:
        self.ready = Readiness(ready=True)
        self.calls: list[str] = []

    async def families(self) -> list[Family]:
        requests = Family("meshlet_requests_total", "counter", "Requests.")
        requests.add(3, cluster="app")
        requests.add(4, cluster="reviews")
        return [requests, Family("meshlet_connections", "gauge", "Open connections.", [Sample((), 2)])]

    async def readiness(self) -> Readiness:
        return self.ready

    async def clusters(self) -> list[Dump]:
        return [{"name": "app", "endpoints": [{"address": "127.0.0.1:8080", "active": 1}]}]

    async def listeners(self) -> list[Dump]:
        return [{"name": "inbound", "address": "0.0.0.0:15006", "connections": 7}]

    async def traffic(self) -> Traffic:
        return Traffic(1.0, (0.1,), (), ())

    async def history(self) -> list[Dump]:
        return [{"time": 1.0}]

    async def explain(self, request_id: str) -> list[Dump]:
        return []

    async def recent(self, limit: int) -> list[Dump]:
        return []

    async def tap(self, read: TapRead) -> list[bytes]:
        return []

    async def config_dump(self) -> Dump:
        return {"source": "config.yaml", "last_reload": {"result": "rejected", "reasons": ["line 3"]}}

    async def server_info(self) -> Dump:
        return {"version": "0.1.0"}

    async def set_log_level(self, level: str) -> None:
        self.calls.append(f"level {level}")

    async def fail_readiness(self, failed: bool) -> None:
        self.calls.append("fail" if failed else "restore")

    async def drain_listeners(self) -> None:
        self.calls.append("drain")

    async def quit(self) -> None:
        self.calls.append("quit")


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(backend: FakeBackend, aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> Client:
    return await aiohttp_client(make_app(backend, Connections(128)))


async def get(client: Client, path: str, **headers: str) -> tuple[int, str]:
    async with client.get(path, headers=headers) as response:
        return response.status, await response.text()


async def get_json(client: Client, path: str) -> Any:
    async with client.get(path) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


async def post(client: Client, path: str, **headers: str) -> tuple[int, str]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post(path, headers=fields) as response:
        return response.status, await response.text()


async def test_ready(client: Client, backend: FakeBackend) -> None:
    assert await get(client, "/ready") == (200, "ready\n")
    backend.ready = Readiness(ready=False, reasons=["draining", "app does not accept connections"])
    assert await get(client, "/ready") == (503, "not ready: draining\nnot ready: app does not accept connections\n")
    backend.ready = Readiness(ready=False)
    assert await get(client, "/ready") == (503, "not ready\n")


async def test_live_even_when_not_ready(client: Client, backend: FakeBackend) -> None:
    backend.ready = Readiness(ready=False)
    assert await get(client, "/live") == (200, "live\n")


async def test_stats_are_lines(client: Client) -> None:
    assert await get(client, "/stats") == (
        200,
        'meshlet_connections 2\nmeshlet_requests_total{cluster="app"} 3\nmeshlet_requests_total{cluster="reviews"} 4\n',
    )


async def test_stats_with_a_filter(client: Client) -> None:
    assert await get(client, "/stats?filter=requests.*rev") == (200, 'meshlet_requests_total{cluster="reviews"} 4\n')
    assert await get(client, "/stats?filter=nothing") == (200, "")


@pytest.mark.parametrize("pattern", ["(a%2B)%2B$", "[a", "a.*b.*c.*d", "a" * 300])
async def test_stats_with_a_filter_that_is_refused(client: Client, pattern: str) -> None:
    status, text = await get(client, f"/stats?filter={pattern}")
    assert status == 400
    assert text.startswith("filter: expected a regular expression")


async def test_stats_with_a_filter_that_takes_too_long(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlet.admin.stats_filter._DEADLINE", -1.0)
    status, text = await get(client, "/stats?filter=a")
    assert (status, text) == (400, "filter: took too long; expected a simpler regular expression\n")


async def test_prometheus_scrapes(client: Client) -> None:
    async with client.get("/stats/prometheus") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = list(text_string_to_metric_families(await response.text()))
    assert [family.name for family in families] == ["meshlet_requests", "meshlet_connections"]


async def test_openmetrics_where_it_is_asked_for(client: Client) -> None:
    async with client.get("/stats/prometheus", headers={"Accept": "application/openmetrics-text"}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await response.text()).endswith("# EOF\n")


async def test_config_dump_and_server_info_are_json(client: Client) -> None:
    assert (await get_json(client, "/config_dump"))["last_reload"]["reasons"] == ["line 3"]
    assert await get_json(client, "/server_info") == {"version": "0.1.0"}


async def test_clusters_and_listeners_are_tables_or_json(client: Client) -> None:
    _, clusters = await get(client, "/clusters")
    assert clusters == "name  endpoints.address  endpoints.active\napp   127.0.0.1:8080     1\n"
    _, listeners = await get(client, "/listeners")
    assert listeners.splitlines()[1].split() == ["inbound", "0.0.0.0:15006", "7"]
    assert (await get_json(client, "/clusters?format=json"))[0]["name"] == "app"
    assert (await get_json(client, "/listeners?format=json"))[0]["connections"] == 7
    assert await get(client, "/clusters?format=xml") == (400, "format: expected text or json\n")


@pytest.fixture
def _level() -> Iterator[None]:
    before = logging.getLogger("meshlet").level
    log.set_level("warning")
    yield
    logging.getLogger("meshlet").setLevel(before)
    logging.getLogger().setLevel("WARNING")


@pytest.mark.usefixtures("_level")
async def test_logging(client: Client, backend: FakeBackend) -> None:
    assert await get(client, "/logging") == (200, "level: warning\n")
    assert await post(client, "/logging?level=debug") == (200, "level: debug\n")
    assert backend.calls == ["level debug"]


@pytest.mark.parametrize("query", ["", "?level=", "?level=loud", "?paths=x:debug"])
async def test_logging_says_what_it_expects(client: Client, backend: FakeBackend, query: str) -> None:
    status, text = await post(client, f"/logging{query}")
    assert (status, text) == (400, "level: expected ?level= and one of debug, info, warning, error\n")
    assert backend.calls == []


async def test_drain_and_quit(client: Client, backend: FakeBackend) -> None:
    assert await post(client, "/drain_listeners") == (200, "draining\n")
    assert await post(client, "/quitquitquit") == (200, "quitting\n")
    assert backend.calls == ["drain", "quit"]


@pytest.mark.parametrize("path", ["/drain_listeners", "/quitquitquit"])
async def test_what_changes_something_is_post(client: Client, backend: FakeBackend, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert await response.text() == f"{path}: expected POST, not GET\n"
    assert backend.calls == []


async def test_what_changes_nothing_is_not_post(client: Client) -> None:
    async with client.post("/stats") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


async def test_an_unknown_path_points_to_the_list(client: Client) -> None:
    assert await get(client, "/nowhere") == (404, "no such endpoint; GET / lists what there is\n")


async def test_index_for_curl_and_for_browsers(client: Client) -> None:
    _, text = await get(client, "/")
    assert "GET  /stats/prometheus" in text
    assert "POST /quitquitquit" in text
    async with client.get("/", headers={"Accept": "text/html,*/*"}) as response:
        assert response.content_type == "text/html"
        assert "<title>" in await response.text()


async def test_the_index_lists_every_endpoint(client: Client) -> None:
    _, text = await get(client, "/")
    assert client.app is not None
    routes = {
        (route.method, route.resource.canonical)
        for route in client.app.router.routes()
        if route.resource is not None
        and route.method != "HEAD"
        and route.resource.canonical not in ("/", "/dashboard/{file}")
    }
    assert {tuple(line.split()[:2]) for line in text.splitlines()} == routes


async def test_answers_carry_the_headers_that_keep_browsers_honest(client: Client) -> None:
    for path in ("/stats", "/nowhere"):
        async with client.get(path) as response:
            assert response.headers["Server"] == "meshlet"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"


async def test_a_name_that_was_made_to_resolve_here_is_refused(client: Client) -> None:
    status, text = await get(client, "/config_dump", Host="evil.example:15000")
    assert (status, text) == (
        403,
        "refused: the Host header must be localhost or a loopback address such as 127.0.0.1\n",
    )
    assert (await post(client, "/quitquitquit", Host="evil.example"))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_a_web_page_cannot_change_anything(client: Client, backend: FakeBackend, headers: dict[str, str]) -> None:
    status, text = await post(client, "/quitquitquit", Host="localhost:15000", **headers)
    assert status == 403
    assert "web page" in text
    assert backend.calls == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost:15000", "Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}],
)
async def test_our_own_page_and_plain_clients_can(client: Client, headers: dict[str, str]) -> None:
    assert (await post(client, "/drain_listeners", Host="localhost:15000", **headers))[0] == 200


async def test_dumps_are_easy_to_read(client: Client) -> None:
    _, text = await get(client, "/server_info")
    assert text == json.dumps({"version": "0.1.0"}, indent=2) + "\n"


async def test_readiness_can_be_failed_by_hand(client: Client, backend: FakeBackend) -> None:
    assert await post(client, "/healthcheck/fail") == (200, "failing\n")
    assert await post(client, "/healthcheck/ok") == (200, "ok\n")
    assert backend.calls == ["fail", "restore"]
    assert (await get(client, "/healthcheck/fail"))[0] == 405
