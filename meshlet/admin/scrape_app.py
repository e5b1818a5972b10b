"""The metrics port in aiohttp, as server and as the app's client. Importing this module loads aiohttp."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs, web

from meshlet.admin.connections import Connections
from meshlet.admin.merged import AppMetrics, first_mistake, merge
from meshlet.admin.scrape import PATHS
from meshlet.admin.server_log import SERVER_LOG
from meshlet.admin.within import answer_within
from meshlet.telemetry.exposition import wants_openmetrics

if TYPE_CHECKING:
    import socket

    from meshlet.admin.lazy import Close, Serve
    from meshlet.admin.scrape import ScrapeServer

_MAX_CONNECTIONS = 64
_LIFETIME = 30.0  # seconds of a connection, which carries one request
_AT_ONCE = 2  # scrapes, as a pair of Prometheus servers makes; each may hold the whole text several times
_SHUTDOWN_TIMEOUT = 1.0  # seconds for answers under way
_COMPRESS_IN_THREAD = 32 * 1024  # bytes

# What the app takes of the scraper's time; the rest is for ours.
_TIMEOUT_FIELD = "X-Prometheus-Scrape-Timeout-Seconds"
_USUAL = 10.0  # seconds, as Prometheus has it unless told otherwise
_SHARE, _SHORTEST, _LONGEST = 0.75, 0.5, 5.0
_MAX_BYTES = 16 * 1024 * 1024
_PLAIN, _OPENMETRICS = "text/plain", "application/openmetrics-text"
_ACCEPT = f"{_PLAIN};version=0.0.4,*/*;q=0.1"
_ACCEPT_OPENMETRICS = f"{_OPENMETRICS};version=1.0.0,{_PLAIN};version=0.0.4;q=0.5,*/*;q=0.1"


class AppFailure(Exception):
    """The app gave no metrics; says why."""


def make_serve(server: ScrapeServer) -> Serve:
    """Return what begins to serve `server`'s socket."""

    async def serve(sock: socket.socket) -> Close:
        client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        scrapes = _Scrapes(server, client)
        connections = Connections(_MAX_CONNECTIONS, _LIFETIME)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await answer_within(connections, request, scrapes.answer)

        manager = web.Server(answer, access_log=None, lingering_time=0.0, logger=SERVER_LOG)
        listener = await connections.serve(sock, manager)

        async def close() -> None:
            listener.close()
            await manager.shutdown(_SHUTDOWN_TIMEOUT)
            await client.close()

        return close

    return serve


class _Scrapes:
    """Answers the requests."""

    def __init__(self, server: ScrapeServer, client: aiohttp.ClientSession) -> None:
        self._server = server
        self._client = client
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._respond(request)
        response.headers[hdrs.SERVER] = "meshlet"
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        response.force_close()
        return response

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        if request.path not in PATHS:
            return web.Response(status=404, text=f"expected {' or '.join(PATHS)}\n")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return web.Response(status=405, text="expected GET or HEAD\n", headers={hdrs.ALLOW: "GET, HEAD"})
        openmetrics = wants_openmetrics(",".join(request.headers.getall(hdrs.ACCEPT, [])))
        async with self._turn:
            url = self._server.app
            app = await self._ask(url, request, openmetrics=openmetrics) if url is not None else None
            families = await self._server.all_families()
            body, content_type = await asyncio.to_thread(merge, families, app, openmetrics=openmetrics)
        response = web.Response(
            body=body, headers={hdrs.CONTENT_TYPE: content_type}, zlib_executor_size=_COMPRESS_IN_THREAD
        )
        response.enable_compression()
        return response

    async def _ask(self, url: str, request: web.BaseRequest, *, openmetrics: bool) -> AppMetrics | None:
        try:
            metrics = await self._fetch(url, _timeout(request.headers.get(_TIMEOUT_FIELD)), openmetrics=openmetrics)
        except TimeoutError:
            self._server.note_app("no answer in time")
        except (AppFailure, aiohttp.ClientError, ValueError) as failure:
            self._server.note_app(str(failure) or type(failure).__name__)
        else:
            self._server.note_app(None)
            return metrics
        return None

    async def _fetch(self, url: str, within: float, *, openmetrics: bool) -> AppMetrics:
        headers = {
            hdrs.ACCEPT: _ACCEPT_OPENMETRICS if openmetrics else _ACCEPT,
            hdrs.ACCEPT_ENCODING: "identity",  # the app is on this machine
            hdrs.USER_AGENT: "meshlet",
            _TIMEOUT_FIELD: f"{within:g}",
        }
        async with (
            asyncio.timeout(within),
            self._client.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise AppFailure(f"it answered {response.status}")
            # A page in its place would make all of the scrape unreadable.
            content_type = response.content_type if hdrs.CONTENT_TYPE in response.headers else _PLAIN
            if content_type not in (_PLAIN, _OPENMETRICS):
                raise AppFailure(f"it answered with {content_type}")
            if response.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
                raise AppFailure("its answer is compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise AppFailure(f"it answered with more than {_MAX_BYTES} bytes")
        metrics = AppMetrics(body.decode(), content_type == _OPENMETRICS)
        line = await asyncio.to_thread(first_mistake, metrics.text)
        if line:
            # A scraper throws all of a scrape away for one such line.
            raise AppFailure(f"its answer is not metrics: line {line} cannot be read")
        return metrics


def _timeout(field: str | None) -> float:
    """How long the app is waited for, of the time that the scraper says it has."""
    try:
        given = float(field) if field is not None else _USUAL
    except ValueError:
        given = _USUAL
    return max(_SHORTEST, min(_LONGEST, given * _SHARE)) if math.isfinite(given) else _LONGEST
