"""A second try beside the first one."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    FIRST,
    FORWARDED,
    GET,
    GOT_GET,
    OK,
    App,
    Client,
    World,
    conversation,
)
from tests.support.wire import chunked, head

SECOND = "10.0.1.2:8080"
TWO = {"endpoints": [FIRST, SECOND]}
HEDGE = {"hedge": {"after": "100ms"}}
RETRY = {**HEDGE, "retry": {"on": ["503", "reset"], "attempts": 1}}
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")


def _late(world: World) -> tuple[Client, App, App]:
    """Have a request whose first try takes too long."""
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.passes(0.12)
    second = world.app()
    second.got(GOT_GET)
    assert {first.address, second.address} == {FIRST, SECOND}
    assert world.cluster.breakers["default"].retries == 1
    return client, first, second


def _answered(world: World, client: Client, *, by: App) -> None:
    by.sends(OK)
    assert client.takes().endswith(b"\r\n\r\nok")
    assert world.flags == [""]
    assert world.log.entries[0].upstream == by.address
    assert world.cluster.breakers["default"].retries == 0
    assert by.state == "open"
    assert [endpoint.pool.idle for endpoint in world.cluster.endpoints if endpoint.name == by.address] == [1]


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_second_is_faster(world: World) -> None:
    client, first, second = _late(world)
    _answered(world, client, by=second)
    assert first.closed
    stats = world.stats()
    assert (stats.hedges, stats.hedges_won, stats.retries) == (1, 1, 0)
    assert world.attempts == [2]


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_first_is_faster_after_all(world: World) -> None:
    client, first, second = _late(world)
    _answered(world, client, by=first)
    assert second.closed
    assert (world.stats().hedges, world.stats().hedges_won) == (1, 0)


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_none_for_what_is_answered_in_time(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(0.08)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2"))
    world.passes(1)
    app.sends(b"ok")
    client.takes()
    world.no_more_apps()
    assert world.stats().hedges == 0


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_body_of_the_one_that_answered(world: World) -> None:
    client, first, second = _late(world)
    second.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"))
    assert first.closed
    second.sends(chunked(b"abc", trailers=("X-Sum: 1",)))
    assert client.takes().endswith(chunked(b"abc", trailers=("X-Sum: 1",)))
    assert second.state == "open"


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_one_that_answered_breaks_off(world: World) -> None:
    client, first, second = _late(world)
    second.sends(head("HTTP/1.1 200 OK", "Content-Length: 9"), b"abc")
    client.takes()
    second.resets()
    assert client.reset
    assert first.closed
    assert world.flags == ["UC"]


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_first_fails_while_the_second_is_under_way(world: World) -> None:
    client, first, second = _late(world)
    first.resets()
    client.got()
    _answered(world, client, by=second)
    assert world.attempts == [2]


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_second_fails(world: World) -> None:
    client, first, second = _late(world)
    second.resets()
    assert world.cluster.breakers["default"].retries == 0
    client.got()
    _answered(world, client, by=first)


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_both_fail(world: World) -> None:
    client, first, second = _late(world)
    second.resets()
    first.resets()
    client.got_reply(503, "UC", "2 attempts (1: ", FIRST, SECOND, close=False)


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_both_fail_the_other_way_round(world: World) -> None:
    client, first, second = _late(world)
    first.resets()
    second.resets()
    client.got_reply(503, "UC", "2 attempts (1: ", FIRST, SECOND, close=False)


@conversation(cut=False, cluster=TWO, route=RETRY)
def test_the_second_answers_what_the_policy_tries_again(world: World) -> None:
    client, first, second = _late(world)
    second.sends(NOTHING)
    client.got()
    _answered(world, client, by=first)
    assert world.attempts == [2]


@conversation(cut=False, cluster=TWO, route=RETRY)
def test_the_first_answers_what_the_policy_tries_again(world: World) -> None:
    client, first, second = _late(world)
    first.sends(NOTHING)
    client.got()
    assert first.state == "open"
    _answered(world, client, by=second)
    assert world.stats().retries == 0  # the second try was there already


@conversation(cut=False, cluster=TWO, route=RETRY)
def test_both_answer_what_the_policy_tries_again(world: World) -> None:
    world.chance = 0.0
    client, first, second = _late(world)
    first.sends(NOTHING)
    second.sends(NOTHING)
    third = next(app for app in world.apps if app.takes())
    third.sends(NOTHING)
    assert client.takes().startswith(b"HTTP/1.1 503 No")
    assert world.flags == ["URX"]
    assert world.attempts == [3]


@conversation(
    cut=False,
    cluster={"endpoints": [FIRST, SECOND, "10.0.1.3:8080"]},
    route={**HEDGE, "retry": {"on": ["503"], "attempts": 1, "backoff": {"base": "1s", "max": "1s"}}},
)
def test_none_beside_a_retry(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(NOTHING)
    world.passes(0.52)
    again = world.app()
    again.got(GOT_GET)
    world.no_more_apps()
    _answered(world, client, by=again)


@conversation(cut=False, cluster=TWO, route={**HEDGE, "timeout": "500ms"})
def test_the_time_is_over_for_both(world: World) -> None:
    client, first, second = _late(world)
    world.passes(0.4)
    client.got_reply(504, "UT", "2 attempts", close=False)
    assert first.closed
    assert second.closed


@conversation(
    cut=False, cluster=TWO, route={**HEDGE, "retry": {"on": ["5xx"], "per_try_timeout": "300ms", "attempts": 1}}
)
def test_the_time_of_each_try(world: World) -> None:
    world.chance = 0.0
    client, first, second = _late(world)
    world.passes(0.2)
    assert first.closed
    assert second.state == "open"
    world.passes(0.1)
    assert second.closed
    third = world.app()
    third.got(GOT_GET)
    third.sends(OK)
    assert client.takes().endswith(b"ok")


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_a_client_that_leaves(world: World) -> None:
    client, first, second = _late(world)
    client.resets()
    assert first.closed
    assert second.closed
    assert world.active() == 0
    assert world.flags == ["DC"]


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_a_body_and_its_trailers_are_sent_twice(world: World) -> None:
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), b"3\r\nabc\r\n")
    world.passes(1)
    world.app()
    world.no_more_apps()  # only for a request that is all there
    client.sends(chunked(b"d", trailers=("X-Sum: 1",)))
    world.passes(0.12)
    second = world.app()
    for app in (world.apps[0], second):
        app.got(
            head("PUT / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"),
            chunked(b"abcd", trailers=("X-Sum: 1",)),
        )
    second.sends(OK)
    assert client.takes().endswith(b"ok")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_none_for_what_may_not_be_sent_twice(method: str) -> None:
    with World(cluster=TWO, route=HEDGE) as world:
        client = world.client()
        client.sends(head(f"{method} / HTTP/1.1", "Host: a"))
        app = world.app()
        app.takes()
        world.passes(5)
        world.no_more_apps()
        app.sends(OK)
        client.takes()


def test_none_once_the_app_said_something() -> None:
    with World(cluster=TWO, route=HEDGE) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 103 Early Hints"))
        client.got(head("HTTP/1.1 103 Early Hints"))
        world.passes(5)
        world.no_more_apps()
        app.sends(OK)
        client.takes()


def test_interim_responses_of_the_second_are_nobodys() -> None:
    with World(cluster=TWO, route=HEDGE) as world:
        client, _, second = _late(world)
        second.sends(head("HTTP/1.1 103 Early Hints"))
        client.got()
        _answered(world, client, by=second)


def test_none_beyond_the_budget() -> None:
    with World(cluster={**TWO, "retry_budget": {"percent": 0, "min_concurrency": 0}}, route=HEDGE) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        world.passes(5)
        world.no_more_apps()
        assert world.stats().retries_over_budget == 1
        assert world.stats().hedges == 0
        app.sends(OK)
        client.takes()
        assert world.flags == [""]


def test_the_second_goes_to_the_same_endpoint_where_there_is_one() -> None:
    with World(route=HEDGE) as world:
        client = world.client()
        client.sends(GET)
        first = world.app()
        first.got(GOT_GET)
        world.passes(0.12)
        second = world.app()
        second.got(GOT_GET)
        second.sends(OK)
        client.takes()
        assert first.closed


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_second_finds_nobody(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.refuse(FIRST, SECOND)
    world.passes(0.12)
    assert len(world.dialled) == 2
    client.got()
    assert world.cluster.breakers["default"].retries == 0
    _answered(world, client, by=first)


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_second_is_still_connecting_when_the_first_answers(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.hold(FIRST, SECOND)
    world.passes(0.12)
    assert world.cluster.breakers["default"].retries == 1
    _answered(world, client, by=first)
    world.let_in(SECOND if first.address == FIRST else FIRST)
    world.app().got()


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_first_is_still_connecting_when_the_second_answers(world: World) -> None:
    world.hold(FIRST, SECOND)
    client = world.client()
    client.sends(GET)
    world.passes(0.12)
    one, other = world.dialled
    world.let_in(other)
    second = world.app(other)
    second.got(GOT_GET)
    _answered(world, client, by=second)
    world.let_in(one)
    world.app(one).got()


@conversation(cut=False, cluster={"circuit_breaker": {"max_connections": 1}}, route=HEDGE)
def test_the_second_waits_for_a_connection_that_never_comes(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.passes(0.12)
    assert world.pooled() == "open=1 idle=0 connecting=0 pending=1"
    first.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


def test_as_late_as_most_responses_are() -> None:
    with World(cluster=TWO, route={"hedge": {"percentile": 50}}) as world:
        client = world.client()
        for _ in range(50):
            client.sends(GET)
            world.passes(0.2)
            app = next(app for app in world.apps if app.takes())
            app.sends(OK)
            client.takes()
        assert world.stats().hedges == 0  # until so many are measured
        client.sends(GET)
        world.passes(0.15)
        assert sum(bool(app.takes()) for app in world.apps) == 1
        world.passes(0.1)
        assert sum(bool(app.takes()) for app in world.apps) == 1
        assert world.stats().hedges == 1
        client.resets()


@conversation(cut=False, cluster=TWO, route={**HEDGE, "attempt_count": True})
def test_the_tries_are_numbered(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "x-envoy-attempt-count: 1"))
    world.passes(0.12)
    second = world.app()
    second.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "x-envoy-attempt-count: 2"))
    second.sends(OK)
    assert b"x-envoy-attempt-count: 2\r\n" in client.takes()


@conversation(cut=False, cluster=TWO, route={**HEDGE, "request_headers": {"set": {"X-Endpoint": "%UPSTREAM_HOST%"}}})
def test_each_app_is_told_its_own_address(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(head("GET / HTTP/1.1", "Host: a", f"X-Endpoint: {first.address}", *FORWARDED))
    world.passes(0.12)
    second = world.app()
    second.got(head("GET / HTTP/1.1", "Host: a", f"X-Endpoint: {second.address}", *FORWARDED))
    first.sends(OK)
    client.takes()
    assert world.log.entries[0].upstream == first.address


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_old_clients_get_the_answer_of_the_second(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    world.app().takes()
    world.passes(0.12)
    second = world.app()
    second.takes()
    second.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Date: x"), b"ok")
    assert client.takes().endswith(b"connection: close\r\n\r\nok")
    assert client.state == "closed"


@conversation(cut=False, cluster=TWO, route={**HEDGE, "retry": {"max_body": 4}})
def test_a_body_that_is_not_kept_while_the_second_waits(world: World) -> None:
    """The first one has got all of it; to send less would be another request."""
    world.hold(FIRST, SECOND)
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abcdef")
    world.passes(0.12)
    one, other = world.dialled
    world.let_in(one)
    first = world.app(one)
    first.got(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 6", *FORWARDED), b"abcdef")
    world.let_in(other)
    world.app(other).got()
    first.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.cluster.breakers["default"].retries == 0


@conversation(cut=False, cluster=TWO, route=HEDGE)
def test_the_client_gets_a_byte_while_the_second_waits(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.hold(FIRST, SECOND)
    world.passes(0.12)
    first.sends(head("HTTP/1.1 103 Early Hints"))
    client.got(head("HTTP/1.1 103 Early Hints"))
    world.let_in(SECOND if first.address == FIRST else FIRST)
    world.app().got()
    first.sends(OK)
    assert client.takes().endswith(b"ok")
