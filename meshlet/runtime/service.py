"""A running meshlet: a data plane with its admin port, health port, reloads and signals, from start to exit."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from msgspec import structs

import meshlet
from meshlet.admin.backend import Readiness
from meshlet.admin.health import HealthServer
from meshlet.admin.server import AdminServer
from meshlet.config.dump import digest, dump
from meshlet.config.load import ConfigError, Unreadable, load
from meshlet.config.rules import warnings
from meshlet.config.text_file import is_passing
from meshlet.filters.check import check_filters
from meshlet.runtime import figures
from meshlet.runtime.memory import settle
from meshlet.runtime.reload import History, Reloads, Watch
from meshlet.runtime.sockets import bind, name_of
from meshlet.telemetry.history import INTERVAL
from meshlet.telemetry.history import History as TrafficHistory
from meshlet.telemetry.istio import StandardMetrics
from meshlet.telemetry.log import set_level
from meshlet.telemetry.workload import resolve
from meshlet.threads import in_thread

if TYPE_CHECKING:
    from meshlet.admin.scrape import ScrapeServer
    from meshlet.config.schema import Config, Metrics, Telemetry
    from meshlet.config.units import Address
    from meshlet.runtime.left import Left
    from meshlet.runtime.plane import Plane
    from meshlet.telemetry.metrics import Family
    from meshlet.telemetry.otlp_metrics import OtlpMetrics
    from meshlet.telemetry.tap import TapRead
    from meshlet.telemetry.traffic import Traffic

logger = logging.getLogger("meshlet")

# A readiness answer that had to dial the app is good for so long; probes come from several sides.
_REACHED_FOR = 1.0  # seconds
# After that, a disk does not answer, or a filter's module waits for something while it is imported.
_READ = 60.0  # seconds


class Service:
    """Runs `config` on `plane` until it is told to end. `path` is the config's file, None where it came from flags."""

    def __init__(self, config: Config, path: str | None, plane: Plane, *, workers: int = 1) -> None:
        self._config = config
        self._path = path
        self._plane = plane
        self._workers = workers
        self._started = time.time()
        self._history = History()
        self._past = TrafficHistory()
        self._identity = resolve(config.telemetry.workload, os.environ)
        self._standard = StandardMetrics(config, self._identity)
        self._version = digest(config)
        self._reloads: Reloads | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._up = False
        self._draining = False
        self._drained = False  # nothing is accepted any more, though meshlet goes on
        self._failed = False  # somebody wants no traffic to come
        self._ending = asyncio.Event()
        self._admin: AdminServer | None = None
        self._admin_address = ""
        self._health: HealthServer | None = None
        self._health_address = ""
        self._scrape: ScrapeServer | None = None
        self._scrape_address = ""
        self._push: OtlpMetrics | None = None
        self._reached: tuple[float, list[str]] = (0.0, [])
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Return the exit status: 0 after a drain, 1 where workers hung in it.

        Raises BindError or OSError where it cannot start.
        """
        await self._start()
        try:
            await self._ending.wait()
            await self._drain()
        finally:
            left = await self._close()
        return 1 if left.hung else 0

    # --- start ---

    async def _start(self) -> None:
        config = self._config
        try:
            if config.admin is not None:
                sock = bind(config.admin.address)
                self._admin_address = name_of(sock)
                self._admin = AdminServer(sock, self)
            if config.health is not None:
                sock = bind(config.health.address)
                self._health_address = name_of(sock)
                self._health = HealthServer(sock, self.readiness)
            self._open_metrics(config.telemetry)
            await self._plane.apply(config)
        except BaseException:
            await self._close()
            raise
        _warn(config)
        if self._health is not None:
            await self._health.start()
        if self._admin is not None:
            self._admin.start()
        if self._scrape is not None:
            self._scrape.start()
        if self._push is not None:
            self._push.start()
        self._up = True
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_end_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)
        loop.add_signal_handler(signal.SIGUSR1, self._spawn_reopen)
        if self._admin is not None:
            self._spawn(self._watch_traffic())
        if self._path is not None:
            path = self._path
            self._reloads = Reloads(lambda: self._reload(path))
            self._reloading = loop.create_task(self._reloads.run())
            if config.reload.watch:
                self._spawn(self._watch(path, self._reloads))
        settle()
        logger.info("%s", await self._start_line())

    def _open_metrics(self, config: Telemetry) -> None:
        """Prepare what tells metrics to others: what is not asked for is not imported."""
        metrics = config.metrics
        if metrics.address is not None:
            from meshlet.admin.scrape import ScrapeServer

            sock = bind(metrics.address)
            self._scrape_address = name_of(sock)
            self._scrape = ScrapeServer(sock, self.families, metrics.app)
        if metrics.otlp_endpoint is not None:
            from meshlet.runtime.recorders import resource_of
            from meshlet.telemetry.otlp_metrics import OtlpMetrics

            self._push = OtlpMetrics(metrics.otlp_endpoint, metrics.otlp_interval, self.families, resource_of(config))

    async def _start_line(self) -> str:
        listeners = await self._plane.listeners()
        parts = [f"listener {listener['name']} on {listener['address']}" for listener in listeners]
        if self._admin_address:
            parts.append(f"admin on {self._admin_address}")
        if self._health_address:
            parts.append(f"health on {self._health_address}")
        if self._scrape_address:
            parts.append(f"metrics on {self._scrape_address}")
        if self._workers > 1:
            parts.append(f"{self._workers} workers")
        parts.append(f"config from {self._path or 'flags'}")
        return f"meshlet {meshlet.__version__} ready in {_age() * 1000:.0f} ms: {', '.join(parts)}"

    # --- signals and reloads ---

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_end_signal(self, number: signal.Signals) -> None:
        if self._draining:
            logger.warning("%s again: ending at once", number.name)
            self._plane.kill()
            logging.shutdown()
            os._exit(1)
        self._end(number.name)

    def _end(self, reason: str) -> None:
        self._draining = True
        logger.info("%s: draining, for %g s at most", reason, self._config.shutdown.timeout)
        self._ending.set()

    def _on_reload_signal(self) -> None:
        if self._reloads is None:
            logger.warning("SIGHUP: the config came from flags, there is no file to read again")
        elif self._draining or self._drained:
            logger.warning("SIGHUP: the config is not read again: it would open the listeners again")
        else:
            self._reloads.ask()

    def _spawn_reopen(self) -> None:
        self._spawn(self._plane.reopen_logs())

    async def _watch_traffic(self) -> None:
        while True:
            self._past.add(await self._plane.traffic())
            await asyncio.sleep(INTERVAL)

    async def _watch(self, path: str, reloads: Reloads) -> None:
        watch = Watch(path)
        while True:
            await asyncio.sleep(self._config.reload.interval)
            if watch.changed():
                reloads.ask()

    async def _reload(self, path: str) -> bool:
        """Read the file and run what it says; say whether that is done with, so that it need not be tried again."""
        try:
            async with asyncio.timeout(_READ):
                # In a thread: parsing a large config would hold up every request in flight.
                config, version = await in_thread(_load, path)
        except TimeoutError:
            # Each time leaves a thread behind, so the next one has to be asked for.
            self._note_failure(f"{path}: not read within {_READ:g} s", "it is read again on SIGHUP or a change")
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is must not end the watch
            return self._give_up(error)
        if config == self._config:
            self._history.add("unchanged")
            logger.info("%s: read again, nothing has changed", path)
            return True
        try:
            await self._plane.apply(config)
            await self._take(config, version)
        except Exception as error:  # noqa: BLE001 - likewise
            return self._give_up(error)
        _warn(config)
        self._history.add("accepted")
        logger.info("%s: reloaded, version %s", path, version)
        return True

    def _give_up(self, error: Exception) -> bool:
        """Note why the running config stays; say whether the new one is to blame, and must change first."""
        if isinstance(error, Unreadable | MemoryError) or (isinstance(error, OSError) and is_passing(error)):
            self._note_failure(str(error) or "out of memory", "it is tried again")
            return False
        if isinstance(error, ConfigError):
            reasons = tuple(map(str, error.mistakes))
        elif isinstance(error, OSError):
            reasons = (str(error),)
        else:
            logger.error("the config cannot be used, which is a bug", exc_info=error)
            reasons = (repr(error),)
        self._history.add("rejected", reasons)
        for reason in reasons:
            logger.error("reload rejected, the running config stays: %s", reason)
        return True

    def _note_failure(self, reason: str, what_next: str) -> None:
        self._history.add("failed", (reason,))
        logger.warning("reload failed, the running config stays, and %s: %s", what_next, reason)

    async def _take(self, config: Config, version: str) -> None:
        """Use what is not the data plane's in the new config."""
        old, self._config = self._config, config
        self._version = version
        self._identity = resolve(config.telemetry.workload, os.environ)
        self._standard.configure(config, self._identity)
        if old.log.level != config.log.level:
            await self.set_log_level(config.log.level)
        if _address_of(old.admin) != _address_of(config.admin) or _address_of(old.health) != _address_of(config.health):
            logger.warning("the addresses of admin and health change with the next start only")
        if self._scrape is not None:
            self._scrape.app = config.telemetry.metrics.app
        if _fixed(old.telemetry.metrics) != _fixed(config.telemetry.metrics):
            logger.warning("telemetry.metrics changes with the next start only, but for `naming` and `app`")
        if old.log.format != config.log.format or old.reload.watch != config.reload.watch:
            logger.warning("log.format and reload.watch change with the next start only")

    # --- the admin backend ---

    async def families(self) -> list[Family]:
        """All metrics at this moment."""
        more: list[Family] = []
        if self._scrape is not None:
            more += self._scrape.families()
        if self._push is not None:
            more += figures.push_families(self._push.pushes_total, self._push.failures_total)
        own = figures.service_families(self._history, meshlet.__version__, ready=(await self.readiness()).ready)
        return self._standard.complete([*await self._plane.families(), *own, *more])

    async def readiness(self) -> Readiness:
        """Ready means: bound, compiled, not draining, and the required clusters can be reached."""
        if self._draining or self._drained:
            return Readiness(False, ["draining"])
        if not self._up:
            return Readiness(False, ["starting"])
        if self._failed:
            return Readiness(False, ["told so by POST /healthcheck/fail"])
        health = self._config.health
        when, reasons = self._reached
        if time.monotonic() - when > _REACHED_FOR:
            # Asked even where no cluster is required: there may be no worker left that could carry traffic.
            reasons = await self._plane.unreachable(health.require if health is not None else ())
            self._reached = (time.monotonic(), reasons)
        return Readiness(not reasons, reasons)

    async def clusters(self) -> list[dict[str, Any]]:
        """One object for each cluster."""
        return await self._plane.clusters()

    async def traffic(self) -> Traffic:
        """Totals of routes and endpoints."""
        return await self._plane.traffic()

    async def history(self) -> list[dict[str, Any]]:
        """The last 15 minutes."""
        return self._past.points

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What is kept of a request that failed or was slow."""
        return await self._plane.explain(request_id)

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last requests that failed or were slow."""
        return await self._plane.recent(limit)

    async def tap(self, read: TapRead) -> list[bytes]:
        """What has come for a tap since it was read last."""
        return await self._plane.tap(read)

    async def listeners(self) -> list[dict[str, Any]]:
        """One object for each listener."""
        return await self._plane.listeners()

    async def config_dump(self) -> dict[str, Any]:
        """The running config, where it came from, and how the last reload went."""
        last = self._history.last
        return {
            "source": self._path or "flags",
            "version": self._version,
            "last_reload": {"result": last.result, "time": last.time, "reasons": list(last.reasons)} if last else None,
            "config": dump(self._config),
        }

    async def server_info(self) -> dict[str, Any]:
        """Version, uptime, state."""
        return {
            "version": meshlet.__version__,
            "state": "draining" if self._draining or self._drained else "live" if self._up else "starting",
            "pid": os.getpid(),
            "workers": self._workers,
            "uptime_seconds": round(time.time() - self._started, 3),
            "config_source": self._path or "flags",
            "config_version": self._version,
        }

    async def set_log_level(self, level: str) -> None:
        """Change the level of meshlet's own log. Raises ValueError."""
        set_level(level)
        await self._plane.set_log_level(level)

    async def fail_readiness(self, failed: bool) -> None:
        """Tell probes to keep traffic away, or that all is well again; connections go on as they are."""
        self._failed = failed

    async def drain_listeners(self) -> None:
        """Accept no more connections; meshlet itself goes on."""
        self._drained = True
        self._stop_reloading()
        await self._plane.announce_drain()
        await self._plane.stop_accepting()

    async def quit(self) -> None:
        """End as SIGTERM does."""
        if not self._draining:
            self._end("quitquitquit")

    # --- the end ---

    def _stop_reloading(self) -> None:
        """Give up what is under way, since it might open listeners again. Nobody waits for it: it may hang."""
        if self._reloading is not None:
            self._reloading.cancel()

    async def _drain(self) -> None:
        shutdown = self._config.shutdown
        deadline = time.monotonic() + shutdown.timeout
        self._stop_reloading()
        await self._plane.announce_drain()
        await asyncio.sleep(min(shutdown.grace, shutdown.timeout))
        await self._plane.stop_accepting()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._plane.wait_idle()
        except TimeoutError:
            logger.warning("the time to drain is up")

    async def _close(self) -> Left:
        self._stop_reloading()
        for task in self._tasks:
            task.cancel()
        if self._push is not None:
            await self._push.close()
        left = await self._plane.close()
        if left.connections:
            logger.warning("closed %d connections that were still open", left.connections)
        if left.hung:
            logger.error("workers that hung were killed, with whatever they had: %d", left.hung)
        if self._admin is not None:
            await self._admin.close()
        if self._health is not None:
            await self._health.close()
        if self._scrape is not None:
            await self._scrape.close()
        if self._up:
            logger.info("ended")
        return left


def _load(path: str) -> tuple[Config, str]:
    config = load(path, check_filters)
    return config, digest(config)


def _warn(config: Config) -> None:
    for warning in warnings(config):
        logger.warning("%s", warning)


def _fixed(config: Metrics) -> Metrics:
    return structs.replace(config, naming="meshlet", app=None)


def _address_of(part: Any) -> Address | None:
    return part.address if part is not None else None


def _age() -> float:
    """Return seconds since the kernel started this process (proc(5): field 22 of stat, in clock ticks)."""
    with open("/proc/self/stat", encoding="ascii") as stat:  # noqa: PTH123
        started = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
