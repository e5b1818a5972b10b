"""Writes lines to a file or a pipe in a thread of its own, so that a reader who stalls never stalls the proxy.

O_NONBLOCK would do for pipes, but not for a slow disk, and on a stdout that was inherited it would
change the same open file for everyone who shares it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

_log = logging.getLogger(__name__)

_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_CREATE_MODE = 0o644  # a log is there for another container to read
_LOOK = 1.0  # seconds from one look at the path to the next


class LineWriter:
    """Appends batches of lines to `path`; all methods are for the thread of the event loop.

    A file that was moved or removed is noticed before the next lines are written, but for those of a second: a new one
    is opened then.
    `shared`: other processes write to the same path, so no line of this one may be cut by theirs.
    `max_backlog`: bytes that may wait for a slow reader before the writer is `full`. `clock`: monotonic seconds.
    Raises OSError where the path cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        shared: bool = False,
        max_backlog: int = 4 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._shared = shared
        self._max_backlog = max_backlog
        self._fd = _open(path)
        self._work: SimpleQueue[bytes | int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Each number has one writer, the loop or the thread, so none needs a lock.
        self._bytes_offered = 0
        self._bytes_done = 0
        self.lines_lost = 0
        self.errors = 0
        self._failing = False
        self._astray = False

    @property
    def full(self) -> bool:
        """Whether so much waits for the reader that `write` must not be called."""
        return self._bytes_offered - self._bytes_done >= self._max_backlog

    def write(self, batch: bytes) -> None:
        """Append whole lines, each with its line end; a failure is counted in `errors` and `lines_lost`."""
        self._bytes_offered += len(batch)
        self._put(batch)

    def reopen(self) -> None:
        """Open the path anew behind what was written so far, for rotation; a standard stream stays.

        Raises OSError where the path cannot be opened; writing to the old file goes on then.
        """
        if self._path not in _STANDARD_STREAMS:
            self._put(_open(self._path))

    async def close(self, grace: float) -> None:
        """Write what waits, for at most `grace` seconds, then let go of the file."""
        if self._thread is None:
            os.close(self._fd)
            return
        self._put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, grace)
        if self._thread.is_alive():
            _log.warning("gave up writing to %s: nobody reads it", self._path)

    def _put(self, work: bytes | int | None) -> None:
        if self._thread is None:
            # Daemonic: a reader who never reads again must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="line-writer", daemon=True)
            self._thread.start()
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, int):
                os.close(self._fd)
                self._fd = work
            else:
                self._look()
                self._append(work)
                self._bytes_done += len(work)
        os.close(self._fd)

    def _look(self) -> None:
        """See whether the path still leads to the open file, and open what it leads to where it does not."""
        now = self._clock()
        if now - self._looked < _LOOK or self._path in _STANDARD_STREAMS:
            return
        self._looked = now
        try:
            if not _leads_to(self._path, self._fd):
                fd = _open(self._path)
                os.close(self._fd)
                self._fd = fd
            self._astray = False
        except OSError as error:
            # Better lines in a file that was moved than none.
            if not self._astray:
                self._astray = True
                _log.error("cannot open %s: %s; its lines go on to the file that was there", self._path, error)

    def _append(self, batch: bytes) -> None:
        for piece in _pieces(batch) if self._shared and _is_pipe(self._fd) else (batch,):
            try:
                _write_all(self._fd, piece)
                self._failing = False
            except OSError as error:
                self.errors += 1
                self.lines_lost += piece.count(b"\n")
                if not self._failing:
                    self._failing = True
                    _log.error("cannot write to %s: %s; its lines are lost until it works again", self._path, error)


def _open(path: str) -> int:
    if path in _STANDARD_STREAMS:
        # Not opened by name: a stdout that belongs to another user, as in many containers, refuses that.
        return os.dup(_STANDARD_STREAMS[path])
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        fifo = stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        fifo = False
    # A FIFO opened for both neither waits for a reader nor breaks when the reader leaves (fifo(7)).
    return os.open(path, flags | (os.O_RDWR if fifo else os.O_WRONLY), _CREATE_MODE)


def _leads_to(path: str, fd: int) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def _pieces(batch: bytes) -> Iterator[bytes]:
    # Files take an append whole; pipes only one of up to PIPE_BUF bytes (pipe(7)), so a longer line may still be cut.
    start = 0
    while start < len(batch):
        end = batch.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or batch.find(b"\n", start) + 1 or len(batch)
        yield batch[start:end]
        start = end


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Whoever gave us this stdout made it non-blocking.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
