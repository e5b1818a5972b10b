"""Figures for those who watch: totals, of which they take differences, and the last minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from meshlet.admin.backend import AdminBackend


def routes(backend: AdminBackend) -> list[web.AbstractRouteDef]:
    """`/traffic` and `/history`."""

    async def traffic(_: web.Request) -> web.Response:
        return _json(await backend.traffic())

    async def history(_: web.Request) -> web.Response:
        return _json(await backend.history())

    return [web.get("/traffic", traffic), web.get("/history", history)]


def _json(value: object) -> web.Response:
    # Asked for every other second, for programs: not indented as the other documents are.
    return web.Response(body=msgspec.json.encode(value) + b"\n", content_type="application/json")
