"""The taps of one process: who looks, what is kept for them, and for how long."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from meshlet.telemetry.tap.capture import Capture, Room, request_lines
from meshlet.telemetry.tap.filter import Came, Matcher, TapFilter
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshlet.telemetry.record import Record
    from meshlet.timers import Timers

logger = logging.getLogger("meshlet.telemetry")

#: seconds after which a tap that nobody reads is closed
LEASE = 5.0
#: entries that a tap may ask to be kept between two reads
MOST_ENTRIES = 1000
_MOST_TAPS = 8
_QUEUE = 4 * 1024 * 1024  # bytes that wait for one reader
_IN_FLIGHT = 16 * 1024 * 1024  # bytes of the heads and bodies of requests that have not ended
_MAX_BODY = 65536  # bytes, until `configure` says otherwise


class TapRead(Struct, frozen=True):
    """What a reader asks for. The first read opens the tap, each further one renews its lease."""

    id: str  # made by the reader, at random
    filter: TapFilter = TapFilter()
    bodies: int = 0  # bytes of each body
    max: int = 200  # entries that may wait for the next read; what comes on top is dropped, and counted
    last: bool = False  # close the tap with this read


class OpenTap:
    """A filter with a queue."""

    __slots__ = ("bodies", "closed", "dropped", "entries", "expires", "limit", "matcher", "size")

    def __init__(self, read: TapRead) -> None:
        self.matcher = Matcher(read.filter)
        self.bodies = max(0, read.bodies)
        self.limit = min(max(1, read.max), MOST_ENTRIES)
        self.entries: deque[bytes] = deque()
        self.size = 0  # bytes of them
        self.dropped = 0
        self.expires = NEVER
        self.closed = False

    def put(self, make: Callable[[], bytes]) -> bool:
        """Add an entry if there is room for it; say whether."""
        if len(self.entries) >= self.limit or self.size >= _QUEUE:
            return False
        made = make()
        if self.size + len(made) > _QUEUE:
            return False
        self.entries.append(made)
        self.size += len(made)
        return True

    def take(self) -> list[bytes]:
        """Return what came since the last time, and then how many requests are missing."""
        taken = [*self.entries]
        if self.dropped:
            taken.append(msgspec.json.encode({"dropped": self.dropped}))
        self.entries.clear()
        self.size = self.dropped = 0
        return taken


class Taps:
    """All taps of a process. `clock` gives seconds; `wake` belongs to `timers`.

    `active` says whether there is any: what a request pays while there is none is to look at it.
    """

    def __init__(self, timers: Timers, clock: Callable[[], float]) -> None:
        self.active = False
        self.dropped = 0  # entries that found no room, ever
        self.wake = NEVER
        self._timers = timers
        self._clock = clock
        self._taps: dict[str, OpenTap] = {}
        self._room = Room(_IN_FLIGHT)
        self._redact: tuple[str, ...] = ()
        self._max_body = _MAX_BODY
        self._told = False  # of a failure

    def configure(self, redact: Iterable[str], max_body: int) -> None:
        """Hide these fields as well, and show so many bytes of a body at most; taps that are open obey at once."""
        self._redact = tuple(redact)
        self._max_body = max_body

    # --- for readers ---

    def read(self, read: TapRead) -> list[bytes]:
        """Return what came since the last read: JSON objects, one for each request.

        Besides these there are {"dropped": n}, for requests that are missing, and {"refused": why}, where there are
        too many taps already.
        """
        now = self._clock()
        tap = self._taps.get(read.id)
        if read.last:
            if tap is None:
                return []
            self._close(read.id)
            return tap.take()
        if tap is None:
            if len(self._taps) >= _MOST_TAPS:
                return [msgspec.json.encode({"refused": f"{_MOST_TAPS} taps are open already"})]
            tap = self._open(read)
        tap.expires = now + LEASE
        self._timers.schedule(self, tap.expires)
        return tap.take()

    def on_timer(self, now: float) -> float:
        """Close the taps that nobody reads."""
        for name in [name for name, tap in self._taps.items() if tap.expires <= now]:
            self._close(name)
        return min((tap.expires for tap in self._taps.values()), default=NEVER)

    def _open(self, read: TapRead) -> OpenTap:
        if not self._taps:
            self._room = Room(_IN_FLIGHT)
            self._told = False
        tap = self._taps[read.id] = OpenTap(read)
        self.active = True
        return tap

    def _close(self, name: str) -> None:
        self._taps.pop(name).closed = True
        self.active = bool(self._taps)
        if not self.active:
            self._timers.cancel(self)

    # --- for exchanges ---

    def begin(self, came: Came) -> Capture | None:
        """Return what a request that has come is captured with; None where no tap can want it."""
        taps = [tap for tap in self._taps.values() if tap.matcher.may_match(came)]
        if not taps:
            return None
        bodies = min(max(tap.bodies for tap in taps), self._max_body)
        capture = Capture(came.head, taps, self._room, bodies)
        if not capture.request.take_lines(request_lines(came.head)):
            for tap in taps:
                self._drop(tap)
            return None
        return capture

    def end(self, capture: Capture, record: Record) -> None:
        """Show a request that has ended to those who want it."""
        from meshlet.telemetry.tap import entry  # with the expressions of redaction, which only a tap pays for

        try:
            for tap in capture.taps:
                if not tap.closed and tap.matcher.matches(record):
                    bodies = min(tap.bodies, self._max_body)
                    if not tap.put(partial(entry.encode, capture, record, bodies, self._redact)):
                        self._drop(tap)
        finally:
            capture.end()

    def _drop(self, tap: OpenTap) -> None:
        tap.dropped += 1
        self.dropped += 1

    def failed(self, error: Exception) -> None:
        """Note that something could not be captured; the request must not notice."""
        if not self._told:
            self._told = True
            logger.warning("a tap could not show a request, and will not tell of the next ones", exc_info=error)
