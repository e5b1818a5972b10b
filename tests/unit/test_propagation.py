from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshlet import asgi, propagation, wsgi
from meshlet.propagation import NAMES, add_to, collect, headers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTEXT = {"traceparent": PARENT, "tracestate": "a=1,b=2", "x-request-id": "r-1"}


@pytest.fixture
def context() -> Iterator[dict[str, str]]:
    """A request is being answered."""
    token = propagation.current.set(CONTEXT)
    yield CONTEXT
    propagation.current.reset(token)


# --- what is taken and given ---


def test_only_the_context_is_taken() -> None:
    fields = [("host", "a"), ("traceparent", PARENT), ("authorization", "secret"), ("b3", "0"), ("x-b3-sampled", "1")]
    assert collect(fields) == {"traceparent": PARENT, "b3": "0", "x-b3-sampled": "1"}


def test_fields_of_one_name_are_joined() -> None:
    assert collect([("tracestate", "a=1"), ("tracestate", "b=2")]) == {"tracestate": "a=1,b=2"}


@given(st.lists(st.tuples(st.sampled_from([*sorted(NAMES), "cookie", "host"]), st.text("ab=-01", max_size=5))))
def test_nothing_is_lost_and_nothing_else_comes_in(fields: list[tuple[str, str]]) -> None:
    found = collect(fields)
    assert found.keys() == {name for name, _ in fields} & NAMES
    assert all(found[name].split(",") == [value for key, value in fields if key == name] for name in found)


def test_outside_of_a_request_there_is_nothing() -> None:
    fields: dict[str, str] = {}
    add_to(fields)
    assert headers() == fields == {}


def test_what_headers_returns_is_the_callers(context: dict[str, str]) -> None:
    headers()["cookie"] = "a"
    assert headers() == context


def test_fields_that_are_there_stay(context: dict[str, str]) -> None:
    fields = {"x-request-id": "own"}
    add_to(fields)
    assert fields == {**context, "x-request-id": "own"}


@pytest.mark.parametrize("parent", ["traceparent", "b3", "x-b3-traceid"])
def test_a_span_of_the_apps_own_is_not_mixed_with_ours(context: dict[str, str], parent: str) -> None:
    fields = CIMultiDict({parent.title(): "own"})
    add_to(fields)
    assert dict(fields) == {parent.title(): "own", "x-request-id": "r-1"}


def test_an_app_does_not_load_the_proxy() -> None:
    code = "import sys, meshlet.asgi, meshlet.wsgi; print(*(name for name in sys.modules if name.partition('.')[0] in "
    code += "('meshlet', 'aiohttp', 'msgspec', 'asyncio', 'uvloop', 'httpx', 'requests')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert sorted(done.stdout.split()) == ["meshlet", "meshlet.asgi", "meshlet.propagation", "meshlet.wsgi"]


# --- where the context goes ---


async def test_tasks_and_to_thread_have_it(context: dict[str, str]) -> None:
    async def in_task() -> dict[str, str]:
        return headers()

    assert await asyncio.create_task(in_task()) == context
    assert await asyncio.to_thread(headers) == context


def test_an_executor_has_it_in_a_copy(context: dict[str, str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(headers).result() == {}  # what the documentation warns of
        assert pool.submit(copy_context().run, headers).result() == context


# --- ASGI ---


async def ask_asgi(app: Any, fields: Iterable[tuple[str, str]], kind: str = "http") -> list[Any]:
    """One request; returns what was sent."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields]}
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_asgi(kind: str) -> None:
    seen: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(asgi.headers())

    await ask_asgi(asgi.TraceContext(app), [*CONTEXT.items(), ("host", "h")], kind)
    assert seen == [CONTEXT]
    assert headers() == {}


async def test_asgi_lifespan_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await asgi.TraceContext(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_asgi_after_an_error_nothing_is_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await ask_asgi(asgi.TraceContext(app), CONTEXT.items())
    assert headers() == {}


async def test_asgi_requests_at_once_do_not_mix_while_they_stream() -> None:
    barrier = asyncio.Barrier(8)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            await barrier.wait()
            await send(headers()["x-request-id"])

    wrapped = asgi.TraceContext(app)
    answers = await asyncio.gather(*(ask_asgi(wrapped, [("x-request-id", f"r-{number}")]) for number in range(8)))
    assert answers == [[f"r-{number}"] * 3 for number in range(8)]


# --- WSGI ---


def environ_of(fields: dict[str, str]) -> dict[str, Any]:
    environ: dict[str, Any] = {f"HTTP_{name.replace('-', '_').upper()}": value for name, value in fields.items()}
    setup_testing_defaults(environ)
    return environ


def start_response(*_: object) -> None:
    """For apps whose status is of no interest."""


def test_wsgi() -> None:
    seen: list[dict[str, str]] = []

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        seen.append(wsgi.headers())
        return [b"done"]

    body = wsgi.TraceContext(app)(environ_of({**CONTEXT, "cookie": "a"}), start_response)
    assert body == [b"done"]  # the list itself: servers take its length
    assert seen == [CONTEXT]
    assert headers() == {}


class Streamed:
    """A body that notes the context of all that is called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(2):
            self.seen.append(headers()["x-request-id"])
            yield b"part"

    def close(self) -> None:
        self.seen.append("closed " + headers()["x-request-id"])


def test_wsgi_streams_in_the_requests_context() -> None:
    one, two = Streamed(), Streamed()
    bodies = iter([one, two])
    app = wsgi.TraceContext(lambda environ, start: next(bodies))
    first = app(environ_of({"x-request-id": "r-1"}), start_response)
    second = app(environ_of({"x-request-id": "r-2"}), start_response)
    assert list(zip(first, second, strict=True)) == [(b"part", b"part")] * 2
    first.close()  # type: ignore[attr-defined]
    # A server may ask for the rest from another thread.
    thread = threading.Thread(target=second.close)  # type: ignore[attr-defined]
    thread.start()
    thread.join()
    assert (one.seen, two.seen) == (["r-1", "r-1", "closed r-1"], ["r-2", "r-2", "closed r-2"])
    assert headers() == {}


def test_wsgi_generators_without_close_are_fine() -> None:
    app = wsgi.TraceContext(lambda environ, start: iter([b"a"]))
    body = app(environ_of({}), start_response)
    assert list(body) == [b"a"]
    body.close()  # type: ignore[attr-defined]


def test_wsgi_leaves_files_to_the_server() -> None:
    with open(__file__, "rb") as file:  # noqa: PTH123
        environ = {**environ_of(CONTEXT), "wsgi.file_wrapper": FileWrapper}
        body = wsgi.TraceContext(lambda environ, start: FileWrapper(file))(environ, start_response)
        assert isinstance(body, FileWrapper)


# --- aiohttp, httpx, requests ---


async def echo(request: web.Request) -> web.Response:
    return web.json_response({name.lower(): value for name, value in request.headers.items()})


async def test_aiohttp_both_ways() -> None:
    """A server whose handler asks another one, with a body that is streamed after the handler has returned."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(propagation.aiohttp_hook)
    outer = web.Application()
    outer.router.add_get("/", echo)

    async def handler(request: web.Request) -> web.Response:
        async def body() -> AsyncIterator[bytes]:
            async with session.get(target, headers={"x-other": "1"}) as response:
                yield await response.read()

        return web.Response(body=body(), content_type="application/json")

    inner = web.Application(middlewares=[propagation.aiohttp_middleware])
    inner.router.add_get("/", handler)
    async with (
        TestServer(outer) as server,
        aiohttp.ClientSession(trace_configs=[tracing]) as session,
        TestClient(TestServer(inner)) as client,
    ):
        target = server.make_url("/")
        for number in range(2):  # on one connection
            asked = {**CONTEXT, "x-request-id": f"r-{number}"}
            async with client.get("/", headers={"X-Secret": "s", **asked}) as response:
                seen = await response.json()
            assert seen.items() >= asked.items()
            assert seen["x-other"] == "1"
            assert "x-secret" not in seen
        async with client.get("/") as response:
            assert not NAMES & (await response.json()).keys()


class Sent:
    """A request as httpx gives it to its hooks."""

    def __init__(self) -> None:
        self.headers = CIMultiDict({"accept": "*/*"})


async def test_httpx(context: dict[str, str]) -> None:
    request, other = Sent(), Sent()
    propagation.httpx_hook(request)
    await propagation.httpx_async_hook(other)
    assert dict(request.headers) == dict(other.headers) == {"accept": "*/*", **context}


def test_requests(context: dict[str, str]) -> None:
    requests = pytest.importorskip("requests")
    sent: list[Any] = []

    class Adapter(requests.adapters.BaseAdapter):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **options: object) -> Any:
            sent.append(request)
            response = requests.Response()
            response.status_code, response.request, response.url = 302 if len(sent) == 1 else 200, request, request.url
            response.headers["location"] = "/next"
            response.raw = io.BytesIO()
            response._content = b""
            return response

        def close(self) -> None:
            """Nothing is open."""

    with requests.Session() as session:
        session.mount("http://", Adapter())
        propagation.attach(session)
        session.get("http://app/", auth=("user", "password"))
    assert [request.url for request in sent] == ["http://app/", "http://app/next"]
    assert all(dict(request.headers).items() >= context.items() for request in sent)
    assert "authorization" in sent[0].headers
