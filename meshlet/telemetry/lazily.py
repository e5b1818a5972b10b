"""What is made of large libraries once it is needed, in the thread that needs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)

_PAUSE = 10.0  # seconds between two tries


class Lazily(Generic[T]):
    """Makes it with the first call of `get`. Where that fails, for want of descriptors perhaps, it is tried again.

    `lost` says in the log what cannot be done without it. `clock`: monotonic seconds.
    """

    def __init__(self, make: Callable[[], T], lost: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._lost = lost
        self._clock = clock
        self._next_try = clock()
        self._told = False
        #: None until it could be made
        self.made: T | None = None

    def get(self) -> T | None:
        """Return it, or None where it cannot be made yet."""
        if self.made is None and self._clock() >= self._next_try:
            try:
                self.made = self._make()
            except Exception as error:  # noqa: BLE001 - variables in the environment can be wrong in many ways, too
                self._next_try = self._clock() + _PAUSE
                if not self._told:
                    self._told = True
                    why = f"{type(error).__name__}: {error}"
                    _log.error("%s: %s; it is tried again every %g s", self._lost, why, _PAUSE)
        return self.made
