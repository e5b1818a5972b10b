"""What outlives a reload, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.runtime.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable


class Made:
    """An object with a state of its own."""

    def __init__(self, config: int) -> None:
        self.config = config


class Configs:
    """One config after the other."""

    def __init__(self) -> None:
        self.current: Kept | None = None


def compiled(kept: Configs, *parts: tuple[str, int]) -> list[Made]:
    """Compile a config with these parts: a place and what is written there."""
    kept.current = Kept(kept.current)
    return [kept.current.get(place, config, Made) for place, config in parts]


def same(before: Iterable[Made], after: Iterable[Made]) -> list[bool]:
    return [a is b for a, b in zip(before, after, strict=True)]


def test_what_did_not_change_is_kept() -> None:
    kept = Configs()
    before = compiled(kept, ("a", 1), ("b", 2))
    assert same(before, compiled(kept, ("a", 1), ("b", 2))) == [True, True]
    assert same(before, compiled(kept, ("a", 1), ("b", 2))) == [True, True]


def test_what_changed_is_new() -> None:
    kept = Configs()
    before = compiled(kept, ("a", 1), ("b", 2))
    after = compiled(kept, ("a", 1), ("b", 3))
    assert same(before, after) == [True, False]
    assert [made.config for made in after] == [1, 3]


def test_the_same_at_another_place_is_another() -> None:
    kept = Configs()
    [before] = compiled(kept, ("a", 1))
    [after] = compiled(kept, ("b", 1))
    assert after is not before


def test_what_was_gone_for_one_config_is_new() -> None:
    kept = Configs()
    [before] = compiled(kept, ("a", 1))
    compiled(kept)
    [after] = compiled(kept, ("a", 1))
    assert after is not before


def test_several_at_one_place_stay_apart() -> None:
    kept = Configs()
    before = compiled(kept, ("a", 1), ("a", 1), ("a", 2))
    assert before[0] is not before[1]
    assert same(before, compiled(kept, ("a", 1), ("a", 1), ("a", 2))) == [True, True, True]


def test_one_more_at_a_place_leaves_the_others_alone() -> None:
    kept = Configs()
    first, second = compiled(kept, ("a", 1), ("a", 2))
    assert same([first, second], compiled(kept, ("a", 0), ("a", 1), ("a", 2))[1:]) == [True, True]
    assert same([second, first], compiled(kept, ("a", 2), ("a", 1))) == [True, True]


def test_a_config_that_could_not_be_compiled_takes_nothing_away() -> None:
    kept = Configs()
    [before] = compiled(kept, ("a", 1))
    rejected = Kept(kept.current)
    rejected.get("a", 1, Made)
    rejected.get("b", 2, Made)  # and then something went wrong
    [after] = compiled(kept, ("a", 1))
    assert after is before
