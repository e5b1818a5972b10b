"""Where a request begins and ends, for ports that aiohttp serves. Importing this module loads aiohttp."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshlet.admin.connections import Connections

_Request = TypeVar("_Request", bound=web.BaseRequest)


async def answer_within(
    connections: Connections, request: _Request, handler: Callable[[_Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Have `handler` answer; the connection counts as within the request until all of the answer is written."""
    with connections.request(request.transport):
        response = await handler(request)
        # aiohttp does this as soon as it has the response, and then finds it done. A client that is gone is its affair.
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
    return response
