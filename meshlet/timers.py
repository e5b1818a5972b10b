"""Coarse timers, shared by all connections of a process.

A timer per request would cost more than parsing one. So each connection (or pool) keeps a single
deadline as a plain attribute and moves it at will; it tells `Timers` only when the deadline comes
before the time it is to be woken at anyway. A request that ends in time never touches the timers.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = math.inf


class Timed(Protocol):
    """Something that wants to look at the clock now and then."""

    #: When `on_timer` is due at the latest, in the clock's seconds; kept by `Timers` alone.
    wake: float

    def on_timer(self, now: float) -> float:
        """Act on what is due and return when to be woken next, or NEVER."""
        ...


class Cancellable(Protocol):
    """The handle of a loop timer."""

    def cancel(self) -> None: ...


class Timers:
    """Wakes `Timed` items, at most `resolution` seconds late, never early.

    `clock` gives seconds; `call_later(delay, callback)` is the event loop's.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Cancellable],
        resolution: float = 0.01,
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._resolution = resolution
        self._slots: dict[int, set[Timed]] = {}
        self._order: list[int] = []  # a heap of the slots' numbers
        self._armed = math.inf  # the slot that the loop timer is set for
        self._handle: Cancellable | None = None

    def schedule(self, item: Timed, when: float) -> None:
        """Make sure that `item` is woken at `when`, or before if it was to be already."""
        if when >= item.wake:
            return
        self.cancel(item)
        item.wake = when
        slot = self._slot(when)
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = {item}
            heapq.heappush(self._order, slot)
            self._arm()
        else:
            items.add(item)

    def cancel(self, item: Timed) -> None:
        """Forget `item`; it is fine if it was never scheduled."""
        if item.wake == NEVER:
            return
        items = self._slots.get(self._slot(item.wake))
        if items is not None:
            items.discard(item)
        item.wake = NEVER

    def _slot(self, when: float) -> int:
        return math.ceil(when / self._resolution)

    def _arm(self) -> None:
        if not self._order or self._order[0] >= self._armed:
            return
        # An earlier deadline replaces the timer; without this each would start a chain of its own.
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self._order[0]
        self._handle = self._call_later(max(0.0, self._armed * self._resolution - self._clock()), self._run)

    def _run(self) -> None:
        self._armed = math.inf
        self._handle = None
        now = self._clock()
        while self._order and self._order[0] * self._resolution <= now:
            # The slot leaves the table first: what an item schedules meanwhile makes a new one.
            for item in self._slots.pop(heapq.heappop(self._order)):
                # An item that an earlier one of this slot cancelled is no longer due.
                if item.wake != NEVER:
                    item.wake = NEVER
                    when = item.on_timer(now)
                    if when < NEVER:
                        self.schedule(item, max(when, now))
        self._arm()
