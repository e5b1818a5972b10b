"""The connections of a cluster that its pools share."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from meshlet.errors import ConnectFailure, Overflow, UpstreamError
from meshlet.upstream.connection import UpstreamConnection
from meshlet.upstream.pool import Pool
from tests.support.fakes import Peer
from tests.unit.upstream.support import Bench


class Waiter:
    def __init__(self) -> None:
        self.stream: UpstreamConnection | None = None
        self.error: UpstreamError | None = None

    def on_stream(self, stream: UpstreamConnection) -> None:
        self.stream = stream

    def on_no_stream(self, error: UpstreamError) -> None:
        self.error = error


class Pools(Bench):
    """Three endpoints, and how many connections they may have together."""

    def __init__(self, connections: int, **limits: Any) -> None:
        breaker = {"max_connections": connections, **limits}
        super().__init__("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", circuit_breaker=breaker)
        self.loop.dial = self._dial
        self.refused: set[str] = set()

    async def _dial(self, factory: object, address: str) -> object:
        if address in self.refused:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return await Peer(self.loop, address).connect(factory)  # type: ignore[arg-type]

    def pool(self, number: int) -> Pool:
        return self[number - 1].pool

    def ask(self, number: int, *, priority: str = "default") -> Waiter:
        """Want a connection to an endpoint; an idle one is taken at once."""
        waiter = Waiter()
        waiter.stream = self.pool(number).acquire(
            waiter, self.cluster.breakers[priority], self.loop.time(), careful=False
        )
        self.loop.run()
        return waiter

    def back(self, waiter: Waiter) -> None:
        """Give a connection back."""
        assert waiter.stream is not None
        waiter.stream.release(self.loop.time())
        self.loop.run()

    def counts(self) -> str:
        """Return how many connections there are to each, and how many requests wait."""
        pools = [endpoint.pool for endpoint in self.cluster.endpoints]
        assert sum(pool.open for pool in pools) == self.cluster.connections.count
        open_ = "".join(str(pool.open) for pool in pools)
        return f"{open_} {''.join(str(pool.pending) for pool in pools)}"

    @property
    def pending(self) -> int:
        return self.cluster.breakers["default"].pending


def test_an_idle_connection_of_another_endpoint_makes_room() -> None:
    with Pools(2) as pools:
        one, other = pools.ask(1), pools.ask(2)
        pools.back(one)
        pools.loop.advance(1)
        pools.back(other)
        assert pools.counts() == "110 000"
        third = pools.ask(3)
        assert third.stream is not None
        assert pools.counts() == "011 000"  # the one idle for longest went


def test_who_waits_gets_the_next_that_comes_free() -> None:
    with Pools(1) as pools:
        one = pools.ask(1)
        other = pools.ask(2)
        assert (other.stream, pools.counts(), pools.pending) == (None, "100 010", 1)
        pools.loop.advance(1)
        third = pools.ask(1)  # came later, though it could have the connection as it is
        assert pools.pending == 2
        pools.back(one)
        assert other.stream is not None
        assert (pools.counts(), pools.pending) == ("010 100", 1)
        pools.back(other)
        assert third.stream is not None
        assert (pools.counts(), pools.pending) == ("100 000", 0)


def test_the_own_endpoints_waiter_comes_first_if_it_has_waited_for_longer() -> None:
    with Pools(1) as pools:
        one = pools.ask(1)
        own = pools.ask(1)
        pools.loop.advance(1)
        other = pools.ask(2)
        pools.back(one)
        assert own.stream is one.stream
        assert other.stream is None
        pools.back(own)
        assert other.stream is not None


def test_the_queue_is_bounded_for_the_cluster() -> None:
    with Pools(1, max_pending=2, high={"max_pending": 1}) as pools:
        one = pools.ask(1)
        waiting = [pools.ask(2), pools.ask(3)]
        with pytest.raises(Overflow, match="2 requests wait for a connection already"):
            pools.ask(1)
        waiting.append(pools.ask(3, priority="high"))
        with pytest.raises(Overflow, match="1 requests wait"):
            pools.ask(1, priority="high")
        breakers = pools.cluster.breakers
        assert breakers["default"].overflows == {"requests": 0, "pending": 1, "retries": 0, "connections": 3}
        assert breakers["high"].overflows == {"requests": 0, "pending": 1, "retries": 0, "connections": 2}
        assert breakers["high"].pending == 1
        for each in [one, *waiting]:
            pools.back(each)
        assert (breakers["default"].pending, breakers["high"].pending) == (0, 0)


def test_no_queue_at_all() -> None:
    with Pools(2, max_pending=0) as pools:
        one, other = pools.ask(1), pools.ask(1)
        assert one.stream is not None
        assert other.stream is not None
        with pytest.raises(Overflow):
            pools.ask(2)
        pools.back(one)
        assert pools.ask(2).stream is not None


def test_who_gives_up_waiting_is_counted_no_longer() -> None:
    with Pools(1) as pools:
        one, other, third = pools.ask(1), pools.ask(2), pools.ask(3)
        pools.pool(2).cancel(other)
        pools.pool(2).cancel(other)
        assert pools.pending == 1
        pools.back(one)
        assert other.stream is None
        assert third.stream is not None
        assert pools.counts() == "001 000"


def test_waiting_has_an_end() -> None:
    with Pools(1) as pools:
        one, other = pools.ask(1), pools.ask(2)
        pools.loop.advance(6)
        assert isinstance(other.error, Overflow)
        assert pools.pending == 0
        pools.back(one)  # nobody waits any more: it is kept
        assert pools.counts() == "100 000"
        assert pools.pool(1).idle == 1


def test_a_refused_connection_gives_its_place_to_the_next() -> None:
    with Pools(1) as pools:
        pools.refused.add("10.0.0.1:80")
        first, second = Waiter(), Waiter()
        breaker = pools.cluster.breakers["default"]
        pools.pool(1).acquire(first, breaker, pools.loop.time(), careful=False)
        pools.pool(2).acquire(second, breaker, pools.loop.time(), careful=False)
        pools.loop.run()
        assert isinstance(first.error, ConnectFailure)
        assert second.stream is not None
        assert pools.counts() == "010 000"


def test_the_place_of_a_refused_connection_is_there_for_another_try() -> None:
    with Pools(1, max_pending=0) as pools:
        pools.refused.add("10.0.0.1:80")
        second = Waiter()

        class Retrying(Waiter):
            def on_no_stream(self, error: UpstreamError) -> None:
                pools.pool(2).acquire(second, pools.cluster.breakers["default"], pools.loop.time(), careful=False)

        pools.pool(1).acquire(Retrying(), pools.cluster.breakers["default"], pools.loop.time(), careful=False)
        pools.loop.run()
        assert second.stream is not None


def test_relays_count() -> None:
    with Pools(2) as pools:
        pools.pool(1).reserve()
        pools.back(pools.ask(1))
        pools.pool(2).reserve()  # the idle one made room
        assert pools.counts() == "110 000"
        with pytest.raises(Overflow, match="2 connections are open already"):
            pools.pool(3).reserve()
        waiting = pools.ask(3)
        assert pools.counts() == "110 001"
        pools.pool(1).unreserve()
        pools.loop.run()
        assert waiting.stream is not None
        pools.pool(2).unreserve()
        assert pools.counts() == "001 000"


def test_an_endpoint_that_leaves_while_it_is_dialled() -> None:
    with Pools(1) as pools:
        held = pools.loop.create_future()

        async def dial(factory: object, address: str) -> object:
            return await held

        pools.loop.dial = dial
        waiter = Waiter()
        pool = pools.pool(1)
        pool.acquire(waiter, pools.cluster.breakers["default"], pools.loop.time(), careful=False)
        pool.cancel(waiter)
        connections = pools.cluster.connections
        assert repr(connections) == "<ConnectionLimit 1 of 1, waiting=0>"
        pool.close()  # before the task has taken a step
        pools.loop.run()
        assert repr(connections) == "<ConnectionLimit 0 of 1, waiting=0>"
        assert repr(pool) == "<Pool 10.0.0.1:80 open=0 idle=0 connecting=0 pending=0>"
