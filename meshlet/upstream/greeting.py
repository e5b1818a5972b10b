"""Who speaks first on the connections of a cluster: learned from one connection, for all clients that say nothing.

A client that is silent may be about to speak HTTP, or may wait for a server that greets it, as SMTP and MySQL do. Were
the app dialled for each of these, silent clients could take all of its connections. So one connection at a time asks
the app. If the app greets on it, the clients that wait get their connections; if not, that is remembered.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from meshlet.errors import UpstreamError
from meshlet.timers import NEVER
from meshlet.upstream.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.timers import Timers
    from meshlet.upstream.cluster import Cluster
    from meshlet.upstream.endpoint import Endpoint

# How long a probe waits for the app's first word. An app with one worker serves nobody else meanwhile.
_PROBE = 1.5  # seconds
# After a probe that has told nothing: the app was not there, or the probe was given up.
_PAUSE = 1.0  # seconds
# What was learned is believed for so long: there may be another app at the same address.
_REMEMBERED = 300.0  # seconds
_HTTP = b"HTTP/"  # an app that is tired of waiting may say 408


class SilentClient(Protocol):
    """A client that has not said anything yet."""

    def on_greeting(self, greeted: Greeted | None) -> None:
        """Take the connection on which the app has spoken, or dial: the app speaks first."""
        ...


class Greeted(NamedTuple):
    """A connection to the app, with a place in its pool, and what the app has said on it."""

    endpoint: Endpoint
    transport: asyncio.Transport
    early: bytes

    def give_back(self) -> None:
        """Close the connection."""
        self.endpoint.pool.unreserve()
        self.transport.abort()


class Greeting:
    """What is known of one cluster, and who waits to know. `wake` belongs to `Timers`."""

    def __init__(self, cluster: Cluster, timers: Timers, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._timers = timers
        self._clock = clock
        self.wake = NEVER
        self._waiting: dict[SilentClient, None] = {}  # each bounded by its head timeout
        self._probe: _Probe | None = None
        self._closed = False
        # what is known, and of which endpoints
        self._endpoints: tuple[Endpoint, ...] = ()
        self._greets_until = -math.inf
        self._quiet_until = -math.inf  # no probe before this time

    def __repr__(self) -> str:
        return f"<Greeting waiting={len(self._waiting)} probes={self._probe is not None}>"

    # --- clients ---

    def wait(self, client: SilentClient) -> None:
        """Call the client once the app is known to speak first: now, later, or never."""
        if self._closed:
            return
        now = self._clock()
        if self._cluster.endpoints is not self._endpoints:
            self._endpoints = self._cluster.endpoints
            self._greets_until = self._quiet_until = -math.inf
        if now < self._greets_until and not self._cluster.speaks_http:
            client.on_greeting(None)
            return
        self._waiting[client] = None
        self._look(now)

    def leave(self, client: SilentClient) -> None:
        """Forget the client. A probe that it caused goes on, for what is learned from it."""
        self._waiting.pop(client, None)
        if self._probe is not None and self._probe.client is client:
            self._probe.client = None

    def take(self, client: SilentClient) -> Greeted | None:
        """Forget the client, which has spoken; return the connection of the probe that it caused, if there is one."""
        probe = self._probe
        mine = probe is not None and probe.client is client
        self.leave(client)
        if probe is None or not mine:
            return None
        if probe.transport is None:
            self._over(probe, _PAUSE)
            return None
        return self._hand_out(probe)

    def give_up(self, client: SilentClient | None = None) -> None:
        """Close the probe, or only one that this client has caused: an app with one worker has better to do."""
        probe = self._probe
        if probe is not None and (client is None or probe.client is client):
            self._over(probe, _PAUSE)

    # --- what has been learned elsewhere ---

    def greeted(self) -> None:
        """The app has spoken first."""
        self._endpoints = self._cluster.endpoints
        self._greets_until = self._clock() + _REMEMBERED

    def failed(self) -> None:
        """The app was thought to speak first, and could not be reached or said nothing."""
        self._greets_until = -math.inf
        self._quiet_until = self._clock() + _PAUSE

    def close(self) -> None:
        """Probe no more; who waits goes on waiting, and will be closed when its time is up."""
        self._closed = True
        self._waiting.clear()
        self.give_up()
        self._timers.cancel(self)

    # --- the probe ---

    def _look(self, now: float) -> None:
        """Probe the app if somebody waits and nothing is known."""
        if self._probe is not None or not self._waiting or self._cluster.speaks_http:
            return
        if now < self._quiet_until:
            self._timers.schedule(self, self._quiet_until)
            return
        room = self._cluster.connections
        try:
            # It makes no room by closing a connection that a request could use.
            endpoint = self._cluster.pick() if room.count < room.limit else None
        except UpstreamError:
            endpoint = None
        if endpoint is None:
            self._quiet_until = now + _PAUSE
            self._timers.schedule(self, self._quiet_until)
            return
        endpoint.pool.reserve()
        self._probe = probe = _Probe(self, endpoint, next(iter(self._waiting)), now + _PROBE)
        probe.dialling = asyncio.get_running_loop().create_task(self._dial(probe))
        self._timers.schedule(self, probe.deadline)

    async def _dial(self, probe: _Probe) -> None:
        try:
            await connect(probe.endpoint.address, lambda: probe, _PROBE)
        except UpstreamError:
            # Nothing that a client's silence leads to counts against the endpoint.
            probe.endpoint.pool.connect_failures_total += 1
            probe.dialling = None
            self.lost(probe)

    def heard(self, probe: _Probe) -> None:
        """The app has said something."""
        if probe is not self._probe or (len(probe.early) < len(_HTTP) and _HTTP.startswith(probe.early)):
            return
        if probe.early.startswith(_HTTP):
            self._over(probe, _REMEMBERED)
            return
        self.greeted()
        clients, self._waiting = self._waiting, {}
        if not clients:
            self._over(probe, _PAUSE)
            return
        first, *others = clients
        first.on_greeting(self._hand_out(probe))
        for client in others:
            client.on_greeting(None)

    def lost(self, probe: _Probe) -> None:
        """The app was not reached, or has ended the connection without a word: nothing is known by that."""
        if probe is self._probe:
            self._over(probe, _PAUSE)

    def _hand_out(self, probe: _Probe) -> Greeted:
        assert probe.transport is not None
        self._end(_PAUSE)
        return Greeted(probe.endpoint, probe.transport, bytes(probe.early))

    def _over(self, probe: _Probe, pause: float) -> None:
        """Close the probe's connection, and make none for a while."""
        probe.endpoint.pool.unreserve()
        if probe.transport is not None:
            probe.transport.abort()
        elif probe.dialling is not None:
            probe.dialling.cancel()
        self._end(pause)

    def _end(self, pause: float) -> None:
        self._probe = None
        self._quiet_until = self._clock() + pause
        if self._waiting:
            self._timers.schedule(self, self._quiet_until)

    def on_timer(self, now: float) -> float:
        """End a probe on which nobody has said anything; begin one where somebody waits."""
        probe = self._probe
        if probe is not None and now >= probe.deadline:
            self._over(probe, _REMEMBERED if probe.transport is not None else _PAUSE)
        self._look(now)
        if self._probe is not None:
            return self._probe.deadline
        return self._quiet_until if self._waiting and now < self._quiet_until else NEVER


class _Probe(asyncio.Protocol):
    """A connection on which the app may speak first."""

    def __init__(self, greeting: Greeting, endpoint: Endpoint, client: SilentClient, deadline: float) -> None:
        self._greeting = greeting
        self.endpoint = endpoint
        self.client: SilentClient | None = client  # whose silence is the reason for it, while that client waits
        self.deadline = deadline
        self.dialling: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.early += data
        self._greeting.heard(self)

    def eof_received(self) -> bool:
        self._greeting.lost(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._greeting.lost(self)
