"""Where meshlet's own log goes: through a thread, so that nothing waits for whoever reads it, and within bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from meshlet.telemetry.line_writer import LineWriter
from meshlet.telemetry.repeats import Repeats

_BACKLOG = 1024 * 1024  # bytes that wait for a slow reader
# A supervisor gives its workers a second to end, and there are two such waits in an end: `flush` and `close`.
_GRACE = 0.4  # seconds for the last lines
_AGAIN = 0.05  # seconds until the lock may be free


class LogHandler(logging.Handler):
    """Writes the records that `formatter` makes lines of to `path`, from any thread, and never waits or raises.

    Lines that find no room are dropped, repeated ones are held back (see Repeats). Both are counted, and the log says
    how many there were as soon as it can. `shared`: other processes write to the same path. `clock`: monotonic seconds.
    Raises OSError where the path cannot be opened.
    """

    def __init__(
        self,
        path: str,
        formatter: logging.Formatter,
        *,
        shared: bool = False,
        max_backlog: int = _BACKLOG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        # It is told of failures by the writer's figures: a line about them would fail as well.
        self._writer = LineWriter(
            path, shared=shared, max_backlog=max_backlog, clock=clock, report=lambda _: None, idle=self._on_idle
        )
        self._repeats = Repeats(clock)
        self._closed = False
        self._dropped = 0
        self._told = 0  # lines lost, of which the log has said so
        self._watching = False  # the thread looks, or is about to, for what is due

    def lost(self) -> dict[str, int]:
        """Return how many lines are not in the log: no room (`queue`), a failed write, or the same as others."""
        return {"queue": self._dropped, "failed": self._writer.lines_lost, "repeated": self._repeats.held}

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, unless there is no room or it has been said often enough; called with the lock held."""
        if self._closed:
            return
        try:
            self._catch_up()
            # Whoever has asked for `debug` wants to see everything.
            if record.levelno <= logging.DEBUG or self._repeats.admit(record):
                self._write(record)
            elif not self._watching:
                self._watching = True
                self._writer.write(b"")
        except Exception:  # noqa: BLE001 - whatever is wrong with a record, its author must not suffer from it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say in one line that a record could not be written, where logging would print tracebacks itself."""
        record = _about(f"cannot log what {record.name} said in line {record.lineno} of {record.filename}")
        if self._repeats.admit(record):
            self._write(record)

    def flush(self) -> None:
        """Wait until everything is written, for a short time."""
        self._writer.drain(_GRACE)

    def close(self) -> None:
        """Write what waits, for a short time; what comes later is lost."""
        assert self.lock is not None
        with self.lock:
            if not self._closed:
                for record in self._repeats.rest():
                    self._write(record)
                self._tell_losses()
                self._closed = True
                self._writer.finish(_GRACE)
        super().close()

    # --- with the lock held ---

    def _catch_up(self) -> None:
        """Say what is to be said of lines that are not in the log."""
        for record in self._repeats.due():
            self._write(record)
        self._tell_losses()

    def _tell_losses(self) -> None:
        failed = self._writer.lines_lost
        lost = self._dropped + failed
        # While writing fails, every try would lose a line more.
        if lost == self._told or self._writer.failing or self._writer.full:
            return
        self._told = lost
        why = f" ({self._writer.last_error})" if failed else ""
        self._write(
            _about(
                f"{lost} lines of this log were lost since the start: "
                f"{self._dropped} found no room, {failed} could not be written{why}"
            )
        )

    def _write(self, record: logging.LogRecord) -> None:
        if self._writer.full:
            self._dropped += 1
        else:
            self._writer.write(f"{self.format(record)}\n".encode())

    # --- in the writer's thread ---

    def _on_idle(self) -> float | None:
        # Never waiting for it: who holds the lock may be waiting for this thread.
        assert self.lock is not None
        if not self.lock.acquire(blocking=False):
            return _AGAIN
        try:
            if not self._closed:
                self._catch_up()
            due = self._repeats.next_due
            self._watching = due is not None
            return due
        finally:
            self.lock.release()


def _about(message: str) -> logging.LogRecord:
    """A record of the log about itself."""
    level = logging.WARNING
    fields = {"name": "meshlet", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return logging.makeLogRecord(fields)
