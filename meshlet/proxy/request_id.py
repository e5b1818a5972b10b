"""UUIDs of version 7 (RFC 9562) as request ids: unique, and in the order of time.

A system call and a dozen slices for each would show in the cost of a request. So the ids of a few
milliseconds share their time and random part and count on from a random number, which section 6.2
of the RFC allows (method 2, monotonic random).
"""

from __future__ import annotations

import os
import time

_SHARED_FOR = 0.004  # seconds
_COUNTER_BITS = 32


class RequestIds:
    """Call it for the next id."""

    __slots__ = ("_count", "_last", "_prefix", "_until")

    def __init__(self) -> None:
        self._prefix = b""
        self._count = self._last = 0
        self._until = 0.0

    def __call__(self, now: float) -> bytes:
        """Return an id, 36 ASCII characters; `now` is the time in seconds of a monotonic clock."""
        if now >= self._until or self._count >= self._last:
            self._renew(now)
        self._count = count = self._count + 1
        return b"%b%08x" % (self._prefix, count)

    def _renew(self, now: float) -> None:
        random = int.from_bytes(os.urandom(10), "big")
        milliseconds = f"{time.time_ns() // 1_000_000:012x}"
        # rand_a has 12 bits; of the 62 of rand_b, 30 are here and 32 are the counter, behind the variant's binary 10.
        rand_a, rand_b = random & 0xFFF, (random >> 12) & 0x3FFFFFFF
        high = f"{0x80000000 | rand_b:08x}"
        self._prefix = f"{milliseconds[:8]}-{milliseconds[8:]}-7{rand_a:03x}-{high[:4]}-{high[4:]}".encode()
        # The counter begins in the lower half, so that it does not run over.
        self._count = (random >> 42) & ((1 << (_COUNTER_BITS - 1)) - 1)
        self._last = (1 << _COUNTER_BITS) - 1
        self._until = now + _SHARED_FOR
