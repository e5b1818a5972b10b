"""The circuit breaker's bounds hold whatever happens, and room goes to who has waited longest."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import CircuitBreaker, HighPriority, RetryBudget
from meshlet.errors import Overflow
from meshlet.resilience.breaker import Breaker, ConnectionLimit

pure = settings(deadline=None)


def breaker(percent: float = 20.0, least: int = 3, **limits: Any) -> Breaker:
    return Breaker(CircuitBreaker(**limits), RetryBudget(percent=percent, min_concurrency=least))


def test_a_request_too_many_is_told_the_bound() -> None:
    one = breaker(max_requests=2)
    one.enter()
    one.enter()
    with pytest.raises(Overflow, match=r"^2 requests are in flight already$"):
        one.enter()
    assert one.overflows == {"requests": 1, "pending": 0, "retries": 0, "connections": 0}
    one.leave()
    one.enter()
    assert one.requests == 2


def test_high_priority_has_bounds_of_its_own() -> None:
    high = Breaker(HighPriority(max_requests=1, max_pending=0, max_retries=0), RetryBudget())
    high.enter()
    with pytest.raises(Overflow):
        high.enter()
    assert not high.may_wait()
    assert not high.try_retry()


def test_the_queue_is_bounded_by_who_counts_it() -> None:
    one = breaker(max_pending=1)
    assert one.may_wait()
    one.pending += 1
    assert not one.may_wait()
    assert one.overflows["pending"] == 1
    one.pending -= 1
    assert one.may_wait()


def test_a_few_retries_are_always_allowed() -> None:
    one = breaker(percent=20, least=3)
    assert [one.try_retry() for _ in range(4)] == [True, True, True, False]
    assert one.overflows["retries"] == 1
    one.retry_over()
    assert one.try_retry()


def test_the_retry_budget_grows_with_the_requests() -> None:
    one = breaker(percent=29, least=0)
    assert not one.try_retry()
    for _ in range(100):
        one.enter()
    assert sum(one.try_retry() for _ in range(100)) == 29


def test_max_retries_holds_besides_the_budget() -> None:
    one = breaker(percent=100, least=10, max_retries=2)
    assert [one.try_retry() for _ in range(3)] == [True, True, False]


_COUNTS = st.integers(0, 6)


@pure
@given(
    limits=st.tuples(st.integers(1, 6), _COUNTS, st.none() | _COUNTS),
    budget=st.tuples(st.floats(0, 100), _COUNTS),
    steps=st.lists(st.sampled_from(("enter", "leave", "wait", "waited", "retry", "retried")), max_size=80),
)
def test_no_sequence_passes_a_bound(
    limits: tuple[int, int, int | None], budget: tuple[float, int], steps: list[str]
) -> None:
    max_requests, max_pending, max_retries = limits
    one = breaker(*budget, max_requests=max_requests, max_pending=max_pending, max_retries=max_retries)
    refused = 0
    for step in steps:
        if step == "enter":
            try:
                one.enter()
            except Overflow:
                refused += 1
        elif step == "leave" and one.requests:
            one.leave()
        elif step == "wait":
            allowed = one.may_wait()
            one.pending += allowed
            refused += not allowed
        elif step == "waited" and one.pending:
            one.pending -= 1
        elif step == "retry":
            before = one.retries
            allowed = one.try_retry()
            refused += not allowed
            room = max(budget[1], int(budget[0] * one.requests / 100))
            assert allowed == (before < min(room, room if max_retries is None else max_retries))
            assert one.retries == before + allowed
        elif step == "retried" and one.retries:
            one.retry_over()
        assert 0 <= one.requests <= max_requests
        assert 0 <= one.pending <= max_pending
        assert sum(one.overflows.values()) == refused


class Pool:
    """Wants connections from a limit; notes when it was called."""

    def __init__(self, name: int, limit: ConnectionLimit, calls: list[int]) -> None:
        self.name = name
        self.limit = limit
        self.calls = calls
        self.held = 0
        self.wanted = 0

    def want(self) -> None:
        self.wanted += 1
        self.on_room(told=False)

    def on_room(self, *, told: bool = True) -> None:
        if told:
            self.calls.append(self.name)
        while self.wanted and self.limit.take():
            self.wanted -= 1
            self.held += 1
        if self.wanted:
            self.limit.wait(self)

    def drop(self) -> None:
        self.held -= 1
        self.limit.give_back()


def pools(number: int, limit: int) -> tuple[ConnectionLimit, list[Pool], list[int]]:
    shared, calls = ConnectionLimit(limit), list[int]()
    return shared, [Pool(name, shared, calls) for name in range(number)], calls


def test_connections_are_counted_up_to_the_limit() -> None:
    limit = ConnectionLimit(2)
    assert [limit.take(), limit.take(), limit.take()] == [True, True, False]
    limit.give_back()
    assert limit.take()
    assert repr(limit) == "<ConnectionLimit 2 of 2, waiting=0>"


def test_room_goes_to_who_waited_longest_once_for_each_place() -> None:
    _, (holder, first, second), calls = pools(3, 2)
    holder.want()
    holder.want()
    first.want()
    second.want()
    assert calls == []
    holder.drop()
    assert calls == [1]
    holder.drop()
    assert calls == [1, 2]
    assert (first.held, second.held) == (1, 1)
    first.drop()
    assert calls == [1, 2]


def test_who_stops_waiting_is_not_called() -> None:
    limit, (holder, first, second), calls = pools(3, 1)
    holder.want()
    first.want()
    second.want()
    limit.stop_waiting(first)
    limit.stop_waiting(first)
    holder.drop()
    assert calls == [2]


def test_a_place_that_is_declined_goes_to_the_next() -> None:
    _, (holder, first, second), calls = pools(3, 1)
    holder.want()
    first.want()
    second.want()
    first.wanted = 0
    holder.drop()
    assert calls == [1, 2]
    assert second.held == 1


def test_waiting_twice_is_waiting_once() -> None:
    _, (holder, first, _), calls = pools(3, 1)
    holder.want()
    first.want()
    first.want()
    holder.drop()
    assert calls == [1]
    assert (first.held, first.wanted) == (1, 1)


def test_who_declines_and_waits_again_is_not_asked_for_ever() -> None:
    class Undecided:
        asked = 0

        def on_room(self) -> None:
            self.asked += 1
            limit.wait(self)

    limit, undecided = ConnectionLimit(1), Undecided()
    limit.take()
    limit.wait(undecided)
    limit.give_back()
    assert undecided.asked == 1


def test_a_place_given_back_while_it_is_handed_out_is_not_lost() -> None:
    class SecondTry:
        """Waits for another place before it gives back the one that it could not use."""

        asked = 0

        def on_room(self) -> None:
            self.asked += 1
            assert limit.take()
            if self.asked == 1:
                limit.wait(self)
                limit.give_back()

    limit, waiter = ConnectionLimit(1), SecondTry()
    limit.take()
    limit.wait(waiter)
    limit.give_back()
    assert (waiter.asked, limit.count) == (2, 1)


def test_a_place_given_back_at_once_does_not_call_deeper_and_deeper() -> None:
    class Unlucky:
        """Cannot use what it gets."""

        def on_room(self) -> None:
            assert limit.take()
            served.append(self)
            limit.give_back()

    served: list[Unlucky] = []
    limit = ConnectionLimit(1)
    limit.take()
    many = [Unlucky() for _ in range(5000)]
    for each in many:
        limit.wait(each)
    limit.give_back()
    assert served == many
    assert limit.count == 0


@pure
@given(
    limit=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from(("want", "drop", "withdraw")), st.integers(0, 4)), max_size=80),
)
def test_no_sequence_passes_the_limit_or_the_queue(limit: int, steps: list[tuple[str, int]]) -> None:
    shared, all_pools, calls = pools(5, limit)
    queue: deque[int] = deque()  # who waits, in the order that is fair
    for step, number in steps:
        pool = all_pools[number]
        before = len(calls)
        if step == "want":
            pool.want()
            if pool.wanted and number not in queue:
                queue.append(number)
        elif step == "withdraw":
            pool.wanted = 0
            shared.stop_waiting(pool)
            if number in queue:
                queue.remove(number)
        elif step == "drop" and pool.held:
            pool.drop()
            if queue:
                assert calls[before:] == [queue[0]]
                head = queue.popleft()
                if all_pools[head].wanted:
                    queue.append(head)
                before = len(calls)
        assert len(calls) == before
        assert shared.count == sum(each.held for each in all_pools) <= limit
        assert shared.count == limit or not queue  # nobody waits while there is room


def test_the_state_can_be_read() -> None:
    one = breaker()
    one.enter()
    one.pending = 2
    one.try_retry()
    assert repr(one) == "<Breaker requests=1 pending=2 retries=1>"
