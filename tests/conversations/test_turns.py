"""One peer must not take everybody's time: what a connection may have done in one turn of the loop is bounded.

Every attack here is there whole before the loop has a turn, and a victim asks at the same moment. The loop is turned by
hand, and what is asserted is how far the attack has got by the time the victim has its answer.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations.world import GET, GOT_GET, GOT_OK, OK, App, Client, World
from tests.support.wire import canonical, chunk, head, messages

#: heads that are read in one turn, at most
HEADS = 8
#: bytes that are read in one turn, at most
READ = 262_144
#: turns of the loop from a victim's request to its answer: one for each message
TURNS = 2

ASK = GET.replace(b"/", b"/victim", 1)
ASKED = GOT_GET.replace(b"/", b"/victim", 1)
CHUNKED = head("POST /up HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")


CALM = {"name": "calm", "endpoints": ["10.0.9.1:8080"]}


def world_beside(route: dict[str, Any] | None = None, *clusters: dict[str, Any], **others: Any) -> World:
    """Return a world in which a victim's requests have a route and a cluster of their own."""
    routes = [{"match": {"path": "/victim"}, "cluster": "calm"}, route or {"cluster": "app"}]
    return World(routes=routes, clusters=[CALM, *clusters], **others)


class Beside:
    """A victim, with a connection to its app that is there already, beside whom others do something at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.victim = world.client()
        self.victim.sends(ASK)
        self.app = world.app("10.0.9.1:8080")
        self.app.got(ASKED)
        self.app.sends(OK)
        self.victim.got(GOT_OK)

    def asks(self) -> None:
        """Have the victim ask and be answered, in so many turns as that takes alone."""
        self.victim.put(ASK)
        self.world.loop.turn()
        self.app.got(ASKED)
        self.app.put(OK)
        self.world.loop.turn()
        self.victim.got(GOT_OK)


LOCAL: dict[str, dict[str, Any]] = {
    "direct response": {"direct_response": {"status": 200, "body": "hello"}},
    "redirect": {"redirect": {"host": "elsewhere"}},
    "rate limit": {"cluster": "app", "rate_limit": {"requests": 1, "per": "1h"}},
    "overflow": {"cluster": "full"},
    "fault": {"cluster": "app", "fault": {"abort": {"status": 503}}},
    "no route": {"match": {"prefix": "/other"}, "cluster": "app"},
}
FULL = {"name": "full", "endpoints": ["10.0.2.1:8080"], "circuit_breaker": {"max_requests": 1}}


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize("name", LOCAL)
def test_requests_that_are_answered_here(name: str, connections: int) -> None:
    with world_beside(LOCAL[name], *([FULL] if name == "overflow" else [])) as world:
        beside = Beside(world)
        if name in ("rate limit", "overflow"):  # its one request
            world.client().sends(GET)
            world.app().takes()
        attackers = [world.client() for _ in range(connections)]
        for attacker in attackers:
            attacker.put(GET * 1000)
        beside.asks()
        # Each has a turn when it comes; then they take turns, and all together take no more time than one.
        answered = [attacker.received.count(b"HTTP/1.1 ") for attacker in attackers]
        assert min(answered) > 0
        assert sum(answered) <= connections * HEADS + TURNS * HEADS
        world.loop.run()
        for attacker in attackers:
            assert attacker.takes().count(b"HTTP/1.1 ") == 1000


@pytest.mark.parametrize("payload", [b"x", b"\r\n", b"123456789abcdef"])
@pytest.mark.parametrize("connections", [1, 8])
def test_a_request_body_of_small_chunks(payload: bytes, connections: int) -> None:
    small = chunk(payload)
    count = 200_000 // len(small)
    with world_beside() as world:
        beside = Beside(world)
        attackers = [world.client() for _ in range(connections)]
        apps = []
        for attacker in attackers:
            attacker.sends(CHUNKED)
            apps.append(world.app())
            apps[-1].takes()
        for attacker in attackers:
            attacker.put(small * count + b"0\r\n\r\n")
        beside.asks()
        for app in apps:
            assert 0 < len(app.received) - app._named <= TURNS * 14_000
        world.loop.run()
        for attacker, app in zip(attackers, apps, strict=True):
            assert canonical(CHUNKED + app.takes()) == canonical(CHUNKED + chunk(payload * count) + b"0\r\n\r\n")
            app.sends(OK)
            attacker.got(GOT_OK)


@pytest.mark.parametrize("payload", [b"x", b"\r\n", b"123456789abcdef"])
def test_a_response_body_of_small_chunks(payload: bytes) -> None:
    small = chunk(payload)
    count = 200_000 // len(small)
    began = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
    with world_beside() as world:
        beside = Beside(world)
        attacker, app = _asked(world)
        app.put(began + small * count + b"0\r\n\r\n")
        beside.asks()
        assert 0 < len(attacker.received) <= TURNS * 14_000
        world.loop.run()
        (message,) = messages(attacker.takes())
        assert message.complete
        assert message.body == payload * count


def test_interim_responses_without_end() -> None:
    with world_beside() as world:
        beside = Beside(world)
        attacker, app = _asked(world)
        app.put(head("HTTP/1.1 103 Early Hints", "Link: </a>") * 1000 + OK)
        beside.asks()
        assert 0 < attacker.received.count(b"103 Early") <= TURNS * HEADS
        world.loop.run()
        assert attacker.takes().count(b"HTTP/1.1 ") == 1001


def test_interim_responses_stop_where_the_client_does_not_read() -> None:
    with World() as world:
        attacker, app = _asked(world)
        attacker.stalls()
        app.sends(head("HTTP/1.1 103 Early Hints", "Link: </%s>" % ("a" * 1000)) * 1000 + OK)
        assert app.is_paused()
        attacker.reads()
        assert attacker.takes().count(b"HTTP/1.1 ") == 1001


def test_a_burst_of_requests_to_the_app() -> None:
    with world_beside() as world:
        beside = Beside(world)
        attacker = world.client()
        attacker.put(GET * 5000)
        world.loop.run()
        app = world.app()
        for _ in range(5000):
            world.loop.run()
            app.takes()
            app.put(OK)
        world.loop.run()
        assert attacker.takes().count(b"HTTP/1.1 200") == 5000
        beside.asks()


@pytest.mark.parametrize("size", [1 << 20, 1 << 23])
def test_a_large_body(size: int) -> None:
    with world_beside() as world:
        beside = Beside(world)
        attacker, app = _asked(world)
        app.put(head("HTTP/1.1 200 OK", f"Content-Length: {size}") + b"x" * size)
        beside.asks()
        assert 0 < len(attacker.received) <= TURNS * READ + 1000
        world.loop.run()
        assert len(attacker.takes()) > size


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_a_relay(protocol: str) -> None:
    with World(
        listener={"protocol": protocol}, route={"upgrades": ["websocket"]} if protocol == "http" else {}
    ) as world:
        clients = [world.client(), world.client()]
        apps = [_tunnel(world, client, protocol) for client in clients]
        for one, other in ((clients, apps), (apps, clients)):
            one[0].put(b"x" * (1 << 22))
            one[1].put(b"ping")
            world.loop.turn()
            other[1].got(b"ping")
            assert 0 < len(other[0].received) <= READ + 1000
            world.loop.run()
            assert other[0].takes() == b"x" * (1 << 22)


def test_a_tunnel_that_begins_with_much_data() -> None:
    with World(route={"upgrades": ["websocket"]}) as world:
        client = world.client()
        client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"))
        app = world.app()
        app.takes()
        switching = head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket")
        # As much as a full read with the head, and less without it.
        app.sends(switching + b"x" * 131_000)
        app.sends(b"y")
        assert client.takes().endswith(b"x" * 131_000 + b"y")
        client.sends(b"z" * 250_000)
        assert app.takes() == b"z" * 250_000


def test_a_relay_rests_no_longer_than_its_other_side_is_blocked() -> None:
    with World(listener={"protocol": "tcp"}) as world:
        client = world.client()
        app = _tunnel(world, client, "tcp")
        app.stalls()
        client.sends(b"x" * (1 << 20))
        assert client.is_paused()
        client.sends(b"y")
        assert client.is_paused()
        app.reads()
        assert app.takes() == b"x" * (1 << 20) + b"y"


def test_a_client_that_leaves_while_there_is_more_in_hand() -> None:
    for leave in (Client.closes, Client.resets, Client.ends):
        with World(routes=[{"direct_response": {"status": 200}}]) as world:
            client = world.client()
            client.put(GET * 100)
            world.loop.turn()
            leave(client)
            answered = client.takes().count(b"HTTP/1.1 200")
            assert answered == 100 if leave is Client.ends else answered >= HEADS


def test_a_client_that_ended_before_its_turn_came_is_answered_and_let_go() -> None:
    routes: list[dict[str, Any]] = [{"match": {"path": "/"}, "cluster": "app"}, {"direct_response": {"status": 200}}]
    with World(routes=routes) as world:
        client = world.client()
        client.sends(GET, GET.replace(b"/", b"/local", 1) * 100)
        app = world.app()
        app.takes()
        client.ends()
        app.sends(OK)
        assert client.takes().count(b"HTTP/1.1 200") == 101
        assert client.state == "closed"


def test_what_is_in_hand_waits_where_the_app_takes_no_more() -> None:
    with World() as world:
        client = world.client()
        client.sends(CHUNKED)
        app = world.app()
        app.stalls()
        client.sends(chunk(b"x" * 200_000), chunk(b"y") * 40_000, b"0\r\n\r\n")
        assert client.is_paused()
        app.reads()
        got = messages(app.takes().replace(b"POST /up HTTP/1.1", b"HTTP/1.1 200 OK"))
        assert got[0].complete
        assert got[0].body == b"x" * 200_000 + b"y" * 40_000
        app.sends(OK)
        client.got(GOT_OK)


def _asked(world: World) -> tuple[Client, App]:
    """Return a client that has asked, and the app's end of its request."""
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.takes()
    return client, app


def _tunnel(world: World, client: Client, protocol: str) -> App:
    if protocol == "tcp":
        return world.app()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"))
    client.takes()
    return app
