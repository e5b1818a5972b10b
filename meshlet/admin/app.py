"""The admin port as an aiohttp application. Importing this module loads aiohttp; see `server`."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from meshlet.admin import dashboard, explain, tap, traffic
from meshlet.admin.backend import AdminBackend, Dump
from meshlet.admin.connections import Connections
from meshlet.admin.guard import guard, seal
from meshlet.admin.stats_filter import StatsFilter
from meshlet.admin.tables import table
from meshlet.admin.within import answer_within
from meshlet.telemetry import exposition, log

_COMPRESS_IN_THREAD = 32 * 1024  # bytes

_ENDPOINTS = (
    ("GET", "/ready", "200 when traffic may come, else 503 and why"),
    ("GET", "/live", "200 as long as meshlet answers"),
    ("GET", "/stats", "metrics as lines; ?filter=REGEX"),
    ("GET", "/stats/prometheus", "metrics for Prometheus, or OpenMetrics by Accept"),
    ("GET", "/config_dump", "the running config, where it came from, the last reload (JSON)"),
    ("GET", "/clusters", "clusters and endpoints; ?format=json"),
    ("GET", "/listeners", "listeners; ?format=json"),
    ("GET", "/explain", "the last failed and slow requests; ?limit=50, ?format=json"),
    ("GET", "/explain/{id}", "one of them, by its request id; ?format=json"),
    ("GET", "/tap", "requests as they end, a JSON object each; filters: ?method=, ?path=, ?status=5xx and more"),
    ("GET", "/traffic", "totals of routes and endpoints (JSON)"),
    ("GET", "/history", "the last 15 minutes (JSON)"),
    ("GET", "/server_info", "version, uptime and the like (JSON)"),
    ("GET", "/logging", "the level of meshlet's own log"),
    ("POST", "/logging", "change it: ?level=debug"),
    ("POST", "/healthcheck/fail", "be not ready, so that no more traffic comes"),
    ("POST", "/healthcheck/ok", "be ready again"),
    ("POST", "/drain_listeners", "stop accepting connections"),
    ("POST", "/quitquitquit", "drain and end, as on SIGTERM"),
)


def make_app(backend: AdminBackend, connections: Connections) -> web.Application:
    """The admin application in front of `backend`, which tells `connections` when requests begin and end."""

    @web.middleware
    async def within(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await answer_within(connections, request, handler)

    admin = _Admin(backend)
    app = web.Application(middlewares=[within, guard, _explain])
    app.on_response_prepare.append(seal)
    tap.end_with(app)
    app.add_routes(
        [
            web.get("/", admin.index),
            web.get("/ready", admin.ready),
            web.get("/live", admin.live),
            web.get("/stats", admin.stats),
            web.get("/stats/prometheus", admin.prometheus),
            web.get("/config_dump", admin.config_dump),
            web.get("/clusters", admin.clusters),
            web.get("/listeners", admin.listeners),
            web.get("/server_info", admin.server_info),
            web.get("/logging", admin.logging),
            web.post("/logging", admin.set_logging),
            web.post("/healthcheck/fail", admin.fail_readiness),
            web.post("/healthcheck/ok", admin.restore_readiness),
            web.post("/drain_listeners", admin.drain_listeners),
            web.post("/quitquitquit", admin.quit),
            *(route for module in (explain, tap, traffic, dashboard) for route in module.routes(backend)),
        ]
    )
    return app


class _Admin:
    """The handlers, one for each endpoint."""

    def __init__(self, backend: AdminBackend) -> None:
        self._backend = backend

    async def index(self, request: web.Request) -> web.Response:
        if dashboard.wanted(request):
            return await dashboard.page(request)
        return _plain("".join(f"{method:4} {path:18} {what}\n" for method, path, what in _ENDPOINTS))

    async def ready(self, _: web.Request) -> web.Response:
        readiness = await self._backend.readiness()
        if readiness.ready:
            return _plain("ready\n")
        return _plain("".join(f"not ready: {reason}\n" for reason in readiness.reasons) or "not ready\n", status=503)

    async def live(self, _: web.Request) -> web.Response:
        return _plain("live\n")

    async def stats(self, request: web.Request) -> web.Response:
        try:
            wanted = StatsFilter(request.query.get("filter", ""))
        except ValueError as error:
            return _plain(f"filter: {error}\n", status=400)
        families = await self._backend.families()
        try:
            lines = await asyncio.to_thread(lambda: wanted.apply(exposition.lines(families)))
        except TimeoutError as error:
            return _plain(f"filter: {error}\n", status=400)
        return _plain("".join(f"{line}\n" for line in lines))

    async def prometheus(self, request: web.Request) -> web.Response:
        families = await self._backend.families()
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        # A large scrape takes tens of milliseconds, and the first one imports a library: not while requests wait.
        body, content_type = await asyncio.to_thread(exposition.prometheus, families, accept)
        response = web.Response(
            body=body, headers={hdrs.CONTENT_TYPE: content_type}, zlib_executor_size=_COMPRESS_IN_THREAD
        )
        response.enable_compression()
        return response

    async def config_dump(self, _: web.Request) -> web.Response:
        return _json(await self._backend.config_dump())

    async def clusters(self, request: web.Request) -> web.Response:
        return _table_or_json(request, await self._backend.clusters())

    async def listeners(self, request: web.Request) -> web.Response:
        return _table_or_json(request, await self._backend.listeners())

    async def server_info(self, _: web.Request) -> web.Response:
        return _json(await self._backend.server_info())

    async def logging(self, _: web.Request) -> web.Response:
        return _plain(f"level: {log.get_level()}\n")

    async def set_logging(self, request: web.Request) -> web.Response:
        level = request.query.get("level")
        if level not in log.LEVELS:
            return _plain(f"level: expected ?level= and one of {', '.join(log.LEVELS)}\n", status=400)
        await self._backend.set_log_level(level)
        return _plain(f"level: {level}\n")

    async def fail_readiness(self, _: web.Request) -> web.Response:
        await self._backend.fail_readiness(True)
        return _plain("failing\n")

    async def restore_readiness(self, _: web.Request) -> web.Response:
        await self._backend.fail_readiness(False)
        return _plain("ok\n")

    async def drain_listeners(self, _: web.Request) -> web.Response:
        await self._backend.drain_listeners()
        return _plain("draining\n")

    async def quit(self, _: web.Request) -> web.Response:
        await self._backend.quit()
        return _plain("quitting\n")


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say what was expected where the path or the method is wrong."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.path}: expected {allowed}, not {error.method}\n"
        return web.Response(status=405, text=text, headers={hdrs.ALLOW: allowed})
    except web.HTTPNotFound:
        return _plain("no such endpoint; GET / lists what there is\n", status=404)


def _table_or_json(request: web.Request, dumps: list[Dump]) -> web.Response:
    match request.query.get("format", "text"):
        case "text":
            return _plain(table(dumps))
        case "json":
            return _json(dumps)
        case _:
            return _plain("format: expected text or json\n", status=400)


def _plain(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status)


def _json(value: object) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return web.Response(body=body + b"\n", content_type="application/json")
