"""A client's TCP connection, relayed to an endpoint of the listener's cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshlet.errors import ProxyError, UpstreamError
from meshlet.http.attempt import Attempt
from meshlet.proxy.relay import Relay
from meshlet.proxy.transports import peer_name, reset
from meshlet.resilience.retry import DEFAULT_POLICY
from meshlet.upstream.balancers.keys import hash_key
from meshlet.upstream.connect import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.proxy.listener import Listener
    from meshlet.telemetry.requests import RequestStats
    from meshlet.upstream.cluster import Cluster
    from meshlet.upstream.endpoint import Endpoint

# What either side may say before the two are joined; past it reading stops.
EARLY = 65536


class Side(asyncio.Protocol):
    """One side of a connection that is not joined yet: it keeps what it hears."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.early = bytearray()
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.early += data
        if len(self.early) >= EARLY:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ended = True
        return True


class AppSide(Side):
    """The connection to the app, until it is joined."""

    def __init__(self, owner: TcpConnection) -> None:
        super().__init__()
        self._owner = owner

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._owner.on_app_word(self)

    def eof_received(self) -> bool:
        super().eof_received()
        self._owner.on_app_end(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.on_app_lost()


class TcpConnection(Side):
    """Dials the app and joins the two."""

    def __init__(self, listener: Listener, peer: object) -> None:
        """`peer` is the client's address, as `socket.accept` gives it."""
        super().__init__()
        self._peer = peer
        self._listener = listener
        self._settings = listener.settings
        self._started = listener.runtime.clock()
        self._over = False
        self._dialling: asyncio.Task[None] | None = None
        self._app: AppSide | None = None
        self._relay: Relay | None = None
        self._endpoint: Endpoint | None = None
        self.attempts = 0
        self._failures: list[Attempt] = []
        self._connected: Attempt | None = None
        # what it tells once it is over
        self.received = self.sent = 0
        self.flag = self.error = ""
        self.duration = 0.0
        self._stats: RequestStats | None = None  # where it is counted

    # --- asyncio.Protocol, until the app is reached ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.opened(self)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._give_up("DC", "the client closed the connection")

    # --- the way to the app ---

    def _begin(self) -> None:
        self._count()
        self._dial()

    def _count(self) -> None:
        """Count it, once it is known to be TCP."""
        if self._stats is None:
            self._stats = self._settings.stats.for_tcp(self.cluster_name or "")
            self._stats.opened += 1
            self._stats.active += 1

    def _dial(self) -> None:
        if self._dialling is None:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        cluster = self._settings.tcp_cluster
        assert cluster is not None
        tried: list[Endpoint] = []
        while True:
            try:
                endpoint = cluster.pick(self._key(cluster), tried)
                endpoint.pool.reserve()
            except ProxyError as error:
                self._unreachable(error)
                return
            self._endpoint = endpoint
            self.attempts += 1
            endpoint.requests_total += 1
            began = self._listener.runtime.clock()
            try:
                self._app = await connect(endpoint.address, lambda: AppSide(self), cluster.connect_timeout)
            except UpstreamError as error:
                endpoint.pool.connect_failures_total += 1
                now = self._listener.runtime.clock()
                endpoint.failed(error, now - began)
                self._failures.append(
                    Attempt(endpoint.name, error.flag, str(error), 0, began - self._started, now - self._started)
                )
                tried.append(endpoint)
                # Nothing was sent, so another endpoint may be asked.
                if len(tried) > DEFAULT_POLICY.attempts or not cluster.has_other(tried):
                    self._unreachable(error)
                    return
                self._release()
                self._endpoint = None
                continue
            break
        self._connected_to(endpoint, began)
        if self._may_join():
            self._join()

    def _connected_to(self, endpoint: Endpoint, began: float) -> None:
        """Note a connection that was begun at that time."""
        self._connected = Attempt(
            endpoint.name,
            began=began - self._started,
            connect=self._listener.runtime.clock() - began,
        )
        if endpoint.watch is not None:
            endpoint.watch.connected()

    def _key(self, cluster: Cluster) -> int | None:
        """Return what the client sticks to an endpoint by; a connection has no header to look at."""
        if cluster.config.hash_on is None or not cluster.config.hash_on.source or not isinstance(self._peer, tuple):
            return None
        return hash_key(self._peer[0].encode())

    def _may_join(self) -> bool:
        """Whether there is nothing left to find out about the client."""
        return self._app is not None and not self._over

    def _unreachable(self, error: ProxyError) -> None:
        """No endpoint could be connected to."""
        self._give_up(error.flag, str(error))

    def on_app_word(self, app: AppSide) -> None:
        """The app has said something before it was joined."""

    def on_app_end(self, app: AppSide) -> None:
        """The app will say no more, and was not joined yet."""

    def on_app_lost(self) -> None:
        """The app's connection broke before it was joined."""
        if self._relay is None and not self._over:
            self._give_up("UC", "the app closed the connection before it was used")

    def _join(self) -> None:
        assert self._app is not None
        assert self._endpoint is not None
        # Not before: an app that was dialled while nobody knew what the client would speak has nothing to do yet.
        self._endpoint.active += 1
        self._relay = relay = Relay(self._listener.runtime, self._settings.limits.tcp_idle_timeout, self._relayed)
        for end, side in ((relay.downstream, self), (relay.upstream, self._app)):
            end.connection_made(side.transport)
            end.ended = side.ended
            side.transport.set_protocol(end)
            if not side.ended:
                side.transport.resume_reading()
        relay.start(bytes(self.early), bytes(self._app.early))
        self.early.clear()
        self._app = None

    def _relayed(self, received: int, sent: int, flag: str) -> None:
        self._record(received, sent, flag)

    # --- the end ---

    def drain(self) -> None:
        """Let the relay end by itself: nobody can tell a TCP client that we are leaving."""

    def abort(self) -> None:
        """Close both connections now."""
        if self._relay is not None:
            self._relay.abort("")
        else:
            self._give_up("", "meshlet closed the connection")

    def _give_up(self, flag: str, error: str) -> None:
        """Close both connections before they were joined."""
        if self._over:
            return
        self.error = error
        self._record(len(self.early), 0, flag)
        self._hang_up()
        reset(self.transport)

    def _hang_up(self) -> None:
        """Close the app's connection, or make none."""
        if self._app is not None:
            reset(self._app.transport)
        elif self._dialling is not None:
            self._dialling.cancel()

    def _release(self) -> None:
        """Give the place at the endpoint back."""
        if self._endpoint is not None:
            if self._relay is not None:
                self._endpoint.active -= 1
            self._endpoint.pool.unreserve()

    def _record(self, received: int, sent: int, flag: str) -> None:
        self._over = True
        self._count()
        self._listener.closed(self)
        self._release()
        settings = self._settings
        self.received, self.sent, self.flag = received, sent, flag
        self.duration = duration = self._listener.runtime.clock() - self._started
        assert self._stats is not None
        self._stats.active -= 1
        self._stats.record(0, flag, duration, received, sent)
        if flag and settings.explanations is not None:
            settings.explanations.add(self)
        for log in settings.logs:
            log.record(self)

    # --- what it tells; see `telemetry.record.Record` ---

    protocol = "TCP"
    route_name = route_label = head = method = target = host = request_id = response_head = trace = None
    request_seconds = response_seconds = service_seconds = None
    scheme = b""
    status = 0
    acted: tuple[str, ...] = ()

    @property
    def listener_name(self) -> str:
        """The listener that it came in by."""
        return self._settings.name

    @property
    def direction(self) -> str:
        """`inbound` or `outbound`."""
        return self._settings.direction

    @property
    def cluster_name(self) -> str | None:
        """The cluster it goes to."""
        return self._settings.tcp_cluster.name if self._settings.tcp_cluster is not None else None

    @property
    def upstream_host(self) -> str | None:
        """The address of the last endpoint that was tried."""
        return self._endpoint.name if self._endpoint is not None else None

    @property
    def remote(self) -> str:
        """The client's address and port."""
        return peer_name(self._peer)

    @property
    def remote_host(self) -> str:
        """The client's address."""
        return self._peer[0] if isinstance(self._peer, tuple) else "unknown"

    @property
    def local(self) -> str:
        """The address and port that the client has reached."""
        return peer_name(self.transport.get_extra_info("sockname"))

    @property
    def tries(self) -> Sequence[Attempt]:
        """All tries, in the order in which they ended."""
        if self._connected is None:
            return self._failures
        return (*self._failures, self._connected._replace(flag=self.flag, reason=self.error, ended=self.duration))

    @property
    def started_wall(self) -> float:
        """When it was accepted, in unix seconds."""
        return self._listener.runtime.wall_clock() - (self._listener.runtime.clock() - self._started)
