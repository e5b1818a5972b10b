"""Each endpoint in turn, or any."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from meshlet.upstream.balancers.base import Lot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.upstream.endpoint import Endpoint


class RoundRobin:
    """Each in turn, from a random start: workers that begin together must not all begin at the same endpoint.

    Where shares differ, the turns of an endpoint are spread evenly over those of the others: the one that is due first
    is next, and due again after 1/share (earliest deadline first, as in Envoy's scheduler).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next = int(random() * (1 << 16))
        self._endpoints: tuple[Endpoint, ...] = ()
        self._queue: list[tuple[float, int, Endpoint]] | None = None  # a heap of when each is due
        self._periods: dict[Endpoint, float] = {}
        self._now = 0.0

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Take turns among `usable`."""
        self._endpoints = tuple(usable)
        if len({endpoint.share for endpoint in usable}) == 1:
            self._queue = None
            return
        # What an endpoint has waited of its turn stays, stretched to its new share.
        waits = {endpoint: (due - self._now) / self._periods[endpoint] for due, _, endpoint in self._queue or ()}
        self._periods = {endpoint: 1 / endpoint.share for endpoint in usable}
        self._queue = [
            (self._now + waits.get(endpoint, self._random()) * self._periods[endpoint], number, endpoint)
            for number, endpoint in enumerate(usable)
        ]
        heapq.heapify(self._queue)

    def pick(self, key: int | None) -> Endpoint:
        """Return the next in turn."""
        queue = self._queue
        if queue is None:
            endpoints = self._endpoints
            self._next = number = self._next + 1
            return endpoints[number % len(endpoints)]
        self._now, number, endpoint = queue[0]
        heapq.heapreplace(queue, (self._now + self._periods[endpoint], number, endpoint))
        return endpoint


class RandomChoice:
    """Any, by share."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lot: Lot

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Draw from `usable`."""
        self._lot = Lot(usable, self._random)

    def pick(self, key: int | None) -> Endpoint:
        """Return any."""
        return self._lot.one()
