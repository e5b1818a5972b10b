"""The data plane of one process: listeners and clusters, made from a config and changed by the next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from random import random
from typing import TYPE_CHECKING, Any, Protocol

from meshlet.proxy.listener import Listener
from meshlet.proxy.request_id import RequestIds
from meshlet.proxy.settings import Runtime
from meshlet.runtime import figures
from meshlet.runtime.compile import Compiler, Snapshot
from meshlet.runtime.left import Left
from meshlet.runtime.recorders import Recorders
from meshlet.runtime.sockets import BindError, key_of
from meshlet.runtime.traffic import state_of, traffic
from meshlet.telemetry.log import lost_lines, set_level
from meshlet.telemetry.metrics import Family
from meshlet.telemetry.tap import Taps
from meshlet.timers import Timers
from meshlet.upstream.connect import connect

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from meshlet.config.schema import Config
    from meshlet.config.units import Address
    from meshlet.telemetry.tap import TapRead
    from meshlet.telemetry.traffic import Traffic

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

    async def traffic(self) -> Traffic:
        """Totals of routes and endpoints, for whoever watches them live."""

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What is kept of a request that failed or was slow: one JSON-ready object each time, the newest last."""

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last requests that failed or were slow, the newest first."""

    async def tap(self, read: TapRead) -> list[bytes]:
        """What has come for a tap since it was read last, opening it the first time: JSON objects."""

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

    async def close(self) -> Left:
        """End whatever is left; return what that was."""

    def kill(self) -> None:
        """End other processes at once; this one is about to."""


class DataPlane:
    """The data plane of this process. `bind` gives the listening socket for an address."""

    def __init__(self, bind: Callable[[Address], socket.socket], *, shared_log: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._bind = bind
        self._shared_log = shared_log
        self._timers = Timers(time.monotonic, loop.call_later)
        self._taps = Taps(self._timers, time.monotonic)
        self._runtime = Runtime(self._timers, time.monotonic, time.time, RequestIds(), random, self._taps)
        self._compiler = Compiler(self._timers, time.monotonic)
        self._snapshot: Snapshot | None = None
        self._listeners: dict[object, Listener] = {}
        self._retired: set[Listener] = set()  # removed by a reload, with connections left
        self._recorders: Recorders | None = None
        self._lag = figures.LoopLag(loop, time.monotonic)
        self._lag.start()
        self._draining = False
        self._stopped = False  # accepts no more connections, whatever is applied
        self._started = time.monotonic()
        self._closing: set[asyncio.Task[None]] = set()

    # --- config ---

    async def apply(self, config: Config) -> None:
        """Run `config` from now on; see Plane."""
        recorders = Recorders(config.telemetry, self._recorders, shared_log=self._shared_log)
        previous = self._snapshot
        try:
            recorders.open_logs()
            snapshot = self._compiler.compile(config, previous, recorders)
            sockets = self._bind_new(config)
            try:
                await self._settle(snapshot)
            except BaseException:
                for sock in sockets.values():
                    sock.close()
                _close_clusters(snapshot, previous)
                raise
        except BaseException:
            await recorders.close(besides=self._recorders)
            raise
        self._swap(snapshot, sockets)
        self._record_to(recorders)
        self._taps.configure(config.telemetry.tap.redact, config.telemetry.tap.max_body)
        if previous is not None:
            _close_clusters(previous, snapshot)

    async def _settle(self, snapshot: Snapshot) -> None:
        """Give the clusters a moment to find their endpoints. Raises OSError where the end has begun meanwhile."""
        for cluster in snapshot.clusters.values():
            cluster.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESOLVE):
                await asyncio.gather(*(cluster.settled.wait() for cluster in snapshot.clusters.values()))
        if self._stopped:
            raise OSError("no more connections are accepted")

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

    def _record_to(self, recorders: Recorders) -> None:
        old, self._recorders = self._recorders, recorders
        if old is not None:
            task = asyncio.get_running_loop().create_task(old.close(besides=recorders))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # --- what it tells ---

    async def families(self) -> list[Family]:
        """All metrics; see Plane."""
        stats = self._compiler.stats
        recorders = self._recorders
        return [
            *figures.request_families(stats, self._compiler.buckets),
            *figures.listener_families(stats, (*self._listeners.values(), *self._retired)),
            *figures.cluster_families(self._snapshot.clusters.values() if self._snapshot is not None else ()),
            *figures.process_families(time.monotonic() - self._started, self._lag),
            *figures.log_families(lost_lines()),
            *(recorders.families(self._taps.dropped) if recorders is not None else ()),
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
                        "connects_to": endpoint.address.preferred,
                        "state": state_of(endpoint),
                        "weight": endpoint.weight,
                        "priority": endpoint.priority,
                        "zone": endpoint.zone,
                        "connections": endpoint.pool.open,
                        "idle": endpoint.pool.idle,
                        "pending": endpoint.pool.pending,
                        "requests_active": endpoint.active,
                        "requests_total": endpoint.requests_total,
                        "failures_total": endpoint.failures_total,
                        "connect_failures_total": endpoint.pool.connect_failures_total,
                    }
                    for endpoint in cluster.endpoints
                ],
            }
            for cluster in self._snapshot.clusters.values()
        ]

    async def traffic(self) -> Traffic:
        """Totals of routes and endpoints."""
        assert self._snapshot is not None
        return traffic(self._compiler.stats, self._snapshot.clusters.values(), self._compiler.buckets, time.time())

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What is kept of a request that failed or was slow."""
        kept = self._recorders.explanations if self._recorders is not None else None
        return kept.find(request_id) if kept is not None else []

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last requests that failed or were slow, the newest first."""
        kept = self._recorders.explanations if self._recorders is not None else None
        return kept.recent(limit) if kept is not None else []

    async def tap(self, read: TapRead) -> list[bytes]:
        """What has come for a tap since it was read last."""
        return self._taps.read(read)

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
        """Open the access logs anew; one that cannot be opened goes on with the file that it has."""
        for log in self._recorders.logs if self._recorders is not None else ():
            try:
                log.reopen()
            except OSError as error:
                logger.error("cannot open an access log anew: %s", error)  # noqa: TRY400 - there is nothing to trace

    # --- the end ---

    async def announce_drain(self) -> None:
        """Tell clients to close."""
        self._draining = True
        for listener in self._listeners.values():
            listener.draining = True

    async def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections."""
        self._stopped = True
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

    async def abort(self) -> int:
        """Cut the connections that are left; return how many that were."""
        left = 0
        for listener in (*self._listeners.values(), *self._retired):
            listener.stop()
            left += listener.connections
            listener.abort()
        return left

    async def close(self) -> Left:
        """End whatever is left."""
        left = await self.abort()
        if self._snapshot is not None:
            for cluster in self._snapshot.clusters.values():
                cluster.close()
        self._lag.stop()
        if self._recorders is not None:
            await self._recorders.close()
        return Left(left)

    def kill(self) -> None:
        """There are no other processes."""


def _close_clusters(snapshot: Snapshot, besides: Snapshot | None) -> None:
    """Close the clusters of a snapshot that the other one does not have."""
    kept = besides.clusters if besides is not None else {}
    for name, cluster in snapshot.clusters.items():
        if kept.get(name) is not cluster:
            cluster.close()


class _Dialled(asyncio.Protocol):
    """A connection that is made to see whether it can be made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()
