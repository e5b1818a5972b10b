"""The admin port's socket. aiohttp costs 16 MB and 120 ms, so the first connection loads it, in a thread."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from meshlet.admin.backend import AdminBackend

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger(__name__)

_RETRY_DELAY = 5.0  # seconds
_SHUTDOWN_TIMEOUT = 1.0  # seconds for answers under way
_KEEPALIVE_TIMEOUT = 15.0  # seconds


class AdminServer:
    """Serves `backend` on a bound socket, which it owns from now on.

    Raises ValueError unless the socket is on loopback or a Unix socket: the port has no
    authentication. Belongs to the event loop that `start` is called in.
    """

    def __init__(self, sock: socket.socket, backend: AdminBackend) -> None:
        if not _is_local(sock):
            raise ValueError(f"the admin port has no authentication: expected a loopback address, not {_name(sock)}")
        self._sock = sock
        self._backend = backend
        self._starting: asyncio.Task[None] | None = None
        self._retry: asyncio.Handle | None = None
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Listen; connections wait in the backlog until aiohttp is loaded."""
        self._sock.setblocking(False)
        self._sock.listen(128)
        self._await_connection()

    async def close(self) -> None:
        """Stop listening, give answers under way a second, close the socket."""
        if self._starting is not None:
            # Not cancelled: an import in a thread cannot be, and half a server would be left listening.
            await asyncio.wait([self._starting])
        if self._retry is not None:
            self._retry.cancel()
        if self._runner is None:
            asyncio.get_running_loop().remove_reader(self._sock)
        else:
            await self._runner.cleanup()
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
            serve = await loop.run_in_executor(None, _load)
            self._runner = await serve(self._backend, self._sock)
        except Exception:  # noqa: BLE001 - whatever it was, it must not end the proxy
            # Out of memory or descriptors perhaps: the connection still waits and would wake us again at once.
            _log.exception("cannot serve the admin port %s, next try in %g s", _name(self._sock), _RETRY_DELAY)
            self._retry = loop.call_later(_RETRY_DELAY, self._await_connection)


def _load() -> Callable[[AdminBackend, socket.socket], Awaitable[web.AppRunner]]:
    from aiohttp import web

    from meshlet.admin.app import make_app

    async def serve(backend: AdminBackend, sock: socket.socket) -> web.AppRunner:
        runner = web.AppRunner(
            make_app(backend),
            access_log=None,
            keepalive_timeout=_KEEPALIVE_TIMEOUT,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        await runner.setup()
        await web.SockSite(runner, sock).start()
        return runner

    return serve


def _is_local(sock: socket.socket) -> bool:
    if sock.family == socket.AF_UNIX:
        return True
    return sock.family in {socket.AF_INET, socket.AF_INET6} and ip_address(sock.getsockname()[0]).is_loopback


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
