"""A data plane on a fake loop, with clients and apps that do what a test says: no time passes, no socket is opened.

A conversation is a function of a `World`. It says what clients and apps send, and `got` what they must have received,
to the byte; at its end nothing may have been received that it did not name. `conversation` runs it many times: as
written, with what either side sends cut at every byte, and with either side gone after every step.
"""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections import Counter, deque
from contextlib import contextmanager, suppress
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast
from unittest import mock

import pytest

from meshlet.config.load import loads
from meshlet.proxy.listener import Listener
from meshlet.proxy.settings import Runtime
from meshlet.runtime.compile import Compiler
from meshlet.runtime.recorders import Recorders
from meshlet.telemetry.tap import Taps
from meshlet.timers import Timers
from tests.support.fakes import FakeLoop, Peer
from tests.support.wire import Message, canonical, head, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from meshlet.config.schema import Config
    from meshlet.http.attempt import Attempt
    from meshlet.telemetry.access_log import AccessLog
    from meshlet.telemetry.record import Record
    from meshlet.telemetry.requests import RequestStats
    from meshlet.upstream.cluster import Cluster
    from meshlet.upstream.pool import Pool

_WALL = 1767225600  # 2026-01-01
DATE = "date: Thu, 01 Jan 2026 00:00:00 GMT"
ID = "x-request-id: made-by-meshlet"
#: where the app listens, if a test does not say otherwise
FIRST = "10.0.1.1:8080"
#: what meshlet adds to a request on its way to the app
FORWARDED = ("x-forwarded-for: 10.0.0.9", "x-forwarded-proto: http", ID)
SERVICE_TIME = "x-envoy-upstream-service-time: 0"
#: what it adds to a response that has no Date
ANSWERED = (SERVICE_TIME, DATE)

GET = head("GET / HTTP/1.1", "Host: a")
GOT_GET = head("GET / HTTP/1.1", "Host: a", *FORWARDED)
OK = head("HTTP/1.1 200 OK", "Content-Length: 2") + b"ok"
GOT_OK = head("HTTP/1.1 200 OK", "Content-Length: 2", *ANSWERED) + b"ok"


class Stop(BaseException):
    """Ends a conversation after the step that a run is about."""


class Side(Peer):
    """A peer as conversations see it: its actions are steps, after each of which the loop comes to rest."""

    def __init__(self, world: World, name: tuple[str, int]) -> None:
        super().__init__(world.loop, name)
        self.world = world
        self.said = b""
        self.expected = b""
        self._named = 0  # so much of what was received has been looked at

    # --- what it does ---

    def sends(self, *parts: bytes) -> None:
        """Send bytes, in as many pieces as this run wants."""
        data = b"".join(parts)
        self.said += data
        start, self.world.sent[type(self)] = self.world.sent[type(self)], self.world.sent[type(self)] + len(data)
        places = sorted(cut - start for cut in self.world.cuts[type(self)] if start < cut < start + len(data))
        for begin, end in zip([0, *places], [*places, len(data)], strict=True):
            self.put(data[begin:end])
            self.world.rest()
        self.world.step()

    def ends(self) -> None:
        """Send no more, and read on."""
        self.end()
        self.world.acted()

    def closes(self) -> None:
        """Close the connection."""
        self.close()
        self.world.acted()

    def resets(self) -> None:
        """Reset the connection."""
        self.kill()
        self.world.acted()

    def stalls(self) -> None:
        """Read no more for now."""
        self.stall()
        self.world.acted()

    def reads(self, count: int | None = None) -> None:
        """Read so many bytes, or all from now on."""
        self.read(count)
        self.world.acted()

    # --- what it has seen ---

    def got(self, *parts: bytes) -> None:
        """Assert that since the last time it has received exactly this; the borders of chunks do not matter."""
        self.expected += b"".join(parts)
        assert canonical(self.received) == canonical(self.expected), self.name
        self._named = len(self.received)

    def begins(self, data: bytes) -> None:
        """Assert that what it has received since the last time begins so."""
        assert self.received.startswith(data, self._named), self.received[self._named :]
        self.expected += data
        self._named += len(data)

    def takes(self) -> bytes:
        """Return what it has received since the last time, to be judged by the test."""
        rest = self.received[self._named :]
        self.expected = self.received
        self._named = len(self.received)
        return rest

    def forgets(self) -> None:
        """Begin anew: what was received is judged already."""
        self.received = self.expected = b""
        self._named = 0

    @property
    def state(self) -> str:
        """What it knows of the connection."""
        if self.reset:
            return "reset"
        if self.closed:
            return "closed"
        return "half-closed" if self.ended else "open"

    def is_paused(self) -> bool:
        """Whether we have stopped reading from it."""
        return not self.closed and not self.transport.is_reading()


class Client(Side):
    """A client's end of a connection."""

    def got_reply(self, status: int, flag: str, *said: str, close: bool = True) -> Message:
        """Assert that it has received one response that meshlet made itself, and nothing else."""
        data = self.takes()
        found = messages(data)
        assert len(found) == 1, data
        reply = found[0]
        assert reply.complete, data
        assert reply.status == status, data
        assert reply.field("server") == "meshlet"
        assert reply.field("x-meshlet-flag") == flag
        assert reply.field("date") is not None
        assert reply.field("connection") == ("close" if close else None)
        assert reply.body.startswith(f"{flag}: ".encode()), data
        assert reply.body.endswith(b"\n")
        assert reply.body.count(b"\n") == 1
        for words in said:
            assert words.encode() in reply.body, reply.body
        return reply


class App(Side):
    """An app's end of a connection."""

    @property
    def address(self) -> str:
        """Where it was connected to."""
        host, port = cast("tuple[str, int]", self.name)
        return f"{host}:{port}" if port else host


class _ListeningSocket:
    """What `Listener` needs of its socket."""

    def __init__(self) -> None:
        self.backlog: deque[Any] = deque()

    def setblocking(self, flag: bool) -> None:
        """There is nothing to block on."""

    def fileno(self) -> int:
        return 3

    def getsockname(self) -> tuple[str, int]:
        return ("10.0.0.1", 15006)

    def accept(self) -> Any:
        if not self.backlog:
            raise BlockingIOError
        item = self.backlog.popleft()
        if isinstance(item, OSError):
            raise item
        return item, item.peer.name

    def close(self) -> None:
        """There is nothing to close."""


class Entry(NamedTuple):
    """What an access log has been told of one request or TCP connection."""

    duration: float
    cluster: str | None
    protocol: str
    method: bytes | None
    target: bytes | None
    host: bytes | None
    status: int
    flag: str
    error: str
    received: int
    sent: int
    downstream: str
    upstream: str | None
    request_id: bytes | None
    attempts: int
    tries: tuple[Attempt, ...]
    times: tuple[float | None, float | None, float | None]


class _Log:
    """An access log that keeps its entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, record: Record) -> None:
        entry = Entry(
            record.duration,
            record.cluster_name,
            record.protocol,
            record.method,
            record.target,
            record.host,
            record.status,
            record.flag,
            record.error,
            record.received,
            record.sent,
            record.remote,
            record.upstream_host,
            record.request_id,
            record.attempts,
            tuple(record.tries),
            (record.request_seconds, record.response_seconds, record.service_seconds),
        )
        self.entries.append(entry)


@lru_cache
def _config(text: str) -> Config:
    return loads(text, "test")


class World:
    """One listener, one cluster `app`, and whoever talks through them.

    `listener`, `limits`, `route` and `cluster` are keys of the config; `routes` replaces them all, and `clusters` are
    further ones.
    """

    def __init__(
        self,
        *,
        listener: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        cluster: dict[str, Any] | None = None,
        routes: list[dict[str, Any]] | None = None,
        clusters: list[dict[str, Any]] | None = None,
        telemetry: dict[str, Any] | None = None,
    ) -> None:
        routes = routes if routes is not None else [{"cluster": "app", **(route or {})}]
        config = {
            "listeners": [
                {
                    "name": "main",
                    "address": "10.0.0.1:15006",
                    "protocol": "http",
                    "limits": limits or {},
                    "routes": routes,
                    **(listener or {}),
                }
            ],
            "clusters": [{"name": "app", "endpoints": ["10.0.1.1:8080"], **(cluster or {})}, *(clusters or [])],
            "telemetry": telemetry or {},
        }
        #: clusters that get copies: what is in flight there may outlive the client
        self._mirrors = {each["mirror"]["cluster"] for each in routes if "mirror" in each}
        self.loop = FakeLoop()
        self.loop.dial = self._dial
        self.loop.reach = self._reach
        self.loop.adopt = self._adopt
        self.log = _Log()
        self._timers = timers = Timers(self.loop.time, self.loop.call_later)
        self.taps = Taps(timers, self.loop.time)
        runtime = Runtime(
            timers, self.loop.time, lambda: float(_WALL), lambda *_: b"made-by-meshlet", lambda: self.chance, self.taps
        )
        self._config = _config(json.dumps(config))
        self._compiler = Compiler(timers, self.loop.time)
        self._runtime = runtime
        self._socket = _ListeningSocket()
        self.loop.is_readable = lambda descriptor: bool(self._socket.backlog)
        self._patches = [mock.patch.object(time, "time", return_value=float(_WALL))]
        # what this run is about
        self.cuts: dict[type, frozenset[int]] = {Client: frozenset(), App: frozenset()}
        self.stop_at = 0
        # what happened
        self.steps = 0
        self.sent: Counter[type] = Counter()
        self.clients: list[Client] = []
        self.apps: list[App] = []
        self._met: list[App] = []  # apps that the conversation knows
        self._held = False
        #: addresses that do not answer as usual: an error, or a future for no answer until it is set
        self.unreachable: dict[str, OSError | asyncio.Future[None]] = {}
        #: called with an app's end when it has accepted, before we know
        self.on_accept: Callable[[App], None] = lambda app: None
        self.dialled: list[str] = []
        #: what every random choice comes out as, from 0 up to but without 1
        self.chance = 0.5

    def __enter__(self) -> Self:
        for patch in self._patches:
            patch.start()
        asyncio.events._set_running_loop(cast("Any", self.loop))
        recorders = Recorders(self._config.telemetry)
        recorders.logs = (cast("AccessLog", self.log),)
        self.explanations = recorders.explanations
        snapshot = self._compiler.compile(self._config, None, recorders)
        self.clusters = snapshot.clusters
        for cluster in self.clusters.values():
            cluster.start()
        self.listener = Listener(cast("Any", self._socket), snapshot.listeners["main"], self._runtime)
        self.listener.start()
        self.loop.run()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if kind is None:
                for side in (*self.clients, *self.apps):
                    rest = side.received[side._named :]
                    assert rest == b"", f"{side.name} has received what nobody named"
                self.check()
                if not any(self.cuts.values()):
                    self.expire()
        finally:
            for side in (*self.clients, *self.apps):
                side.sock.release()
            asyncio.events._set_running_loop(None)
            for patch in self._patches:
                patch.stop()

    # --- who talks ---

    def client(self, address: str = "10.0.0.9") -> Client:
        """Connect a client."""
        client = Client(self, (address, 40000 + len(self.clients)))
        self.clients.append(client)
        self._socket.backlog.append(client.sock)
        self.loop.readable(3)
        self.rest()
        return client

    def accept_fails(self, error: OSError) -> None:
        """Have the next `accept` fail."""
        self._socket.backlog.append(error)
        self.loop.readable(3)
        self.rest()

    def app(self, address: str | None = None) -> App:
        """Return the app's end of the next connection that it got, at any of its addresses or at the given one."""
        for app in self.apps:
            if app not in self._met and (address is None or app.address == address):
                self._met.append(app)
                return app
        raise AssertionError(f"{address or 'the app'} was not connected to (again)")

    def no_more_apps(self) -> None:
        """Assert that the app got no connection that the conversation does not know."""
        assert len(self.apps) == len(self._met)

    def refuse(self, *addresses: str) -> None:
        """Have connections to the app refused."""
        for address in addresses or (FIRST,):
            self.unreachable[address] = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    def hold(self, *addresses: str) -> None:
        """Have connections to the app wait for `let_in`."""
        for address in addresses or (FIRST,):
            self.unreachable[address] = self.loop.create_future()

    def let_in(self, *addresses: str) -> None:
        """Have the app answer, also those who wait."""
        for address in addresses or (FIRST,):
            answer = self.unreachable.pop(address)
            if isinstance(answer, asyncio.Future):
                answer.set_result(None)
        self.acted()

    async def _dial(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> object:
        await self._reach(address)
        return await self._adopt(factory, address)

    async def _reach(self, address: str) -> None:
        self.dialled.append(address)
        answer = self.unreachable.get(address)
        if isinstance(answer, OSError):
            raise answer
        if answer is not None:
            await asyncio.shield(answer)

    async def _adopt(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> object:
        host, _, port = address.rpartition(":")
        app = App(self, (host, int(port)) if port.isdigit() else (address, 0))
        self.apps.append(app)
        self.on_accept(app)
        return await app.connect(factory)

    # --- time ---

    def rest(self) -> None:
        """Let the loop do what there is to do, unless several things are to happen at once."""
        if not self._held:
            self.loop.run()
            assert not self.loop.failures, self.loop.failures

    def acted(self) -> None:
        """Something was done."""
        self.rest()
        self.step()

    def step(self) -> None:
        """Count a step of the conversation."""
        self.steps += 1
        if self.steps == self.stop_at and not self._held:
            raise Stop

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)
        assert not self.loop.failures, self.loop.failures
        self.step()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What happens inside reaches us together."""
        self._held = True
        yield
        self._held = False
        self.rest()

    # --- what we look like ---

    @property
    def cluster(self) -> Cluster:
        return self.clusters["app"]

    @property
    def pool(self) -> Pool:
        return self.cluster.endpoints[0].pool

    def pooled(self) -> str:
        """Return the pool's counters: open, idle, connecting, pending."""
        pool = self.pool
        return repr(pool).removeprefix(f"<Pool {pool.address} ").removesuffix(">")

    @property
    def counts(self) -> dict[tuple[int, str], int]:
        """Return the requests by status and flag."""
        counts: Counter[tuple[int, str]] = Counter()
        for stats in self.listener.settings.stats.requests.values():
            counts.update(stats.codes)
        return dict(counts)

    @property
    def flags(self) -> list[str]:
        """Return the flags of the access log, one for each request or TCP connection."""
        return [entry.flag for entry in self.log.entries]

    @property
    def statuses(self) -> list[int]:
        return [entry.status for entry in self.log.entries]

    def stats(self, cluster: str = "app", route: str = "") -> RequestStats:
        """Return the counters of the requests of a route to a cluster."""
        return self.listener.settings.stats.requests[route, cluster]

    @property
    def attempts(self) -> list[int]:
        """The tries of each request, by the access log."""
        return [entry.attempts for entry in self.log.entries]

    # --- what must hold ---

    def check(self) -> None:
        """Assert what holds at any time."""
        assert not self.loop.failures, self.loop.failures
        for cluster in self.clusters.values():
            taken = 0
            for endpoint in cluster.endpoints:
                pool = endpoint.pool
                assert pool.open >= pool.idle >= 0, repr(pool)
                assert endpoint.active >= 0
                taken += pool.open + len(pool._connecting)
            assert cluster.connections.count == taken, cluster.connections
            for breaker in cluster.breakers.values():
                assert min(breaker.requests, breaker.retries, breaker.pending) >= 0, breaker
        assert sum(self.counts.values()) == sum(entry.protocol != "TCP" for entry in self.log.entries)
        if self.active() == 0:
            self.counted(self.clusters.keys() - self._mirrors)

    def counted(self, clusters: Iterable[str]) -> None:
        """Assert that in these clusters every counter of what is in flight is back at zero."""
        for name in clusters:
            for breaker in self.clusters[name].breakers.values():
                assert repr(breaker) == "<Breaker requests=0 pending=0 retries=0>", name
            assert not any(endpoint.active for endpoint in self.clusters[name].endpoints), name

    def active(self) -> int:
        """Return what is in flight, by every counter there is; copies may take longer than their requests."""
        stats = self.listener.settings.stats
        clusters = (cluster for cluster in self.clusters.values() if cluster.name not in self._mirrors)
        return sum(
            [
                *(endpoint.active for cluster in clusters for endpoint in cluster.endpoints),
                *(stat.active for stat in (*stats.requests.values(), *stats.tcp.values())),
            ]
        )

    def expire(self) -> None:
        """Let every timeout pass, with no app there any more; assert that then nobody is left."""
        for cluster in self.clusters.values():
            for endpoint in cluster.endpoints:
                self.unreachable[endpoint.name] = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self.loop.advance(4 * 3600)
        self.check()
        self.cleared()
        if all(cluster._discovering is None and cluster._detector is None for cluster in self.clusters.values()):
            assert not asyncio.all_tasks(cast("Any", self.loop)), "a task was left behind"
            assert not self._timers._slots, "a timer was left behind"

    def cleared(self) -> None:
        """Assert that no connection, exchange or waiter is left behind."""
        assert repr(self.listener) == "<Listener main 10.0.0.1:15006 connections=0>"
        for cluster in self.clusters.values():
            for endpoint in cluster.endpoints:
                pool = endpoint.pool
                assert repr(pool) == f"<Pool {pool.address} open=0 idle=0 connecting=0 pending=0>"
        assert self.active() == 0
        self.counted(self.clusters)
        for side in (*self.clients, *self.apps):
            assert side.closed or side.shed, f"{side.name} was left open"


class Variant(Enum):
    """A way to run a conversation; the value is the test's id."""

    AS_WRITTEN = "as written"
    CLIENT_CUT = "client cut"
    CLIENT_TRICKLES = "client byte by byte"
    APP_CUT = "app cut"
    APP_TRICKLES = "app byte by byte"
    CLIENT_RESETS = "client resets"
    CLIENT_CLOSES = "client closes"
    CLIENT_ENDS = "client ends"
    APP_RESETS = "app resets"
    APP_CLOSES = "app closes"


_CUTS = {Variant.CLIENT_CUT: Client, Variant.APP_CUT: App}
_TRICKLES = {Variant.CLIENT_TRICKLES: Client, Variant.APP_TRICKLES: App}
_WHOLE_STREAM = 1500  # bytes; of what is longer, the beginning and the end are cut at every byte
_LONGEST_TRICKLE = 5000  # bytes


def conversation(
    *, cut: bool = True, drop: bool = True, **config: Any
) -> Callable[[Callable[[World], None]], Callable[[Variant], None]]:
    """Make a test of a conversation. `config` is for `World`.

    `cut=False`: it is about pieces, or about time, so other pieces change its meaning; `drop=False`: likewise for
    leaving.
    """
    variants = [
        variant
        for variant in Variant
        if variant is Variant.AS_WRITTEN
        or (cut and (variant in _CUTS or variant in _TRICKLES))
        or (drop and variant.name.endswith(("RESETS", "CLOSES", "ENDS")))
    ]

    def decorate(function: Callable[[World], None]) -> Callable[[Variant], None]:
        @pytest.mark.parametrize("variant", variants, ids=lambda variant: variant.value)
        def test(variant: Variant) -> None:
            _run(function, variant, config)

        test.__name__ = test.__qualname__ = function.__name__
        test.__module__ = function.__module__
        test.__doc__ = function.__doc__
        return cast("Callable[[Variant], None]", test)

    return decorate


def _run(function: Callable[[World], None], variant: Variant, config: dict[str, Any]) -> None:
    with World(**config) as world:
        function(world)
        sent, steps = world.sent, world.steps
    if variant in _CUTS:
        side = _CUTS[variant]
        for place in _places(sent[side]):
            with World(**config) as world, _told(f"cut after byte {place} of the {side.__name__.lower()}'s"):
                world.cuts[side] = frozenset({place})
                function(world)
    elif variant in _TRICKLES:
        side = _TRICKLES[variant]
        with World(**config) as world:
            world.cuts[side] = frozenset(range(min(sent[side], _LONGEST_TRICKLE)))
            function(world)
    elif variant is not Variant.AS_WRITTEN:
        for step in range(1, steps + 1):
            with _told(f"after step {step}"):
                _drop(function, variant, config, step)


def _places(total: int) -> list[int]:
    if total <= 2 * _WHOLE_STREAM:
        return list(range(1, total))
    return [*range(1, _WHOLE_STREAM), *range(total - _WHOLE_STREAM // 4, total)]


@contextmanager
def _told(note: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise


def _drop(function: Callable[[World], None], variant: Variant, config: dict[str, Any], step: int) -> None:
    """Run until a step, have everybody on one side leave, and see that nothing stays behind."""
    world = World(**config)
    try:
        world.__enter__()
        world.stop_at = step
        with suppress(Stop):
            function(world)
        world._held = False
        gone: list[Side] = [*world.clients] if "CLIENT" in variant.name else [*world.apps]
        paused = any(side.is_paused() for side in gone)
        for side in gone:
            {"RESETS": side.kill, "CLOSES": side.close, "ENDS": side.end}[variant.name.rpartition("_")[2]]()
        world.loop.run()
        world.check()
        if variant is Variant.CLIENT_RESETS and not paused:
            # At once, not when some timeout has passed. Where we were not reading we cannot have seen it.
            assert world.active() == 0, "an exchange has outlived its client"
            assert world.listener.connections == 0
        for client in world.clients:
            if not client.gone:
                _check_whole(client)
        world.expire()
    finally:
        world.__exit__(Stop, None, None)


def _check_whole(client: Client) -> None:
    """Assert that what ends early does not look as if it were whole."""
    asked_head = client.said.startswith(b"HEAD ")
    if client.state == "closed" and client.received.startswith(b"HTTP/") and not asked_head:
        assert all(message.complete for message in messages(client.received)), client.received
