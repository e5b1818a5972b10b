"""The page at `/` of the admin port, for browsers: a few static files that ask the other endpoints for everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from meshlet.admin.backend import AdminBackend

_FOLDER = Path(__file__).parent / "pages"

_SCRIPT, _STYLE, _IMAGE = "text/javascript", "text/css", "image/svg+xml"

#: What `/dashboard/NAME` serves. Names are looked up here, so no path of a client ever reaches the file system.
FILES = {
    "api.js": _SCRIPT,
    "app.js": _SCRIPT,
    "chart.js": _SCRIPT,
    "clusters.js": _SCRIPT,
    "config.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "failures.js": _SCRIPT,
    "figures.js": _SCRIPT,
    "format.js": _SCRIPT,
    "icon.svg": _IMAGE,
    "model.js": _SCRIPT,
    "overview.js": _SCRIPT,
    "picture.js": _SCRIPT,
    "server.js": _SCRIPT,
    "style.css": _STYLE,
    "tap.js": _SCRIPT,
    "theme.js": _SCRIPT,
}

# Paths, headers and names that strangers chose are shown here. Only the page's own files may run or be loaded, it may
# ask this port alone, and Trusted Types keeps its scripts from making HTML out of text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def wanted(request: web.Request) -> bool:
    """Whether a browser asks for a page to show, and not curl or a script for a list."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


async def page(_: web.Request) -> web.Response:
    """The page itself."""
    response = await _file("index.html", "text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def routes(_: AdminBackend) -> list[web.AbstractRouteDef]:
    """The files that the page loads."""
    return [web.get("/dashboard/{file}", _asset)]


async def _asset(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if name not in FILES:
        raise web.HTTPNotFound
    return await _file(name, FILES[name])


async def _file(name: str, content_type: str) -> web.Response:
    body = await asyncio.to_thread((_FOLDER / name).read_bytes)
    return web.Response(body=body, content_type=content_type, charset="utf-8")
