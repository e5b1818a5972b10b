"""Our metrics and the app's in one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from meshlet.admin.merged import AppMetrics, first_mistake, merge
from meshlet.telemetry.metrics import Family, HistogramData, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = AppMetrics(
    '# HELP app_orders_total Orders.\n# TYPE app_orders_total counter\napp_orders_total{kind="a b"} 3\n'
    "# a remark\n\napp_temperature 21.5 1700000000000",
    openmetrics=False,
)
OPENMETRICS = AppMetrics(
    "# HELP app_orders Orders.\n# TYPE app_orders counter\n"
    'app_orders_total{kind="a b"} 3 # {trace_id="4bf9"} 1.0 1700000000.5\n'
    "# TYPE app_state stateset\n"
    'app_state{app_state="on"} 1\n'
    "# TYPE app_seconds histogram\n# UNIT app_seconds seconds\n"
    'app_seconds_bucket{le="+Inf"} 2 1700000000.25 # {trace_id="} # {"} 0.5\n'
    "app_seconds_count 2 1700000000.25\napp_seconds_sum 1.5 1700000000.25\n"
    "# TYPE app_temperature gauge\napp_temperature 21.5\n# EOF\n",
    openmetrics=True,
)


def families() -> list[Family]:
    data = HistogramData((1.0,), (1, 1), 2.5)
    return [
        Family("meshlet_requests_total", "counter", "Requests.", [Sample((("cluster", "app"),), 7)]),
        Family("meshlet_request_bytes", "histogram", "Bytes.", [Sample((), data)]),
    ]


def read(body: bytes, content_type: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], Any]:
    openmetrics = content_type.startswith("application/openmetrics-text")
    parse: Any = parse_openmetrics if openmetrics else parse_prometheus
    samples = [sample for family in parse(body.decode()) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample for sample in samples}
    assert len(found) == len(samples)
    return found


OURS = {
    ("meshlet_requests_total", (("cluster", "app"),)): 7,
    ("meshlet_request_bytes_bucket", (("le", "1.0"),)): 1,
    ("meshlet_request_bytes_bucket", (("le", "+Inf"),)): 2,
    ("meshlet_request_bytes_count", ()): 2,
    ("meshlet_request_bytes_sum", ()): 2.5,
}
THEIRS = {("app_orders_total", (("kind", "a b"),)): 3, ("app_temperature", ()): 21.5}
ALL_OF_THEM = {
    ("app_state", (("app_state", "on"),)): 1,
    ("app_seconds_bucket", (("le", "+Inf"),)): 2,
    ("app_seconds_count", ()): 2,
    ("app_seconds_sum", ()): 1.5,
}


@pytest.mark.parametrize(
    ("app", "wanted", "given", "expected"),
    [
        (None, False, False, OURS),
        (None, True, True, OURS),
        (PLAIN, False, False, OURS | THEIRS),
        (PLAIN, True, False, OURS | THEIRS),
        (OPENMETRICS, True, True, OURS | THEIRS | ALL_OF_THEM),
        (OPENMETRICS, False, False, OURS | THEIRS | ALL_OF_THEM),
    ],
)
def test_a_scraper_can_read_both(app: AppMetrics | None, wanted: bool, given: bool, expected: dict[Any, float]) -> None:
    body, content_type = merge(families(), app, openmetrics=wanted)
    assert content_type.startswith("application/openmetrics-text" if given else "text/plain; version=0.0.4")
    assert body.count(b"# EOF") == given
    assert {key: sample.value for key, sample in read(body, content_type).items()} == expected


def test_what_the_older_format_does_not_have_is_left_out() -> None:
    body, _ = merge([], OPENMETRICS, openmetrics=False)
    assert body.decode().splitlines() == [
        'app_orders_total{kind="a b"} 3',
        'app_state{app_state="on"} 1',
        'app_seconds_bucket{le="+Inf"} 2 1700000000250',
        "app_seconds_count 2 1700000000250",
        "app_seconds_sum 1.5 1700000000250",
        "app_temperature 21.5",
    ]


def test_exemplars_of_the_app_come_through() -> None:
    found = read(*merge(families(), OPENMETRICS, openmetrics=True))
    assert found["app_orders_total", (("kind", "a b"),)].exemplar.labels == {"trace_id": "4bf9"}


CLASHES: Sequence[str] = (
    "# TYPE meshlet_requests_total counter\nmeshlet_requests_total 5",
    "# HELP meshlet_requests Theirs.\n# TYPE meshlet_requests counter\nmeshlet_requests_created 1",
    "# TYPE meshlet_requests gauge\nmeshlet_requests 5",
    '# TYPE meshlet_request_bytes gauge\nmeshlet_request_bytes{a="b"} 5',
    '# TYPE meshlet_request_bytes histogram\nmeshlet_request_bytes_bucket{le="+Inf"} 1\nmeshlet_request_bytes_count 1',
    "meshlet_request_bytes_sum 1",
    "#  TYPE\tmeshlet_requests_total\tcounter",
)


@pytest.mark.parametrize("clash", CLASHES)
@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_family_that_both_have_is_ours(clash: str, openmetrics: bool) -> None:
    kind = "# TYPE meshlet_requester gauge\n"
    app = AppMetrics(f"{clash}\n{kind}meshlet_requester 4\n{'# EOF' if openmetrics else ''}", openmetrics)
    found = read(*merge(families(), app, openmetrics=openmetrics))
    assert {key: sample.value for key, sample in found.items()} == OURS | {("meshlet_requester", ()): 4}


@pytest.mark.parametrize(
    "line",
    [
        "",
        " \t",
        "# anything at all {",
        "# TYPE a counter",
        "#TYPE is a remark",
        "a 1",
        "a:b_9{} +Inf",
        'a{b="c\\"}{",} -1.5e-9 1700000000000',
        'a { b = "1", c="\u00e9" }\t.5',
        '{"a.b", c="d"} NaN',
        'a_total 3 1700000000.25 # {trace_id="4b"} 1.0 1700000000.5',
    ],
)
def test_metrics_can_be_read(line: str) -> None:
    assert first_mistake(f"a 1\n{line}\n") == 0


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a b",
        "9a 1",
        "a 1\r",
        "# TYPE a counter\r",
        "# TYPE a whatever",
        "\0",
        'a{b="c} 1',
        'a{b="c"}} 1',
        "a 1 2 3",
        "<html>",
        'a{b="' + "\\" * 300_000 + '"} 1',
    ],
    ids=str.__len__,
)
def test_what_is_none_of_metrics_is_found(line: str) -> None:
    assert first_mistake(f"a 1\n{line}\n") == 2


@pytest.mark.parametrize("app", [PLAIN, OPENMETRICS], ids=["plain", "openmetrics"])
def test_the_apps_metrics_have_no_mistake(app: AppMetrics) -> None:
    assert first_mistake(app.text) == 0
