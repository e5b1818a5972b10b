"""`/stats?filter=`: a regular expression that cannot hold up the proxy.

Python's `re` backtracks, and it keeps the interpreter to itself while it does: one request with
`(a+)+$` would stop all traffic. So groups are refused (no repetition of a repetition), repetitions
are few (the time grows with the line's length to the power of their number), lines are cut, and
the whole search has a deadline.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_MAX_LENGTH = 200
_MAX_REPETITIONS = 2
_MAX_LINE = 300
_DEADLINE = 0.25  # seconds


class StatsFilter:
    """The lines in which a regular expression is found; an empty one takes all.

    Raises ValueError, which says what was expected, for an expression that is refused.
    """

    def __init__(self, pattern: str, clock: Callable[[], float] = time.monotonic) -> None:
        if len(pattern) > _MAX_LENGTH:
            raise ValueError(f"expected a regular expression of at most {_MAX_LENGTH} characters")
        if "(" in pattern or sum(map(pattern.count, "*+?{")) > _MAX_REPETITIONS:
            raise ValueError(
                f"expected a regular expression without groups and with at most {_MAX_REPETITIONS} of `*`, `+`, `?`, "
                "`{}`; alternatives are written a|b"
            )
        try:
            self._search = re.compile(pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"expected a regular expression: {error}") from error
        self._clock = clock

    def apply(self, lines: list[str]) -> list[str]:
        """The lines that match; raises TimeoutError when that takes too long."""
        deadline = self._clock() + _DEADLINE
        found = []
        for line in lines:
            if self._search(line, 0, _MAX_LINE):
                found.append(line)
            if self._clock() > deadline:
                raise TimeoutError("took too long; expected a simpler regular expression")
        return found
