"""OpenTelemetry's part of the way of spans: its batch processor and its OTLP exporter. Imports OpenTelemetry.

What it logs about each failed batch is told once instead, when sending begins to fail.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.semconv.schemas import Schemas

from meshlet import __version__
from meshlet.telemetry.otlp_session import bounded_session
from meshlet.telemetry.tracing.spans import spans_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from meshlet.telemetry.tracing.tracer import Ended

_log = logging.getLogger(__name__)

# Encoding is one stretch of Python code, which keeps the loop's thread from running.
_BATCH = 64


class Pipeline:
    """Sends spans; `send` and `close` are for one thread. `exported` and `failed` count spans."""

    def __init__(self, url: str, resource: Mapping[str, str], *, room: int, delay: float) -> None:
        self._scope = InstrumentationScope("meshlet", __version__, Schemas.V1_44_0.value)
        self._resource = Resource({"telemetry.sdk.version": sdk_version, **resource}, Schemas.V1_44_0.value)
        self._exporter = _Counting(url)
        # Nobody sends more spans than there is room for, so the processor, which drops in silence, never has to.
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=max(room, _BATCH),
            schedule_delay_millis=delay * 1000,
            max_export_batch_size=_BATCH,
        )

    @property
    def exported(self) -> int:
        return self._exporter.exported

    @property
    def failed(self) -> int:
        return self._exporter.failed

    def send(self, ended: Ended) -> None:
        """Make a request's spans and have them sent."""
        for span in spans_of(ended, self._resource, self._scope):
            self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left; it returns when that is done, or given up after half a minute."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def abandon(self) -> None:
        """Send nothing more, and count nothing more: for any thread."""
        self._exporter.abandon()


class _Counting(SpanExporter):
    """The OTLP exporter, and what became of the spans."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(url, session=bounded_session())
        self._said = _Said()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._said)
        self._failing = False
        self._abandoned = False
        self._closed = False
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.messages.clear()
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if self._abandoned:
            return result
        if failed:
            self.failed += len(spans)
        else:
            self.exported += len(spans)
        if failed != self._failing:
            self._failing = failed
            if failed:
                _log.warning("spans cannot be sent to %s and are lost: %s", self._url, self._said)
            else:
                _log.info("spans reach %s again", self._url)
        return result

    def abandon(self) -> None:
        self._abandoned = True
        self.shutdown()

    def shutdown(self) -> None:
        # A second call, after it was given up, would be complained about.
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._said)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class _Said(logging.Filter):
    """Keeps a logger's messages instead of having them logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def __str__(self) -> str:
        # The last says that it gave up, the one before it why.
        return " ".join(self.messages[-2:])

    def filter(self, record: logging.LogRecord) -> bool:
        self.messages.append(record.getMessage())
        return False
