"""Weighted choices that stay the same for the same key, such as a request id."""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshlet.config.schema import Split

T = TypeVar("T")


class WeightedChoice(Generic[T]):
    """Shares keys out among `items`, as evenly as a hash does; an item of weight 0 gets none.

    Each item has its own stretch of the hash's range, in the order of the items. Where weights change, only the keys
    between an old border and the new one go elsewhere. `salt` keeps choices apart: of two proxies in a row that
    choose by the same key without one, the second would see only keys that the first has chosen, and choose them all.
    """

    __slots__ = ("_borders", "_items", "_salted", "_total")

    def __init__(self, items: Sequence[T], weights: Sequence[int], salt: bytes = b"") -> None:
        self._items = tuple(items)
        self._borders = tuple(accumulate(weights))
        self._total = self._borders[-1] if self._borders else 0
        if len(self._items) != len(self._borders) or self._total <= 0 or min(weights) < 0:
            raise ValueError("a weight for each item, none below 0 and at least one above it")
        self._salted = blake2b(salt + b"\0", digest_size=8)

    def choose(self, key: bytes) -> T:
        """Return the item that gets `key`."""
        hashed = self._salted.copy()
        hashed.update(key)
        return self._items[bisect_right(self._borders, int.from_bytes(hashed.digest(), "big") * self._total >> 64)]


def compile_split(split: Sequence[Split], targets: Mapping[str, T]) -> WeightedChoice[T]:
    """Compile the split of a route; `targets` are by the names of their clusters."""
    # The first name alone is the salt, so that a cluster that comes last takes keys only from where borders move.
    return WeightedChoice(
        [targets[share.cluster] for share in split], [share.weight for share in split], split[0].cluster.encode()
    )
