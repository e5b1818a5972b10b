"""Which endpoint gets a request."""

from __future__ import annotations

from collections import Counter

from tests.conversations.world import GET, GOT_GET, GOT_OK, OK, App, World

ENDPOINTS = ["10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"]


def _ask(world: World, request: bytes = GET, got: bytes = GOT_GET) -> App:
    client = world.client()
    client.sends(request)
    app = world.app()
    app.got(got)
    return app


def test_round_robin_gives_each_its_turn() -> None:
    with World(cluster={"endpoints": ENDPOINTS}) as world:
        for _ in range(9):
            _ask(world)
        first = world.dialled[:3]
        assert sorted(first) == ENDPOINTS
        assert world.dialled == first * 3


def test_a_slow_endpoint_gets_less() -> None:
    with World(cluster={"endpoints": ENDPOINTS[:2], "balancer": "least-request"}) as world:
        slow = world.cluster.endpoints[0].name
        served: Counter[str] = Counter()
        for _ in range(50):
            client = world.client()
            client.sends(GET)
            for app in world.apps:
                name = f"{app.name[0]}:{app.name[1]}"
                if app.takes():
                    served[name] += 1
                    if name != slow:
                        app.sends(OK)
                        client.got(GOT_OK)
        assert served[slow] <= 1  # what it got is still with it


def test_an_endpoint_that_takes_longer_gets_less() -> None:
    with World(cluster={"endpoints": ENDPOINTS[:2], "balancer": "peak-ewma"}) as world:
        slow = world.cluster.endpoints[0].name
        served: Counter[str] = Counter()
        for _ in range(40):
            client = world.client()
            client.sends(GET)
            for app in world.apps:
                name = f"{app.name[0]}:{app.name[1]}"
                if app.takes():
                    served[name] += 1
                    world.passes(1 if name == slow else 0.01)
                    app.sends(OK)
                    client.takes()
        assert served[slow] <= 6  # now and then one goes anywhere


def test_one_client_stays_with_one_endpoint() -> None:
    with World(cluster={"endpoints": ENDPOINTS, "balancer": "ring-hash", "hash_on": {"source": True}}) as world:
        served: dict[str, set[str]] = {}
        for number in range(60):
            address = f"10.0.0.{number % 20}"
            client = world.client(address)
            client.sends(GET)
            (app,) = (app for app in world.apps if app.takes())
            served.setdefault(address, set()).add(str(app.name))
            app.sends(OK)
            client.takes()
        assert {len(endpoints) for endpoints in served.values()} == {1}
        assert len(set().union(*served.values())) == 3


def test_each_endpoint_has_its_own_pool() -> None:
    with World(cluster={"endpoints": ENDPOINTS}) as world:
        for app in [_ask(world) for _ in range(3)]:
            app.sends(OK)
        for client in world.clients:
            client.got(GOT_OK)
        for endpoint in world.cluster.endpoints:
            assert repr(endpoint.pool) == f"<Pool {endpoint.name} open=1 idle=1 connecting=0 pending=0>"
        client = world.client()
        client.sends(GET)
        assert len(world.dialled) == 3
        assert sum(bool(app.takes()) for app in world.apps) == 1
