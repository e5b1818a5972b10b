from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from meshlet.runtime.child import Child, Place
from meshlet.runtime.messages import encode
from meshlet.runtime.totals import add_up, lasting, total
from meshlet.telemetry.metrics import Family, Sample

if TYPE_CHECKING:
    from typing import Literal


def family(name: str, kind: Literal["counter", "gauge"], value: float) -> Family:
    return Family(name, kind, "Help.", [Sample((), value)])


def test_numbers_add_up_and_spans_of_time_do_not() -> None:
    parts = [
        [family("a_total", "counter", 1), family("open", "gauge", 2), family("up_seconds", "gauge", 30.0)],
        [family("a_total", "counter", 3), family("open", "gauge", 4), family("up_seconds", "gauge", 5.0)],
    ]
    assert total(parts) == [
        family("a_total", "counter", 4),
        family("open", "gauge", 6),
        family("up_seconds", "gauge", 30.0),
    ]


def test_only_what_was_counted_lasts() -> None:
    assert lasting([family("a_total", "counter", 1), family("open", "gauge", 2)]) == [family("a_total", "counter", 1)]


def test_objects_are_added_up_by_identity() -> None:
    def cluster(error: str | None, **totals: int) -> dict[str, object]:
        return {
            "name": "app",
            "error": error,
            "endpoints": [{"address": address, "total": number} for address, number in totals.items()],
        }

    assert add_up([[cluster(None, a=1, b=2)], [cluster("no such name", b=3, c=4)], []], "name") == [
        cluster("no such name", a=1, b=5, c=4)
    ]
    other = cluster(None) | {"name": "other", "good": True}
    assert add_up([[cluster(None), other], [other]], "name") == [cluster(None), other]


class Dead:
    """A process that has told its figures."""

    def __init__(self, value: float) -> None:
        self._told = Raw(encode([family("time_total", "counter", value), family("open", "gauge", 1)]))

    def known(self, method: str) -> Raw:
        assert method == "families"
        return self._told


@given(st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=4), min_size=1, max_size=4))
def test_sum_is_the_same_to_the_last_bit_when_workers_die(lives: list[list[float]]) -> None:
    places = [Place(number) for number in range(1, len(lives) + 1)]

    def shown() -> float:
        found = {family.name: family for family in total([place.families() for place in places])}
        value = found["time_total"].samples[0].value
        assert isinstance(value, float)
        return value

    for place, values in zip(places, lives, strict=True):
        place.child = cast("Child", Dead(values[0]))
    before = shown()
    for turn in range(1, 4):
        for place, values in zip(places, lives, strict=True):
            place.clear()
            assert shown() == before
            if turn < len(values):
                place.child = cast("Child", Dead(values[turn]))
                assert shown() >= before
                before = shown()
    assert all(family.kind == "counter" for place in places for family in place.families() if place.child is None)
