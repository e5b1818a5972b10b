"""A token bucket lets its rate and burst through and no more, for each key apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.resilience.rate_limit import KeyedBuckets, TokenBucket

_START = 1_000_000.0  # as a machine's clock after twelve days, where floats are coarser

pure = settings(deadline=None)


def test_a_burst_passes_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 1.0, 3)
    assert [bucket.take(_START) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(_START) == pytest.approx(0.1)
    assert bucket.take(_START + 0.05) == pytest.approx(0.05)
    assert bucket.take(_START + 0.1) == 0.0
    assert bucket.take(_START + 0.1) == pytest.approx(0.1)


def test_the_burst_is_the_requests_where_none_is_given() -> None:
    bucket = TokenBucket(5, 60.0)
    assert bucket.limit == 5
    assert sum(bucket.take(_START) == 0.0 for _ in range(10)) == 5


def test_refusals_cost_nothing() -> None:
    bucket = TokenBucket(1, 1.0)
    bucket.take(_START)
    for _ in range(100):
        assert bucket.take(_START + 0.5) == pytest.approx(0.5)
    assert bucket.take(_START + 1) == 0.0


def test_the_figures_are_those_of_envoy() -> None:
    # max_tokens 3, one more every 10 s; but whole seconds are rounded up: a caller that waits so long gets a token.
    bucket = TokenBucket(3, 30.0)
    seen = []
    for seconds in (0.0, 0.5, 1.0, 1.5, 10.0):
        bucket.take(_START + seconds)
        seen.append((bucket.limit, bucket.remaining(_START + seconds), bucket.reset(_START + seconds)))
    assert seen == [(3, 2, 0), (3, 1, 0), (3, 0, 9), (3, 0, 9), (3, 0, 10)]
    assert (bucket.remaining(_START + 100), bucket.reset(_START + 100)) == (3, 0)


def test_a_new_bucket_is_full() -> None:
    bucket = TokenBucket(3, 30.0)
    assert (bucket.remaining(_START), bucket.reset(_START)) == (3, 0)


GAPS = st.lists(st.just(0.0) | st.floats(0, 3), min_size=1, max_size=120)


@pure
@given(
    requests=st.integers(1, 50),
    per=st.floats(0.01, 100),
    burst=st.integers(1, 20),
    gaps=GAPS,
)
def test_no_window_sees_more_than_burst_and_rate(requests: int, per: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(requests, per, burst)
    now, taken = _START, []
    for gap in gaps:
        now += gap
        left, reset = bucket.remaining(now), bucket.reset(now)
        assert 0 <= left <= burst
        wait = bucket.take(now)
        assert (wait == 0.0) == (left > 0) == (reset == 0)
        if wait == 0.0:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) * requests / per + 0.01


@pure
@given(requests=st.integers(1, 1000), per=st.floats(0.01, 100), burst=st.integers(1, 20), gaps=GAPS)
def test_who_waits_as_told_gets_a_token(requests: int, per: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(requests, per, burst)
    now = _START
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        if wait:
            now += wait
            assert bucket.take(now) == 0.0


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = KeyedBuckets(1, 1.0, None, max_keys=10)
    assert buckets.bucket(b"a", _START).take(_START) == 0.0
    assert buckets.bucket(b"b", _START).take(_START) == 0.0
    assert buckets.bucket(b"a", _START).take(_START) > 0.0
    assert len(buckets) == 2


def test_buckets_that_are_full_again_make_room() -> None:
    buckets = KeyedBuckets(1, 1.0, None, max_keys=2)
    first = buckets.bucket(b"a", _START)
    first.take(_START)
    buckets.bucket(b"b", _START).take(_START)
    first.take(_START + 1)  # in use longer than b, though it came first
    third = buckets.bucket(b"c", _START + 1.5)
    assert third.take(_START + 1.5) == 0.0
    assert len(buckets) == 2
    assert buckets.bucket(b"a", _START + 1.5) is first
    assert buckets.shared_total == 0


def test_keys_beyond_the_bound_share_a_bucket() -> None:
    buckets = KeyedBuckets(1, 1.0, None, max_keys=2)
    for key in (b"a", b"b"):
        buckets.bucket(key, _START).take(_START)
    shared = buckets.bucket(b"c", _START)
    assert shared.take(_START) == 0.0
    assert buckets.bucket(b"d", _START) is shared
    assert shared.take(_START) > 0.0
    assert (len(buckets), buckets.shared_total) == (2, 2)
    assert buckets.bucket(b"d", _START + 1) is not shared


def test_a_flood_of_keys_fills_nobody_s_bucket_again() -> None:
    buckets = KeyedBuckets(1, 60.0, None, max_keys=50)
    now = _START
    assert buckets.bucket(b"flooder", now).take(now) == 0.0
    passed = 0
    for number in range(5000):
        now += 0.001
        passed += buckets.bucket(b"%d" % number, now).take(now) == 0.0
        assert buckets.bucket(b"flooder", now).take(now) > 0.0
    assert passed == 49 + 1  # the buckets that were left, and the shared one
    assert len(buckets) == 50


def test_long_keys_are_not_kept() -> None:
    key = b"k" * 60_000
    buckets = KeyedBuckets(1, 60.0, None, max_keys=10)
    buckets.bucket(key, _START).take(_START)
    assert buckets.bucket(bytes(bytearray(key)), _START).take(_START) > 0.0
    assert all(isinstance(each, int) for each in buckets._buckets)


@pure
@given(
    max_keys=st.integers(1, 4),
    burst=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 9), st.just(0.0) | st.floats(0, 3)), max_size=150),
)
def test_no_key_passes_its_limit_however_the_table_turns(
    max_keys: int, burst: int, steps: list[tuple[int, float]]
) -> None:
    buckets = KeyedBuckets(1, 1.0, burst, max_keys)
    alone = {key: TokenBucket(1, 1.0, burst) for key in range(10)}
    now = _START
    for key, gap in steps:
        now += gap
        before = buckets.shared_total
        full = sum(each.full_at <= now for each in buckets._buckets.values())
        known = hash(key) in buckets._buckets
        bucket = buckets.bucket(key, now)
        assert len(buckets) <= max_keys
        assert len(buckets._order) == len(buckets)
        if buckets.shared_total > before:
            assert not known
            assert full == 0  # none could have made room
            bucket.take(now)
        elif bucket.take(now) == 0.0:
            assert alone[key].take(now) == 0.0  # never more than one that is kept for ever lets through


def test_the_state_can_be_read() -> None:
    bucket = TokenBucket(2, 1.0)
    bucket.take(7.0)
    assert repr(bucket) == "<TokenBucket limit=2 full_at=7.5>"
