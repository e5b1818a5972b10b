"""The connections to the app: reused, bounded, queued for, given up."""

from __future__ import annotations

import errno

import pytest

from tests.conversations.world import (
    ANSWERED,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    App,
    Client,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2") + b"hi"
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED) + b"hi"
PUT = head("PUT / HTTP/1.1", "Host: a", "Content-Length: 2") + b"hi"
GOT_PUT = head("PUT / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED) + b"hi"
DELETE_CHUNKED = head("DELETE / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
GOT_DELETE_CHUNKED = head("DELETE / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked")


def warm(world: World, connections: int = 1) -> tuple[Client, list[App]]:
    """Have some idle connections in the pool."""
    clients = [world.client() for _ in range(connections)]
    apps = []
    for client in clients:
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        apps.append(app)
    for client, app in zip(clients, apps, strict=True):
        app.sends(OK)
        client.got(GOT_OK)
    assert world.pooled() == f"open={connections} idle={connections} connecting=0 pending=0"
    return clients[0], apps


@conversation()
def test_the_last_used_is_used_first(world: World) -> None:
    client, apps = warm(world, 3)
    for _ in range(3):
        client.sends(GET)
        apps[2].got(GOT_GET)
        apps[2].sends(OK)
        client.got(GOT_OK)
    assert world.pool.reused_total == 3


@conversation(cut=False)
def test_an_idle_connection_is_closed(world: World) -> None:
    _, apps = warm(world, 2)
    world.passes(30)
    client = world.client()
    client.sends(GET)
    apps[1].got(GOT_GET)
    apps[1].sends(OK)
    client.got(GOT_OK)
    world.passes(29)
    assert [app.state for app in apps] == ["open", "open"]
    world.passes(2)
    assert [app.state for app in apps] == ["closed", "open"]
    world.passes(30)
    assert [app.state for app in apps] == ["closed", "closed"]
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


# --- bounds ---


@conversation(cluster={"circuit_breaker": {"max_connections": 2}})
def test_requests_wait_for_a_connection_in_order(world: World) -> None:
    clients = [world.client() for _ in range(4)]
    for number, client in enumerate(clients):
        client.sends(head(f"GET /{number} HTTP/1.1", "Host: a"))
    one, other = world.app(), world.app()
    world.no_more_apps()
    assert world.pooled() == "open=2 idle=0 connecting=0 pending=2"
    for number, app in ((0, one), (1, other), (2, other), (3, other)):
        app.got(head(f"GET /{number} HTTP/1.1", "Host: a", *FORWARDED))
        if number:  # the first one takes longer than two others
            app.sends(OK)
            clients[number].got(GOT_OK)
        if number == 2:
            one.sends(OK)
            clients[0].got(GOT_OK)
    assert world.pooled() == "open=2 idle=2 connecting=0 pending=0"


@conversation(cluster={"circuit_breaker": {"max_connections": 1}})
def test_a_closed_connection_makes_room(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close"), b"ok")
    one.got(GOT_OK)
    app = world.app()
    app.got(GOT_GET)
    one.sends(GET)
    app.resets()
    other.got_reply(503, "UC", close=False)
    world.app().got(GOT_GET)


@conversation(cluster={"circuit_breaker": {"max_connections": 1, "max_pending": 1}})
def test_a_full_queue_overflows(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    for client in clients:
        client.sends(GET)
    clients[2].got_reply(503, "UO", "1 requests wait", close=False)
    assert world.pool.overflows_total == 1
    app = world.app()
    for client in clients[:2]:
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
    clients[2].sends(GET)
    app.got(GOT_GET)


@conversation(cut=False, cluster={"circuit_breaker": {"max_connections": 1}, "pending_timeout": "2s"})
def test_waiting_has_an_end(world: World) -> None:
    one, other, third = (world.client() for _ in range(3))
    one.sends(GET)
    other.sends(GET)
    world.passes(1)
    third.sends(GET)
    world.passes(1.1)
    other.got_reply(503, "UO", "no free connection within 2 s", close=False)
    third.got()
    assert world.pooled() == "open=1 idle=0 connecting=0 pending=1"
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    one.takes()
    app.got(GOT_GET)
    app.sends(OK)
    third.takes()
    assert world.counts == {(200, ""): 2, (503, "UO"): 1}


@conversation(cluster={"circuit_breaker": {"max_connections": 1}})
def test_who_waits_may_leave(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    for client in clients:
        client.sends(GET)
    clients[1].resets()
    assert world.pooled() == "open=1 idle=0 connecting=0 pending=1"
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    clients[0].got(GOT_OK)
    app.got(GOT_GET)
    app.sends(OK)
    clients[2].got(GOT_OK)


# --- connecting ---


@conversation()
def test_refused(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "UF", "connect to 10.0.1.1:8080: connection refused", "1 attempt", close=False)
    assert world.pool.connect_failures_total == 1
    del world.unreachable["10.0.1.1:8080"]
    client.sends(GET)
    world.app().got(GOT_GET)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMFILE, errno.EADDRNOTAVAIL])
def test_other_reasons_not_to_connect(number: int) -> None:
    with World() as world:
        world.unreachable["10.0.1.1:8080"] = OSError(number, "Some reason")
        client = world.client()
        client.sends(GET)
        client.got_reply(503, "UF", "some reason", close=False)
        assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(cut=False, cluster={"connect_timeout": "1s"})
def test_no_answer_to_connecting(world: World) -> None:
    world.hold()
    clients = [world.client() for _ in range(2)]
    for client in clients:
        client.sends(GET)
    assert world.pooled() == "open=0 idle=0 connecting=2 pending=2"
    world.passes(1.1)
    for client in clients:
        client.got_reply(503, "UF", "no connection to 10.0.1.1:8080 within 1 s", close=False)
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    assert world.pool.connect_failures_total == 2


@conversation(cut=False)
def test_connecting_may_take_a_while(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(PUT)
    world.passes(3)
    world.let_in()
    app = world.app()
    app.got(GOT_PUT)
    app.sends(OK)
    assert b"x-envoy-upstream-service-time: 3000" in client.takes()


@conversation(cut=False, cluster={"circuit_breaker": {"max_connections": 1}, "pending_timeout": "20s"})
def test_a_failure_to_connect_is_one_waiters_failure(world: World) -> None:
    world.hold()
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    assert world.pooled() == "open=0 idle=0 connecting=1 pending=2"
    world.passes(3)
    del world.unreachable["10.0.1.1:8080"]
    world.passes(2.1)
    one.got_reply(503, "UF", "within 5 s", close=False)
    world.app().got(GOT_GET)  # of the other one


@conversation(cluster={"endpoints": ["unix:/run/app.sock"]})
def test_unix_socket(world: World) -> None:
    client = world.client()
    client.sends(GET)
    assert world.dialled == ["unix:/run/app.sock"]
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cluster={"endpoints": ["[fd00::1]:80"]})
def test_ipv6(world: World) -> None:
    client = world.client()
    client.sends(GET)
    assert world.dialled == ["fd00::1:80"]
    world.app().got(GOT_GET)


# --- connections that the app closes ---


@conversation()
def test_a_connection_that_the_app_closes_while_idle(world: World) -> None:
    client, (app,) = warm(world)
    app.closes()
    assert app.closed
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    client.sends(POST)
    world.app().got(GOT_POST)


def _stale(request: bytes, *, first: str) -> tuple[World, Client, App]:
    world = World()
    world.__enter__()
    client, (app,) = warm(world)
    world.passes(10)
    with world.at_once():
        if first == "app":
            app.closes()
        client.sends(request)
        if first == "client":
            app.closes()
    return world, client, app


@pytest.mark.parametrize("first", ["app", "client"])
@pytest.mark.parametrize(
    ("request_", "got"),
    [
        (GET, GOT_GET),
        (PUT, GOT_PUT),
        (DELETE_CHUNKED + chunked(b"hi"), GOT_DELETE_CHUNKED + chunked(b"hi")),
        (
            DELETE_CHUNKED + chunked(b"hi", trailers=("X-Sum: 1",)),
            GOT_DELETE_CHUNKED + chunked(b"hi", trailers=("X-Sum: 1",)),
        ),
        (POST, GOT_POST),
        (head("PATCH / HTTP/1.1", "Host: a"), head("PATCH / HTTP/1.1", "Host: a", *FORWARDED)),
    ],
    ids=["GET", "PUT", "chunked", "trailers", "POST", "PATCH"],
)
def test_a_connection_found_stale_before_or_while_writing(request_: bytes, got: bytes, first: str) -> None:
    """The app has closed it, but the loop has not told us when the request comes: it is sent on a fresh one."""
    world, client, _ = _stale(request_, first=first)
    try:
        app = world.app()
        app.got(got)
        app.sends(OK)
        client.got(GOT_OK)
        assert world.flags == ["", ""]
        world.expire()
    finally:
        world.__exit__(Exception, None, None)


@conversation()
def test_safe_requests_are_sent_again_once(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(GET)
    app.got(GOT_GET)
    app.closes()
    app = world.app()
    app.got(GOT_GET)
    app.closes()
    client.got_reply(503, "UC", "2 attempts", close=False)
    world.no_more_apps()
    assert world.pool.stale_total == 1


@conversation()
def test_safe_requests_with_a_body_are_sent_again(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(PUT[:-1])
    app.got(GOT_PUT[:-1])
    app.resets()
    app = world.app()
    app.got(GOT_PUT[:-1])
    client.sends(PUT[-1:])
    app.got(GOT_PUT[-1:])
    app.sends(OK)
    client.got(GOT_OK)
    assert world.log.entries[-1].attempts == 2  # attempts


@conversation()
def test_unsafe_requests_are_not(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(POST)
    app.got(GOT_POST)
    app.closes()
    client.got_reply(503, "UC", "1 attempt", close=False)
    world.no_more_apps()
    assert world.counts == {(200, ""): 1, (503, "UC"): 1}


@conversation()
def test_nothing_is_sent_again_once_a_byte_of_the_response_came(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(GET)
    app.got(GOT_GET)
    app.sends(b"H")
    app.closes()
    client.got_reply(503, "UC", close=False)
    world.no_more_apps()


@conversation()
def test_nothing_is_sent_again_on_a_fresh_connection(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.closes()
    client.got_reply(503, "UC", close=False)
    world.no_more_apps()


@conversation(cut=False)
def test_a_body_that_is_too_long_to_keep_is_not_sent_again(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 100000"), bytes(50000))
    client.sends(bytes(50000))
    app.takes()
    app.closes()
    client.got_reply(503, "UC", close=False)
    world.no_more_apps()


@conversation(cut=False)
def test_a_connection_kept_for_a_client_that_left_counts_as_reused(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(GET)
    client.resets()
    world.let_in()
    app = world.app()
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    world.passes(20)
    other = world.client()
    with world.at_once():
        other.sends(GET)
        app.closes()
    app.takes()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    other.got(GOT_OK)


@conversation()
def test_sending_again_fails_to_connect(world: World) -> None:
    client, (app,) = warm(world)
    world.refuse()
    client.sends(GET)
    app.got(GOT_GET)
    app.closes()
    client.got_reply(503, "UF", "2 attempts", close=False)


@conversation()
def test_a_client_that_leaves_while_its_request_is_sent_again(world: World) -> None:
    client, (app,) = warm(world)
    world.hold()
    client.sends(GET)
    app.got(GOT_GET)
    app.closes()
    client.resets()
    assert world.active() == 0
    assert world.flags == ["", "DC"]
    world.let_in()
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


# --- the idle timeout that learns ---


@conversation(cut=False)
def test_learned_from_a_stale_connection(world: World) -> None:
    client, (app,) = warm(world)
    world.passes(10)
    client.sends(GET)
    app.got(GOT_GET)
    app.closes()
    assert world.pool.idle_timeout == pytest.approx(8)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.takes()
    world.passes(8.1)
    assert app.state == "closed"
    world.passes(301)
    assert world.pool.idle_timeout == 60


@conversation(cut=False)
def test_learned_from_keep_alive(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Keep-Alive: max=100, timeout=5"), b"ok")
    client.got(GOT_OK)
    assert world.pool.idle_timeout == pytest.approx(4)
    world.passes(3.9)
    assert app.state == "open"
    world.passes(0.2)
    assert app.state == "closed"


@conversation(cut=False)
def test_a_longer_keep_alive_changes_nothing(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Keep-Alive: timeout=500"), b"ok")
    client.got(GOT_OK)
    assert world.pool.idle_timeout == 60


@conversation(cut=False, drop=False)
def test_nothing_is_learned_from_a_long_body(world: World) -> None:
    client, (app,) = warm(world)
    world.passes(0.5)
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 20"))
    for _ in range(20):
        world.passes(1)
        client.sends(b"x")
    app.takes()
    app.resets()
    assert world.pool.idle_timeout == 60
    world.app().takes()


@conversation(cut=False)
def test_nothing_is_learned_from_a_connection_that_was_handed_on_while_busy(world: World) -> None:
    client, (app,) = warm(world)
    world.passes(0.1)
    client.sends(GET)
    app.got(GOT_GET)
    app.closes()
    assert world.pool.idle_timeout == 60
    world.app().takes()


@conversation(cut=False, cluster={"circuit_breaker": {"max_connections": 1}, "idle_timeout": "1h"})
def test_nothing_is_learned_from_a_connection_that_never_was_idle(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    one.got(GOT_OK)
    app.got(GOT_GET)  # handed on without a moment in the pool
    app.resets()
    assert world.pool.idle_timeout == 3600
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    other.got(GOT_OK)


# --- the end ---


@conversation(cut=False)
def test_a_closed_pool_lets_exchanges_end(world: World) -> None:
    client, apps = warm(world, 2)
    client.sends(GET)
    apps[1].got(GOT_GET)
    world.cluster.close()
    world.rest()
    assert [app.state for app in apps] == ["closed", "open"]
    apps[1].sends(OK)
    client.got(GOT_OK)
    assert [app.state for app in apps] == ["closed", "closed"]
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(
    cut=False,
    cluster={
        "endpoints": ["10.0.1.1:8080", "10.0.1.2:8080"],
        "outlier_detection": {"consecutive_5xx": 1, "success_rate": {}},
    },
)
def test_what_ends_after_its_cluster_ejects_nobody(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.cluster.close()
    app.sends(head("HTTP/1.1 500 No", "Content-Length: 0"))
    client.got(head("HTTP/1.1 500 No", "Content-Length: 0", *ANSWERED))
    client.closes()
    assert not any(endpoint.ejected for endpoint in world.cluster.endpoints)
    world.passes(20)
    assert not world._timers._slots


@conversation(cut=False)
def test_a_chunk_at_a_time_through_a_reused_connection(world: World) -> None:
    client, (app,) = warm(world)
    client.sends(DELETE_CHUNKED)
    app.got(GOT_DELETE_CHUNKED)
    for _ in range(3):
        client.sends(chunk(b"abc"))
        app.got(chunk(b"abc"))
    client.sends(chunked())
    app.got(chunked())
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0"))
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 0", *ANSWERED))


@conversation(cut=False, cluster={"circuit_breaker": {"max_connections": 1}})
def test_a_post_that_waits_is_not_handed_a_connection_that_the_app_has_closed(world: World) -> None:
    client, other = world.client(), world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    other.sends(POST)
    with world.at_once():
        app.sends(OK)
        app.closes()
    client.got(GOT_OK)
    again = world.app()
    again.got(GOT_POST)
    assert world.pool.stale_total == 1
    again.sends(OK)
    other.got(GOT_OK)
