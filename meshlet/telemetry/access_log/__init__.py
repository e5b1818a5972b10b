"""The access log: one line for each request and TCP connection, as docs/access_log.md has it.

Records are gathered as exchanges end; lines are made of them for a batch at once, and written or sent by a thread. Code
that runs for many records in a row takes half the time of the same code between a request and the next.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from meshlet.telemetry.access_log.filters import compile_filters
from meshlet.telemetry.access_log.formats import formatter
from meshlet.telemetry.line_writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshlet.config.schema import AccessLog as AccessLogConfig
    from meshlet.telemetry.record import Record

logger = logging.getLogger("meshlet.telemetry")

_INTERVAL = 0.1  # seconds
_EXPORT_INTERVAL = 1.0  # a request to the collector carries what has come meanwhile
# A batch takes a fraction of a millisecond to format. It also bounds what waits: a record holds no more than two heads.
_BATCH = 128
_ENOUGH = 256 * 1024  # bytes that are given to the writer before their time


class _Writer(Protocol):
    """Where lines go."""

    @property
    def lines_lost(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def full(self) -> bool: ...
    def write(self, batch: bytes) -> None: ...
    def reopen(self) -> None: ...
    async def close(self, grace: float) -> None: ...


class AccessLog:
    """Takes records in O(1) and writes their lines in batches, off the path of most requests.

    Lines that find no room, because whoever takes them is too slow, are dropped and counted.
    `shared`: other processes write to the same path (see LineWriter). `resource`: whose lines they are, for a
    collector.
    Raises OSError where the path cannot be opened. Belongs to the event loop it is made in.
    """

    def __init__(
        self, config: AccessLogConfig, *, shared: bool = False, resource: Mapping[str, str] | None = None
    ) -> None:
        self._accepts = compile_filters(config.filters)
        self._format = formatter(config)
        self._writer: _Writer
        if config.otlp_endpoint is not None:
            from meshlet.telemetry.access_log.otlp import OtlpWriter

            self._writer = OtlpWriter(config.otlp_endpoint, resource or {})
            self._interval = _EXPORT_INTERVAL
        else:
            assert config.path is not None
            self._writer = LineWriter(config.path, shared=shared)
            self._interval = _INTERVAL
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Record] = []
        self._lines: list[bytes] = []  # made, but not given to the writer
        self._size = 0  # bytes of them
        self._told = False  # that no lines could be made
        self._timer: asyncio.Handle | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self._dropped + self._writer.lines_lost

    @property
    def errors(self) -> int:
        """Writes that failed."""
        return self._writer.errors

    def record(self, record: Record) -> None:
        """Note one record; called on the path of every request. It is kept until its line is made."""
        if self._accepts is not None and not self._accepts(record):
            return
        waiting = self._waiting
        waiting.append(record)
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._on_time)
        elif len(waiting) >= _BATCH:
            self._make_lines()
            # Every time that the writer's thread is woken, the two wait for each other.
            if self._size >= _ENOUGH:
                self._flush()

    def reopen(self) -> None:
        """Continue in a new file after a rotation; raises OSError and keeps the old one where it cannot be opened."""
        self._flush()
        self._writer.reopen()

    async def close(self, grace: float = 1.0, heirs: Sequence[AccessLog] = ()) -> None:
        """Write what waits, for at most `grace` seconds. What is recorded later goes to `heirs`.

        Exchanges keep the logs that they began with, so after a reload some still come here.
        """

        def hand_on(record: Record) -> bool:
            for heir in heirs:
                heir.record(record)
            return False

        self._accepts = hand_on
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        await self._writer.close(grace)

    def _on_time(self) -> None:
        self._timer = None
        self._flush()

    def _make_lines(self) -> None:
        records, self._waiting = self._waiting, []
        if self._writer.full:
            self._dropped += len(records)
        elif records:
            try:
                lines = self._format.lines(records)
            except Exception:  # the request that has filled the batch must not pay for it
                self._dropped += len(records)
                if not self._told:
                    self._told = True
                    logger.exception("no lines could be made of %d requests", len(records))
                return
            self._lines.append(lines)
            self._size += len(lines)

    def _flush(self) -> None:
        self._make_lines()
        if self._lines:
            self._writer.write(b"".join(self._lines))
            self._lines.clear()
            self._size = 0
