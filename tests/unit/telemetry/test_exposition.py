from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from meshlet.telemetry import exposition
from meshlet.telemetry.metrics import Family, Histogram, Sample

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


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_prometheus),
        ("text/html, */*", "text/plain; version=0.0.4", parse_prometheus),
        (OPENMETRICS_ACCEPT, "application/openmetrics-text; version=1.0.0", parse_openmetrics),
        (
            "application/openmetrics-text; version=what",
            "application/openmetrics-text; version=1.0.0",
            parse_openmetrics,
        ),
    ],
)
def test_a_scraper_reads_back_every_sample(accept: str, content_type: str, parse: type) -> None:
    body, given_type = exposition.prometheus(families(), accept)
    assert given_type.startswith(content_type)
    parsed = list(parse(body.decode()))
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed
        for sample in family.samples
    }
    assert found == EXPECTED
    assert {family.type for family in parsed} == {"counter", "gauge", "histogram"}
    assert all(family.documentation for family in parsed)


def test_the_bounds_of_a_scrape_are_cumulative_and_end_in_infinity() -> None:
    body, _ = exposition.prometheus(families())
    buckets = [line for line in body.decode().splitlines() if "_bucket" in line]
    assert [line.rsplit(" ", 1)[1] for line in buckets] == ["1.0", "3.0", "4.0"]


def test_samples_of_one_family_must_have_the_same_labels() -> None:
    family = Family("meshlet_x", "gauge", "X.")
    family.add(1, a="1")
    family.add(1, b="1")
    with pytest.raises(ValueError, match="different labels"):
        exposition.prometheus([family])


def test_lines_are_sorted_and_one_each() -> None:
    assert exposition.lines(families()) == [
        'meshlet_build_info{version="1.2.3"} 1',
        "meshlet_connections 7",
        'meshlet_request_duration_seconds_count{cluster="app"} 4',
        'meshlet_request_duration_seconds_sum{cluster="app"} 4.75',
        r'meshlet_requests_total{cluster="a\"b\\c\nd",code="503"} 9007199254740992',
        'meshlet_requests_total{cluster="app",code="200"} 2',
    ]
