"""The way of spans to the collector: bounded, in threads of its own, and nothing that a request waits for.

The loop's thread puts what ended into a queue. A converter, started with the first, makes spans of it and hands them to
OpenTelemetry's batch processor, whose thread sends them. OpenTelemetry is imported in the converter.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from meshlet.telemetry.lazily import Lazily
from meshlet.telemetry.otlp import signal_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlet.telemetry.tracing.pipeline import Pipeline
    from meshlet.telemetry.tracing.tracer import Ended

_log = logging.getLogger(__name__)

# What ended meanwhile is converted together: a thread that is woken for each would take turns with the loop.
_GATHER = 0.5  # seconds
# After so many the loop's thread may run, which would otherwise wait out this one's time slice. To change between the
# two costs both of them more than a span does.
_STRETCH = 32


class SpanExport:
    """Sends spans to the collector at `endpoint`; all methods are for the thread of the event loop.

    `resource`: the resource attributes of all spans. `room`: spans that may be on their way at once, which bounds the
    memory that a slow or dead collector costs, at a few kilobytes each. `delay`: seconds that a span waits for others.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str], *, room: int = 2048, delay: float = 1.0) -> None:
        self._url = signal_url(endpoint, "traces")
        self._resource = resource
        self._room = room
        self._delay = delay
        self._waiting: deque[tuple[Ended, int]] = deque()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pipeline = Lazily(self._open, "no span can be sent, and all are lost")
        # Each number has one writer, so none needs a lock.
        self._taken = 0  # the loop
        self._refused = 0  # the loop
        self._unmade = 0  # the converter
        self._abandoned = 0  # the loop, at the end
        self._told = False  # the converter: that a request could not be made into spans

    @property
    def exported(self) -> int:
        """Spans that the collector has taken."""
        return self._pipeline.made.exported if self._pipeline.made is not None else 0

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that were lost: `queue`, no room for them; `failed`, the collector did not take them."""
        return {"queue": self._refused, "failed": self._failed + self._abandoned}

    @property
    def in_flight(self) -> int:
        """Spans that are on their way."""
        return self._taken - self.exported - self._failed - self._abandoned

    @property
    def _failed(self) -> int:
        return self._unmade + (self._pipeline.made.failed if self._pipeline.made is not None else 0)

    def has_room(self, spans: int) -> bool:
        """Say whether so many can be put now; where not, they are counted as dropped."""
        if self.in_flight + spans > self._room or self._closing.is_set():
            self._refused += spans
            return False
        return True

    def put(self, ended: Ended, spans: int) -> None:
        """Have a request's spans made and sent, after `has_room`."""
        self._taken += spans
        self._waiting.append((ended, spans))
        if self._thread is None:
            # Daemonic: a collector that never answers must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
            self._thread.start()
        if not self._awake.is_set():
            self._awake.set()

    async def close(self, grace: float) -> None:
        """Send what is on its way, for at most `grace` seconds; what remains is lost, and counted."""
        self._closing.set()
        if self._thread is None:
            return
        self._awake.set()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, grace)
        if self._thread.is_alive():
            _log.warning("gave up sending %d spans to %s", self.in_flight, self._url)
            self._abandoned = self.in_flight
            if self._pipeline.made is not None:
                self._pipeline.made.abandon()

    # --- the converter's thread ---

    def _run(self) -> None:
        self._pipeline.get()
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(min(_GATHER, self._delay))
            # Cleared before the queue is emptied: what comes in between sets it again.
            self._awake.clear()
            self._convert()
        self._convert()
        if self._pipeline.made is not None:
            self._pipeline.made.close()

    def _open(self) -> Pipeline:
        from meshlet.telemetry.tracing.pipeline import Pipeline

        return Pipeline(self._url, self._resource, room=self._room, delay=self._delay)

    def _convert(self) -> None:
        pipeline = self._pipeline.get()
        done = 0
        while self._waiting:
            ended, spans = self._waiting.popleft()
            if pipeline is None:
                self._unmade += spans
                continue
            try:
                pipeline.send(ended)
            except Exception as error:  # noqa: BLE001 - one odd request must not end the spans of all others
                self._unmade += spans
                if not self._told:
                    self._told = True
                    _log.error("no span could be made of a request; further ones are only counted", exc_info=error)
            done += 1
            if done % _STRETCH == 0:
                time.sleep(0)
