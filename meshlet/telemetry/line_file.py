"""A file that whole lines are appended to, on a full disk as well: what is cut off there is mended as soon as it works.

Its methods block, so they are for a thread; see `line_writer`.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_CREATE_MODE = 0o644  # a log is there for another container to read
_LOOK = 1.0  # seconds from one look at the path to the next

Report = Callable[[str], None]


class LineFile:
    """Appends lines to `path`; all methods are for one thread.

    A file that was moved or removed is noticed before the next lines are written, but for those of a second: a new one
    is opened then. Where a write stops within a line, the rest of that line is written before anything else; where
    others write to the same file (`shared`, and standard streams), a line end is, because their lines may stand behind
    the half one.
    `clock`: monotonic seconds. `report` is told once what keeps lines from being written.
    Raises OSError where the path cannot be opened.
    """

    def __init__(
        self,
        path: str,
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.monotonic,
        report: Report = _log.error,
    ) -> None:
        self.path = path
        self._in_pieces = shared
        # Whoever gave us a standard stream may write to it as well, and so may our other log.
        self._shared = shared or path in STANDARD_STREAMS
        self._clock = clock
        self._report = report
        self._looked = clock()
        self._fd = open_lines(path)
        self._rest = b""  # has to be written before the next whole line
        self._owed = 0  # lines, 0 or 1, that are whole once it is
        self._astray = False
        #: the last write failed
        self.failing = False
        #: why lines were lost the last time
        self.last_error = ""
        # figures
        self.lines_lost = 0
        self.errors = 0

    def append(self, batch: bytes) -> None:
        """Append whole lines, each with its line end; a failure is counted in `errors` and `lines_lost`."""
        self._look()
        for piece in pieces(batch) if self._in_pieces and _is_pipe(self._fd) else (batch,):
            self._append(piece)

    def replace(self, fd: int) -> None:
        """Go on in another open file, which it owns from now on."""
        self._let_go()
        self._fd = fd

    def close(self) -> None:
        """Close the file."""
        self._let_go()

    def _let_go(self) -> None:
        if self._rest:
            self._append(b"")
        self._give_up_rest()
        os.close(self._fd)

    def _look(self) -> None:
        """See whether the path still leads to the open file, and open what it leads to where it does not."""
        now = self._clock()
        if now - self._looked < _LOOK or self.path in STANDARD_STREAMS:
            return
        self._looked = now
        try:
            if not _leads_to(self.path, self._fd):
                self.replace(open_lines(self.path))
            self._astray = False
        except OSError as error:
            # Better lines in a file that was moved than none.
            if not self._astray:
                self._astray = True
                self._report(f"cannot open {self.path}: {error}; its lines go on to the file that was there")

    def _append(self, piece: bytes) -> None:
        lead = self._lead()
        written, error = _write(self._fd, lead + piece if lead else piece)
        if error is None:
            self._rest = b""
            self._owed = 0
            self.failing = False
            return
        self._note_cut(lead, piece, written)
        self.errors += 1
        self.last_error = (error.strerror or str(error)).lower()
        if not self.failing:
            self.failing = True
            self._report(f"cannot write to {self.path}: {error}; its lines are lost until it works again")

    def _lead(self) -> bytes:
        """Return what has to come before the next whole line."""
        within = _ends_within_line(self._fd)
        if within is False:
            # It was emptied; or, where it is shared, another process has ended the line.
            if self._shared:
                self._owed = 0
            self._give_up_rest()
        elif within and not self._rest:
            self._rest = b"\n"  # somebody else's half line: of a process that shares the file, or that has died
        return self._rest

    def _note_cut(self, lead: bytes, piece: bytes, written: int) -> None:
        """Count what was lost when a write has stopped after so many bytes, and keep what mends the line it is in."""
        if written < len(lead):
            self._rest = lead[written:]
            self.lines_lost += piece.count(b"\n")
            return
        written -= len(lead)
        self._rest = b"\n" if self._shared else b""
        self._owed = 0
        whole = written
        if written and not piece.endswith(b"\n", 0, written):
            whole = piece.find(b"\n", written) + 1 or len(piece)
            rest = piece[written:whole]
            if self._shared and rest != b"\n":
                self.lines_lost += 1
            else:
                self._rest, self._owed = rest, 1
        self.lines_lost += piece.count(b"\n", whole)

    def _give_up_rest(self) -> None:
        self.lines_lost += self._owed
        self._rest = b""
        self._owed = 0


def open_lines(path: str) -> int:
    """Open a file for appending to, or the standard stream that the path names. Raises OSError."""
    if path in STANDARD_STREAMS:
        # Not opened by name: a stdout that belongs to another user, as in many containers, refuses that.
        return os.dup(STANDARD_STREAMS[path])
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        # For reading too, to see how it ends. A FIFO opened for both neither waits for a reader nor breaks when the
        # reader leaves (fifo(7)).
        return os.open(path, flags | os.O_RDWR, _CREATE_MODE)
    except PermissionError:
        if _is_fifo(path):
            raise
        return os.open(path, flags | os.O_WRONLY, _CREATE_MODE)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _leads_to(path: str, fd: int) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def _ends_within_line(fd: int) -> bool | None:
    """Say whether a file's last line has no end; None for what is no file, or was not opened for reading."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return None
    try:
        return found.st_size > 0 and os.pread(fd, 1, found.st_size - 1) != b"\n"
    except OSError:
        return None


def pieces(batch: bytes) -> Iterator[bytes]:
    """Cut lines into what a pipe takes without mixing it with the lines of others."""
    # Files take an append whole; pipes only one of up to PIPE_BUF bytes (pipe(7)), so a longer line may still be cut.
    start = 0
    while start < len(batch):
        end = batch.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or batch.find(b"\n", start) + 1 or len(batch)
        yield batch[start:end]
        start = end


def _write(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """Write all of it, or until an error comes; return how many bytes that were, and the error."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Whoever gave us this stdout made it non-blocking.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError as error:
            return len(data) - len(rest), error
    return len(data), None
