"""New endpoints get their share little by little: caches are cold, code is not compiled, pools are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.timers import Timers
    from meshlet.upstream.endpoint import Endpoint

_FIRST = 0.1  # of its share, which an endpoint begins with
_STEPS = 30  # in which it comes to the whole of it


class SlowStart:
    """Sets `share` of the endpoints that have begun; `on_change` is called after each step. `wake` is for `Timers`."""

    def __init__(
        self, window: float, timers: Timers, clock: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self._window = window
        self._timers = timers
        self._clock = clock
        self._on_change = on_change
        self._begun: dict[Endpoint, float] = {}
        self.wake = NEVER

    def begin(self, endpoint: Endpoint) -> None:
        """Have an endpoint begin (again)."""
        now = self._clock()
        self._begun[endpoint] = now
        endpoint.share = endpoint.weight * _FIRST
        self._timers.schedule(self, now + self._window / _STEPS)

    def forget(self, endpoint: Endpoint) -> None:
        """Leave an endpoint alone that is gone or down."""
        self._begun.pop(endpoint, None)

    def set_share(self, endpoint: Endpoint) -> None:
        """Work an endpoint's share out anew, as after a change of its weight."""
        begun = self._begun.get(endpoint)
        part = 1.0 if begun is None else min((self._clock() - begun) / self._window, 1.0)
        endpoint.share = endpoint.weight * (_FIRST + (1 - _FIRST) * part)

    def close(self) -> None:
        """End it."""
        self._begun.clear()
        self._timers.cancel(self)

    def on_timer(self, now: float) -> float:
        """Give each a little more."""
        for endpoint, begun in tuple(self._begun.items()):
            if now - begun >= self._window:
                del self._begun[endpoint]
            self.set_share(endpoint)
        self._on_change()
        return now + self._window / _STEPS if self._begun else NEVER
