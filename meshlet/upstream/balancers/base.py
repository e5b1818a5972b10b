"""What all balancers are, and how two endpoints are drawn at random."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.upstream.endpoint import Endpoint


class Balancer(Protocol):
    """Chooses among the endpoints of one tier."""

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Choose from `usable` from now on; there is at least one.

        Called whenever membership, health or an endpoint's `share` changes. `members` are all endpoints of the tier,
        `usable` ones included; `load` is the part of the cluster's requests that comes here.
        """
        ...

    def pick(self, key: int | None) -> Endpoint:
        """Return the endpoint for the next request; `key` is a hash of what the request is to stick to."""
        ...


class Lot:
    """Draws endpoints at random, each with the probability of its share of all shares."""

    __slots__ = ("_count", "_endpoints", "_limits", "_random", "_total")

    def __init__(self, endpoints: Sequence[Endpoint], random: Callable[[], float]) -> None:
        self._endpoints = tuple(endpoints)
        self._count = len(endpoints)
        self._random = random
        even = len({endpoint.share for endpoint in endpoints}) == 1
        #: sums of the shares up to each endpoint, or None where all are the same
        self._limits = None if even else list(accumulate(endpoint.share for endpoint in endpoints))
        self._total = self._limits[-1] if self._limits is not None else 0.0

    def one(self) -> Endpoint:
        """Return one."""
        if self._limits is None:
            return self._endpoints[int(self._random() * self._count)]
        return self._endpoints[self._at(self._random() * self._total, self._limits)]

    def two(self) -> tuple[Endpoint, Endpoint]:
        """Return two different ones, or the only one twice."""
        endpoints = self._endpoints
        random = self._random
        count = self._count - 1
        limits = self._limits
        if count <= 0:
            return endpoints[0], endpoints[0]
        if limits is None:
            first = int(random() * (count + 1))
            second = int(random() * count)
            return endpoints[first], endpoints[second + (second >= first)]
        first = self._at(random() * self._total, limits)
        # The second comes from what is left of the shares once the first one's stretch is cut out.
        begin = limits[first - 1] if first else 0.0
        stretch = limits[first] - begin
        place = random() * (self._total - stretch)
        second = self._at(place + stretch if place >= begin else place, limits)
        if second == first:  # by rounding
            second = first - 1 if first else 1
        return endpoints[first], endpoints[second]

    def _at(self, place: float, limits: list[float]) -> int:
        return min(bisect_right(limits, place), self._count - 1)
