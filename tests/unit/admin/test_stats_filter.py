from __future__ import annotations

from itertools import count

import pytest

from meshlet.admin.stats_filter import StatsFilter

LINES = ['meshlet_requests_total{cluster="app"} 3', "meshlet_connections 2"]


@pytest.mark.parametrize(
    ("pattern", "found"), [("", 2), ("^meshlet_c", 1), ("requests|connections", 2), ('cluster="a.*"', 1), ("[0-2]$", 1)]
)
def test_lines_in_which_the_expression_is_found(pattern: str, found: int) -> None:
    assert len(StatsFilter(pattern).apply(LINES)) == found


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)(a|a)", "a?" * 30, ".*.*.*x", "[", "a{99999999999999999999}", "x" * 201]
)
def test_an_expression_that_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a regular expression"):
        StatsFilter(pattern)


def test_the_worst_expression_that_is_let_through_ends_at_the_deadline() -> None:
    wanted = StatsFilter("a+a+$", clock=count(0, 0.01).__next__)
    with pytest.raises(TimeoutError, match="simpler"):
        wanted.apply(["a" * 300 + "b"] * 100)
