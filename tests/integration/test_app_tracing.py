"""A trace through two sidecars and the app between them, which passes the context on by meshlet's middleware."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from meshlet import propagation, wsgi
from meshlet.example_app import ExampleApp
from tests.support.http1 import Client
from tests.support.otlp_sink import OtlpSink, Span
from tests.support.processes import meshlet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


class Mesh(NamedTuple):
    """`shop` has an app that asks `reviews`, whose app answers with the headers it got."""

    inbound: str  # of shop
    outbound: str
    sink: OtlpSink

    def ask(self, *fields: str) -> tuple[dict[str, str], list[Span]]:
        """Ask shop; return the headers that the app of reviews saw, and the three spans in the order of the way."""
        with Client(self.inbound) as client:
            seen: dict[str, str] = client.get("/headers", *fields).json()
        self.sink.wait_for(lambda: len(self.sink.spans) >= 3)
        spans = self.sink.spans
        by_name = {(span.resource["service.name"], span.kind): span for span in spans}
        assert len(spans) == len(by_name) == 3
        return seen, [by_name["shop", "SERVER"], by_name["shop", "CLIENT"], by_name["reviews", "SERVER"]]


def config(name: str, sink: OtlpSink, app: str, calls: str | None = None) -> dict[str, Any]:
    listeners = [{"name": "in", "address": "127.0.0.1:0", "routes": [{"cluster": "app"}]}]
    clusters = [{"name": "app", "endpoints": [app]}]
    if calls is not None:
        listeners.append({"name": "outbound", "address": "127.0.0.1:0", "routes": [{"cluster": "reviews"}]})
        clusters.append({"name": "reviews", "endpoints": [calls]})
    return {
        "listeners": listeners,
        "clusters": clusters,
        "telemetry": {"tracing": {"otlp_endpoint": sink.url, "sample": 1}, "workload": {"name": name}},
        "shutdown": {"grace": "0s"},
    }


@contextmanager
def mesh(folder: Path, app: str) -> Iterator[Mesh]:
    """Both sidecars, shop's before `app`."""
    for name in ("shop", "reviews"):
        (folder / name).mkdir()
    with (
        OtlpSink() as sink,
        ExampleApp() as reviews_app,
        meshlet(folder / "reviews", config("reviews", sink, reviews_app.address)) as reviews,
        meshlet(folder / "shop", config("shop", sink, app, reviews.address)) as shop,
    ):
        yield Mesh(shop.address, shop.listeners["outbound"], sink)


def assert_one_trace(seen: dict[str, str], spans: list[Span]) -> None:
    shop, call, reviews = spans
    assert shop.trace_id == call.trace_id == reviews.trace_id
    assert (call.parent_id, reviews.parent_id) == (shop.span_id, call.span_id)
    assert shop.start <= call.start <= call.end <= shop.end
    # Below the last sidecar's span.
    assert seen["traceparent"] == f"00-{reviews.trace_id}-{reviews.span_id}-{seen['traceparent'][-2:]}"
    assert shop.attributes["meshlet.request_id"] == reviews.attributes["meshlet.request_id"] == seen["x-request-id"]


# --- WSGI, and a client that is given the headers by hand ---


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Not on stderr."""


@contextmanager
def wsgi_server(app: Callable[..., Any]) -> Iterator[WSGIServer]:
    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


class Caller:
    """An app that streams what reviews answers; it learns the address of its sidecar later."""

    outbound = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", "application/json")])
        request = urllib.request.Request(f"http://{self.outbound}/headers", headers=propagation.headers())
        with urllib.request.urlopen(request, timeout=10) as response:
            yield response.read()


def ask_through_wsgi(folder: Path, wrap: Callable[[Any], Any], *fields: str) -> tuple[dict[str, str], list[Span]]:
    caller = Caller()
    with wsgi_server(wrap(caller)) as server, mesh(folder, f"127.0.0.1:{server.server_port}") as running:
        caller.outbound = running.outbound
        return running.ask(*fields)


def test_wsgi(tmp_path: Path) -> None:
    seen, spans = ask_through_wsgi(tmp_path, wsgi.TraceContext)
    assert spans[0].parent_id == ""
    assert_one_trace(seen, spans)


def test_a_callers_trace_goes_on(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen, spans = ask_through_wsgi(tmp_path, wsgi.TraceContext, f"traceparent: {parent}", "tracestate: vendor=x")
    assert (spans[0].trace_id, spans[0].parent_id) == (parent[3:35], parent[36:52])
    assert_one_trace(seen, spans)
    assert seen["tracestate"] == "vendor=x"


def test_without_the_app_there_are_two_traces(tmp_path: Path) -> None:
    """What the middleware is for."""
    _, (shop, call, reviews) = ask_through_wsgi(tmp_path, lambda app: app)
    assert call.trace_id == reviews.trace_id != shop.trace_id
    assert call.parent_id == ""


# --- aiohttp on both sides ---


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(propagation.aiohttp_hook)
    async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
        yield session


async def test_aiohttp(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    outbound = ""

    async def handler(request: web.Request) -> web.Response:
        async with session.get(f"http://{outbound}/headers") as response:
            return web.Response(body=await response.read())

    app = web.Application(middlewares=[propagation.aiohttp_middleware])
    app.router.add_get("/headers", handler)
    async with TestServer(app) as server:
        with mesh(tmp_path, f"127.0.0.1:{server.port}") as running:
            outbound = running.outbound
            seen, spans = await asyncio.to_thread(running.ask)
    assert_one_trace(seen, spans)
