"""Upper bounds of what a cluster holds at once."""

from __future__ import annotations

from typing import Any

from tests.conversations.world import FIRST, FORWARDED, GET, GOT_GET, GOT_OK, OK, World, conversation
from tests.support.wire import head

SECOND = "10.0.1.2:8080"
TWO = {"endpoints": [FIRST, SECOND]}
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")


def _limits(**limits: Any) -> dict[str, Any]:
    return {"circuit_breaker": limits}


@conversation(cluster=_limits(max_requests=2))
def test_requests_in_flight(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    for client in clients:
        client.sends(GET)
    clients[2].got_reply(503, "UO", "2 requests are in flight already; cluster app, 0 attempts", close=False)
    one, other = world.app(), world.app()
    for client, app in zip(clients, (one, other), strict=False):
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
    clients[2].sends(GET)  # there is room again
    other.got(GOT_GET)
    other.sends(OK)
    clients[2].got(GOT_OK)
    assert world.cluster.breakers["default"].overflows["requests"] == 1
    assert world.flags == ["UO", "", "", ""]


@conversation(cluster=_limits(max_requests=1), route={"retry": {"on": ["5xx", "reset", "connect-failure"]}})
def test_an_open_breaker_is_no_reason_to_try_again(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    other.got_reply(503, "UO", close=False)
    world.app().got(GOT_GET)
    assert world.stats().retries == 0


@conversation(cluster=_limits(max_connections=1, max_pending=0), route={"retry": {"on": ["5xx", "connect-failure"]}})
def test_no_queue(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    other.got_reply(503, "UO", "1 attempt", close=False)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    one.got(GOT_OK)
    other.sends(GET)
    app.got(GOT_GET)


@conversation(
    routes=[
        {"match": {"prefix": "/pay"}, "cluster": "app", "priority": "high"},
        {"cluster": "app"},
    ],
    cluster=_limits(max_requests=1, high={"max_requests": 2}),
)
def test_priorities_are_counted_apart(world: World) -> None:
    clients = [world.client() for _ in range(5)]
    for client, path in zip(clients, ("/", "/", "/pay", "/pay", "/pay"), strict=True):
        client.sends(head(f"GET {path} HTTP/1.1", "Host: a"))
    for client in (clients[1], clients[4]):
        client.got_reply(503, "UO", close=False)
    for client, path in ((clients[0], "/"), (clients[2], "/pay"), (clients[3], "/pay")):
        app = world.app()
        app.got(head(f"GET {path} HTTP/1.1", "Host: a", *FORWARDED))
        app.sends(OK)
        client.got(GOT_OK)


@conversation(cluster={**TWO, **_limits(max_connections=1)}, route={"retry": {"on": ["503", "reset"]}})
def test_a_try_at_another_endpoint_needs_a_connection_as_well(world: World) -> None:
    """The bound is the cluster's: the connection that is idle now makes room."""
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    one = world.app()
    one.got(GOT_GET)
    one.sends(NOTHING)
    other = world.app()
    assert one.state == "closed" or one.reset
    other.got(GOT_GET)
    other.sends(OK)
    client.got(GOT_OK)
    assert world.cluster.connections.count == 1


@conversation(cut=False, cluster={**TWO, **_limits(max_connections=2)}, route={"retry": {"on": ["503"]}})
def test_a_try_waits_in_the_queue(world: World) -> None:
    world.chance = 0.0
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    apps = {app.address: app for app in (world.app(), world.app())}
    assert len(apps) == 2
    first, second = world.apps
    first.got(GOT_GET)
    second.got(GOT_GET)
    first.sends(NOTHING)
    # Its connection is idle, so it makes room for one to the other endpoint.
    third = world.app(second.address)
    third.got(GOT_GET)
    third.sends(OK)
    one.got(GOT_OK)
    second.sends(OK)
    other.got(GOT_OK)


@conversation(cluster=_limits(max_connections=1), route={"retry": {"on": ["reset"]}})
def test_a_try_goes_behind_those_who_wait(world: World) -> None:
    world.chance = 0.0
    one, other = world.client(), world.client()
    one.sends(head("GET /1 HTTP/1.1", "Host: a"))
    other.sends(head("GET /2 HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head("GET /1 HTTP/1.1", "Host: a", *FORWARDED))
    assert world.cluster.breakers["default"].pending == 1
    app.resets()
    app = world.app()
    app.got(head("GET /2 HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(OK)
    other.got(GOT_OK)
    app.got(head("GET /1 HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(OK)
    one.got(GOT_OK)
    assert world.cluster.breakers["default"].pending == 0


@conversation(cluster=_limits(max_connections=1), route={"retry": {"on": ["503"], "attempts": 1}})
def test_who_leaves_the_queue_within_a_try(world: World) -> None:
    world.chance = 0.0
    one, other = world.client(), world.client()
    one.sends(GET)
    other.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(NOTHING)
    app.got(GOT_GET)  # of the other one, which has waited
    assert world.cluster.breakers["default"].pending == 1
    one.resets()
    assert repr(world.cluster.breakers["default"]) == "<Breaker requests=1 pending=0 retries=0>"
    app.sends(OK)
    other.got(GOT_OK)


def test_requests_that_never_go_anywhere_count_for_nothing() -> None:
    with World(cluster=_limits(max_requests=1), route={"fault": {"abort": {"status": 418}}}) as world:
        client = world.client()
        for _ in range(3):
            client.sends(GET)
            client.got_reply(418, "FI", close=False)
        assert repr(world.cluster.breakers["default"]) == "<Breaker requests=0 pending=0 retries=0>"


@conversation(cut=False, cluster=_limits(max_requests=1), route={"fault": {"delay": {"duration": "1s"}}})
def test_a_delay_takes_no_place(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(GET)
    world.passes(0.5)
    other.sends(GET)
    world.passes(0.52)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    one.takes()
    world.passes(0.5)
    app.got(GOT_GET)
    app.sends(OK)
    other.takes()
    assert world.flags == ["DI", "DI"]


@conversation(cluster=_limits(max_requests=1), route={"upgrades": ["x"]})
def test_a_tunnel_keeps_its_place(world: World) -> None:
    one, other = world.client(), world.client()
    one.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: x"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 101 Switching Protocols", "Upgrade: x", "Connection: Upgrade"))
    one.takes()
    other.sends(GET)
    other.got_reply(503, "UO", close=False)
    app.resets()
    other.sends(GET)
    world.app().got(GOT_GET)
