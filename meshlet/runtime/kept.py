"""What has a state of its own and outlives a reload that does not concern it: rate limits, filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

C = TypeVar("C")
T = TypeVar("T")

_Places = dict["Hashable", list[tuple[Any, Any]]]


class Kept:
    """Objects by their place in one config, with the part of it that they were made from.

    A place may hold several: a route's filters, or what two routes of one name have.
    """

    def __init__(self, before: Kept | None = None) -> None:
        """`before` is what the running config has; it stays as it is, whatever becomes of this one."""
        # what this config has not asked for yet
        self._left: _Places = {place: list(objects) for place, objects in before.made.items()} if before else {}
        self.made: _Places = {}  # what it has asked for

    def get(self, place: Hashable, config: C, make: Callable[[C], T]) -> T:
        """Return the first object of the config before that was made from an equal one at this place, or a new one."""
        left = self._left.get(place, [])
        number = next((number for number, (made_from, _) in enumerate(left) if made_from == config), None)
        found: T = make(config) if number is None else left.pop(number)[1]
        self.made.setdefault(place, []).append((config, found))
        return found
