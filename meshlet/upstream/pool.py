"""The connections to one endpoint: reused last in first out, bounded, and queued for where there are none.

The bound is the cluster's: its pools share one `Room`. Taking and giving back a pooled connection is plain function
calls: no task, no Future. Only opening a connection makes a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from meshlet.errors import ConnectFailure, Overflow, UpstreamError, UpstreamReset
from meshlet.http.head import HeadLimits
from meshlet.resilience.breaker import Breaker, ConnectionLimit
from meshlet.timers import NEVER, Timers
from meshlet.upstream.connect import connect
from meshlet.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.upstream.destination import Destination


class PoolSettings(NamedTuple):
    """Bounds, in seconds where they are times."""

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


class Room(ConnectionLimit):
    """The connections that the pools of a cluster may have open together, and who of them waits for one."""

    __slots__ = ("claims", "pools")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.pools: dict[Pool, None] = {}
        #: who waits, first come first; the limit's own queue, here to be looked at without a call
        self.claims = cast("dict[Pool, None]", self._waiting)

    def make(self) -> bool:
        """Say whether there is room for one more connection, after closing the one idle for longest if need be."""
        if self.count < self.limit:
            return True
        # Whoever gives a connection back while somebody waits closes it: then there are no idle ones to look for.
        if self.claims:
            return False
        idle = [pool.longest_idle for pool in self.pools if pool.idle]
        if not idle:
            return False
        min(idle, key=lambda connection: connection.idle_since).abort()
        return True


class _Waiting(NamedTuple):
    """A waiter's place in the queue."""

    deadline: float
    breaker: Breaker | None  # where it is counted as pending: it waits for a connection that may not be opened yet
    careful: bool  # as in `Pool.acquire`


# Connections must be worth keeping, and an app that restarts must not teach us to keep none.
_SHORTEST_IDLE = 1.0
# A connection that was in use so recently is taken as it is. A look is a system call, too dear for each request of a
# busy proxy; and what the app may say within this time, it may as well say a moment after the request is sent.
_UNCHECKED_FOR = 0.002  # seconds
# A learned idle timeout is believed for so long; then the configured one gets another chance.
_LEARNED_FOR = 300.0


class Pool:
    """Hands out connections to one endpoint. `wake` belongs to `Timers`."""

    def __init__(
        self, address: Destination, settings: PoolSettings, room: Room, timers: Timers, clock: Callable[[], float]
    ) -> None:
        self.address = address
        self._settings = settings
        self._room = room
        self._claims = room.claims
        room.pools[self] = None
        self._timers = timers
        self._clock = clock
        self.wake = NEVER
        self._idle: list[UpstreamConnection] = []  # the most recently used is last
        self._pending: dict[Waiter, _Waiting] = {}  # oldest first
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
    def longest_idle(self) -> UpstreamConnection:
        """The connection that has been idle for longest; there must be one."""
        return self._idle[0]

    @property
    def waits_since(self) -> float:
        """What compares the first waiters of the cluster's pools: less is longer; NEVER where nobody waits."""
        return self._next.deadline if self._pending else NEVER

    @property
    def idle_timeout(self) -> float:
        """Seconds that a connection is kept without an exchange; learned from the app where it closes earlier."""
        return self._idle_timeout

    # --- taking ---

    def acquire(self, waiter: Waiter, breaker: Breaker, now: float, *, careful: bool) -> UpstreamConnection | None:
        """Return an idle connection, or None and call `waiter` back once there is one or none can be had.

        One that the app has closed or written to is not returned, but closed: old bytes must not become an answer.
        `careful`: the request cannot be sent twice, so one that was in use just now is looked at as well. `breaker`
        bounds the queue. Raises Overflow where the queue is full.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if (careful or now - connection.idle_since >= _UNCHECKED_FOR) and connection.stale:
                self.stale_total += 1
                connection.abort()
                continue
            self.reused_total += 1
            return connection
        self.acquire_fresh(waiter, breaker, careful=careful)
        return None

    def acquire_fresh(self, waiter: Waiter, breaker: Breaker, *, careful: bool = False) -> None:
        """Call `waiter` back with a connection that has not been idle. Raises Overflow."""
        counted_by = None
        if len(self._pending) >= len(self._connecting) and not self._room.make():
            breaker.overflows["connections"] += 1
            if not breaker.may_wait():
                self.overflows_total += 1
                raise Overflow(f"{breaker.pending} requests wait for a connection already")
            breaker.pending += 1
            counted_by = breaker
        deadline = self._clock() + self._settings.pending_timeout
        self._pending[waiter] = _Waiting(deadline, counted_by, careful)
        self._open_more()
        if deadline < self.wake:
            self._timers.schedule(self, deadline)

    def cancel(self, waiter: Waiter) -> None:
        """Forget a waiter. A connection under way for it is kept for the next."""
        if waiter in self._pending:
            self._remove(waiter)

    def queues(self, waiter: Waiter) -> bool:
        """Say whether it waits because no connection could be opened for it, rather than for one under way."""
        waiting = self._pending.get(waiter)
        return waiting is not None and waiting.breaker is not None

    def reserve(self) -> None:
        """Count a relay's connection. Raises Overflow where the cluster has its fill."""
        room = self._room
        room.make()
        if not room.take():
            self.overflows_total += 1
            raise Overflow(f"{room.count} connections are open already")
        self.open += 1
        self.opened_total += 1

    def unreserve(self) -> None:
        """Undo `reserve`."""
        self.open -= 1
        self._room.give_back()

    # --- giving back ---

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Take a connection back whose exchange ended cleanly."""
        connection.idle_since = now
        if self._claims and self._must_yield():
            connection.abort()
            return
        if self._pending:
            # The app may have answered and closed; a new connection has nothing to tell yet.
            if connection.reused and self._next.careful and connection.stale:
                self.stale_total += 1
                connection.abort()
                self._open_more()
            else:
                self._first().on_stream(connection)
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
        self._room.give_back()

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
        self._room.pools.pop(self, None)
        for connection in tuple(self._idle):
            connection.abort()
        if not self._pending:
            for task in self._connecting:
                task.cancel()
            self._timers.cancel(self)

    # --- the queue ---

    @property
    def _next(self) -> _Waiting:
        """The place of the one that has waited longest; there must be one."""
        return next(iter(self._pending.values()))

    def _first(self) -> Waiter:
        """Take the one that has waited longest out of the queue."""
        waiter = next(iter(self._pending))
        self._remove(waiter)
        return waiter

    def _remove(self, waiter: Waiter) -> None:
        breaker = self._pending.pop(waiter).breaker
        if breaker is not None:
            breaker.pending -= 1
        if self._claims and len(self._pending) <= len(self._connecting):
            self._room.stop_waiting(self)

    def _must_yield(self) -> bool:
        """Whether a connection that is free now has to make room: in another pool somebody has waited for longer."""
        first = next(iter(self._claims))
        return first is not self and first.waits_since < self.waits_since

    # --- opening ---

    def _open_more(self) -> None:
        """Open a connection for every waiter that has none under way, as far as the cluster's bound allows."""
        room = self._room
        while len(self._connecting) < len(self._pending):
            if not room.take():
                room.wait(self)
                return
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connect_over)

    def on_room(self) -> None:
        """Take the place that the cluster has again; see `RoomWaiter`."""
        self._open_more()

    async def _connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        settings = self._settings
        try:
            connection = await connect(
                self.address, lambda: UpstreamConnection(self, settings.limits), settings.connect_timeout
            )
        except ConnectFailure as failure:
            self._connecting.discard(task)
            self.connect_failures_total += 1
            self._fail_first(failure, place=True)
            return
        self._connecting.discard(task)
        self.open += 1
        self.opened_total += 1
        if connection.closed:  # before it was used; `lost` is told of it, if it has not been already
            error = UpstreamReset(f"{self.address} broke the connection off as soon as it was made")
            self._fail_first(error, place=False)
            return
        # One that nobody waits for any more lies idle, and may be found closed like any that was used before.
        connection.reused = not self._pending
        self.release(connection, self._clock())

    def _connect_over(self, task: asyncio.Task[None]) -> None:
        # Cancelled; perhaps even before its first step, so `_connect` itself cannot see to it.
        if task in self._connecting:
            self._connecting.discard(task)
            self._room.give_back()

    def _fail_first(self, error: UpstreamError, *, place: bool) -> None:
        """Fail the first waiter; `place`: the cluster gets the place of its connection back."""
        waiter = self._first() if self._pending else None
        # Before the waiter is told: it may try another endpoint at once.
        if place:
            self._room.give_back()
        self._open_more()
        if waiter is not None:
            waiter.on_no_stream(error)

    # --- timers ---

    def _waited_in_vain(self) -> UpstreamError:
        timeout = self._settings.pending_timeout
        if self._connecting:  # for the one that has waited longest
            return ConnectFailure(self.address.silence(timeout))
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
            if self.waits_since > now:
                break
            self._first().on_no_stream(self._waited_in_vain())
        soonest = self._learned_until
        if self._idle:
            soonest = min(soonest, self._idle[0].idle_since + self._idle_timeout)
        if self._pending:
            soonest = min(soonest, self.waits_since)
        return soonest
