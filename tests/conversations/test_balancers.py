"""Which endpoint gets a request."""

from __future__ import annotations

from collections import Counter

from meshlet.upstream.balancer import LeastRequest, RoundRobin
from tests.conversations.world import GET, GOT_GET, GOT_OK, OK, App, World

ENDPOINTS = ["10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"]


def _ask(world: World) -> App:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    return app


def test_round_robin_gives_each_its_turn() -> None:
    with World(cluster={"endpoints": ENDPOINTS}) as world:
        for _ in range(9):
            _ask(world)
        first = world.dialled[:3]
        assert sorted(first) == ENDPOINTS
        assert world.dialled == first * 3


def test_round_robin_begins_anywhere() -> None:
    with World(cluster={"endpoints": ENDPOINTS}) as world:
        assert len({RoundRobin().pick(world.cluster.endpoints) for _ in range(100)}) == 3


def test_round_robin_goes_on_when_endpoints_come_and_go() -> None:
    with World(cluster={"endpoints": ENDPOINTS}) as world:
        endpoints = world.cluster.endpoints
        balancer = RoundRobin()
        for count in (3, 1, 2, 3, 1):
            assert balancer.pick(endpoints[:count]) in endpoints[:count]


def test_least_request_avoids_the_busiest() -> None:
    with World(cluster={"endpoints": ENDPOINTS, "balancer": "least-request"}) as world:
        busy, middle, free = world.cluster.endpoints
        busy.active, middle.active = 9, 5
        picks = Counter(LeastRequest().pick(world.cluster.endpoints) for _ in range(300))
        assert picks[busy] == 0  # whoever it is compared with has less to do
        assert picks[free] > picks[middle] > 0
        busy.active = middle.active = 0


def test_least_request_spreads_equal_load() -> None:
    with World(cluster={"endpoints": ENDPOINTS, "balancer": "least-request"}) as world:
        picks = Counter(LeastRequest().pick(world.cluster.endpoints) for _ in range(900))
        assert min(picks.values()) > 200
        assert LeastRequest().pick(world.cluster.endpoints[:1]) is world.cluster.endpoints[0]


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
        assert served[slow] == 1  # the first it got is still with it


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
