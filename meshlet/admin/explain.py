"""GET /explain: why a request failed or took long, by its id, or the last ones that did."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from aiohttp import hdrs, web

from meshlet.telemetry.explain.text import as_text

if TYPE_CHECKING:
    from meshlet.admin.backend import AdminBackend, Dump

_LIMIT = 50
_MOST = 1000


def routes(backend: AdminBackend) -> list[web.AbstractRouteDef]:
    """The endpoints of this module."""

    async def explain(request: web.Request) -> web.Response:
        accepts_json = "application/json" in request.headers.get(hdrs.ACCEPT, "")
        wanted = request.query.get("format", "json" if accepts_json else "text")
        if wanted not in ("text", "json"):
            return _plain("format: expected text or json\n", 400)
        request_id = request.match_info.get("id") or request.query.get("id")
        if request_id is None:
            limit = _limit(request.query.get("limit", str(_LIMIT)))
            if limit is None:
                return _plain(f"limit: expected a number from 1 to {_MOST}\n", 400)
            found = await backend.recent(limit)
        else:
            found = await backend.explain(request_id)
            if not found:
                return _plain(_NOT_KEPT, 404)
        # Many are a few milliseconds' work, in which the event loop has better to do.
        body = await asyncio.to_thread(_as_json if wanted == "json" else _as_text, found)
        return web.Response(
            body=body, content_type="application/json" if wanted == "json" else "text/plain", charset="utf-8"
        )

    return [web.get("/explain", explain), web.get("/explain/{id}", explain)]


_NOT_KEPT = (
    "nothing is kept about this request. Kept are requests that failed (5xx, or a response flag), took longer than "
    "telemetry.explain.slow or needed more than one try; of those each worker keeps the last 500, or what "
    "telemetry.explain.keep and max_bytes say. GET /explain lists them; the access log has the others.\n"
)


def _limit(text: str) -> int | None:
    """Read a number within the bounds, else None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST else None


def _as_json(found: list[Dump]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _as_text(found: list[Dump]) -> bytes:
    return (as_text(found) or "no request has failed or was slow\n").encode()


def _plain(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status)
