"""A socket that aiohttp serves. It costs 16 MB and 120 ms, so the first connection loads it, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from meshlet.admin.connections import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    Close = Callable[[], Awaitable[None]]
    Serve = Callable[[socket.socket], Awaitable[Close]]

_log = logging.getLogger(__name__)

_RETRY_DELAY = 1.0  # seconds


class LazyServer:
    """Serves a bound socket, which it owns from now on, once somebody connects.

    `load` imports what it takes, in a thread, and returns what begins to serve the socket in the event loop; that in
    turn returns what ends it. `what` names the port in the log.
    Belongs to the event loop that `start` is called in.
    """

    def __init__(self, sock: socket.socket, load: Callable[[], Serve], what: str) -> None:
        self._sock = sock
        self._load = load
        self._what = what
        self._starting: asyncio.Task[None] | None = None
        self._retry: asyncio.Handle | None = None
        self._told = False  # why the connection that waits cannot be served
        self._close: Close | None = None

    def start(self) -> None:
        """Listen; connections wait in the backlog until they can be served."""
        self._sock.setblocking(False)
        self._sock.listen(BACKLOG)
        self._await_connection()

    async def close(self) -> None:
        """Stop listening, give answers under way a moment, close the socket."""
        if self._starting is not None:
            # Not cancelled: an import in a thread cannot be, and half a server would be left listening.
            await asyncio.wait([self._starting])
        if self._retry is not None:
            self._retry.cancel()
        if self._close is None:
            asyncio.get_running_loop().remove_reader(self._sock)
        else:
            await self._close()
        self._sock.close()

    def _await_connection(self) -> None:
        asyncio.get_running_loop().add_reader(self._sock, self._on_connection)

    def _on_connection(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._starting = loop.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            serve = await loop.run_in_executor(None, self._load)
            self._close = await serve(self._sock)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the proxy
            # Out of memory or descriptors perhaps, so without a traceback, which would take some of both. What was
            # imported by then stays, and the next try goes on from there.
            turned_away = self._turn_away()
            if turned_away or not self._told:
                why = f"{type(error).__name__}: {error}"
                _log.error("cannot serve %s: %s; the next connection tries again", self._what, why)
            self._told = not turned_away
            # A connection that could not even be closed still waits, and would wake us again at once.
            self._retry = loop.call_later(_RETRY_DELAY, self._await_connection)

    def _turn_away(self) -> bool:
        """Close the connections that wait; say whether there was one that could be."""
        done = False
        with contextlib.suppress(OSError):
            for _ in range(BACKLOG):
                self._sock.accept()[0].close()
                done = True
        return done


def name_of(sock: socket.socket) -> str:
    """Return a bound socket's address as the log has it."""
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
