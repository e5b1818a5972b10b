"""Those who record requests, made from `telemetry` of a config: logs, tracers, explanations."""

from __future__ import annotations

import asyncio
import os
from random import getrandbits
from typing import TYPE_CHECKING, Literal

from meshlet.runtime.figures import record_families
from meshlet.runtime.kept import Kept
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.config.schema import AccessLog as AccessLogConfig
    from meshlet.config.schema import Explain, Telemetry, Tracing, Workload
    from meshlet.telemetry.access_log import AccessLog
    from meshlet.telemetry.explain.ring import Explanations
    from meshlet.telemetry.metrics import Family
    from meshlet.telemetry.tracing.export import SpanExport
    from meshlet.telemetry.tracing.tracer import Tracer

Direction = Literal["inbound", "outbound"]

_GRACE = 1.0  # seconds to write or send what waits, at the end


class Recorders:
    """What the listeners of one snapshot record to. What is off is not imported.

    `before` are those of the running config. What the new one says the same of goes on, so that a reload neither loses
    entries nor opens a file twice.
    """

    def __init__(self, config: Telemetry, before: Recorders | None = None, *, shared_log: bool = False) -> None:
        self._config = config
        self._shared_log = shared_log
        self.kept: Kept = Kept(before.kept if before is not None else None)
        kept = self.kept
        self.explanations: Explanations | None = None
        if config.explain.keep:
            self.explanations = kept.get("explanations", config.explain, _explanations)
        #: seconds from which on a request is explained although it went well
        self.slow = float(config.explain.slow) if self.explanations is not None else NEVER
        self.export: SpanExport | None = None
        self.tracers: dict[Direction, Tracer | None] = {"inbound": None, "outbound": None}
        if config.tracing is not None:
            self.export, self.tracers = kept.get("tracing", (config.tracing, config.workload), _tracing)
        self.logs: tuple[AccessLog, ...] = ()

    def open_logs(self) -> None:
        """Open what the config writes to. Raises OSError; `close` is for what was opened by then."""
        for log in logs_of(self._config):
            self.logs += (self._log(log),)

    def _log(self, config: AccessLogConfig) -> AccessLog:
        from meshlet.telemetry.access_log import AccessLog

        # What is sent says of whom it is; another name makes another log.
        resource = resource_of(self._config) if config.otlp_endpoint is not None else None

        def open_log(_: object) -> AccessLog:
            return AccessLog(config, shared=self._shared_log, resource=resource)

        return self.kept.get("log", (config, resource), open_log)

    def families(self, tap_dropped: int) -> list[Family]:
        """What became of what was recorded."""
        return record_families(
            spans=self.export.exported if self.export is not None else 0,
            spans_dropped=self.export.dropped if self.export is not None else {},
            log_dropped=sum(log.dropped for log in self.logs),
            explanations=len(self.explanations) if self.explanations is not None else 0,
            tap_dropped=tap_dropped,
        )

    async def close(self, besides: Recorders | None = None) -> None:
        """Write and send what waits, for a short while, and let go of what `besides` does not use too."""
        kept = besides.logs if besides is not None else ()
        left = [log for log in self.logs if log not in kept]
        # One of them hands on what is still to end, or a new log would have it several times.
        heirs = [log for log in kept if log not in self.logs]
        closing = [log.close(_GRACE, heirs if log is left[0] else ()) for log in left]
        if self.export is not None and (besides is None or besides.export is not self.export):
            closing.append(self.export.close(_GRACE))
        await asyncio.gather(*closing)


def logs_of(config: Telemetry) -> tuple[AccessLogConfig, ...]:
    """Return the access logs that a config asks for."""
    logs = config.access_log
    if logs is None:
        return ()
    return logs if isinstance(logs, tuple) else (logs,)


def _explanations(config: Explain) -> Explanations:
    from meshlet.telemetry.explain.ring import Explanations

    return Explanations(config)


def _tracing(written: tuple[Tracing, Workload]) -> tuple[SpanExport | None, dict[Direction, Tracer | None]]:
    from meshlet.telemetry.tracing.tracer import Tracer

    config, workload = written
    export = None
    if config.otlp_endpoint is not None:
        from meshlet.telemetry.tracing.export import SpanExport
        from meshlet.telemetry.tracing.resource import resource_attributes

        export = SpanExport(config.otlp_endpoint, resource_attributes(config.attributes, workload, os.environ))
    return export, {
        "inbound": Tracer(config, "inbound", export, getrandbits),
        "outbound": Tracer(config, "outbound", export, getrandbits),
    }


def resource_of(config: Telemetry) -> dict[str, str]:
    """Return the resource attributes of everything that is sent to a collector."""
    from meshlet.telemetry.tracing.resource import resource_attributes

    further = config.tracing.attributes if config.tracing is not None else {}
    return resource_attributes(further, config.workload, os.environ)
