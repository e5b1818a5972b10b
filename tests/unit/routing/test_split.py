from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.config.schema import Split
from meshlet.routing.split import WeightedChoice, compile_split

# UUIDs of version 7 as one process makes them: the same time and random part, and a counter.
IDS = [b"0192f7c1-2a3b-7c4d-8e5f-%012x" % (0x5A5A00000000 + count) for count in range(20_000)]


def chosen(*weights: int, salt: bytes = b"") -> list[int]:
    choice = WeightedChoice(range(len(weights)), weights, salt)
    return [choice.choose(key) for key in IDS]


@pytest.mark.parametrize("weights", [(1, 1), (90, 10), (1, 2, 3, 4), (1, 0, 99), (5, 5, 5, 5, 5, 5, 5)])
def test_shares_are_even(weights: tuple[int, ...]) -> None:
    counts = Counter(chosen(*weights))
    expected = {item: len(IDS) * weight / sum(weights) for item, weight in enumerate(weights) if weight}
    assert counts.keys() == expected.keys()
    # Chi-square; with at most 6 degrees of freedom it is beyond 22.5 once in a thousand times. The keys are fixed.
    assert sum((counts[item] - mean) ** 2 / mean for item, mean in expected.items()) < 22.5


def test_a_changed_weight_moves_only_what_it_has_to() -> None:
    before, after = chosen(90, 10), chosen(80, 20)
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {(0, 1)}
    assert len(moved) / len(IDS) == pytest.approx(0.1, abs=0.01)


def test_only_the_shares_count() -> None:
    assert chosen(9, 1) == chosen(90, 10) == chosen(900_000, 100_000)


def test_two_choices_in_a_row_are_independent() -> None:
    pairs = Counter(zip(chosen(1, 1, salt=b"a"), chosen(1, 1, salt=b"b"), strict=True))
    assert all(pairs[pair] / len(IDS) == pytest.approx(0.25, abs=0.02) for pair in ((0, 0), (0, 1), (1, 0), (1, 1)))


def test_it_is_the_same_in_every_process() -> None:
    choice = WeightedChoice("abcd", [1, 1, 1, 1])
    assert "".join(choice.choose(b"%d" % key) for key in range(16)) == "acbacdbbbcbacaba"


@given(
    weights=st.lists(st.integers(0, 1_000_000), min_size=1, max_size=8).filter(any),
    key=st.binary(max_size=40),
    salt=st.binary(max_size=4),
)
def test_nothing_of_weight_0_is_chosen(weights: list[int], key: bytes, salt: bytes) -> None:
    choice = WeightedChoice(range(len(weights)), weights, salt)
    assert weights[choice.choose(key)] > 0
    assert choice.choose(key) == choice.choose(key)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=5).filter(any), st.binary(max_size=16), st.integers(1, 100))
def test_a_larger_last_weight_takes_and_gives_nothing(weights: list[int], key: bytes, more: int) -> None:
    last = len(weights) - 1
    before = WeightedChoice(range(len(weights)), weights).choose(key)
    after = WeightedChoice(range(len(weights)), [*weights[:-1], weights[-1] + more]).choose(key)
    assert before != last or after == last


@pytest.mark.parametrize(("items", "weights"), [("", []), ("a", [0]), ("ab", [1]), ("ab", [2, -1])])
def test_weights_that_make_no_sense(items: str, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="a weight for each item"):
        WeightedChoice(items, weights)


def test_compile_split() -> None:
    targets = {"a": 1, "b": 2, "c": 3}
    choice = compile_split((Split(cluster="c", weight=1), Split(cluster="a", weight=3)), targets)
    counts = Counter(map(choice.choose, IDS))
    assert counts.keys() == {1, 3}
    assert counts[3] / len(IDS) == pytest.approx(0.25, abs=0.02)
