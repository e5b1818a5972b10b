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

# So many numbers of slots that are gone may always be left in the heap.
_FEW = 64


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

    `clock` gives seconds; `call_later(delay, callback)` is the event loop's, and may call too soon.
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
        self._slots: dict[int, set[Timed]] = {}  # none of them empty
        self._order: list[int] = []  # a heap of the slots' numbers, with some of slots that are gone
        self._due: set[Timed] = set()  # out of their slots already, about to be woken
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
        slot = self._slot(item.wake)
        item.wake = NEVER
        self._due.discard(item)
        items = self._slots.get(slot)
        if items is not None:
            items.discard(item)
            if not items:
                self._remove(slot)

    def _slot(self, when: float) -> int:
        return math.ceil(when / self._resolution)

    def _remove(self, slot: int) -> None:
        del self._slots[slot]
        # A heap gives up its least item only; but short connections with a timeout of an hour must not leave a number
        # behind for each slot of that hour.
        if len(self._order) > 2 * len(self._slots) + _FEW:
            self._order = list(self._slots)
            heapq.heapify(self._order)

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
        # All due slots leave the table first: what an item schedules meanwhile waits for another run, so that none
        # can keep this one going for ever.
        while self._order and self._order[0] * self._resolution <= now:
            self._due |= self._slots.pop(heapq.heappop(self._order), set())
        try:
            while self._due:
                item = self._due.pop()
                item.wake = NEVER
                when = item.on_timer(now)
                if when < NEVER:
                    self.schedule(item, max(when, now))
        finally:
            if self._due:  # one that raises must not keep the others from being woken
                self._armed = -math.inf
                self._handle = self._call_later(0.0, self._run)
            else:
                self._arm()
