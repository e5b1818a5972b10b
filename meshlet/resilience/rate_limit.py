"""Local rate limits: token buckets, one or one for each key.

A bucket is kept as a single time, as in the generic cell rate algorithm (ITU-T I.371): when it will be full again.
So nothing has to fill buckets, and one that is full again need not be kept at all.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

# Sums of times are off by rounding, which must not cost a token; in shares of a token.
_ROUNDING = 1e-3


class TokenBucket:
    """Lets `requests` in every `per` seconds through, and `burst` (as `requests` if not given) at once.

    `limit`, `remaining` and `reset` are for the fields `x-ratelimit-*` of draft-ietf-httpapi-ratelimit-headers-03 with
    the meaning that Envoy's local rate limit gives them: burst, tokens left, seconds until there is one.
    """

    __slots__ = ("_interval", "_rounding", "_tolerance", "full_at", "limit")

    def __init__(self, requests: int, per: float, burst: int | None = None) -> None:
        self.limit = burst or requests
        self.full_at = -math.inf
        self._interval = per / requests  # seconds that a token takes
        self._tolerance = (self.limit - 1) * self._interval
        self._rounding = _ROUNDING * self._interval

    def __repr__(self) -> str:
        return f"<TokenBucket limit={self.limit} full_at={self.full_at:g}>"

    def take(self, now: float) -> float:
        """Take a token and return 0.0; or take none and return how many seconds later there is one."""
        full_at = max(self.full_at, now)
        wait = full_at - now - self._tolerance
        if wait > self._rounding:
            return wait
        self.full_at = full_at + self._interval
        return 0.0

    def remaining(self, now: float) -> int:
        """Return how many tokens are left."""
        missing = max(0.0, self.full_at - now) / self._interval
        return max(0, int(self.limit - missing + _ROUNDING))

    def reset(self, now: float) -> int:
        """Return in how many whole seconds, rounded up, there is a token; 0 where there is one."""
        wait = self.full_at - now - self._tolerance
        return math.ceil(wait) if wait > self._rounding else 0


class KeyedBuckets:
    """A bucket for each key, `max_keys` of them at most; keys beyond that share one.

    Only buckets that are full again make room for others, as they are like new. So a client that floods us with keys
    ends up in the shared bucket with the other newcomers, and gets no bucket of its own filled by that.
    """

    def __init__(self, requests: int, per: float, burst: int | None, max_keys: int) -> None:
        self._rate = (requests, per, burst)
        self._max_keys = max_keys
        # By the keys' hashes: keys are the clients' to choose, and may be as long as a head. Python's hash of str and
        # bytes is keyed with a secret of the process, so nobody can aim at the bucket of someone else.
        self._buckets: dict[int, TokenBucket] = {}
        # A heap of when each bucket is full at the earliest: what it was when last looked at.
        self._order: list[tuple[float, int]] = []
        self._shared = TokenBucket(*self._rate)
        self.shared_total = 0  # requests that met the shared bucket

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: Hashable, now: float) -> TokenBucket:
        """Return the bucket that counts for `key` now; it is not to be kept for later requests."""
        number = hash(key)
        bucket = self._buckets.get(number)
        if bucket is not None:
            return bucket
        if len(self._buckets) >= self._max_keys and not self._drop_full(now):
            self.shared_total += 1
            return self._shared
        bucket = self._buckets[number] = TokenBucket(*self._rate)
        heapq.heappush(self._order, (now, number))
        return bucket

    def _drop_full(self, now: float) -> bool:
        """Drop a bucket that is full again; say whether there was one.

        An entry is corrected only if its bucket was used since, so a flood of keys costs each request no more than
        a step of the heap, amortised.
        """
        order, buckets = self._order, self._buckets
        while order[0][0] <= now:
            number = order[0][1]
            full_at = buckets[number].full_at
            if full_at <= now:
                heapq.heappop(order)
                del buckets[number]
                return True
            heapq.heapreplace(order, (full_at, number))
        return False
