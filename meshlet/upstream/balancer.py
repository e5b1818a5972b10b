"""How an endpoint is chosen for a request."""

from __future__ import annotations

from random import randrange
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.upstream.cluster import Endpoint


class Balancer(Protocol):
    """Chooses among endpoints; there is at least one, and the sequence may change between calls."""

    def pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Return the endpoint for the next request."""
        ...


class RoundRobin:
    """Each in turn, from a random start: workers that begin together must not all begin at the same endpoint."""

    def __init__(self) -> None:
        self._next = randrange(1 << 16)  # noqa: S311

    def pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Return the next in turn."""
        self._next += 1
        return endpoints[self._next % len(endpoints)]


class LeastRequest:
    """The less busy of two random ones (Mitzenmacher 2001: nearly as good as the least of all, and O(1))."""

    def pick(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Return the one with fewer requests in flight."""
        count = len(endpoints)
        first = randrange(count)  # noqa: S311
        second = randrange(count - 1) if count > 1 else first  # noqa: S311
        if second >= first and count > 1:
            second += 1
        one, other = endpoints[first], endpoints[second]
        return one if one.active <= other.active else other


BALANCERS: dict[str, type[Balancer]] = {"round-robin": RoundRobin, "least-request": LeastRequest}
