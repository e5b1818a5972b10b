"""The connections to one endpoint: reused last in first out, bounded, and queued for where there are none.

Taking and giving back a pooled connection is plain function calls: no task, no Future. Only opening
a connection makes a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from meshlet.errors import ConnectFailure, Overflow, UpstreamError, UpstreamReset
from meshlet.http.head import HeadLimits
from meshlet.timers import NEVER, Timers
from meshlet.upstream.connect import connect
from meshlet.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.units import Address


class PoolSettings(NamedTuple):
    """Bounds in numbers and seconds."""

    max_connections: int
    max_pending: int
    connect_timeout: float
    pending_timeout: float
    idle_timeout: float
    limits: HeadLimits


class Waiter(Protocol):
    """An exchange that waits for a connection."""

    def on_stream(self, stream: UpstreamConnection) -> None:
        """Take the connection."""
        ...

    def on_no_stream(self, error: UpstreamError) -> None:
        """There is none to be had."""
        ...


# Connections must be worth keeping, and an app that restarts must not teach us to keep none.
_SHORTEST_IDLE = 1.0
# A learned idle timeout is believed for so long; then the configured one gets another chance.
_LEARNED_FOR = 300.0


class Pool:
    """Hands out connections to one address. `wake` belongs to `Timers`."""

    def __init__(self, address: Address, settings: PoolSettings, timers: Timers, clock: Callable[[], float]) -> None:
        self.address = address
        self._settings = settings
        self._timers = timers
        self._clock = clock
        self.wake = NEVER
        self._idle: list[UpstreamConnection] = []  # the most recently used is last
        self._pending: dict[Waiter, float] = {}  # with the time it gives up at; oldest first
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        self._idle_timeout = settings.idle_timeout
        self._learned_until = NEVER
        # figures
        self.open = 0  # connections, relays included
        self.opened_total = 0
        self.connect_failures_total = 0
        self.overflows_total = 0
        self.reused_total = 0
        self.stale_total = 0

    def __repr__(self) -> str:
        return (
            f"<Pool {self.address} open={self.open} idle={len(self._idle)} "
            f"connecting={len(self._connecting)} pending={len(self._pending)}>"
        )

    @property
    def idle(self) -> int:
        """Connections without an exchange."""
        return len(self._idle)

    @property
    def pending(self) -> int:
        """Exchanges that wait for a connection."""
        return len(self._pending)

    @property
    def idle_timeout(self) -> float:
        """Seconds that a connection is kept without an exchange; learned from the app where it closes earlier."""
        return self._idle_timeout

    # --- taking ---

    def acquire(self, waiter: Waiter, *, careful: bool) -> UpstreamConnection | None:
        """Return an idle connection, or None and call `waiter` back once there is one or none can be had.

        `careful`: the request cannot be sent twice, so a connection that the app may just have closed is
        looked at first. Raises Overflow where the queue is full.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if careful and connection.stale:
                self.stale_total += 1
                connection.abort()
                continue
            self.reused_total += 1
            return connection
        self.acquire_fresh(waiter)
        return None

    def acquire_fresh(self, waiter: Waiter) -> None:
        """Call `waiter` back with a connection that has not been idle. Raises Overflow."""
        settings = self._settings
        full = self.open + len(self._connecting) >= settings.max_connections
        if full and len(self._pending) >= settings.max_pending:
            self.overflows_total += 1
            raise Overflow(f"{len(self._pending)} requests wait for a connection already")
        deadline = self._clock() + settings.pending_timeout
        self._pending[waiter] = deadline
        self._open_more()
        if deadline < self.wake:
            self._timers.schedule(self, deadline)

    def cancel(self, waiter: Waiter) -> None:
        """Forget a waiter. A connection under way for it is kept for the next."""
        self._pending.pop(waiter, None)

    def reserve(self) -> None:
        """Count a relay's connection. Raises Overflow where the endpoint has its fill."""
        if self.open + len(self._connecting) >= self._settings.max_connections:
            self.overflows_total += 1
            raise Overflow(f"{self.open} connections are open already")
        self.open += 1
        self.opened_total += 1

    def unreserve(self) -> None:
        """Undo `reserve`."""
        self.open -= 1
        self._open_more()

    # --- giving back ---

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Take a connection back whose exchange ended cleanly."""
        connection.idle_since = now
        if self._pending:
            waiter = next(iter(self._pending))
            del self._pending[waiter]
            waiter.on_stream(connection)
            return
        if self._closed:
            connection.abort()
            return
        self._idle.append(connection)
        expiry = now + self._idle_timeout
        if expiry < self.wake:
            self._timers.schedule(self, expiry)

    def lost(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is closed, or has become a tunnel."""
        if connection in self._idle:
            self._idle.remove(connection)
        self.open -= 1
        self._open_more()

    def learn_idle_timeout(self, seconds: float) -> None:
        """Close idle connections before `seconds`, after which the app is known to close them."""
        learned = max(seconds * 0.8, _SHORTEST_IDLE)
        # A connection that died in full use says nothing about idle ones.
        if seconds >= _SHORTEST_IDLE and learned < self._idle_timeout:
            self._idle_timeout = learned
            self._learned_until = self._clock() + _LEARNED_FOR
            self._timers.schedule(self, self._clock())

    def close(self) -> None:
        """Close what is idle now and the rest as it comes back; the endpoint is no longer used."""
        self._closed = True
        for connection in tuple(self._idle):
            connection.abort()
        if not self._pending:
            for task in self._connecting:
                task.cancel()
            self._timers.cancel(self)

    # --- opening ---

    def _open_more(self) -> None:
        """Open a connection for every waiter that has none under way, as far as the bounds allow."""
        while (
            len(self._connecting) < len(self._pending)
            and self.open + len(self._connecting) < self._settings.max_connections
        ):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)

    async def _connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        settings = self._settings
        try:
            connection = await connect(
                self.address, lambda: UpstreamConnection(self, settings.limits), settings.connect_timeout
            )
        except ConnectFailure as error:
            self._connecting.discard(task)
            self.connect_failures_total += 1
            self._fail_first(error)
            return
        except asyncio.CancelledError:
            self._connecting.discard(task)
            raise
        self._connecting.discard(task)
        self.open += 1
        self.opened_total += 1
        if connection.closed:  # before it was used, so `lost` has been told already
            self._fail_first(UpstreamReset(f"{self.address} broke the connection off as soon as it was made"))
            return
        # One that nobody waits for any more lies idle, and may be found closed like any that was used before.
        connection.reused = not self._pending
        self.release(connection, self._clock())

    def _fail_first(self, error: UpstreamError) -> None:
        if self._pending:
            waiter = next(iter(self._pending))
            del self._pending[waiter]
            waiter.on_no_stream(error)
        self._open_more()

    # --- timers ---

    def _waited_in_vain(self) -> UpstreamError:
        timeout = self._settings.pending_timeout
        if self._connecting:  # for the one that has waited longest
            return ConnectFailure(f"no connection to {self.address} within {timeout:g} s")
        self.overflows_total += 1
        return Overflow(f"no free connection within {timeout:g} s")

    def on_timer(self, now: float) -> float:
        """Close what was idle too long, fail who waited too long; return when to look again."""
        if now >= self._learned_until:
            self._idle_timeout = self._settings.idle_timeout
            self._learned_until = NEVER
        while self._idle and self._idle[0].idle_since + self._idle_timeout <= now:
            self._idle[0].abort()
        while self._pending:
            waiter, deadline = next(iter(self._pending.items()))
            if deadline > now:
                break
            del self._pending[waiter]
            waiter.on_no_stream(self._waited_in_vain())
        soonest = self._learned_until
        if self._idle:
            soonest = min(soonest, self._idle[0].idle_since + self._idle_timeout)
        if self._pending:
            soonest = min(soonest, next(iter(self._pending.values())))
        return soonest
