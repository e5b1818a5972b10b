"""The admin port's socket."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from meshlet.admin.connections import Connections
from meshlet.admin.lazy import LazyServer, name_of

if TYPE_CHECKING:
    from meshlet.admin.backend import AdminBackend
    from meshlet.admin.lazy import Close, Serve

_SHUTDOWN_TIMEOUT = 1.0  # seconds for answers under way
_KEEPALIVE_TIMEOUT = 15.0  # seconds
_MAX_CONNECTIONS = 128


class AdminServer(LazyServer):
    """Serves `backend` on a bound socket, which it owns from now on.

    Raises ValueError unless the socket is on loopback or a Unix socket: the port has no
    authentication. Belongs to the event loop that `start` is called in.
    """

    def __init__(self, sock: socket.socket, backend: AdminBackend) -> None:
        if not _is_local(sock):
            raise ValueError(f"the admin port has no authentication: expected a loopback address, not {name_of(sock)}")
        super().__init__(sock, lambda: _load(backend), f"the admin port {name_of(sock)}")


def _load(backend: AdminBackend) -> Serve:
    from aiohttp import web

    from meshlet.admin.app import make_app
    from meshlet.admin.server_log import SERVER_LOG

    async def serve(sock: socket.socket) -> Close:
        connections = Connections(_MAX_CONNECTIONS)
        runner = web.AppRunner(
            make_app(backend, connections),
            access_log=None,
            logger=SERVER_LOG,
            keepalive_timeout=_KEEPALIVE_TIMEOUT,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        await runner.setup()
        assert runner.server is not None
        listener = await connections.serve(sock, runner.server)

        async def close() -> None:
            listener.close()
            await runner.cleanup()

        return close

    return serve


def _is_local(sock: socket.socket) -> bool:
    if sock.family == socket.AF_UNIX:
        return True
    return sock.family in {socket.AF_INET, socket.AF_INET6} and ip_address(sock.getsockname()[0]).is_loopback
