from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.timers import NEVER, Timers

if TYPE_CHECKING:
    from collections.abc import Callable


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A clock that moves only by `advance`, and what was to be called by then."""

    def __init__(self, now: float = 1000.0, early: float = 0.0) -> None:
        self.now = now
        self._early = early  # how much too soon it calls, as a loop with a coarse clock does
        self._calls: list[tuple[float, int, Callable[[], None], Handle]] = []
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        assert delay >= 0
        handle = Handle()
        when = self.now + max(delay - self._early, 1e-4)
        heapq.heappush(self._calls, (when, next(self._numbers), callback, handle))
        return handle

    @property
    def pending(self) -> int:
        return sum(not handle.cancelled for *_, handle in self._calls)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._calls and self._calls[0][0] <= end:
            when, _, callback, handle = heapq.heappop(self._calls)
            self.now = max(self.now, when)
            if not handle.cancelled:
                callback()
        self.now = end


class Item:
    """Notes when it is woken; `again` says what it answers."""

    def __init__(self, loop: Loop, again: Callable[[float], float] = lambda _: NEVER) -> None:
        self.wake = NEVER
        self.woken: list[float] = []
        self._loop = loop
        self._again = again

    def on_timer(self, now: float) -> float:
        assert now == self._loop.now
        assert self.wake == NEVER
        self.woken.append(now)
        return self._again(now)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def timers(loop: Loop) -> Timers:
    return Timers(loop.clock, loop.call_later)


def test_an_item_is_woken_once_and_not_too_soon(loop: Loop, timers: Timers) -> None:
    item = Item(loop)
    timers.schedule(item, loop.now + 1.005)
    loop.advance(1.004)
    assert item.woken == []
    loop.advance(0.02)
    assert len(item.woken) == 1
    loop.advance(100)
    assert len(item.woken) == 1
    assert item.wake == NEVER
    assert loop.pending == 0


def test_the_earlier_time_counts(loop: Loop, timers: Timers) -> None:
    item = Item(loop)
    timers.schedule(item, loop.now + 5)
    timers.schedule(item, loop.now + 1)
    timers.schedule(item, loop.now + 3)
    loop.advance(1.02)
    assert len(item.woken) == 1
    loop.advance(10)
    assert len(item.woken) == 1


def test_a_cancelled_item_sleeps_on(loop: Loop, timers: Timers) -> None:
    item = Item(loop)
    timers.cancel(item)
    timers.schedule(item, loop.now + 1)
    timers.cancel(item)
    timers.cancel(item)
    assert item.wake == NEVER
    loop.advance(10)
    assert item.woken == []
    timers.schedule(item, loop.now + 1)
    loop.advance(2)
    assert len(item.woken) == 1


def test_an_item_may_ask_to_be_woken_again(loop: Loop, timers: Timers) -> None:
    item = Item(loop, lambda now: now + 1 if now < 1003 else NEVER)
    timers.schedule(item, loop.now + 1)
    loop.advance(10)
    assert [round(now) for now in item.woken] == [1001, 1002, 1003]


def test_one_timer_of_the_loop_for_all(loop: Loop, timers: Timers) -> None:
    for n in range(100):
        timers.schedule(Item(loop), loop.now + 100 - n)
    assert loop.pending == 1


def test_an_item_that_is_always_due_does_not_stop_the_world(loop: Loop, timers: Timers) -> None:
    restless = Item(loop, lambda now: now)
    other = Item(loop)
    timers.schedule(restless, loop.now)
    timers.schedule(other, loop.now + 0.5)
    loop.advance(1)
    assert len(restless.woken) > 10
    assert len(other.woken) == 1


def test_a_time_that_has_passed_is_due_at_once(loop: Loop, timers: Timers) -> None:
    item = Item(loop)
    timers.schedule(item, loop.now - 100)
    assert item.woken == []
    loop.advance(0.02)
    assert len(item.woken) == 1


def test_an_item_may_cancel_another_that_is_due_with_it(loop: Loop, timers: Timers) -> None:
    items: list[Item] = []

    def cancel_the_others(now: float) -> float:
        for item in items:
            timers.cancel(item)
        return NEVER

    items += [Item(loop, cancel_the_others) for _ in range(5)]
    for item in items:
        timers.schedule(item, loop.now + 1)
    loop.advance(2)
    assert sum(len(item.woken) for item in items) == 1


def test_an_item_may_move_another_that_is_due_with_it(loop: Loop, timers: Timers) -> None:
    items: list[Item] = []

    def move_the_others(now: float) -> float:
        for item in items:
            if not item.woken:
                timers.cancel(item)
                timers.schedule(item, now + 1)
        return NEVER

    items += [Item(loop, move_the_others) for _ in range(3)]
    for item in items:
        timers.schedule(item, loop.now + 1)
    loop.advance(10)
    assert sorted(round(now) for item in items for now in item.woken) == [1001, 1002, 1003]


def test_an_item_that_fails_does_not_keep_the_others_from_being_woken(loop: Loop, timers: Timers) -> None:
    def fail(now: float) -> float:
        raise ZeroDivisionError

    items = [Item(loop, fail) for _ in range(3)]
    for item in items:
        timers.schedule(item, loop.now + 1)
    later = Item(loop)
    timers.schedule(later, loop.now + 2)
    for _ in items:
        with pytest.raises(ZeroDivisionError):
            loop.advance(1.5)
    loop.advance(5)
    assert [len(item.woken) for item in items] == [1, 1, 1]
    assert len(later.woken) == 1


def test_short_lives_with_long_timeouts_leave_nothing_behind(loop: Loop, timers: Timers) -> None:
    for _ in range(10_000):
        item = Item(loop)
        timers.schedule(item, loop.now + 3600)
        loop.advance(0.02)
        timers.cancel(item)
    assert len(timers._slots) == 0
    assert len(timers._order) < 100


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["schedule", "cancel", "advance"]),
        st.integers(0, 3),
        st.one_of(st.integers(-3, 300).map(lambda n: n / 100), st.floats(-1, 20)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(
    actions=ACTIONS,
    resolution=st.sampled_from([0.01, 0.1, 1 / 3, 1.0]),
    early=st.sampled_from([0.0, 0.001, 0.5]),
    start=st.sampled_from([0.0, 0.29, 1000.0, 123456.789]),
)
def test_random_actions_against_a_model(
    actions: list[tuple[str, int, float]], resolution: float, early: float, start: float
) -> None:
    """Each item is woken when it is due, at most the resolution late; the model is a time for each item."""
    loop = Loop(start, early)
    timers = Timers(loop.clock, loop.call_later, resolution)
    due = [NEVER] * 4
    items: list[Item] = []

    def on_timer(number: int) -> Callable[[float], float]:
        def woken(now: float) -> float:
            assert due[number] - 1e-9 <= now, "too soon"
            assert now <= max(due[number], asked[number]) + resolution + 1e-3, "too late"
            due[number] = now + number if number and len(items[number].woken) % 2 else NEVER
            asked[number] = now
            return due[number]

        return woken

    asked = [start] * 4
    items += [Item(loop, on_timer(number)) for number in range(4)]
    for action, number, value in actions:
        if action == "schedule":
            when = loop.now + value
            if when < due[number]:
                due[number], asked[number] = when, loop.now
            timers.schedule(items[number], when)
        elif action == "cancel":
            timers.cancel(items[number])
            due[number] = NEVER
        else:
            loop.advance(max(value, 0.0))
        assert [item.wake for item in items] == due
        assert all(loop.now <= max(when, since) + resolution + 1e-3 for when, since in zip(due, asked, strict=True)), (
            "overdue"
        )
