"""Noticing that the config file has changed, and what became of it."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("meshlet.reload")

Signature = tuple[int, int, int, int]


class Watch:
    """Looks at a file through all symlinks, so that the swap by which Kubernetes updates a ConfigMap is seen.

    Looking beats inotify here: the directory that a mounted ConfigMap's file really lies in is replaced
    as a whole, and a watch on it would be on something that is gone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._look()
        self._candidate = self._seen
        self._missing = False

    def changed(self) -> bool:
        """Say whether the file has changed since the last time it was said, and has been at rest since the last look.

        A file that is still being written would be read half.
        """
        now = self._look()
        if now is None:
            if not self._missing:
                self._missing = True
                logger.warning("%s: not there any more; the running config stays", self._path)
            return False
        if self._missing:
            self._missing = False
            logger.info("%s: there again", self._path)
        if now == self._seen:
            self._candidate = now
            return False
        if now != self._candidate:
            self._candidate = now
            return False
        self._seen = now
        return True

    def _look(self) -> Signature | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class Outcome(NamedTuple):
    """How a reload went."""

    result: str  # "accepted", "rejected", or "unchanged"
    time: float  # unix seconds
    reasons: tuple[str, ...] = ()


class History:
    """What became of the reloads so far."""

    def __init__(self) -> None:
        self.counts = {"accepted": 0, "rejected": 0, "unchanged": 0}
        self.last: Outcome | None = None

    def add(self, result: str, reasons: tuple[str, ...] = ()) -> None:
        """Remember one."""
        self.counts[result] += 1
        self.last = Outcome(result, time.time(), reasons)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.counts.items())
