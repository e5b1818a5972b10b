"""Passes the trace context of a request on to the requests that its app makes; see docs/tracing.md.

For apps behind meshlet. It makes no spans (the sidecars do), and imports neither the proxy nor any library: the hooks
for aiohttp, httpx and requests know those by their interfaces alone.

The context is a context variable, so it follows tasks, `asyncio.to_thread` and what is awaited. A thread, or a job
given to an executor, starts without it unless it runs in a copy: `pool.submit(contextvars.copy_context().run, job)`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

REQUEST_ID = "x-request-id"
#: field names of W3C Trace Context and of B3, and the request id
NAMES = frozenset(
    {
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        REQUEST_ID,
    }
)
# Any of these says which span a request belongs to.
_PARENTS = ("traceparent", "b3", "x-b3-traceid")

_NOTHING: Mapping[str, str] = {}
#: of the request that is being answered; never changed, only replaced
current: ContextVar[Mapping[str, str]] = ContextVar("meshlet_trace_context", default=_NOTHING)


class HasHeaders(Protocol):
    """A request about to be sent, of whatever library."""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Its fields; names in any case mean the same."""
        ...


def collect(fields: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Take the context out of a request's fields, given with lower-case names.

    Fields of one name are joined by commas (RFC 9110 section 5.2), which tracestate may be. Two of traceparent become
    an invalid one, and whoever reads it begins a new trace, as the W3C has it.
    """
    found: dict[str, str] = {}
    for name, value in fields:
        if name in NAMES:
            found[name] = f"{found[name]},{value}" if name in found else value
    return found


def headers() -> dict[str, str]:
    """Return the fields to add to a request that is made in answer to another one; empty outside of any."""
    return dict(current.get())


def add_to(fields: MutableMapping[str, str]) -> None:
    """Add the context to the fields of an outgoing request: a mapping that takes names in any case, or has lower case.

    What is there already stays. A request that names a span of its own, because the app makes some, belongs to that
    one: it gets the request id alone.
    """
    context = current.get()
    if any(name in fields for name in _PARENTS):
        if REQUEST_ID in context:
            fields.setdefault(REQUEST_ID, context[REQUEST_ID])
        return
    for name, value in context.items():
        fields.setdefault(name, value)


# --- clients ---


async def aiohttp_hook(session: object, trace: object, params: HasHeaders) -> None:  # noqa: ARG001
    """For `aiohttp.TraceConfig().on_request_start`."""
    add_to(params.headers)


def httpx_hook(request: HasHeaders) -> None:
    """For `httpx.Client(event_hooks={"request": [httpx_hook]})`."""
    add_to(request.headers)


async def httpx_async_hook(request: HasHeaders) -> None:
    """For `httpx.AsyncClient(event_hooks={"request": [httpx_async_hook]})`."""
    add_to(request.headers)


def attach(session: Any) -> None:
    """Have a `requests.Session` pass the context on, redirects included.

    Its only hook for requests is `auth`, which a call with an `auth` of its own would switch off; so this one goes
    around `send`, through which everything passes.
    """
    send: Callable[..., object] = session.send

    def send_with_context(request: HasHeaders, **options: object) -> object:
        add_to(request.headers)
        return send(request, **options)

    session.send = send_with_context


# --- a server that is neither ASGI nor WSGI ---


async def aiohttp_middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """For `aiohttp.web.Application(middlewares=[aiohttp_middleware])`."""
    # Not put back afterwards: aiohttp writes a streamed body after its middlewares, in the same task, which is this
    # request's alone.
    current.set(collect((name.lower(), value) for name, value in request.headers.items()))
    return await handler(request)


# What `aiohttp.web.middleware` sets: without it aiohttp 3 takes this for a factory of its oldest releases.
aiohttp_middleware.__middleware_version__ = 1  # type: ignore[attr-defined]
