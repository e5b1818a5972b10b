from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from meshlet.telemetry import exposition
from meshlet.telemetry.metrics import Exemplar, Family, Histogram, HistogramData, Sample

# What Prometheus 3 sends.
OPENMETRICS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
NASTY = 'a"b\\c\nd'


def families() -> list[Family]:
    requests = Family("meshlet_requests_total", "counter", "Requests by response code.")
    requests.add(2, cluster="app", code="200")
    requests.add(2**53, cluster=NASTY, code="503")
    durations = Family("meshlet_request_duration_seconds", "histogram", "Time from head to last byte.")
    made = Histogram((0.5, 1.0))
    for value in (0.25, 0.75, 0.75, 3.0):
        made.observe(value)
    durations.add(made.data(), cluster="app")
    return [
        requests,
        durations,
        Family("meshlet_connections", "gauge", "Open connections.", [Sample((), 7)]),
        Family("meshlet_build_info", "gauge", "The version.", [Sample((("version", "1.2.3"),), 1)]),
        Family("meshlet_nothing_total", "counter", "Never happened."),
    ]


EXPECTED = {
    ("meshlet_requests_total", (("cluster", "app"), ("code", "200"))): 2,
    ("meshlet_requests_total", (("cluster", NASTY), ("code", "503"))): 2**53,
    ("meshlet_request_duration_seconds_bucket", (("cluster", "app"), ("le", "0.5"))): 1,
    ("meshlet_request_duration_seconds_bucket", (("cluster", "app"), ("le", "1.0"))): 3,
    ("meshlet_request_duration_seconds_bucket", (("cluster", "app"), ("le", "+Inf"))): 4,
    ("meshlet_request_duration_seconds_count", (("cluster", "app"),)): 4,
    ("meshlet_request_duration_seconds_sum", (("cluster", "app"),)): 4.75,
    ("meshlet_connections", ()): 7,
    ("meshlet_build_info", (("version", "1.2.3"),)): 1,
}


PROMETHEUS, OPENMETRICS = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(("openmetrics", "parse"), [(False, parse_prometheus), (True, parse_openmetrics)])
def test_a_scraper_reads_back_every_sample(openmetrics: bool, parse: type) -> None:
    body, given_type = exposition.prometheus(families(), OPENMETRICS_ACCEPT if openmetrics else "")
    assert given_type.startswith(OPENMETRICS if openmetrics else PROMETHEUS)
    parsed = list(parse(body.decode()))
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed
        for sample in family.samples
    }
    assert found == EXPECTED
    assert {family.type for family in parsed} == {"counter", "gauge", "histogram"}
    assert all(family.documentation for family in parsed)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, */*", False),
        ("image/png", False),
        (OPENMETRICS_ACCEPT, True),
        ("application/openmetrics-text", True),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", True),
        ('application/openmetrics-text; version="1.0.0", text/plain', True),
        # What Prometheus 2 sends.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.6", False),
        ("application/openmetrics-text;q=0.5, text/*;q=0.6", False),
        ("application/openmetrics-text;q=0.5, */*;q=0.6", False),
        ("application/openmetrics-text;q=0.5, */*;q=0.6, text/plain;q=0.4", True),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.4, */*;q=0.6", True),
        ("application/openmetrics-text;q=0, text/plain;q=0", False),
        ("application/openmetrics-text;q=what, text/plain;q=0.1", False),
        ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", False),
        (",;=,;;q=,application/openmetrics-text", True),
    ],
)
def test_negotiation(accept: str, openmetrics: bool) -> None:
    assert exposition.wants_openmetrics(accept) is openmetrics
    assert exposition.prometheus([], accept)[1].startswith(OPENMETRICS if openmetrics else PROMETHEUS)


@given(st.text())
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    assert exposition.wants_openmetrics(accept) in (True, False)


def test_the_bounds_of_a_scrape_are_cumulative_and_end_in_infinity() -> None:
    body, _ = exposition.prometheus(families())
    assert [line for line in body.decode().splitlines() if "_bucket" in line] == [
        'meshlet_request_duration_seconds_bucket{cluster="app",le="0.5"} 1',
        'meshlet_request_duration_seconds_bucket{cluster="app",le="1.0"} 3',
        'meshlet_request_duration_seconds_bucket{cluster="app",le="+Inf"} 4',
    ]


def test_exemplars_stand_behind_their_buckets_in_openmetrics_only() -> None:
    data = HistogramData((0.5, 1.0), (2, 1, 1), 4.0, (Exemplar("4bf92f3577b34da6", 0.25, 1700000000.5),))
    family = Family("meshlet_x_seconds", "histogram", "X.", [Sample((), data)])
    body, _ = exposition.prometheus([family], "application/openmetrics-text")
    [parsed] = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    found = {sample.labels["le"]: sample.exemplar for sample in parsed.samples if sample.name.endswith("_bucket")}
    assert (found["1.0"], found["+Inf"]) == (None, None)
    assert found["0.5"] is not None
    assert found["0.5"].labels == {"trace_id": "4bf92f3577b34da6"}
    assert (found["0.5"].value, float(found["0.5"].timestamp)) == (0.25, 1700000000.5)
    assert b"4bf92f" not in exposition.prometheus([family])[0]


@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.floats(allow_nan=False))),
    st.booleans(),
)
def test_whatever_a_label_and_a_value_are_they_are_read_back(samples: list[tuple[str, float]], om: bool) -> None:
    family = Family("meshlet_x", "gauge", "X.")
    given = {f"{number}{text}": value for number, (text, value) in enumerate(samples)}
    for text, value in given.items():
        family.add(value, label=text)
    # The parsers in Python split at more ends of lines than the formats have.
    hypothesis.assume(all(len(text.splitlines()) <= 1 for text in given))
    body, _ = exposition.prometheus([family], "application/openmetrics-text" if om else "")
    parse: Any = parse_openmetrics if om else parse_prometheus
    [parsed] = parse(body.decode())
    assert {sample.labels["label"]: sample.value for sample in parsed.samples} == given


def test_names_of_families_and_of_their_samples() -> None:
    assert {"meshlet_requests", "meshlet_requests_total", "meshlet_requests_created", "meshlet_connections"} <= (
        names := exposition.names_of(families())
    )
    assert {f"meshlet_request_duration_seconds{suffix}" for suffix in ("", "_bucket", "_sum", "_count")} <= names


def test_lines_are_sorted_and_one_each() -> None:
    assert exposition.lines(families()) == [
        'meshlet_build_info{version="1.2.3"} 1',
        "meshlet_connections 7",
        'meshlet_request_duration_seconds_count{cluster="app"} 4',
        'meshlet_request_duration_seconds_sum{cluster="app"} 4.75',
        r'meshlet_requests_total{cluster="a\"b\\c\nd",code="503"} 9007199254740992',
        'meshlet_requests_total{cluster="app",code="200"} 2',
    ]


def test_lines_leave_out_who_talks_to_whom() -> None:
    family = Family("meshlet_requests_total", "counter", "Requests.")
    family.add(3, reporter="source", source_app="a", destination_app="b", connection_security_policy="none", route="r")
    assert exposition.lines([family]) == ['meshlet_requests_total{reporter="source",route="r"} 3']
