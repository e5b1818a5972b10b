from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request
from yarl import URL

from meshlet.admin import dashboard, traffic
from meshlet.admin.guard import guard, seal
from meshlet.telemetry.metrics import DURATION_BOUNDS
from meshlet.telemetry.traffic import EndpointTraffic, RouteTraffic, Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshlet.admin.backend import AdminBackend

Client = TestClient[web.Request, web.Application]

DURATIONS = (0,) * len(DURATION_BOUNDS) + (1,)
TRAFFIC = Traffic(
    1700000000.5,
    DURATION_BOUNDS,
    (RouteTraffic("in", "inbound", "/", "app", 3, 1, 2, 1, 10, 20, DURATIONS),),
    (EndpointTraffic("app", "127.0.0.1:8080", "available", 5, 1, 1, 2, DURATIONS),),
)
HISTORY = [{"time": 1700000000.0, "inbound": {"requests": 1, "failures": 0, "p50": 0.01, "p95": None, "p99": None}}]


class FakeBackend:
    async def traffic(self) -> Traffic:
        return TRAFFIC

    async def history(self) -> list[dict[str, Any]]:
        return HISTORY


@pytest.fixture
async def client(aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> Client:
    backend = cast("AdminBackend", FakeBackend())
    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(seal)
    app.add_routes([web.get("/", dashboard.page), *dashboard.routes(backend), *traffic.routes(backend)])
    return await aiohttp_client(app)


def policy(response: Any) -> dict[str, str]:
    parts = response.headers["Content-Security-Policy"].split(";")
    return {name: value for name, _, value in (part.strip().partition(" ") for part in parts)}


async def test_the_page_may_load_its_own_files_and_nothing_else(client: Client) -> None:
    async with client.get("/") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        rules = policy(response)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == rules["img-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in " ".join(rules.values())


async def test_nothing_but_the_page_may_load_anything(client: Client) -> None:
    for path in ("/traffic", "/dashboard/app.js", "/dashboard/icon.svg", "/nowhere"):
        async with client.get(path) as response:
            assert policy(response) == {"default-src": "'none'", "frame-ancestors": "'none'"}


@pytest.mark.parametrize("path", ["/", "/traffic", "/dashboard/app.js", "/nowhere"])
async def test_every_answer_is_sealed(client: Client, path: str) -> None:
    async with client.get(path) as response:
        headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] == "meshlet"


async def test_streams_and_refusals_are_sealed_too(
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        return response

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(seal)
    app.add_routes([web.get("/stream", stream)])
    client = await aiohttp_client(app)
    for headers, status in (({}, 200), ({"Host": "evil.example"}, 403)):
        async with client.get("/stream", headers=headers) as response:
            assert (response.status, response.headers["X-Content-Type-Options"]) == (status, "nosniff")
            assert "Content-Security-Policy" in response.headers


@pytest.mark.parametrize("name", dashboard.FILES)
async def test_files_have_their_type(client: Client, name: str) -> None:
    async with client.get(f"/dashboard/{name}") as response:
        assert response.status == 200
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
        assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert await response.read() == (dashboard._FOLDER / name).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/",
        "/dashboard/index.html",
        "/dashboard/nothing.js",
        "/dashboard/..%2Fapp.py",
        "/dashboard/%2e%2e%2fapp.py",
        "/dashboard/../app.py",
        "/dashboard/..%5Capp.py",
        "/dashboard/%2Fetc%2Fpasswd",
        "/dashboard/app.js%00",
        "/dashboard/APP.JS",
    ],
)
async def test_nothing_else_can_be_had(client: Client, path: str) -> None:
    async with client.get(URL(path, encoded=True)) as response:
        assert response.status == 404


def test_the_table_names_what_there_is() -> None:
    assert {file.name for file in dashboard._FOLDER.iterdir()} == {*dashboard.FILES, "index.html"}


def sources() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in dashboard._FOLDER.iterdir()}


def test_no_file_refers_to_another_host() -> None:
    for name, text in sources().items():
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\"'\s]*", text.replace("http://www.w3.org/2000/svg", "")))
        assert not found, name


def test_all_that_is_loaded_is_there() -> None:
    for name, text in sources().items():
        assert set(re.findall(r"/dashboard/([\w.]+)", text)) <= set(dashboard.FILES), name
        assert set(re.findall(r'from "\./([\w.]+)"', text)) <= set(dashboard.FILES), name


def test_modules_are_preloaded_or_they_would_be_found_one_after_the_other() -> None:
    page = sources()["index.html"]
    modules = {name for name in dashboard.FILES if name.endswith(".js") and name != "theme.js"}
    assert set(re.findall(r'(?:type="module" src|modulepreload" href)="/dashboard/([\w.]+)"', page)) == modules


def test_no_script_makes_html_or_code_of_text() -> None:
    # The browser forbids it too (Trusted Types), where it knows how.
    for name, text in sources().items():
        if name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
            ), name
        if name.endswith(".html"):
            assert not re.search(r"<script>|\son\w+=|style=|<style", text), name


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("text/html,application/xhtml+xml,*/*;q=0.8", True), ("*/*", False), ("application/json", False), ("", False)],
)
def test_browsers_get_the_page(accept: str, expected: bool) -> None:
    assert dashboard.wanted(make_mocked_request("GET", "/", headers={"Accept": accept})) is expected


async def test_traffic_is_json(client: Client) -> None:
    async with client.get("/traffic") as response:
        assert response.content_type == "application/json"
        document = await response.json()
    assert document["time"] == 1700000000.5
    assert document["bounds"] == list(DURATION_BOUNDS)
    assert document["routes"][0]["durations"] == list(DURATIONS)
    assert document["endpoints"][0]["endpoint"] == "127.0.0.1:8080"


async def test_history_is_json(client: Client) -> None:
    async with client.get("/history") as response:
        assert await response.json() == HISTORY
