"""Pushes all metrics to an OpenTelemetry collector now and then, from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from meshlet.telemetry.otlp import signal_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from meshlet.telemetry.metrics import Family
    from meshlet.telemetry.otlp_points import Exporter

_log = logging.getLogger(__name__)

_LONGEST = 10.0  # seconds of one push, its retries included


class OtlpMetrics:
    """Pushes what `families` gives to the collector at `endpoint` every `interval` seconds.

    `resource`: the resource attributes. A push that fails is counted and made up for by the next: the numbers are sums
    since the start. Belongs to the event loop that `start` is called in.
    """

    def __init__(
        self,
        endpoint: str,
        interval: float,
        families: Callable[[], Awaitable[list[Family]]],
        resource: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = signal_url(endpoint, "metrics")
        self._interval = interval
        self._families = families
        self._resource = resource
        self._clock = clock
        self._began = clock()
        self._exporter: Exporter | None = None
        self._task: asyncio.Task[None] | None = None
        self._pushing: asyncio.Future[None] | None = None
        self._failing = False
        # figures
        self.pushes_total = 0
        self.failures_total = 0

    def start(self) -> None:
        """Push for the first time after one interval."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self, grace: float = 1.0) -> None:
        """Push what has been counted since the last time; it is given `grace` seconds."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                # A collector that keeps the last push waiting would do the same to this one.
                if self._pushing is not None:
                    await asyncio.wait([self._pushing])
                await self._push()
        if self._exporter is not None:
            self._exporter.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._push()

    async def _push(self) -> None:
        try:
            families = await self._families()
        except Exception as error:  # noqa: BLE001 - one push is lost, and the next may do better
            self._note(f"there are none: {error!r}")
            return
        now = self._clock()
        loop = asyncio.get_running_loop()
        done = self._pushing = loop.create_future()

        def push() -> None:
            failure = self._export(families, now)
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(finish, failure)

        def finish(failure: str | None) -> None:
            self._note(failure)
            self._pushing = None
            if not done.done():
                done.set_result(None)

        # Daemonic: a collector that never answers must not keep the process from ending.
        threading.Thread(target=push, name="otlp-metrics", daemon=True).start()
        # Shielded: the push goes on although nobody waits for it any more, and `close` has to know.
        await asyncio.shield(done)

    def _export(self, families: list[Family], now: float) -> str | None:
        """Send them, in a thread; return what went wrong, None where nothing did."""
        try:
            if self._exporter is None:
                from meshlet.telemetry.otlp_points import Exporter

                self._exporter = Exporter(self.url, self._resource, self._began, min(_LONGEST, self._interval))
            return self._exporter.send(families, now)
        except Exception as error:  # noqa: BLE001 - OpenTelemetry may be missing, the URL may be wrong
            return repr(error)

    def _note(self, failure: str | None) -> None:
        if failure is None:
            self.pushes_total += 1
            if self._failing:
                _log.info("metrics reach %s again", self.url)
        else:
            self.failures_total += 1
            if not self._failing:
                _log.warning("metrics cannot be pushed to %s: %s", self.url, failure)
        self._failing = failure is not None
