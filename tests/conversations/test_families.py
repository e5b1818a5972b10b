"""A name of both families is one endpoint: requests meet the app at whichever address it has."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from meshlet.config.units import Address
from meshlet.upstream.discovery import names
from tests.conversations.world import GET, OK, World
from tests.support.wire import head

if TYPE_CHECKING:
    from collections.abc import Iterator

V4, V6 = "127.0.0.1:8080", "::1:8080"
POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 4") + b"body"
LAST = head("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close") + b"ok"


def _resolve(address: Address, family: int = socket.AF_UNSPEC) -> asyncio.Future[tuple[Address, ...]]:
    answer: asyncio.Future[tuple[Address, ...]] = asyncio.get_running_loop().create_future()
    answer.set_result((Address("127.0.0.1", address.port), Address("::1", address.port)))
    return answer


@contextmanager
def localhost() -> Iterator[World]:
    with mock.patch.object(names, "resolve", _resolve), World(cluster={"endpoints": ["localhost:8080"]}) as world:
        yield world


@pytest.mark.parametrize(("here", "not_here"), [(V4, V6), (V6, V4)])
def test_every_request_meets_the_app_at_its_first_try(here: str, not_here: str) -> None:
    """40 GETs and 60 POSTs, each on a connection of its own. A POST would not be sent again whatever happens."""
    with localhost() as world:
        world.refuse(not_here)
        client = world.client()
        for request in [GET] * 40 + [POST] * 60:
            client.sends(request)
            app = world.app(here)
            assert app.takes()
            app.sends(LAST)
            app.closes()
            assert b" 200 OK\r\n" in client.takes()
        assert {(entry.status, entry.attempts, entry.upstream) for entry in world.log.entries} == {(200, 1, V4)}
        (endpoint,) = world.cluster.endpoints
        assert (endpoint.requests_total, endpoint.failures_total) == (100, 0)
        assert endpoint.pool.connect_failures_total == 0
        # A refusal costs once.
        assert world.dialled.count(not_here) == int(not_here == V4)


def test_a_silent_address_costs_250_ms_once() -> None:
    with localhost() as world:
        world.hold(V4)
        client = world.client()
        for wait in (0.251, 0.0):
            client.sends(GET)
            world.passes(wait)
            app = world.app(V6)
            assert app.takes()
            app.sends(LAST)
            app.closes()
            assert client.takes()
        assert world.dialled == [V4, V6, V6]
        world.unreachable.clear()


def test_neither_answers() -> None:
    with localhost() as world:
        world.refuse(V4)
        world.hold(V6)
        client = world.client()
        client.sends(GET)
        world.passes(5.1)
        client.got_reply(
            503,
            "UF",
            "connect to 127.0.0.1:8080: connection refused, to [::1]:8080: no answer within 5 s; cluster app, "
            "endpoint 127.0.0.1:8080, 1 attempt",
            close=False,
        )
        assert world.cluster.connections.count == 0


def test_a_client_that_leaves_while_both_are_tried() -> None:
    with localhost() as world:
        world.hold(V4, V6)
        client = world.client()
        client.sends(GET)
        world.passes(0.3)
        client.resets()
        world.let_in(V4, V6)
        app = world.app(V4)
        world.no_more_apps()
        assert app.state == "open"  # for whoever comes next
        assert world.cluster.connections.count == world.pool.open == world.pool.idle == 1
        other = world.client()
        other.sends(GET)
        assert app.takes()
        app.sends(OK)
        assert other.takes()
