"""WSGI middleware that passes the trace context on (Django, Flask, …); see docs/tracing.md."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from meshlet.propagation import NAMES, add_to, attach, collect, current, headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextvars import Context

    App = Callable[[dict[str, Any], Any], Iterable[bytes]]

__all__ = ["TraceContext", "add_to", "attach", "headers"]

_KEYS = {f"HTTP_{name.replace('-', '_').upper()}": name for name in NAMES}


class TraceContext:
    """Keeps the trace context of each request while the app works on it, the parts of a streamed body included."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found = collect((name, environ[key]) for key, name in _KEYS.items() if key in environ)
        # A context of its own: the server's thread, which serves others next, keeps nothing of it.
        context = copy_context()
        context.run(current.set, found)
        body = context.run(self._app, environ, start_response)
        if isinstance(body, (list, tuple)) or _is_file(body, environ):
            return body  # no code of the app runs in these; servers have shortcuts for them
        return _Body(body, context)


def _is_file(body: object, environ: dict[str, Any]) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


class _Body:
    """A body whose parts are made in the request's context, whichever thread asks for them."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self._body = body
        self._context = context
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = self._context.run(iter, self._body)
        return self._context.run(next, self._parts)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)
