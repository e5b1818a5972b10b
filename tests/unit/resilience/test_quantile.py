"""The percentile of response times is near the true one, follows changes, and stays small."""

from __future__ import annotations

from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.resilience.quantile import LatencyQuantile


def true_percentile(samples: list[float], percentile: float) -> float:
    return sorted(samples)[max(0, ceil(percentile / 100 * len(samples)) - 1)]


def estimate(samples: list[float], percentile: float) -> float | None:
    quantile = LatencyQuantile(percentile)
    for sample in samples:
        quantile.add(sample)
    return quantile.value


def test_few_samples_give_no_value() -> None:
    quantile = LatencyQuantile(95)
    for _ in range(49):
        quantile.add(0.1)
        assert quantile.value is None
    quantile.add(0.1)
    assert quantile.value == pytest.approx(0.1, rel=0.05)


@settings(deadline=None)
@given(
    percentile=st.sampled_from((50.0, 75.0, 90.0, 95.0, 99.0, 99.9)) | st.floats(50, 99.9),
    samples=st.lists(st.floats(1e-6, 1000), min_size=50, max_size=400),
)
def test_the_value_is_within_a_fortieth_of_a_true_sample(percentile: float, samples: list[float]) -> None:
    value = estimate(samples, percentile)
    assert value is not None
    # A rank that is whole but for rounding may fall on either of two neighbours.
    near = (true_percentile(samples, percentile - 1e-6), true_percentile(samples, percentile + 1e-6))
    assert near[0] * 0.975 <= value <= near[1] * 1.025


@pytest.mark.parametrize("percentile", [50.0, 90.0, 95.0, 99.0, 99.9])
def test_many_samples_of_a_long_tail(percentile: float) -> None:
    random = Random(1)
    samples = [random.lognormvariate(-4, 1) for _ in range(30_000)]
    value = estimate(samples, percentile)
    # 5 % of the value, and what chance does to a share of the samples that are kept.
    slack = {50.0: 0.1, 90.0: 0.1, 95.0: 0.15, 99.0: 0.25, 99.9: 0.25}[percentile]
    assert value == pytest.approx(true_percentile(samples, percentile), rel=slack)


def test_the_value_follows_when_the_app_becomes_slow_and_fast_again() -> None:
    quantile = LatencyQuantile(95)
    for seconds in (0.01, 1.0, 0.01):
        # To forget a slow time takes until it is less than a twentieth of what is kept.
        for _ in range(8000):
            quantile.add(seconds)
        assert quantile.value == pytest.approx(seconds, rel=0.05)


def test_the_value_is_made_anew_now_and_then_only() -> None:
    quantile = LatencyQuantile(50)
    for _ in range(50):
        quantile.add(0.01)
    first = quantile.value
    for _ in range(31):
        quantile.add(1.0)
        assert quantile.value == first
    for _ in range(33):
        quantile.add(1.0)
    assert quantile.value == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("seconds", "nearest"), [(0.0, 1e-6), (-1.0, 1e-6), (1e9, 1000.0)])
def test_what_is_out_of_range_counts_as_the_nearest(seconds: float, nearest: float) -> None:
    assert estimate([seconds] * 60, 95) == pytest.approx(nearest, rel=0.05)


def test_it_stays_small() -> None:
    quantile = LatencyQuantile(99.9)
    size = len(quantile._counts)
    random = Random(2)
    for _ in range(100_000):
        quantile.add(random.expovariate(10))
    assert len(quantile._counts) == size < 500
    assert quantile._total <= 40_000


def test_the_state_can_be_read() -> None:
    quantile = LatencyQuantile(95)
    quantile.add(0.1)
    assert repr(quantile) == "<LatencyQuantile p95 None of 1>"
