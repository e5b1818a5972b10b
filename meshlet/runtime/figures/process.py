"""What meshlet itself does and costs, apart from the traffic."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family, Histogram

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Handle
    from collections.abc import Callable, Iterable, Mapping

_PAGE = os.sysconf("SC_PAGE_SIZE")

_PROBE = 0.5  # seconds between two looks at the loop
_LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds


class LoopLag:
    """Measures how late the event loop runs what is due: as long as that, requests wait for each other.

    `clock` gives seconds. `start` and `stop` belong to the loop's thread.
    """

    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._handle: Handle | None = None
        self._due = 0.0
        self.histogram = Histogram(_LAG_BOUNDS)

    def start(self) -> None:
        """Look at the loop every half second from now on."""
        self._due = self._clock() + _PROBE
        self._handle = self._loop.call_later(_PROBE, self._look)

    def stop(self) -> None:
        """Look no more; to stop twice makes no difference."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        # A loop that rounds its timers to milliseconds may be early.
        self.histogram.observe(max(0.0, self._clock() - self._due))
        self.start()


def process_families(uptime: float, lag: LoopLag) -> list[Family]:
    """What the process itself costs."""
    cpu = Family("meshlet_process_cpu_seconds_total", "counter", "User and system time.")
    memory = Family("meshlet_process_resident_memory_bytes", "gauge", "Resident memory.")
    files = Family("meshlet_process_open_fds", "gauge", "Open file descriptors.")
    up = Family("meshlet_process_uptime_seconds", "gauge", "Time since the start.")
    late = Family("meshlet_event_loop_lag_seconds", "histogram", "How late the event loop is.")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu.add(usage.ru_utime + usage.ru_stime)
    # Without a descriptor left nobody can look; all other figures are still worth having then.
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        memory.add(int(statm.read().split()[1]) * _PAGE)
    with contextlib.suppress(OSError):
        files.add(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    up.add(uptime)
    late.add(lag.histogram.data())
    return [cpu, memory, files, up, late]


def log_families(lost: Mapping[str, int]) -> list[Family]:
    """What became of the lines of meshlet's own log. `lost`: lines that are not in it, by reason."""
    dropped = Family("meshlet_log_dropped_total", "counter", "Lines that are not in meshlet's own log.")
    for reason, number in lost.items():
        dropped.add(number, reason=reason)
    return [dropped]


def record_families(
    *, spans: int, spans_dropped: Mapping[str, int], log_dropped: int, explanations: int, tap_dropped: int
) -> list[Family]:
    """What became of records of requests: numbers since the start, but for the explanations that are kept now."""
    exported = Family("meshlet_spans_exported_total", "counter", "Spans that a collector has taken.")
    exported.add(spans)
    lost = Family("meshlet_spans_dropped_total", "counter", "Spans that no collector has got.")
    for reason, number in spans_dropped.items():
        lost.add(number, reason=reason)
    log = Family("meshlet_access_log_dropped_total", "counter", "Access log lines that were never written.")
    log.add(log_dropped)
    kept = Family("meshlet_explanations", "gauge", "Failed and slow requests that `meshlet explain` knows.")
    kept.add(explanations)
    tap = Family(
        "meshlet_tap_entries_dropped_total", "counter", "Requests that a tap did not show: its reader is slow."
    )
    tap.add(tap_dropped)
    return [exported, lost, log, kept, tap]


def push_families(pushes: int, failures: int) -> list[Family]:
    """What became of metrics that were pushed to a collector."""
    sent = Family("meshlet_otlp_metrics_pushes_total", "counter", "Pushes of metrics that a collector has taken.")
    sent.add(pushes)
    failed = Family("meshlet_otlp_metrics_push_failures_total", "counter", "Pushes of metrics that have failed.")
    failed.add(failures)
    return [sent, failed]


def worker_families(running: int, silent: int, restarts: int) -> list[Family]:
    """What a supervisor tells about its workers."""
    workers = Family("meshlet_workers", "gauge", "Worker processes that run.")
    workers.add(running)
    mute = Family("meshlet_workers_silent", "gauge", "Worker processes that run but do not answer.")
    mute.add(silent)
    again = Family("meshlet_worker_restarts_total", "counter", "Workers started in the place of one that died.")
    again.add(restarts)
    return [workers, mute, again]


def service_families(reloads: Iterable[tuple[str, int]], version: str, *, ready: bool) -> list[Family]:
    """What holds for meshlet as a whole. `reloads` are how many had each result."""
    reloaded = Family("meshlet_config_reloads_total", "counter", "Times that the config was read again.")
    for result, count in reloads:
        reloaded.add(count, result=result)
    readiness = Family("meshlet_ready", "gauge", "Whether traffic may come.")
    readiness.add(int(ready))
    build = Family("meshlet_build_info", "gauge", "Always 1.")
    build.add(1, version=version)
    return [reloaded, readiness, build]
