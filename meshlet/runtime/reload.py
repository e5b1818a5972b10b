"""Noticing that the config file has changed, reading it again, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

logger = logging.getLogger("meshlet.reload")

_FIRST_PAUSE = 1.0  # seconds, after a failure that is not the config's
_MAX_PAUSE = 30.0

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


class Reloads:
    """Has the file read again when somebody asks for it, one time after the other.

    Each time takes the file as it is by then. So whoever asks while one is under way gets another one after it, and
    the newest file wins in the end. `reload` says whether it has come to an end; what failed for the machine's sake is
    tried again, less and less often, or as soon as somebody asks.
    """

    def __init__(self, reload: Callable[[], Awaitable[bool]]) -> None:
        self._reload = reload
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have the file read again as soon as possible."""
        self._asked.set()

    async def run(self) -> None:
        """Do what is asked for, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            await self._asked.wait()
            self._asked.clear()
            if await self._reload():
                pause = _FIRST_PAUSE
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            self._asked.set()
            pause = min(pause * 2, _MAX_PAUSE)


class Outcome(NamedTuple):
    """How a reload went."""

    result: str  # "accepted", "rejected", "unchanged", or "failed" where nothing is known about the config
    time: float  # unix seconds
    reasons: tuple[str, ...] = ()


class History:
    """What became of the reloads so far."""

    def __init__(self) -> None:
        self.counts = {"accepted": 0, "rejected": 0, "unchanged": 0, "failed": 0}
        self.last: Outcome | None = None

    def add(self, result: str, reasons: tuple[str, ...] = ()) -> None:
        """Remember one."""
        self.counts[result] += 1
        self.last = Outcome(result, time.time(), reasons)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.counts.items())
