"""ASGI middleware that passes the trace context on (Starlette, FastAPI, Django, Quart, …); see docs/tracing.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlet.propagation import add_to, attach, collect, current, headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["TraceContext", "add_to", "attach", "headers"]


class TraceContext:
    """Keeps the trace context of each request, or WebSocket, for as long as the app works on it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        # Names are lower-case in ASGI.
        context = collect((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        token = current.set(context)
        try:
            # A body that is streamed is sent from in here too.
            await self._app(scope, receive, send)
        finally:
            current.reset(token)
