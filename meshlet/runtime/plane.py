"""The data plane of one process: listeners and clusters, made from a config and changed by the next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from random import random
from typing import TYPE_CHECKING, Any, Protocol

from meshlet.config.schema import AccessLog as AccessLogConfig
from meshlet.proxy.listener import Listener
from meshlet.proxy.request_id import RequestIds
from meshlet.proxy.settings import Runtime
from meshlet.runtime import figures
from meshlet.runtime.compile import Compiler, Snapshot
from meshlet.runtime.sockets import BindError, key_of
from meshlet.telemetry.access_log import AccessLog
from meshlet.telemetry.log import set_level
from meshlet.telemetry.metrics import Family
from meshlet.timers import Timers
from meshlet.upstream.connect import connect

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from meshlet.config.schema import Config
    from meshlet.config.units import Address
    from meshlet.upstream.endpoint import Endpoint

logger = logging.getLogger("meshlet.runtime")

# How long the start waits for host names: an app whose name is unknown must not keep the others from being reached.
_RESOLVE = 2.0  # seconds
_IDLE_CHECK = 0.02  # seconds
_DIAL = 1.0  # seconds, for a readiness check


class Plane(Protocol):
    """A data plane: one in this process, or one that is spread over workers."""

    async def apply(self, config: Config) -> None:
        """Run `config` from now on. Raises BindError or OSError, and then goes on with the config before."""

    async def families(self) -> list[Family]:
        """All metrics of the data plane."""

    async def clusters(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each cluster."""

    async def listeners(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each listener."""

    async def unreachable(self, clusters: tuple[str, ...]) -> list[str]:
        """Return why some of these clusters cannot be reached, one sentence each."""

    async def set_log_level(self, level: str) -> None:
        """Change the level of meshlet's own log."""

    async def reopen_logs(self) -> None:
        """Open the access log anew, after it was moved away."""

    async def announce_drain(self) -> None:
        """Tell clients to close their connections; new ones are still accepted."""

    async def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections."""

    async def wait_idle(self) -> None:
        """Return when no connection is open any more."""

    async def close(self) -> int:
        """End whatever is left; return how many connections that were."""


class DataPlane:
    """The data plane of this process. `bind` gives the listening socket for an address."""

    def __init__(self, bind: Callable[[Address], socket.socket], *, shared_log: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._bind = bind
        self._shared_log = shared_log
        self._timers = Timers(time.monotonic, loop.call_later)
        self._runtime = Runtime(self._timers, time.monotonic, time.time, RequestIds(), random)
        self._compiler = Compiler(self._timers, time.monotonic)
        self._snapshot: Snapshot | None = None
        self._listeners: dict[object, Listener] = {}
        self._retired: set[Listener] = set()  # removed by a reload, with connections left
        self._access_log: AccessLog | None = None
        self._access_log_config: AccessLogConfig | None = None
        self._draining = False
        self._started = time.monotonic()
        self._closing: set[asyncio.Task[None]] = set()

    # --- config ---

    async def apply(self, config: Config) -> None:
        """Run `config` from now on; see Plane."""
        log = self._open_access_log(config.telemetry.access_log)
        previous = self._snapshot
        snapshot = self._compiler.compile(config, previous, log)
        sockets = self._bind_new(config)
        for cluster in snapshot.clusters.values():
            cluster.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESOLVE):
                await asyncio.gather(*(cluster.settled.wait() for cluster in snapshot.clusters.values()))
        self._swap(snapshot, sockets)
        self._keep_access_log(log, config.telemetry.access_log)
        if previous is not None:
            for name, cluster in previous.clusters.items():
                if snapshot.clusters.get(name) is not cluster:
                    cluster.close()

    def _bind_new(self, config: Config) -> dict[object, socket.socket]:
        """Bind what is not bound yet: all of it or nothing."""
        sockets: dict[object, socket.socket] = {}
        try:
            for listener in config.listeners:
                key = key_of(listener.name, listener.address)
                if key not in self._listeners:
                    sockets[key] = self._bind(listener.address)
        except BindError:
            for sock in sockets.values():
                sock.close()
            raise
        return sockets

    def _swap(self, snapshot: Snapshot, sockets: dict[object, socket.socket]) -> None:
        self._snapshot = snapshot
        wanted = {key_of(listener.name, listener.address): listener.name for listener in snapshot.config.listeners}
        for key in [key for key in self._listeners if key not in wanted]:
            listener = self._listeners.pop(key)
            listener.stop()
            listener.drain()
            self._retired.add(listener)
        for key, name in wanted.items():
            settings = snapshot.listeners[name]
            if key in self._listeners:
                self._listeners[key].settings = settings
            else:
                self._listeners[key] = listener = Listener(sockets[key], settings, self._runtime)
                listener.draining = self._draining
                listener.start()
        self._retired = {listener for listener in self._retired if listener.connections}

    def _open_access_log(self, config: AccessLogConfig | None) -> AccessLog | None:
        if config == self._access_log_config:
            return self._access_log
        return AccessLog(config.path, config.format, shared=self._shared_log) if config is not None else None

    def _keep_access_log(self, log: AccessLog | None, config: AccessLogConfig | None) -> None:
        old = self._access_log
        self._access_log, self._access_log_config = log, config
        if old is not None and old is not log:
            task = asyncio.get_running_loop().create_task(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # --- what it tells ---

    async def families(self) -> list[Family]:
        """All metrics; see Plane."""
        stats = self._compiler.stats
        dropped = Family("meshlet_access_log_dropped_total", "counter", "Access log lines lost: the reader is slow.")
        dropped.add(self._access_log.dropped if self._access_log is not None else 0)
        return [
            *figures.request_families(stats),
            *figures.listener_families(stats, (*self._listeners.values(), *self._retired)),
            *figures.cluster_families(self._snapshot.clusters.values() if self._snapshot is not None else ()),
            *figures.process_families(time.monotonic() - self._started),
            dropped,
        ]

    async def clusters(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each cluster."""
        assert self._snapshot is not None
        return [
            {
                "name": cluster.name,
                "balancer": cluster.config.balancer,
                "error": cluster.last_error,
                "endpoints": [
                    {
                        "address": endpoint.name,
                        "state": _state(endpoint),
                        "weight": endpoint.weight,
                        "priority": endpoint.priority,
                        "zone": endpoint.zone,
                        "connections": endpoint.pool.open,
                        "idle": endpoint.pool.idle,
                        "pending": endpoint.pool.pending,
                        "requests_active": endpoint.active,
                        "requests_total": endpoint.requests_total,
                        "connect_failures_total": endpoint.pool.connect_failures_total,
                    }
                    for endpoint in cluster.endpoints
                ],
            }
            for cluster in self._snapshot.clusters.values()
        ]

    async def listeners(self) -> list[dict[str, Any]]:
        """One JSON-ready object for each listener."""
        running = [(listener, "accepting") for listener in self._listeners.values()]
        running += [(listener, "draining") for listener in self._retired if listener.connections]
        return [
            {
                "name": listener.settings.name,
                "address": listener.address,
                "protocol": listener.settings.protocol,
                "state": "draining" if listener.draining else state,
                "connections": listener.connections,
            }
            for listener, state in running
        ]

    async def unreachable(self, clusters: tuple[str, ...]) -> list[str]:
        """Return why some of these clusters cannot be reached."""
        assert self._snapshot is not None
        known = self._snapshot.clusters
        found = await asyncio.gather(*(self._reach(known[name].name) for name in clusters if name in known))
        return [reason for reason in found if reason is not None]

    async def _reach(self, name: str) -> str | None:
        from meshlet.errors import UpstreamError

        assert self._snapshot is not None
        cluster = self._snapshot.clusters[name]
        if any(endpoint.pool.open for endpoint in cluster.endpoints):
            return None
        try:
            protocol = await connect(cluster.pick().address, _Dialled, _DIAL)
        except UpstreamError as error:
            return f"cluster {name}: {error}"
        protocol.close()
        return None

    async def set_log_level(self, level: str) -> None:
        """Change the level of meshlet's own log."""
        set_level(level)

    async def reopen_logs(self) -> None:
        """Open the access log anew."""
        if self._access_log is not None:
            self._access_log.reopen()

    # --- the end ---

    async def announce_drain(self) -> None:
        """Tell clients to close."""
        self._draining = True
        for listener in self._listeners.values():
            listener.draining = True

    async def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections."""
        for listener in self._listeners.values():
            listener.stop()
            listener.drain()
        self._retired.update(self._listeners.values())
        self._listeners.clear()

    async def wait_idle(self) -> None:
        """Return when no connection is open any more."""
        # An event would need a call from every connection that ends, for the sake of the one time that meshlet does.
        while any(listener.connections for listener in (*self._listeners.values(), *self._retired)):  # noqa: ASYNC110
            await asyncio.sleep(_IDLE_CHECK)

    async def close(self) -> int:
        """End whatever is left."""
        left = 0
        for listener in (*self._listeners.values(), *self._retired):
            listener.stop()
            left += listener.connections
            listener.abort()
        if self._snapshot is not None:
            for cluster in self._snapshot.clusters.values():
                cluster.close()
        if self._access_log is not None:
            await self._access_log.close()
        return left


def _state(endpoint: Endpoint) -> str:
    if not endpoint.healthy:
        return f"unhealthy: {endpoint.health_error or 'not checked yet'}"
    return "ejected" if endpoint.ejected else "available"


class _Dialled(asyncio.Protocol):
    """A connection that is made to see whether it can be made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()
