"""Keeps web pages away from the admin port.

The port has no authentication and is on loopback only, but a browser on the same machine reaches
it for any page it shows. Two ways are closed: a page whose own name is made to resolve to
127.0.0.1 (DNS rebinding) is known by its Host header, a form or fetch across sites by Origin and
Sec-Fetch-Site.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 to what a web page may have sent; see the module."""
    refusal = _refusal(request)
    return web.Response(status=403, text=f"{refusal}\n") if refusal else await handler(request)


async def seal(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that keep browsers honest; for `on_response_prepare`, so that streams get them as well."""
    headers = response.headers
    headers[hdrs.SERVER] = "meshlet"
    # Nothing here may be taken for what it is not, loaded by another page, framed or kept.
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cache-Control"] = "no-store"
    # The dashboard says itself what it may load; nothing else is a page.
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")


def _refusal(request: web.Request) -> str | None:
    hosts = request.headers.getall(hdrs.HOST, [])
    # Every browser sends Host; what speaks HTTP/1.0 or over a Unix socket may not.
    if len(hosts) > 1 or (hosts and not is_loopback(hosts[0])):
        return "refused: the Host header must be localhost or a loopback address such as 127.0.0.1"
    if request.method in _SAFE_METHODS:
        return None
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and (not hosts or origin.lower() != f"http://{hosts[0].lower()}"):
        return "refused: the request comes from a web page (Origin); expected a client such as curl"
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return "refused: the request comes from a web page (Sec-Fetch-Site); expected a client such as curl"
    return None


def is_loopback(authority: str) -> bool:
    """Whether HOST or HOST:PORT names this machine only: `localhost` or a loopback address."""
    try:
        split = urlsplit(f"//{authority}")
        host, _ = split.hostname or "", split.port
        if split.netloc != authority or "@" in authority:
            return False
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
