from __future__ import annotations

from benchmarks.stats import disturbed, median_of, median_ratio, percentile


def test_the_ratio_is_taken_inside_each_round() -> None:
    # The host became twice as slow in round 2 and thrice in round 3: ours costs half in each of them.
    ours = [{"cpu": 10.0}, {"cpu": 20.0}, {"cpu": 30.0}]
    theirs = [{"cpu": 20.0}, {"cpu": 40.0}, {"cpu": 60.0}]
    assert median_ratio(ours, theirs, "cpu") == 0.5


def test_the_median_ratio_is_not_the_ratio_of_medians() -> None:
    ours = [{"cpu": 1.0}, {"cpu": 9.0}, {"cpu": 10.0}]
    theirs = [{"cpu": 10.0}, {"cpu": 10.0}, {"cpu": 1.0}]
    assert median_ratio(ours, theirs, "cpu") == 0.9


def test_no_ratio_without_a_figure_on_both_sides() -> None:
    assert median_ratio([{"cpu": 1.0}], [], "cpu") is None
    assert median_ratio([{"cpu": 1.0}], [{"rss": 1.0}], "cpu") is None
    assert median_ratio([{"cpu": 1.0}], [{"cpu": 0.0}], "cpu") is None


def test_median_over_the_rounds() -> None:
    assert median_of([{"cpu": 3.0}, {"cpu": 1.0}, {"cpu": 2.0}], "cpu") == 2.0
    assert median_of([], "cpu") is None


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile(values, 99.9) == 100.0
    assert percentile([7.0], 50) == 7.0


def test_slices_beside_a_slow_fixed_loop_are_disturbed() -> None:
    assert disturbed([{"loop_ms": 5.0}, {"loop_ms": 6.2}, {"loop_ms": 6.3}], fastest_loop=5.0) == 1
