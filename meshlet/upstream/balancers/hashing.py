"""The endpoint that a key belongs to: as few keys as possible move when endpoints come and go.

What an endpoint owns depends on its own name and weight and on who else is there, never on history: all workers, and
all replicas of a sidecar, agree on it. An endpoint that is down keeps its place; its keys go on to others meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from math import exp
from typing import TYPE_CHECKING, Protocol

from meshlet.upstream.balancers.base import Lot
from meshlet.upstream.balancers.keys import next_key, points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from meshlet.upstream.endpoint import Endpoint

# Points of an endpoint on the ring. Its arc varies by 1/sqrt(points), here some 4 %, which is what then moves with it.
_POINTS = 512
_MOST_POINTS = 65536  # of all endpoints, as far as each keeps _FEWEST: building the ring blocks the process
_FEWEST_POINTS = 64
_LEAST_POINTS = 1024  # of all endpoints

_TABLE = 65537  # a prime, the size that the Maglev paper uses for up to some hundred endpoints
_STEPS = 2048  # of the time in which an endpoint of the largest weight claims all but 1/e of the table

_BALANCE = 1.25  # times the mean load that an endpoint may carry before its keys overflow to the next
# An endpoint with so little in flight is never overloaded: a quiet cluster's mean is below one request, and a key that
# comes twice at once would be torn in two.
_ALWAYS_FREE = 4
_TRIES = 64  # other places that are looked at before the key goes where it belongs, whatever is there


class _Owners(Protocol):
    """Whose a key is."""

    def following(self, key: int) -> Iterator[Endpoint]:
        """Yield the endpoint that `key` belongs to, then those that take its place; endless."""
        ...


class Ring:
    """Points on a circle of 64 bits, many for each endpoint; a key belongs to the next one (Karger 1997)."""

    def __init__(self, members: Sequence[Endpoint]) -> None:
        mean = sum(member.weight for member in members) / len(members)
        count = max(min(_POINTS, _MOST_POINTS // len(members)), _FEWEST_POINTS, -(-_LEAST_POINTS // len(members)))
        # A point of two endpoints is one's by name, in whatever order they are listed.
        placed = sorted(
            (point, member.name, index)
            for index, member in enumerate(members)
            for point in points(member.name, max(round(count * member.weight / mean), 1))
        )
        self._points = [point for point, _, _ in placed]
        self._owners = [members[index] for _, _, index in placed]

    def following(self, key: int) -> Iterator[Endpoint]:
        """Walk along the circle."""
        owners = self._owners
        index = bisect_right(self._points, key)
        while True:
            if index >= len(owners):
                index = 0
            yield owners[index]
            index += 1


class Maglev:
    """A table with an owner for each slot (Eisenbud 2016), filled by permutations of the slots.

    Unlike in the paper, an endpoint does not take its next free slot at each turn, but loses its turn where the slot is
    taken: each slot is so owned by whoever comes to it first. Shares vary a little more for that (by 3 % with 50
    endpoints), but when an endpoint leaves, no slot but its own changes hands.
    """

    def __init__(self, members: Sequence[Endpoint]) -> None:
        self._table: list[Endpoint] = [members[0]] * _TABLE
        if len(members) > 1:
            self._fill(sorted(members, key=lambda member: member.name))

    def _fill(self, members: list[Endpoint]) -> None:
        table: list[Endpoint | None] = [None] * _TABLE
        heaviest = max(member.weight for member in members)
        # Where each is in its permutation of the slots, by how much it goes on, and how many slots it has visited.
        places, strides = [], []
        for member in members:
            place, stride = points(member.name, 2)
            places.append(place % _TABLE)
            strides.append(stride % (_TABLE - 1) + 1)
        visited = [0] * len(members)
        weights = [member.weight / heaviest for member in members]
        left = _TABLE
        step = 0
        while left:
            step += 1
            # With this pace the chance to come first is in proportion to the weight (a race of exponential times).
            reached = {weight: round(_TABLE * (1 - exp(-weight * step / _STEPS))) for weight in set(weights)}
            for index, member in enumerate(members):
                place, stride = places[index], strides[index]
                for _ in range(reached[weights[index]] - visited[index]):
                    if table[place] is None:
                        table[place] = member
                        left -= 1
                    place += stride
                    if place >= _TABLE:
                        place -= _TABLE
                places[index] = place
                visited[index] = reached[weights[index]]
        self._table = [owner for owner in table if owner is not None]

    def following(self, key: int) -> Iterator[Endpoint]:
        """Hash again and again."""
        while True:
            yield self._table[(key >> 16) % _TABLE]
            key = next_key(key)


class HashBalancer:
    """The endpoint that a key belongs to, unless it is down or carries too much (Mirrokni 2016, "bounded loads").

    `in_flight` tells how many requests the cluster has in flight. A request without a key goes to any endpoint.
    """

    def __init__(
        self,
        owners: Callable[[Sequence[Endpoint]], _Owners],
        random: Callable[[], float],
        in_flight: Callable[[], int],
    ) -> None:
        self._build = owners
        self._random = random
        self._in_flight = in_flight
        self._built_for: list[tuple[Endpoint, int]] = []
        self._owners: _Owners
        self._lot: Lot
        self._usable: frozenset[Endpoint] = frozenset()
        self._bound = 0.0

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Give the keys of `members` to those that are `usable`."""
        shape = sorted(((member, member.weight) for member in members), key=lambda item: item[0].name)
        if shape != self._built_for:
            self._owners = self._build([member for member, _ in shape])
            self._built_for = shape
        self._usable = frozenset(usable)
        self._lot = Lot(usable, self._random)
        self._bound = _BALANCE * load / sum(endpoint.weight for endpoint in usable)

    def pick(self, key: int | None) -> Endpoint:
        """Return the endpoint that the key belongs to now."""
        if key is None:
            return self._lot.one()
        usable = self._usable
        first: Endpoint | None = None
        bound = -1.0
        tries = _TRIES
        for endpoint in self._owners.following(key):
            tries -= 1
            if endpoint in usable:
                if endpoint.active < _ALWAYS_FREE:
                    return endpoint
                if bound < 0:
                    bound = self._bound * self._in_flight()
                if endpoint.active < bound * endpoint.weight:
                    return endpoint
                first = first or endpoint
            if tries <= 0:
                break
        # With a handful of usable ones among thousands of others, the walk may have met none.
        return first or self._lot.one()
