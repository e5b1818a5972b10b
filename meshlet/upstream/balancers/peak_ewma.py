"""The endpoint that answers sooner, by what it has been taking lately.

The rule is that of Finagle's and linkerd's "peak EWMA": an endpoint costs its average latency times the requests that
would be in flight with it. The average is sensitive to peaks: it jumps up to a slow answer at once, and decays from
there by the time that passes, so that an endpoint that was slow is tried again.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from meshlet.upstream.balancers.base import Lot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.upstream.endpoint import Endpoint

_DECAY = 10.0  # seconds in which a past latency loses all but 1/e of its weight
# What a new endpoint is taken to need: little, so that it is tried, but enough that a few requests in flight count.
_UNKNOWN = 0.001  # seconds
# Share of the requests that go anywhere, whatever it costs: an endpoint that has become fast again is noticed by its
# answers, and no endpoint is starved by what it was.
_ANYWHERE = 0.03
# What a failure counts at least, or an endpoint that refuses at once would look the fastest of all.
_FAILURE = 1.0  # seconds


class Ewma:
    """The latency of one endpoint, in seconds."""

    __slots__ = ("_clock", "_decay", "_silent_since", "_updated", "_value")

    def __init__(self, clock: Callable[[], float], decay: float = _DECAY) -> None:
        self._clock = clock
        self._decay = decay
        self._value = _UNKNOWN
        self._updated = self._silent_since = clock()

    def observe(self, seconds: float) -> None:
        """Take a latency."""
        now = self._clock()
        self._silent_since = now
        if seconds >= self._value:
            self._value = seconds
        else:
            weight = exp((self._updated - now) / self._decay)
            self._value = self._value * weight + seconds * (1 - weight)
        self._updated = now

    def fail(self, seconds: float) -> None:
        """Take a failure after so long."""
        self.observe(max(seconds, _FAILURE))

    def begin(self, now: float) -> None:
        """A request is on its way to an endpoint that had none: from now on it may be silent."""
        self._silent_since = now

    def cost(self, active: int, now: float) -> float:
        """Return what one more request costs beside `active` others, in seconds."""
        value = self._value * exp((self._updated - now) / self._decay)
        if active:
            # Something has been in flight, unanswered, since then: it has taken as long already.
            value = max(value, now - self._silent_since)
        return value * (active + 1)


class PeakEwma:
    """The cheaper of two random ones, for most requests. Endpoints must have an `ewma`."""

    def __init__(self, random: Callable[[], float], clock: Callable[[], float]) -> None:
        self._random = random
        self._clock = clock
        self._lot: Lot

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Draw from `usable`."""
        self._lot = Lot(usable, self._random)

    def pick(self, key: int | None) -> Endpoint:
        """Return the one that costs less for its share."""
        one, other = self._lot.two()
        ewma, other_ewma = one.ewma, other.ewma
        assert ewma is not None
        assert other_ewma is not None
        now = self._clock()
        if (
            ewma.cost(one.active, now) * other.share > other_ewma.cost(other.active, now) * one.share
            and self._random() >= _ANYWHERE
        ):
            one, ewma = other, other_ewma
        if not one.active:
            ewma.begin(now)
        return one
