"""Round robin, random, least request and peak EWMA."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.upstream.balancers.base import Lot
from meshlet.upstream.balancers.least_request import LeastRequest
from meshlet.upstream.balancers.make import make_balancer
from meshlet.upstream.balancers.peak_ewma import Ewma, PeakEwma
from meshlet.upstream.balancers.turns import RandomChoice, RoundRobin
from meshlet.upstream.endpoint import Endpoint
from tests.unit.upstream.support import arranged, chance, endpoints

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def numbers(picked: list[Endpoint]) -> list[int]:
    return [int(endpoint.name.split(".")[3].split(":")[0]) for endpoint in picked]


# --- drawing ---


@given(WEIGHTS, st.integers(0, 1000))
def test_two_are_drawn_and_differ(weights: list[int], seed: int) -> None:
    some = endpoints(*weights)
    lot = Lot(some, chance(seed))
    for _ in range(20):
        one, other = lot.two()
        assert one in some
        assert other in some
        assert (one is other) == (len(some) == 1)
        assert lot.one() in some


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53])
def test_chance_at_its_edges(edge: float) -> None:
    for weights in ([1, 1, 1], [1, 2, 3], [3, 2, 1], [1], [5]):
        some = endpoints(*weights)
        lot = Lot(some, lambda: edge)
        assert lot.one() in some
        one, other = lot.two()
        assert (one is other) == (len(some) == 1)


def test_drawn_by_share() -> None:
    some = endpoints(1, 2, 7)
    lot = Lot(some, chance())
    first: Counter[Endpoint] = Counter()
    second: Counter[Endpoint] = Counter()
    for _ in range(20000):
        one, other = lot.two()
        first[one] += 1
        second[other] += 1
    assert [first[each] / 20000 for each in some] == pytest.approx([0.1, 0.2, 0.7], abs=0.02)
    # The sum over who was first of P(first) * weight / (10 - weight of the first).
    expected = [0.2 * 1 / 8 + 0.7 * 1 / 3, 0.1 * 2 / 9 + 0.7 * 2 / 3, 0.1 * 7 / 9 + 0.2 * 7 / 8]
    assert [second[each] / 20000 for each in some] == pytest.approx(expected, abs=0.02)


# --- turns ---


def test_each_in_turn() -> None:
    some = endpoints(1, 1, 1)
    balancer = arranged(RoundRobin(chance()), some)
    picked = [balancer.pick(None) for _ in range(9)]
    assert set(picked[:3]) == set(some)
    assert picked == picked[:3] * 3


def test_turns_begin_anywhere() -> None:
    some = endpoints(1, 1, 1)
    assert len({arranged(RoundRobin(chance(seed)), some).pick(None) for seed in range(50)}) == 3


def test_turns_go_on_when_endpoints_come_and_go() -> None:
    some = endpoints(1, 1, 1)
    balancer = RoundRobin(chance())
    for count in (3, 1, 2, 3, 1):
        arranged(balancer, some[:count])
        assert balancer.pick(None) in some[:count]


@given(WEIGHTS, st.integers(0, 1000))
def test_weighted_turns_are_exact_in_every_round(weights: list[int], seed: int) -> None:
    some = endpoints(*weights)
    balancer = arranged(RoundRobin(chance(seed)), some)
    for _ in range(3):
        counts = Counter(balancer.pick(None) for _ in range(sum(weights)))
        for each in some:
            assert abs(counts[each] - each.weight) <= 1


def test_weighted_turns_are_interleaved() -> None:
    some = endpoints(4, 1)
    balancer = arranged(RoundRobin(chance()), some)
    picked = "".join(map(str, numbers([balancer.pick(None) for _ in range(20)])))
    assert "22" not in picked
    assert "11111" not in picked


def test_a_changed_share_does_not_start_all_over() -> None:
    """What an endpoint has waited of its turn stays, or one whose share changes often would never get a turn."""
    some = endpoints(10, 10)
    some[1].share = 1.0
    balancer = arranged(RoundRobin(chance()), some)
    counts: Counter[Endpoint] = Counter()
    for step in range(200):
        some[1].share = 1.0 + step * 0.001
        arranged(balancer, some)
        counts[balancer.pick(None)] += 1
    assert counts[some[1]] == pytest.approx(200 / 10, abs=3)


def test_random_follows_shares() -> None:
    some = endpoints(1, 3)
    balancer = arranged(RandomChoice(chance()), some)
    counts = Counter(balancer.pick(None) for _ in range(4000))
    assert counts[some[1]] / 4000 == pytest.approx(0.75, abs=0.03)


# --- least request ---


def test_the_busiest_is_avoided() -> None:
    busy, middle, free = some = endpoints(1, 1, 1)
    busy.active, middle.active = 9, 5
    balancer = arranged(LeastRequest(chance()), some)
    counts = Counter(balancer.pick(None) for _ in range(600))
    assert counts[busy] == 0  # whoever it is compared with has less to do
    assert counts[free] == pytest.approx(400, abs=50)
    assert counts[middle] == 600 - counts[free]


def test_equal_load_is_spread() -> None:
    some = endpoints(1, 1, 1)
    balancer = arranged(LeastRequest(chance()), some)
    counts = Counter(balancer.pick(None) for _ in range(3000))
    assert min(counts.values()) > 900


def test_requests_count_by_weight() -> None:
    small, large = some = endpoints(1, 3)
    balancer = arranged(LeastRequest(chance()), some)
    small.active, large.active = 2, 5  # 2 for each share against 5/3
    assert {balancer.pick(None) for _ in range(50)} == {large}
    large.active = 7
    assert {balancer.pick(None) for _ in range(50)} == {small}


def test_idle_endpoints_get_their_weight() -> None:
    some = endpoints(1, 3)
    balancer = arranged(LeastRequest(chance()), some)
    counts = Counter(balancer.pick(None) for _ in range(4000))
    assert counts[some[1]] / 4000 == pytest.approx(0.75, abs=0.03)


# --- peak EWMA ---


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_peak_counts_at_once_and_fades() -> None:
    clock = Clock()
    ewma = Ewma(clock)
    ewma.observe(0.01)
    assert ewma.cost(0, clock.now) == pytest.approx(0.01)
    ewma.observe(1.0)
    assert ewma.cost(0, clock.now) == pytest.approx(1.0)
    assert ewma.cost(3, clock.now) == pytest.approx(4.0)
    ewma.observe(0.01)  # at the same instant: it says nothing that time has not
    assert ewma.cost(0, clock.now) == pytest.approx(1.0)
    clock.now += 10
    ewma.observe(0.01)
    assert ewma.cost(0, clock.now) == pytest.approx(0.01 + 0.99 / 2.71828, rel=1e-3)


def test_who_was_slow_is_tried_again() -> None:
    clock = Clock()
    ewma = Ewma(clock)
    ewma.observe(1.0)
    clock.now += 60
    assert ewma.cost(0, clock.now) < 0.01


def test_a_silent_endpoint_costs_what_it_has_been_silent_for() -> None:
    clock = Clock()
    ewma = Ewma(clock)
    ewma.observe(0.01)
    clock.now += 1000
    ewma.begin(clock.now)
    clock.now += 2
    assert ewma.cost(1, clock.now) == pytest.approx(2 * 2)
    assert ewma.cost(0, clock.now) < 0.01  # nobody waits: nothing is silent
    ewma.observe(0.5)
    assert ewma.cost(1, clock.now) == pytest.approx(0.5 * 2)


def test_failing_at_once_is_not_fast() -> None:
    clock = Clock()
    ewma = Ewma(clock)
    ewma.fail(0.0)
    assert ewma.cost(0, clock.now) >= 1


@pytest.mark.usefixtures("only_by_cost")
def test_the_slow_one_is_avoided_and_the_new_one_tried() -> None:
    clock = Clock()
    slow, fast, new = some = endpoints(1, 1, 1)
    for each in some:
        each.ewma = Ewma(clock)
    balancer = arranged(PeakEwma(chance(), clock), some)
    assert slow.ewma is not None
    assert fast.ewma is not None
    slow.ewma.observe(1.0)
    fast.ewma.observe(0.1)
    counts = Counter(balancer.pick(None) for _ in range(300))
    assert counts[slow] == 0
    assert counts[new] > counts[fast] > 0


def test_a_few_requests_go_anywhere() -> None:
    clock = Clock()
    slow, fast, other = some = endpoints(1, 1, 1)
    for each in some:
        each.ewma = Ewma(clock)
        each.ewma.observe(0.01)
    assert slow.ewma is not None
    slow.ewma.observe(10.0)
    balancer = arranged(PeakEwma(chance(), clock), some)
    counts = Counter(balancer.pick(None) for _ in range(3000))
    assert 0.005 * 3000 < counts[slow] < 0.03 * 3000
    assert min(counts[fast], counts[other]) > 0.4 * 3000


@pytest.mark.usefixtures("only_by_cost")
def test_picking_begins_the_silence() -> None:
    clock = Clock()
    some = endpoints(1, 1)
    for each in some:
        each.ewma = Ewma(clock)
    balancer = arranged(PeakEwma(chance(), clock), some)
    clock.now += 500
    picked = balancer.pick(None)
    picked.active = 1
    clock.now += 1
    assert picked.ewma is not None
    assert picked.ewma.cost(1, clock.now) == pytest.approx(2)
    assert {balancer.pick(None) for _ in range(20)} == set(some) - {picked}


@pytest.mark.parametrize("name", ["round-robin", "random", "least-request", "peak-ewma", "ring-hash", "maglev"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_balancer_picks_among_what_is_usable(name: str, count: int) -> None:
    members = endpoints(*range(5, count + 7))
    for each in members:
        each.ewma = Ewma(Clock())
        each.active = each.weight - (name == "peak-ewma")  # alike for all balancers that compare
    balancer = make_balancer(name, chance(), Clock(), lambda: 0)
    usable = members[2:]
    arranged(balancer, members, usable)
    assert {balancer.pick(key * 7919 << 40) for key in range(2000)} == set(usable)
    assert balancer.pick(None) in usable
