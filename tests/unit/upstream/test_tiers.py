"""How the load is shared out among tiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.upstream.tiers import Tier, loads, tiers_of
from tests.unit.upstream.support import endpoint


def tier(available: int, size: int, rank: int = 0) -> Tier:
    members = tuple(endpoint(number) for number in range(size))
    return Tier((rank, False), members, members[:available])


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        # (available, all) of each tier; the numbers are those of Envoy's documentation of priority levels
        ([(100, 100), (100, 100)], [1, 0]),
        ([(72, 100), (100, 100)], [1, 0]),
        ([(71, 100), (100, 100)], [0.994, 0.006]),
        ([(50, 100), (100, 100)], [0.7, 0.3]),
        ([(25, 100), (100, 100)], [0.35, 0.65]),
        ([(0, 100), (100, 100)], [0, 1]),
        ([(25, 100), (25, 100)], [0.5, 0.5]),
        ([(25, 100), (20, 100)], [0.5556, 0.4444]),
        ([(5, 100), (0, 100)], [1, 0]),
        ([(25, 100), (25, 100), (100, 100)], [0.35, 0.35, 0.3]),
        ([(1, 1)], [1]),
        ([(0, 3), (0, 1)], [0.75, 0.25]),
    ],
)
def test_loads(tiers: list[tuple[int, int]], expected: list[float]) -> None:
    assert loads([tier(*each) for each in tiers]) == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).filter(lambda x: x[0] <= x[1]), min_size=1, max_size=5))
def test_all_of_the_load_goes_where_endpoints_are(sizes: list[tuple[int, int]]) -> None:
    found = loads([tier(*each) for each in sizes])
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0
    if any(available for available, _ in sizes):
        assert all(available or not load for (available, _), load in zip(sizes, found, strict=True))


def test_priority_comes_before_zone() -> None:
    here, there, nowhere, second = (
        endpoint(1, zone="a"),
        endpoint(2, zone="b"),
        endpoint(3),
        endpoint(4, zone="a", priority=1),
    )
    found = tiers_of([second, nowhere, there, here], "a")
    assert [each.members for each in found] == [(here,), (nowhere, there), (second,)]
    assert [each.members for each in tiers_of([second, nowhere, there, here], None)] == [
        (nowhere, there, here),
        (second,),
    ]


def test_who_is_available() -> None:
    well, ill = endpoint(1), endpoint(2)
    ill.healthy = False
    (found,) = tiers_of([ill, well], None)
    assert found.available == (well,)
    assert found.members == (ill, well)
