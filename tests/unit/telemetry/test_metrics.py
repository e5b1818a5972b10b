from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry.metrics import DURATION_BOUNDS, Exemplar, Family, Histogram, HistogramData, Sample, merge

Encode = Callable[[object], bytes]


def histogram(*values: float) -> HistogramData:
    made = Histogram((1.0, 2.0))
    for value in values:
        made.observe(value)
    return made.data()


def families() -> list[Family]:
    requests = Family("meshlet_requests_total", "counter", "Requests.")
    requests.add(3, listener="inbound", code="200")
    requests.add(1, listener="inbound", code="503")
    durations = Family("meshlet_request_duration_seconds", "histogram", "Time of a request.")
    durations.add(histogram(0.5, 1.5, 9), listener="inbound")
    durations.add(with_exemplars(Exemplar("4bf92f", 1.5, 1e9)), listener="outbound")
    return [requests, durations, Family("meshlet_connections", "gauge", "Open connections.", [Sample((), 2)])]


def test_a_value_on_a_bound_belongs_under_it() -> None:
    assert histogram(0.5, 1.0, 1.5, 2.0, 2.5) == HistogramData((1.0, 2.0), (2, 2, 1), 7.5)


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_value_is_in_the_bucket_that_its_bounds_say(values: list[float]) -> None:
    made = Histogram()
    for value in values:
        made.observe(value)
    data = made.data()
    assert data.count == len(values)
    for i, bound in enumerate(DURATION_BOUNDS):
        assert sum(data.counts[: i + 1]) == sum(value <= bound for value in values)


def test_data_is_a_snapshot() -> None:
    made = Histogram((1.0,))
    before = made.data()
    made.observe(0.5)
    assert before.counts == (0, 0)


@pytest.mark.parametrize("codec", [msgspec.json, msgspec.msgpack], ids=["json", "msgpack"])
def test_families_survive_the_way_between_processes(codec: object) -> None:
    encoded = codec.encode(families())  # type: ignore[attr-defined]
    assert codec.decode(encoded, type=list[Family]) == families()  # type: ignore[attr-defined]


def test_merge_sums_by_name_and_labels() -> None:
    other = Family("meshlet_requests_total", "counter", "Requests.")
    other.add(4, listener="inbound", code="200")
    other.add(5, listener="outbound", code="200")
    merged = {family.name: family.samples for family in merge([families(), families(), [other]])}
    assert merged["meshlet_requests_total"] == [
        Sample((("listener", "inbound"), ("code", "200")), 10),
        Sample((("listener", "inbound"), ("code", "503")), 2),
        Sample((("listener", "outbound"), ("code", "200")), 5),
    ]
    assert merged["meshlet_request_duration_seconds"][0].value == HistogramData((1.0, 2.0), (2, 2, 2), 22.0)
    assert merged["meshlet_connections"] == [Sample((), 4)]


def test_merge_leaves_its_parts_as_they_are() -> None:
    part = families()
    merge([part, part])
    assert part == families()


def test_merge_of_nothing_is_nothing() -> None:
    assert merge([]) == []


@pytest.mark.parametrize(
    "other",
    [
        Family("meshlet_connections", "histogram", "Open.", [Sample((), histogram())]),
        Family("meshlet_connections", "gauge", "Open.", [Sample((), histogram())]),
        Family("meshlet_request_duration_seconds", "histogram", "Time.", [Sample((("listener", "inbound"),), 1)]),
    ],
)
def test_merge_refuses_parts_that_disagree(other: Family) -> None:
    with pytest.raises(ValueError, match=r"both a|add up"):
        merge([families(), [other]])


Bounds = st.lists(st.floats(0, 100), min_size=1, max_size=8, unique=True).map(sorted)


@given(Bounds, Bounds, st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_histograms_of_different_bounds_keep_the_common_ones_and_are_exact(
    bounds: list[float], others: list[float], values: list[float], more: list[float]
) -> None:
    one, two = Histogram(bounds), Histogram(others)
    for value in values:
        one.observe(value)
    for value in more:
        two.observe(value)
    both = one.data() + two.data()
    assert both.bounds == tuple(sorted(set(bounds) & set(others)))
    assert both.count == len(values) + len(more)
    assert both.sum == one.sum + two.sum
    for number, bound in enumerate(both.bounds, 1):
        assert sum(both.counts[:number]) == sum(value <= bound for value in [*values, *more])


def with_exemplars(*exemplars: Exemplar) -> HistogramData:
    return HistogramData((1.0, 2.0), (1, 1, 1), 5.0, exemplars)


def test_the_newest_exemplar_of_each_bucket_stays() -> None:
    old, new, high = Exemplar("a", 0.5, 100.0), Exemplar("b", 0.7, 200.0), Exemplar("c", 1.0, 50.0)
    above = Exemplar("d", 3.0, 10.0)
    for both in (
        with_exemplars(old, above) + with_exemplars(new),
        with_exemplars(new) + with_exemplars(above, old),
        with_exemplars(high, new) + with_exemplars(above),
    ):
        assert both.examples() == {0: new, 2: above}
    assert with_exemplars(old).examples() == {0: old}
    assert (with_exemplars(old) + histogram()).exemplars == (old,)


def test_exemplars_move_with_the_bounds() -> None:
    first, second = Exemplar("a", 0.5, 100.0), Exemplar("b", 1.5, 200.0)
    both = with_exemplars(first, second) + HistogramData((2.0,), (0, 0), 0.0)
    assert both.examples() == {0: second}


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("meshlet_requests", "counter", "Requests."),
        ("meshlet_connections_total", "gauge", "Connections."),
        ("meshlet_duration_count", "histogram", "Time."),
        ("meshlet-requests_total", "counter", "Requests."),
        ("Meshlet_requests_total", "counter", "Requests."),
        ("meshlet_requests_total", "counter", ""),
    ],
)
def test_a_name_against_the_rules_of_prometheus_is_refused(
    name: str, kind: Literal["counter", "gauge", "histogram"], text: str
) -> None:
    with pytest.raises(ValueError, match=r"name|_total|help"):
        Family(name, kind, text)


def test_families_do_not_share_their_samples() -> None:
    Family("meshlet_a", "gauge", "A.").add(1)
    assert Family("meshlet_b", "gauge", "B.").samples == []
