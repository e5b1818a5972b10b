"""`GET /tap`: requests as they end, one JSON object for each, for as long as the reader stays.

The tap itself is in the data plane; this polls it, and the lease that each poll renews ends soon after the last one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from meshlet.config.units import Size
from meshlet.telemetry.tap import LEASE, MOST_ENTRIES, TapRead, parse_filter

_INTERVAL = 0.2  # seconds between two polls
_REFUSED = b'{"refused":'
_CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing", asyncio.Event)


class TapBackend(Protocol):
    """The part of AdminBackend that is asked here."""

    async def tap(self, read: TapRead) -> list[bytes]:
        """What came since the last read of this tap, from all processes; see telemetry.tap."""


def routes(backend: TapBackend) -> list[web.AbstractRouteDef]:
    """The endpoint."""

    async def tap(request: web.Request) -> web.StreamResponse:
        return await _serve(request, backend)

    return [web.get("/tap", tap, allow_head=False)]


def end_with(app: web.Application) -> None:
    """Have the streams of `app` end, all lines whole, as soon as the port is closed."""
    app[_CLOSING] = asyncio.Event()

    async def close(_: web.Application) -> None:
        app[_CLOSING].set()

    app.on_shutdown.append(close)


def parse(pairs: Iterable[tuple[str, str]]) -> TapRead:
    """Read the parameters: those of a filter, `bodies` and `limit`. Raises ValueError, which says what was expected."""
    bodies, limit = 0, TapRead("").max
    rest = []
    for name, text in pairs:
        if name == "bodies":
            try:
                bodies = int(Size.parse(int(text) if text.isascii() and text.isdigit() else text))
            except ValueError as error:
                raise ValueError(f"bodies: found {text[:100]!r}, expected {error}") from error
        elif name == "limit":
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_ENTRIES):
                raise ValueError(f"limit: found {text[:100]!r}, expected a number from 1 to {MOST_ENTRIES}")
            limit = int(text)
        else:
            rest.append((name, text))
    return TapRead(secrets.token_hex(8), parse_filter(rest), bodies, limit)


async def _serve(request: web.Request, backend: TapBackend) -> web.StreamResponse:
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        # Another page could not read it, but it could use up the taps.
        return web.Response(status=403, text="refused: the request comes from a web page (Sec-Fetch-Site)\n")
    try:
        read = parse(request.query.items())
    except ValueError as error:
        return web.Response(status=400, text=f"{error}\n")
    entries = await backend.tap(read)  # the answer's head says that the tap is open
    refused = next((entry for entry in entries if entry.startswith(_REFUSED)), None)
    if refused is not None:
        return web.Response(status=503, text=f"{msgspec.json.decode(refused)['refused']}\n")
    events = "text/event-stream" in request.headers.get(hdrs.ACCEPT, "")
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: "text/event-stream" if events else "application/x-ndjson; charset=utf-8"}
    )
    await response.prepare(request)
    try:
        await _stream(Poll(backend, read), entries, response.write, request.app.get(_CLOSING), events=events)
    except ConnectionError:
        pass  # the reader has gone
    finally:
        # Its lease would end soon, but until then every request would still be captured for nobody.
        with suppress(Exception):
            await backend.tap(msgspec.structs.replace(read, last=True))
    return response


class Poll:
    """Asks the data plane again and again."""

    def __init__(self, backend: TapBackend, read: TapRead, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._read = read
        self._clock = clock
        self._last = clock()

    async def __call__(self) -> list[bytes]:
        silent = self._clock() - self._last
        entries = await self._backend.tap(self._read)
        self._last = self._clock()
        if silent > LEASE:
            # The reader took so long for what it got that the tap was closed, and is a new one now.
            entries.insert(0, msgspec.json.encode({"paused": round(silent, 1)}))
        return entries


async def _stream(
    poll: Poll,
    entries: list[bytes],
    write: Callable[[bytes], Awaitable[None]],
    closing: asyncio.Event | None,
    *,
    events: bool,
) -> None:
    """Write what comes, and something in each interval, so that a reader that is gone is noticed."""
    before, after, nothing = (b"data: ", b"\n\n", b":\n\n") if events else (b"", b"\n", b"\n")
    while True:
        await write(b"".join([before + entry + after for entry in entries]) or nothing)
        if closing is None:
            await asyncio.sleep(_INTERVAL)
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), _INTERVAL)
            if closing.is_set():
                return
        entries = await poll()
