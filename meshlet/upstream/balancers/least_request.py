"""The endpoint with less to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.upstream.balancers.base import Lot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.upstream.endpoint import Endpoint


class LeastRequest:
    """The less busy of two random ones (Mitzenmacher 2001: nearly as good as the least of all, and O(1)).

    The two are drawn by share, so that shares hold among idle endpoints too, and compared by requests for each share.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lot: Lot

    def update(self, usable: Sequence[Endpoint], members: Sequence[Endpoint], load: float) -> None:
        """Draw from `usable`."""
        self._lot = Lot(usable, self._random)

    def pick(self, key: int | None) -> Endpoint:
        """Return the one with fewer requests in flight for its share."""
        one, other = self._lot.two()
        return one if one.active * other.share <= other.active * one.share else other
