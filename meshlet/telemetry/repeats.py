"""Keeps a log from being filled with one line, such as the traceback of a filter that fails with every request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator

LIMIT = 20  # lines of a kind that are written in a window
WINDOW = 10.0  # seconds
_KINDS = 1000  # that are known at once
_LONGEST = 200  # characters of a message that are said again


class _Kind:
    """Lines that come from the same place and say the same."""

    __slots__ = ("began", "held", "level", "logger", "seen", "text")

    def __init__(self, record: logging.LogRecord, began: float) -> None:
        self.logger = record.name
        self.level = record.levelno
        self.began = began
        self.seen = 0
        self.held = 0
        self.text = ""  # of the first that was held back


class Repeats:
    """Says which records to write, and how many were not. `clock`: monotonic seconds. Not for several threads at once.

    Of a kind, LIMIT records are written within WINDOW seconds from the first. What they were called with makes no
    difference: a client may have chosen it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}  # in the order in which their windows end
        self._holding = 0  # kinds of which some were held back
        #: records that were held back, since the start
        self.held = 0

    def admit(self, record: logging.LogRecord) -> bool:
        """Say whether to write it."""
        key = _key(record)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(record, self._clock())
        kind.seen += 1
        if kind.seen <= LIMIT:
            return True
        kind.held += 1
        self.held += 1
        if kind.held == 1:
            self._holding += 1
            kind.text = record.getMessage()[:_LONGEST]
        return False

    def due(self) -> Iterator[logging.LogRecord]:
        """Yield a record for each kind that was held back in a window that has ended, and forget such windows."""
        ended = self._clock() - WINDOW
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            # One that ends before its time is the price of a bounded table.
            if kind.began > ended and len(self._kinds) < _KINDS:
                return
            del self._kinds[key]
            if kind.held:
                self._holding -= 1
                yield _summary(kind)

    def rest(self) -> Iterator[logging.LogRecord]:
        """Yield a record for each kind that was held back so far, and forget all."""
        kinds, self._kinds, self._holding = self._kinds, {}, 0
        return (_summary(kind) for kind in kinds.values() if kind.held)

    @property
    def next_due(self) -> float | None:
        """In how many seconds `due` may have something to say; None where nothing is held back."""
        if not self._holding:
            return None
        return max(0.0, next(iter(self._kinds.values())).began + WINDOW - self._clock())


def _key(record: logging.LogRecord) -> Hashable:
    kind, _, trace = record.exc_info or (None, None, None)
    raised: object = None
    if trace is not None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        raised = (trace.tb_frame.f_code, trace.tb_lineno)
    # What is put together before it is logged, as asyncio does, is known by its exception instead.
    said = record.msg if isinstance(record.msg, str) and (kind is None or record.args) else None
    return record.name, record.levelno, record.pathname, record.lineno, said, kind, raised


def _summary(kind: _Kind) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": kind.logger,
            "levelno": kind.level,
            "levelname": logging.getLevelName(kind.level),
            "msg": "held back %d more within %g s: %s",
            "args": (kind.held, WINDOW, kind.text),
        }
    )
