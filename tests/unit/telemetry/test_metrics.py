from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry.metrics import DURATION_BOUNDS, Family, Histogram, HistogramData, Sample, merge

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
        Family(
            "meshlet_request_duration_seconds",
            "histogram",
            "Time.",
            [Sample((("listener", "inbound"),), Histogram((7.0,)).data())],
        ),
    ],
)
def test_merge_refuses_parts_that_disagree(other: Family) -> None:
    with pytest.raises(ValueError, match=r"both a|add up"):
        merge([families(), [other]])


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
