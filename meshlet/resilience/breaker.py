"""Circuit breakers: upper bounds of what a cluster holds at once, so that a slow app costs a 503 and not our memory.

The counts are Envoy's (requests, pending, retries, connections), and so is the retry budget: retries are a share of
the requests in flight, because a fixed number is too many for an idle cluster and too few for a busy one. Only retries
of what an app may have seen are counted: what none has seen adds no load that one would have to be spared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlet.errors import Overflow

if TYPE_CHECKING:
    from meshlet.config.schema import CircuitBreaker, HighPriority, RetryBudget


class Breaker:
    """What the requests of one cluster and priority hold at once.

    `enter` and `leave` frame each request. `pending` is counted by whoever queues requests, after asking `may_wait`.
    """

    __slots__ = (
        "_budget_least",
        "_budget_percent",
        "max_pending",
        "max_requests",
        "max_retries",
        "overflows",
        "pending",
        "requests",
        "retries",
    )

    def __init__(self, limits: CircuitBreaker | HighPriority, budget: RetryBudget) -> None:
        self.max_requests = limits.max_requests
        self.max_pending = limits.max_pending
        self.max_retries = limits.max_retries  # besides the budget; None for no such bound
        self._budget_least = budget.min_concurrency
        self._budget_percent = budget.percent
        # in flight
        self.requests = 0
        self.pending = 0
        self.retries = 0
        #: How often a bound was met, by what is bounded; `connections` is counted by the pools, whose bound it is.
        self.overflows = {"requests": 0, "pending": 0, "retries": 0, "connections": 0}

    def __repr__(self) -> str:
        return f"<Breaker requests={self.requests} pending={self.pending} retries={self.retries}>"

    def enter(self) -> None:
        """Count a request. Raises Overflow."""
        if self.requests >= self.max_requests:
            raise self.overflow()
        self.requests += 1

    def overflow(self) -> Overflow:
        """Count a request that met the bound, and return its error."""
        self.overflows["requests"] += 1
        return Overflow(f"{self.requests} requests are in flight already")

    def leave(self) -> None:
        """Count a request no longer."""
        self.requests -= 1

    def may_wait(self) -> bool:
        """Say whether one more request may queue for a connection."""
        if self.pending < self.max_pending:
            return True
        self.overflows["pending"] += 1
        return False

    @property
    def retries_left(self) -> int:
        """How many more retries the budget allows right now."""
        allowed = max(self._budget_least, int(self._budget_percent * self.requests / 100))
        if self.max_retries is not None and self.max_retries < allowed:
            allowed = self.max_retries
        return max(0, allowed - self.retries)

    def try_retry(self) -> bool:
        """Count a retry, its pause included, until `retry_over`; or say that there is no room for it."""
        if not self.retries_left:
            self.overflows["retries"] += 1
            return False
        self.retries += 1
        return True

    def retry_over(self) -> None:
        """Count a retry no longer."""
        self.retries -= 1


class RoomWaiter(Protocol):
    """Someone who wants a connection that the limit forbade."""

    def on_room(self) -> None:
        """There is room again: `take` it, or leave it to the next who waits."""
        ...


class ConnectionLimit:
    """The connections of a whole cluster, whichever endpoint and priority they are for."""

    __slots__ = ("_handing_out", "_room", "_waiting", "count", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self._waiting: dict[RoomWaiter, None] = {}  # first come, first served
        self._handing_out = False
        self._room = False  # a place was given back and not offered yet

    def __repr__(self) -> str:
        return f"<ConnectionLimit {self.count} of {self.limit}, waiting={len(self._waiting)}>"

    def take(self) -> bool:
        """Count a connection if there is room for it; else `wait` tells when to ask again."""
        if self.count >= self.limit:
            return False
        self.count += 1
        return True

    def give_back(self) -> None:
        """Count a connection no longer, and offer its place to who waits."""
        self.count -= 1
        if not self._waiting:
            return
        self._room = True
        # A waiter may give its place back at once; it is offered from here, not from ever deeper calls.
        if not self._handing_out:
            self._hand_out()

    def wait(self, who: RoomWaiter) -> None:
        """Call `who.on_room()` once, when it is its turn; to wait twice at once makes no difference."""
        self._waiting[who] = None

    def stop_waiting(self, who: RoomWaiter) -> None:
        """Do not call `who` any more; it is fine if it does not wait."""
        self._waiting.pop(who, None)

    def _hand_out(self) -> None:
        self._handing_out = True
        try:
            while self._room:
                self._room = False
                # Who declines and waits again comes last, and is not asked again for the same place.
                for _ in range(len(self._waiting)):
                    if not self._waiting or self.count >= self.limit:
                        break
                    who = next(iter(self._waiting))
                    del self._waiting[who]
                    who.on_room()
        finally:
            self._handing_out = False
