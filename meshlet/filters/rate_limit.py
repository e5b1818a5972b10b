"""The local rate limit, as a step. Its buckets are in `resilience.rate_limit`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from meshlet.filters.errors import RateLimited
from meshlet.http.fields import all_values
from meshlet.resilience.rate_limit import KeyedBuckets, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from meshlet.config.schema import RateLimit
    from meshlet.filters.steps import Step, StepExchange


def compile_rate_limit(config: RateLimit) -> Step:
    """Return the step that counts every request, by its key where the config names one."""
    per = float(config.per)
    report = config.report
    key = _key(config)
    if key is None:
        single = TokenBucket(config.requests, per, config.burst)
        take = single.take

        def count(exchange: StepExchange, now: float) -> RateLimited | None:
            wait = take(now)
            if wait > 0:
                return _limited(single, now, wait)
            if report:
                _report(exchange, single, now)
            return None

        return count
    buckets = KeyedBuckets(config.requests, per, config.burst, config.max_keys)

    def count_by_key(exchange: StepExchange, now: float) -> RateLimited | None:
        bucket = buckets.bucket(key(exchange), now)
        wait = bucket.take(now)
        if wait > 0:
            return _limited(bucket, now, wait)
        if report:
            _report(exchange, bucket, now)
        return None

    return count_by_key


def _key(config: RateLimit) -> Callable[[StepExchange], Hashable] | None:
    """Return what finds a request's key; requests without the header share a bucket."""
    if config.header is None:
        return (lambda exchange: exchange.remote_host) if config.source else None
    values = all_values(config.header.lower().encode())
    if config.source:
        return lambda exchange: (exchange.remote_host, *values(exchange.head))
    return lambda exchange: tuple(values(exchange.head))


def _limited(bucket: TokenBucket, now: float, wait: float) -> RateLimited:
    retry = b"retry-after: %d" % max(1, math.ceil(wait))
    return RateLimited("too many requests", (retry, *_figures(bucket, now)))


def _report(exchange: StepExchange, bucket: TokenBucket, now: float) -> None:
    exchange.extra_response += b"%b\r\n" % b"\r\n".join(_figures(bucket, now))


def _figures(bucket: TokenBucket, now: float) -> tuple[bytes, bytes, bytes]:
    return (
        b"x-ratelimit-limit: %d" % bucket.limit,
        b"x-ratelimit-remaining: %d" % bucket.remaining(now),
        b"x-ratelimit-reset: %d" % bucket.reset(now),
    )
