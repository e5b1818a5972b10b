from __future__ import annotations

import pytest

from benchmarks.bars import BARS, Bar, Verdict, judge
from benchmarks.report import bars_text, table

BAR = Bar("CPU per request", "keepalive", "cpu_us", "envoy", bar=0.6, aim=0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "aim met"), (0.501, "met"), (0.6, "met"), (0.601, "not met"), (None, "not measured")],
)
def test_verdict(value: float | None, text: str) -> None:
    assert Verdict(BAR, value).text == text


def test_an_aim_is_never_easier_than_its_bar() -> None:
    assert all(bar.aim <= bar.bar for bar in BARS)


def test_ratios_and_absolute_figures_are_judged() -> None:
    samples = {
        "keepalive": {
            "meshlet": [{"cpu_us": 30.0, "rss_mb": 35.0}],
            "envoy": [{"cpu_us": 60.0, "rss_mb": 70.0}],
            "nginx": [{"cpu_us": 15.0, "rss_mb": 15.0}],
        },
        "startup": {"meshlet": [{"ready_s": 0.4}]},
    }
    values = {verdict.bar.title: verdict.value for verdict in judge(samples) if verdict.value is not None}
    assert values == {
        "CPU per request, keep-alive, 12 headers": 0.5,
        "the same, against nginx": 2.0,
        "RSS after load": 0.5,
        "start to first proxied response": 0.4,
    }


def test_bars_table() -> None:
    startup = Bar("start", "startup", "ready_s", None, 0.5, 0.25, " s")
    assert bars_text([Verdict(BAR, 0.55), Verdict(startup, 0.7), Verdict(startup, None)]).splitlines() == [
        "figure of meshlet   against  value    bar     aim       verdict",
        "-----------------  --------  -----  -----  ------  ------------",
        "CPU per request       envoy  0.550    0.6     0.5           met",
        "start              absolute  0.700  0.5 s  0.25 s       not met",
        "start              absolute      -  0.5 s  0.25 s  not measured",
    ]


def test_table_aligns_by_the_widest_cell() -> None:
    assert table([["a", "b"], ["long", "1"]]) == "a     b\n----  -\nlong  1"
