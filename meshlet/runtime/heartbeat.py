"""Whether a process whose event loop should tell us something twice a second still does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT = 0.5  # seconds from one sign of life to the next, and between two looks
SILENT = 2.0  # seconds without one, and nobody waits for it any more


class Heart:
    """How long a worker has been silent.

    Only time in which we were there to listen counts, a little for each look. Where the whole machine is overloaded, or
    stands still for a while, the supervisor looks late too, and no worker is to blame. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._silence = 0.0

    def beat(self) -> None:
        """Note a sign of life."""
        self._silence = 0.0

    def look(self) -> float:
        """Return the seconds since the last sign of life. To be called every `BEAT` seconds."""
        now = self._clock()
        self._silence += min(now - self._looked, 2 * BEAT)
        self._looked = now
        return self._silence
