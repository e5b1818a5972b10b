"""The retry budget: what apps may have seen pays for its place among the retries, and what none has seen does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conversations.world import ANSWERED, FIRST, FORWARDED, GET, GOT_GET, GOT_OK, OK, App, Client, World
from tests.support.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = "10.0.1.2:8080"
THIRD = "10.0.1.3:8080"
NONE = {"percent": 0, "min_concurrency": 0}
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
GOT_NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0", *ANSWERED)
POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2") + b"hi"
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED) + b"hi"
ON = ["connect-failure", "refused", "reset", "503"]
WANTED = {"retry": {"on": ON, "attempts": 2}}

#: ways to allow no retry at all
BOUNDS = {
    "retry_budget": {"retry_budget": NONE},
    "max_retries": {"circuit_breaker": {"max_retries": 0}},
}


def two(bound: dict[str, Any]) -> dict[str, Any]:
    return {"endpoints": [FIRST, SECOND], **bound}


def nothing_was_refused(world: World) -> None:
    breaker = world.cluster.breakers["default"]
    assert (breaker.retries, breaker.overflows["retries"], world.stats().retries_over_budget) == (0, 0, 0)


def answered(world: World, clients: list[Client], got: bytes, address: str) -> None:
    for _ in clients:
        app = world.app(address)
        app.got(got)
        app.sends(OK)
    for client in clients:
        client.got(GOT_OK)
    world.no_more_apps()


# --- what no app has seen ---


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("route", [{}, WANTED], ids=["default", "configured"])
@pytest.mark.parametrize(("request_", "got"), [(GET, GOT_GET), (POST, GOT_POST)], ids=["GET", "POST"])
def test_connections_that_are_refused(
    bound: dict[str, Any], route: dict[str, Any], request_: bytes, got: bytes
) -> None:
    """Sixty at once, half of which go to an address where nobody listens: none of them fails."""
    with World(cluster=two(bound), route=route) as world:
        world.chance = 0.0
        world.refuse(FIRST)
        clients = [world.client() for _ in range(60)]
        with world.at_once():
            for client in clients:
                client.sends(request_)
        answered(world, clients, got, SECOND)
        assert set(world.flags) == {""}
        assert world.stats().retries == world.stats().retries_successful == 30
        nothing_was_refused(world)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("leave", [App.close, App.kill])
def test_connections_that_break_as_soon_as_they_are_made(bound: dict[str, Any], leave: Callable[[App], None]) -> None:
    with World(cluster=two(bound), route=WANTED) as world:
        world.chance = 0.0

        def on_accept(app: App) -> None:
            if app.address == FIRST:
                leave(app)
                world._met.append(app)

        world.on_accept = on_accept
        clients = [world.client() for _ in range(40)]
        with world.at_once():
            for client in clients:
                client.sends(POST)
        answered(world, clients, GOT_POST, SECOND)
        nothing_was_refused(world)


def test_connections_that_are_not_made_within_the_time_of_a_try() -> None:
    route = {"retry": {"on": ["reset"], "per_try_timeout": "100ms"}}
    with World(cluster=two({"retry_budget": NONE}), route=route) as world:
        world.chance = 0.0
        world.hold(FIRST)
        clients = [world.client() for _ in range(40)]
        for client in clients:
            client.sends(POST)
        direct = [world.app(SECOND) for _ in range(20)]
        for app in direct:
            app.got(GOT_POST)
            app.sends(OK)
        world.passes(0.12)
        for app in direct:  # idle by now, so that they take the others' requests
            app.got(GOT_POST)
            app.sends(OK)
        for client in clients:
            assert client.takes().endswith(b"\r\n\r\nok")
        nothing_was_refused(world)


@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_connections_that_the_app_closes_as_requests_come(bound: dict[str, Any]) -> None:
    """Apps have read nothing of what met them: forty at once are sent again."""
    with World(cluster=bound) as world:
        clients = [world.client() for _ in range(40)]
        for client in clients:
            client.sends(GET)
        apps = [world.app() for _ in clients]
        for app in apps:
            app.got(GOT_GET)
            app.sends(OK)
        for client in clients:
            client.got(GOT_OK)
            client.sends(GET)
        for app in apps:
            app.got(GOT_GET)
            app.closes()
        answered(world, clients, GOT_GET, FIRST)
        assert world.stats().retries == 40
        nothing_was_refused(world)


def test_they_take_no_place_from_others() -> None:
    """While some look for an app that is there, the one place is free for a request that an app has seen."""
    with World(cluster=two({"retry_budget": {"percent": 0, "min_concurrency": 1}}), route=WANTED) as world:
        world.chance = 0.0
        world.refuse(FIRST)
        world.hold(SECOND)
        clients = [world.client() for _ in range(10)]
        for client in clients:
            client.sends(GET)
        assert world.stats().retries == 5
        breaker = world.cluster.breakers["default"]
        assert (breaker.retries, breaker.retries_left) == (0, 1)
        world.let_in(SECOND)
        apps = [world.app(SECOND) for _ in clients]
        for app in apps:
            app.got(GOT_GET)
        world.hold(FIRST, SECOND)
        apps[0].sends(NOTHING)
        apps[0].takes()  # it may be asked again
        assert (breaker.retries, breaker.retries_left) == (1, 0)
        for client in clients:
            client.resets()
        assert breaker.retries == 0


# --- what bounds them ---


def test_they_are_bounded_by_the_number_of_tries() -> None:
    with World(cluster={"endpoints": [FIRST, SECOND], "retry_budget": NONE}, route=WANTED) as world:
        world.chance = 0.0
        world.refuse(FIRST, SECOND)
        clients = [world.client() for _ in range(40)]
        for client in clients:
            client.sends(POST)
            client.got_reply(503, "URX,UF", "connection refused", "3 attempts", close=False)
        assert len(world.dialled) == 3 * 40
        nothing_was_refused(world)


def test_without_a_policy_by_two_other_endpoints() -> None:
    names = [f"10.0.1.{number}:8080" for number in range(1, 6)]
    with World(cluster={"endpoints": names, "retry_budget": NONE}) as world:
        world.refuse(*names)
        client = world.client()
        client.sends(GET)
        client.got_reply(503, "UF", "3 attempts", close=False)
        assert len(world.dialled) == len(set(world.dialled)) == 3
        nothing_was_refused(world)


def test_by_the_policys_pauses_and_the_time() -> None:
    """With the longest pauses of a policy, what is refused for ever is tried some times a second, and then no more."""
    retry = {"on": ["connect-failure"], "attempts": 100, "backoff": {"base": "200ms", "max": "200ms"}}
    with World(cluster={"retry_budget": NONE}, route={"retry": retry, "timeout": "2100ms"}) as world:
        world.chance = 0.99
        world.refuse()
        client = world.client()
        client.sends(GET)
        assert len(world.dialled) == 1
        world.passes(1.1)
        assert len(world.dialled) == 6
        world.passes(1)
        client.got_reply(503, "UF", "connection refused", "11 attempts", close=False)
        assert len(world.dialled) == 11
        world.passes(10)
        assert len(world.dialled) == 11
        nothing_was_refused(world)


# --- what pays ---


def test_an_answer_pays_even_after_a_refusal() -> None:
    route = {"retry": {"on": ON, "attempts": 5}}
    with World(cluster={"endpoints": [FIRST, SECOND, THIRD], "retry_budget": NONE}, route=route) as world:
        world.chance = 0.0
        world.refuse(FIRST, THIRD)
        for _ in range(6):  # whatever comes first
            client = world.client()
            client.sends(GET)
            app = world.app(SECOND) if len(world.apps) > len(world._met) else world.apps[-1]
            app.got(GOT_GET)
            app.sends(NOTHING)
            client.got(GOT_NOTHING)
        assert set(world.flags) == {"UO"}
        assert world.stats().retries_over_budget == 6
        assert world.stats().retries > 0


def test_a_reset_after_the_request_pays_even_after_a_refusal() -> None:
    with World(cluster={"endpoints": [FIRST, SECOND], "retry_budget": NONE}, route=WANTED) as world:
        world.chance = 0.0
        world.refuse(FIRST)
        for _ in range(4):
            client = world.client()
            client.sends(GET)
            app = world.app(SECOND)
            app.got(GOT_GET)
            app.resets()
            client.got_reply(503, "UO,UC", close=False)
        assert sorted(world.attempts) == [1, 1, 2, 2]


def test_what_breaks_on_the_fresh_connection_pays() -> None:
    """Once is the rule for a race; more is the policy's."""
    with World(cluster={"retry_budget": NONE}, route=WANTED) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(GET)
        app.got(GOT_GET)
        app.closes()
        app = world.app()
        app.got(GOT_GET)
        app.closes()
        client.got_reply(503, "UO,UC", "2 attempts", close=False)
        world.no_more_apps()
