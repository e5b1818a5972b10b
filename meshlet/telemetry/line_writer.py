"""Writes lines to a file or a pipe in a thread of its own, so that a reader who stalls never stalls the proxy.

O_NONBLOCK would do for pipes, but not for a slow disk, and on a stdout that was inherited it would
change the same open file for everyone who shares it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from meshlet.telemetry.line_file import STANDARD_STREAMS, LineFile, Report, open_lines

_log = logging.getLogger(__name__)


class LineWriter:
    """Appends batches of lines to `path`, as LineFile does; its methods are for one thread at a time.

    `shared`: other processes write to the same path, so no line of this one may be cut by theirs.
    `max_backlog`: bytes that may wait for a slow reader before the writer is `full`. `clock`: monotonic seconds.
    `report` is told, in the writer's thread, why lines are lost. `idle` is called there whenever all is written, and
    returns after how many seconds it wants to be called again, None for not before there was more to write.
    Raises OSError where the path cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        shared: bool = False,
        max_backlog: int = 4 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
        report: Report = _log.error,
        idle: Callable[[], float | None] | None = None,
    ) -> None:
        self._file = LineFile(path, shared=shared, clock=clock, report=report)
        self._max_backlog = max_backlog
        self._idle = idle
        self._work: SimpleQueue[bytes | int | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Each number has one writer, whoever calls or the thread, so none needs a lock.
        self._bytes_offered = 0
        self._bytes_done = 0

    @property
    def full(self) -> bool:
        """Whether so much waits for the reader that `write` must not be called."""
        return self._bytes_offered - self._bytes_done >= self._max_backlog

    @property
    def lines_lost(self) -> int:
        """Whole lines that could not be written."""
        return self._file.lines_lost

    @property
    def errors(self) -> int:
        """Writes that failed."""
        return self._file.errors

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        return self._file.failing

    @property
    def last_error(self) -> str:
        """Why lines were lost the last time."""
        return self._file.last_error

    def write(self, batch: bytes) -> None:
        """Append whole lines, each with its line end; a failure is counted in `errors` and `lines_lost`."""
        self._bytes_offered += len(batch)
        self._put(batch)

    def reopen(self) -> None:
        """Open the path anew behind what was written so far, for rotation; a standard stream stays.

        Raises OSError where the path cannot be opened; writing to the old file goes on then.
        """
        if self._file.path not in STANDARD_STREAMS:
            self._put(open_lines(self._file.path))

    def drain(self, grace: float) -> None:
        """Block until all is written, for at most `grace` seconds."""
        if self._thread is not None:
            reached = threading.Event()
            self._put(reached)
            reached.wait(grace)

    def finish(self, grace: float) -> bool:
        """Block until all is written and the file closed, for at most `grace` seconds; say whether that is done."""
        if self._thread is None:
            self._file.close()
            return True
        self._put(None)
        self._thread.join(grace)
        return not self._thread.is_alive()

    async def close(self, grace: float) -> None:
        """Write what waits, for at most `grace` seconds, then let go of the file."""
        if not await asyncio.get_running_loop().run_in_executor(None, self.finish, grace):
            _log.warning("gave up writing to %s: nobody reads it", self._file.path)

    def _put(self, work: bytes | int | threading.Event | None) -> None:
        if self._thread is None:
            # Daemonic: a reader who never reads again must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="line-writer", daemon=True)
            self._thread.start()
        self._work.put(work)

    # --- the thread ---

    def _run(self) -> None:
        wait: float | None = None
        while True:
            try:
                work = self._work.get(timeout=wait)
            except Empty:
                work = b""
            if work is None:
                break
            self._do(work)
            if self._idle is not None and self._work.empty():
                wait = self._idle()
        self._file.close()

    def _do(self, work: bytes | int | threading.Event) -> None:
        if isinstance(work, threading.Event):
            work.set()
        elif isinstance(work, int):
            self._file.replace(work)
        elif work:
            self._file.append(work)
            self._bytes_done += len(work)
