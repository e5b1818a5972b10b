"""A data plane that is spread over worker processes, each with a listening socket of its own on every address.

The supervisor binds all sockets and keeps a duplicate of each. So when a worker dies, the connections in its backlog
wait there for the worker that takes its place, instead of being reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec import Raw, structs

from meshlet.runtime import figures
from meshlet.runtime.child import Child, NoAnswer, Place, Refused, WorkerError
from meshlet.runtime.heartbeat import BEAT
from meshlet.runtime.left import Left
from meshlet.runtime.messages import decode
from meshlet.runtime.sockets import bind_shared, key_of
from meshlet.runtime.totals import add_up, total
from meshlet.telemetry.log import lost_lines
from meshlet.telemetry.metrics import Family
from meshlet.telemetry.traffic import Traffic, merge_traffic

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from meshlet.config.schema import Config
    from meshlet.runtime.messages import Method
    from meshlet.telemetry.tap import TapRead

T = TypeVar("T")

logger = logging.getLogger("meshlet.runtime")

# Seconds; resolving host names may take two of them. Where workers may hang for longer, this is longer too: a filter's
# module may take its time to be imported, and nothing else runs meanwhile.
_APPLY = 10.0
_TOLD = 2.0  # seconds, for what takes no time
_FIRST_DELAY = 0.1  # seconds, before a dead worker's place is taken
_MAX_DELAY = 10.0
_STEADY = 30.0  # seconds; whoever lived so long did not die of its start
_FIGURES = 1.0  # seconds; what a worker has counted since then is lost when it dies


class Plan(NamedTuple):
    """What every worker is to do: a config that names real ports, and for each of its listeners a socket per worker."""

    config: Config
    sockets: tuple[tuple[socket.socket, ...], ...]


class Workers:
    """Implements `plane.Plane` with `count` processes."""

    def __init__(self, count: int) -> None:
        self._places = [Place(number) for number in range(1, count + 1)]
        self._sockets: dict[object, tuple[socket.socket, ...]] = {}  # by listener
        self._plan: Plan | None = None
        self._hang_timeout = 0.0
        self._log_format = "text"
        self._draining = False
        self._stopped = False
        # Held while workers change their config, so that none starts with one and misses the next. Whatever belongs to
        # the end does not wait for it.
        self._changing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._hung = 0  # workers that were killed while they should have drained
        self._started = time.monotonic()
        self._lag = figures.LoopLag(asyncio.get_running_loop(), time.monotonic)
        self._lag.start()

    # --- config ---

    async def apply(self, config: Config) -> None:
        """Run `config` from now on, in all workers or in none; see Plane.

        A worker that is silent takes it when it answers again, or the one that takes its place does. Raises NoAnswer
        where none can be asked; then nothing is known about the config, and the one before stays.
        """
        async with self._changing:
            new = self._bind_new(config)
            first = self._plan.config if self._plan is not None else config
            plan = _plan(_with_bounds_of(first, config), self._sockets | new)
            try:
                if self._plan is None:
                    await self._launch(plan)
                else:
                    await self._spread(plan, self._plan)
            except BaseException:
                _close(new.values())
                raise
            if self._stopped:
                _close(new.values())
                raise NoAnswer("no more connections are accepted")
            self._plan = plan
            self._hang_timeout = config.workers.hang_timeout
            self._keep(config, new)

    def _bind_new(self, config: Config) -> dict[object, tuple[socket.socket, ...]]:
        """Bind what is not bound yet: all of it or nothing."""
        new: dict[object, tuple[socket.socket, ...]] = {}
        try:
            for listener in config.listeners:
                key = key_of(listener.name, listener.address)
                if key not in self._sockets:
                    new[key] = bind_shared(listener.address, len(self._places))
        except OSError:
            _close(new.values())
            raise
        return new

    def _keep(self, config: Config, new: dict[object, tuple[socket.socket, ...]]) -> None:
        wanted = {key_of(listener.name, listener.address) for listener in config.listeners}
        _close(sockets for key, sockets in self._sockets.items() if key not in wanted)
        self._sockets = {key: sockets for key, sockets in (self._sockets | new).items() if key in wanted}

    async def _spread(self, plan: Plan, before: Plan) -> None:
        """Give the plan to one worker, and if that takes it to the others; where one refuses it, all go back.

        One first, because a config that makes workers hang or die must not cost all of them.
        """
        children = self._children()
        first = await self._first_of(children)
        given = [first]
        try:
            # What it imports for the first time may take its time.
            await self._move(first, plan, patient=True)
            given = children
            await self._move_others([child for child in children if child is not first], plan)
        except Exception:
            # One that has refused goes back too: it may have failed half-way, and for the others this is no change.
            await asyncio.gather(*(self._move(child, before) for child in given), return_exceptions=True)
            raise

    async def _first_of(self, children: list[Child]) -> Child:
        """Return one that is well. Raises NoAnswer where none is."""
        asked = {child.post("listeners"): child for child in children if not child.silent}
        while asked:
            done, _ = await asyncio.wait(asked, timeout=_APPLY, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for answer in [each for each in asked if each in done]:
                child = asked.pop(answer)
                if answer.exception() is None:
                    return child
        raise NoAnswer("no worker answers")

    async def _move_others(self, children: list[Child], plan: Plan) -> None:
        outcomes = await asyncio.gather(*(self._move(child, plan) for child in children), return_exceptions=True)
        for outcome in outcomes:
            # One that does not answer has the plan in its channel, and who comes after it begins with it.
            if outcome is not None and not isinstance(outcome, NoAnswer):
                raise outcome

    async def _move(self, child: Child, plan: Plan, *, patient: bool = False) -> None:
        """Give a worker the plan. Raises Refused, or NoAnswer where its word is not to be had now."""
        fds = [sockets[child.number - 1].fileno() for sockets in plan.sockets]
        taken = child.post("apply", plan.config, fds=fds)
        taken.add_done_callback(lambda _: self._on_moved(child, plan, taken))
        await child.result(taken, max(_APPLY, self._hang_timeout), patient=patient)

    def _on_moved(self, child: Child, plan: Plan, taken: asyncio.Future[Raw]) -> None:
        if plan is self._plan and not taken.cancelled() and isinstance(taken.exception(), Refused):
            # The others run it, so this word came too late, or it cannot even go back.
            logger.error("%s: it is replaced", taken.exception())
            child.kill()

    # --- keeping them running ---

    async def _launch(self, plan: Plan) -> None:
        """Start all workers with the first plan."""
        self._log_format = plan.config.log.format
        self._hang_timeout = plan.config.workers.hang_timeout
        for place in self._places:
            place.child = Child(place.number)
        await asyncio.gather(*(child.start(self._log_format) for child in self._children()))
        await asyncio.gather(*(self._move(child, plan, patient=True) for child in self._children()))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._attend(place)) for place in self._places]
        self._tasks += [loop.create_task(self._look_after()), loop.create_task(self._collect())]

    async def _look_after(self) -> None:
        """Kill workers that hang; `_attend` replaces them."""
        while True:
            await asyncio.sleep(BEAT)
            for child in self._processes():
                if child.look(self._hang_timeout) and self._draining:
                    self._hung += 1

    async def _attend(self, place: Place) -> None:
        """Put a new worker in the place of each that dies."""
        delay = _FIRST_DELAY
        while (child := place.child) is not None:
            since = time.monotonic()
            how = await child.ended()
            place.clear()
            if self._stopped:
                logger.error("%s %s", child, how)
                return
            if time.monotonic() - since > _STEADY:
                delay = _FIRST_DELAY
            logger.error("%s %s; the next one starts in %g s", child, how, delay)
            while not await self._restart(place, delay):
                delay = min(delay * 2, _MAX_DELAY)
            delay = min(delay * 2, _MAX_DELAY)

    async def _restart(self, place: Place, delay: float) -> bool:
        """Start the next one after a while; say whether that went well, or is not wanted any more."""
        await asyncio.sleep(delay)
        child = Child(place.number)
        try:
            await child.start(self._log_format)
            async with self._changing:
                if self._stopped:
                    child.kill()
                    return True
                await self._join(place, child)
        except OSError as error:
            child.kill()
            logger.error("cannot start a worker: %s", error)  # noqa: TRY400 - a traceback would not help the user
            return False
        except BaseException:
            child.kill()
            raise
        place.restarts += 1
        logger.info("%s has started", child)
        return True

    async def _join(self, place: Place, child: Child) -> None:
        """Bring a new worker to where the others are."""
        assert self._plan is not None
        place.joining = child
        try:
            if self._draining:
                # First, because it begins to accept with the plan.
                child.post("announce_drain")
            await self._move(child, self._plan, patient=True)
        finally:
            place.joining = None
        place.child = child

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(_FIGURES)
            await self._refresh("families")

    # --- what they tell ---

    async def families(self) -> list[Family]:
        """The sum over the workers, those that have died included, and what the supervisor itself costs."""
        await self._refresh("families")
        own = [
            *figures.process_families(time.monotonic() - self._started, self._lag),
            *figures.log_families(lost_lines()),
            *figures.worker_families(
                len(self._children()),
                sum(child.silent for child in self._children()),
                sum(place.restarts for place in self._places),
            ),
        ]
        return total([*(place.families() for place in self._places), own])

    async def clusters(self) -> list[dict[str, Any]]:
        """One object for each cluster, its numbers added up."""
        return add_up(await self._dumps("clusters"), "name")

    async def listeners(self) -> list[dict[str, Any]]:
        """One object for each listener, its numbers added up."""
        return add_up(await self._dumps("listeners"), "name", "address")

    async def traffic(self) -> Traffic:
        """Totals of routes and endpoints, added up."""
        await self._refresh("traffic")
        known = [child.known("traffic") for child in self._children()]
        return merge_traffic(decode(raw, Traffic) for raw in known if raw is not None)

    async def explain(self, request_id: str) -> list[dict[str, Any]]:
        """What any of them keeps of a request."""
        found = await self._ask("explain", request_id, list[dict[str, Any]])
        return sorted(found, key=lambda each: each["time"])

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last failed or slow requests of all of them."""
        found = await self._ask("recent", limit, list[dict[str, Any]])
        return sorted(found, key=lambda each: each["time"], reverse=True)[:limit]

    async def tap(self, read: TapRead) -> list[bytes]:
        """What has come for a tap in all of them."""
        return await self._ask("tap", read, list[bytes])

    async def _ask(self, method: Method, argument: object, kind: type[list[T]]) -> list[T]:
        """Put together what the workers answer; one that does not answer has nothing to tell."""
        calls = (child.call(method, argument) for child in self._children())
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [item for answer in answers if isinstance(answer, Raw) for item in decode(answer, kind)]

    async def unreachable(self, clusters: tuple[str, ...]) -> list[str]:
        """Return what the first worker that answers says: they all dial the same endpoints.

        Where one does not answer, or there is none, the kernel gives it connections all the same, and they wait.
        """
        for child in self._children():
            with contextlib.suppress(WorkerError):
                reasons = decode(await child.call("unreachable", clusters), list[str])
                return [*filter(None, (place.trouble for place in self._places)), *reasons]
        return ["no worker answers"]

    async def _dumps(self, method: Method) -> list[list[dict[str, Any]]]:
        await self._refresh(method)
        known = [child.known(method) for child in self._children()]
        return [decode(raw, list[dict[str, Any]]) for raw in known if raw is not None]

    async def _refresh(self, method: Method) -> None:
        await asyncio.gather(*(child.refresh(method) for child in self._children()))

    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _processes(self) -> list[Child]:
        """All that may have connections."""
        return [*self._children(), *(place.joining for place in self._places if place.joining is not None)]

    # --- what they are told ---

    async def set_log_level(self, level: str) -> None:
        """Change the level of meshlet's own log; a worker that is silent does so when it goes on."""
        asked = []
        for child in self._processes():
            with contextlib.suppress(NoAnswer):
                asked.append(child.result(child.post("set_log_level", level), _TOLD))
        await asyncio.gather(*asked, return_exceptions=True)

    async def reopen_logs(self) -> None:
        """Open the access log anew."""
        self._tell("reopen_logs")

    async def announce_drain(self) -> None:
        """Tell clients to close."""
        self._draining = True
        self._tell("announce_drain")

    async def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections."""
        self._stopped = True
        # Ours first: the workers' own ones still accept, so nobody is left waiting in a backlog without a reader.
        _close(self._sockets.values())
        self._sockets = {}
        self._tell("stop_accepting")

    async def wait_idle(self) -> None:
        """Return when no connection is open any more; one that is gone has none, one that is silent may have some."""
        await asyncio.gather(*(self._idle(child) for child in self._processes()))

    @staticmethod
    async def _idle(child: Child) -> None:
        with contextlib.suppress(NoAnswer):
            await child.post("wait_idle")

    def _tell(self, method: Method, argument: object = None) -> None:
        """Tell all workers, and wait for none: it is in their channels, in the order in which they are told."""
        for child in self._processes():
            with contextlib.suppress(NoAnswer):
                child.post(method, argument)

    async def close(self) -> Left:
        """End all workers, within a second."""
        self._lag.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = await asyncio.gather(*(child.close() for child in self._children()))
        _close(self._sockets.values())
        return Left(sum(each.connections for each in left), self._hung + sum(each.hung for each in left))

    def kill(self) -> None:
        """End all workers at once."""
        for child in self._processes():
            child.kill()


def _plan(config: Config, sockets: dict[object, tuple[socket.socket, ...]]) -> Plan:
    chosen = tuple(sockets[key_of(listener.name, listener.address)] for listener in config.listeners)
    listeners = tuple(
        listener
        if listener.address.path
        else structs.replace(listener, address=listener.address._replace(port=own[0].getsockname()[1]))
        for listener, own in zip(config.listeners, chosen, strict=True)
    )
    return Plan(structs.replace(config, listeners=listeners), chosen)


def _with_bounds_of(first: Config, config: Config) -> Config:
    """Return the config with the histograms of another: all workers count in the buckets of the first one's start."""
    was, telemetry = first.telemetry.metrics, config.telemetry
    metrics = structs.replace(telemetry.metrics, duration_buckets=was.duration_buckets, size_buckets=was.size_buckets)
    return structs.replace(config, telemetry=structs.replace(telemetry, metrics=metrics))


def _close(groups: Iterable[tuple[socket.socket, ...]]) -> None:
    for group in groups:
        for sock in group:
            sock.close()
