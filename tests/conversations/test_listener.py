"""Accepting, shedding, running out of descriptors, draining."""

from __future__ import annotations

import errno

import pytest

from tests.conversations.world import DATE, GET, GOT_GET, GOT_OK, OK, SERVICE_TIME, World, conversation
from tests.support.wire import chunk, chunked, head

GOT_LAST_OK = head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: close") + b"ok"


@conversation(limits={"max_connections": 2})
def test_connections_beyond_the_bound_are_shed(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    assert [client.shed for client in clients] == [False, False, True]
    stats = world.listener.settings.stats
    assert (stats.accepted_total, stats.shed_total) == (2, 1)
    clients[0].ends()
    assert not world.client().shed


@conversation(cut=False, drop=False)
def test_out_of_descriptors(world: World) -> None:
    world.accept_fails(OSError(errno.EMFILE, "Too many open files"))
    client = world.client()
    client.sends(GET)
    world.no_more_apps()  # it waits in the backlog
    assert not client.shed
    world.passes(0.3)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.listener.settings.stats.accept_errors_total == 1


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
def test_a_client_that_left_the_backlog(number: int) -> None:
    with World() as world:
        world.accept_fails(OSError(number, "gone"))
        client = world.client()
        client.sends(GET)
        world.app().got(GOT_GET)
        assert world.listener.settings.stats.accept_errors_total == 1


# --- draining ---


@conversation(cut=False)
def test_idle_connections_are_closed(world: World) -> None:
    fresh, used, busy = (world.client() for _ in range(3))
    used.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    used.got(GOT_OK)
    busy.sends(GET)
    app.got(GOT_GET)
    world.listener.drain()
    world.passes(1.1)
    assert fresh.closed
    assert used.closed
    app.sends(OK)
    assert busy.takes().endswith(b"connection: close\r\n\r\nok")
    assert busy.state == "closed"
    assert world.listener.connections == 0


@conversation(cut=False)
def test_clients_are_told_to_close(world: World) -> None:
    client = world.client()
    world.listener.draining = True
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_LAST_OK)
    assert client.state == "closed"


@conversation(cut=False)
def test_responses_under_way_end(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"abc"))
    assert client.takes().endswith(chunk(b"abc"))
    world.listener.drain()
    world.passes(10)
    app.sends(chunked(b"def"))
    client.takes()
    assert client.received.endswith(b"0\r\n\r\n")
    assert client.state == "open"  # it was not told to close, and may have begun a request already
    world.passes(1.1)
    assert client.state == "closed"


@conversation(cut=False)
def test_a_request_that_began_before_the_drain_is_answered(world: World) -> None:
    client = world.client()
    client.sends(GET[:10])
    world.listener.drain()
    client.sends(GET[10:])
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_LAST_OK)
    assert client.state == "closed"


@conversation(cut=False)
def test_a_local_reply_while_draining_says_close(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(GET[:10])
    world.listener.drain()
    client.sends(GET[10:])
    client.got_reply(503, "UF", close=True)
    assert client.state == "closed"


def test_ending_all_connections() -> None:
    with World() as world:
        idle, head_began, waiting, answered, sending = (world.client() for _ in range(5))
        head_began.sends(GET[:5])
        waiting.sends(GET)
        answered.sends(GET)
        sending.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 5"), b"x")
        app = [world.app() for _ in range(3)][1]
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 5"), b"x")
        world.listener.abort()
        world.rest()
        assert all(client.closed for client in (idle, head_began, waiting, answered, sending))
        assert answered.state == "reset"
        assert world.active() == 0
        assert world.listener.connections == 0
        for side in (*world.clients, *world.apps):
            side.takes()
