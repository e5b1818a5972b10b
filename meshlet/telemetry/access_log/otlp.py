"""Sends lines to the logs of an OpenTelemetry collector, in a thread: OTLP over HTTP.

OpenTelemetry is imported in that thread. A collector that is slow or gone costs lines, which are counted, and up to
`max_backlog` bytes of memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from meshlet.telemetry.lazily import Lazily
from meshlet.telemetry.otlp import signal_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk._logs import ReadableLogRecord

_log = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds for one request to the collector, with the exporter's further tries
_MOST_LINES = 256  # in one request, and one batch more: what encodes them keeps the loop's thread from running


class OtlpWriter:
    """Takes the lines that `formats.Exported` makes; all methods are for the thread of the event loop."""

    def __init__(self, endpoint: str, resource: Mapping[str, str], *, max_backlog: int = 4 * 1024 * 1024) -> None:
        self._endpoint = signal_url(endpoint, "logs")
        self._resource = resource
        self._max_backlog = max_backlog
        self._waiting: deque[bytes] = deque()
        self._awake = threading.Event()
        self._closing = False
        self._abandoned = threading.Event()
        self._thread: threading.Thread | None = None
        self._exporter = Lazily(self._open, "the access log cannot be sent, and all its lines are lost")
        # Each number has one writer, the loop or the thread, so none needs a lock.
        self._bytes_offered = 0
        self._bytes_done = 0
        self._failing = False
        self.lines_lost = 0
        self.errors = 0

    @property
    def full(self) -> bool:
        """Whether so much waits for the collector that `write` must not be called."""
        return self._bytes_offered - self._bytes_done >= self._max_backlog

    def write(self, batch: bytes) -> None:
        """Send lines; a failure is counted in `errors` and `lines_lost`."""
        self._bytes_offered += len(batch)
        self._waiting.append(batch)
        if self._thread is None:
            # Daemonic: a collector that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="log-exporter", daemon=True)
            self._thread.start()
        self._awake.set()

    def reopen(self) -> None:
        """There is no file."""

    async def close(self, grace: float) -> None:
        """Send what waits, for at most `grace` seconds."""
        self._closing = True
        if self._thread is None:
            return
        self._awake.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, grace)
        if self._thread.is_alive():
            _log.warning("gave up sending the access log to %s", self._endpoint)
            self._abandoned.set()
            if self._exporter.made is not None:
                self._exporter.made.close()

    # --- the thread ---

    def _run(self) -> None:
        self._exporter.get()
        while not self._abandoned.is_set():
            self._awake.wait()
            # Cleared before the queue is emptied: what comes in between sets it again.
            self._awake.clear()
            closing = self._closing
            while self._waiting and not self._abandoned.is_set():
                self._send()
            if closing:
                if self._exporter.made is not None:
                    self._exporter.made.close()
                break
        while self._waiting:
            self.lines_lost += self._waiting.popleft().count(b"\n")

    def _open(self) -> _Exporter:
        return _Exporter(self._endpoint, self._resource)

    def _send(self) -> None:
        exporter = self._exporter.get()
        if exporter is None:
            self._failing = True  # which has been told of
        lines: list[bytes] = []
        size = 0
        while self._waiting and len(lines) < _MOST_LINES:
            batch = self._waiting.popleft()
            size += len(batch)
            lines += batch.splitlines()
        problem = exporter.send(lines) if exporter is not None else "it cannot be sent"
        self._bytes_done += size
        if problem:
            self.errors += 1
            self.lines_lost += len(lines)
            if not self._failing:
                _log.error(
                    "cannot send the access log to %s: %s; its lines are lost until it works again",
                    self._endpoint,
                    problem,
                )
        self._failing = bool(problem)


class _Exporter:
    """OpenTelemetry's exporter, fed with lines."""

    def __init__(self, endpoint: str, resource: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        from meshlet.telemetry.otlp_session import bounded_session

        # It logs each failure of each batch, and would keep on doing so for as long as a collector is away.
        logging.getLogger("opentelemetry.exporter.otlp.proto.http._log_exporter").setLevel(logging.CRITICAL)
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope("meshlet.access_log")
        self._success = LogRecordExportResult.SUCCESS
        self._exporter = OTLPLogExporter(endpoint=endpoint, timeout=_TIMEOUT, session=bounded_session())
        self._decoder = msgspec.json.Decoder(tuple[str, str | None, str | None, str, dict[str, Any]])

    def send(self, lines: list[bytes]) -> str:
        """Send lines, trying again for a while; return what went wrong, or nothing."""
        try:
            done = self._exporter.export([self._record(line) for line in lines])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread has to go on
            return f"{type(error).__name__}: {error}"
        return "" if done is self._success else "the collector is unreachable, or refused them"

    def close(self) -> None:
        """Let go of its connection, and wait for no further try."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _record(self, line: bytes) -> ReadableLogRecord:
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import ReadableLogRecord
        from opentelemetry.trace import TraceFlags

        time, trace_id, span_id, body, attributes = self._decoder.decode(line)
        seconds, _, micros = time.partition(".")
        record = LogRecord(
            timestamp=int(seconds) * 1_000_000_000 + int(micros) * 1000,
            trace_id=int(trace_id, 16) if trace_id is not None else None,
            span_id=int(span_id, 16) if span_id is not None else None,
            trace_flags=TraceFlags(0),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=body,
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        return ReadableLogRecord(record, self._resource, self._scope)
