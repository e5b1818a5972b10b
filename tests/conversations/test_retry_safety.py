"""What must never be sent again, whatever the policy says: it may have had an effect, or the client has got a byte."""

from __future__ import annotations

import gc

import pytest

from meshlet.http.head import RequestHead
from meshlet.proxy.exchange import Exchange
from meshlet.proxy.tries import Tries
from tests.conversations.world import (
    ANSWERED,
    FIRST,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head, messages

SECOND = "10.0.1.2:8080"
TWO = {"endpoints": [FIRST, SECOND]}
ALL = ["connect-failure", "refused", "reset", "reset-before-response", "5xx", "gateway-error", "retriable-4xx"]
EVERYTHING = {"retry": {"on": ALL, "attempts": 5, "per_try_timeout": "1s"}}
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
GOT_NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0", *ANSWERED)
POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2") + b"hi"
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED) + b"hi"


@conversation(route=EVERYTHING, cluster=TWO)
def test_a_post_that_the_app_may_have_seen(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.got(GOT_POST)
    app.resets()
    client.got_reply(503, "UC", "1 attempt", close=False)
    world.no_more_apps()
    assert world.stats().retries == 0


@conversation(route=EVERYTHING)
def test_a_post_that_was_answered(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.got(GOT_POST)
    app.sends(NOTHING)
    client.got(GOT_NOTHING)
    assert world.attempts == [1]
    assert world.flags == [""]


@conversation(route=EVERYTHING, cut=False)
def test_a_post_whose_try_takes_too_long(world: World) -> None:
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.got(GOT_POST)
    world.passes(1.1)
    client.got_reply(504, "UT", "no response to this try within 1 s", close=False)
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_the_beginning_of_a_post(world: World) -> None:
    """A head alone may have an effect."""
    world.chance = 0.0
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"))
    app = world.app()
    app.takes()
    app.closes()
    client.got_reply(503, "UC")
    world.no_more_apps()


@conversation(route=EVERYTHING, cluster=TWO)
def test_a_post_after_a_refusal_is_seen_once(world: World) -> None:
    world.chance = 0.0
    world.refuse(FIRST)
    client = world.client()
    client.sends(POST)
    app = world.app(SECOND)
    app.got(GOT_POST)
    app.resets()
    client.got_reply(503, "UC", close=False)
    world.no_more_apps()
    assert sum(endpoint.requests_total for endpoint in world.cluster.endpoints) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "BREW", "get"])
@pytest.mark.parametrize("fault", ["reset", "answer", "nonsense"])
def test_methods_that_are_not_idempotent(method: str, fault: str) -> None:
    with World(route={**EVERYTHING, "connect": True}) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(head(f"{method} {'a:80' if method == 'CONNECT' else '/'} HTTP/1.1", "Host: a"))
        app = world.app()
        app.takes()
        if fault == "reset":
            app.resets()
        elif fault == "answer":
            app.sends(NOTHING)
        else:
            app.sends(b"220 hello\r\n")
        assert client.takes().startswith(b"HTTP/1.1 50")
        assert world.attempts == [1]
        world.no_more_apps()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_methods_that_are(method: str) -> None:
    with World(route=EVERYTHING) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(head(f"{method} / HTTP/1.1", "Host: a"))
        app = world.app()
        app.takes()
        app.resets()
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0"))
        client.takes()
        assert world.attempts == [2]


@pytest.mark.parametrize(("key", "again"), [("7f", True), ('"7f"', True), ('""', False), ("", False)])
def test_an_idempotency_key(key: str, again: bool) -> None:
    with World(route=EVERYTHING) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(head("POST / HTTP/1.1", "Host: a", f"Idempotency-Key: {key}", "Content-Length: 2"), b"hi")
        app = world.app()
        sent = app.takes()
        app.sends(NOTHING)
        assert app.takes() == (sent if again else b"")
        if again:
            app.sends(OK)
        client.takes()
        assert world.attempts == [1 + again]


def test_an_idempotency_key_that_the_app_does_not_get() -> None:
    with World(route={**EVERYTHING, "request_headers": {"remove": ["idempotency-key"]}}) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(head("POST / HTTP/1.1", "Host: a", "Idempotency-Key: 7f", "Content-Length: 2"), b"hi")
        app = world.app()
        app.got(GOT_POST)
        app.sends(NOTHING)
        client.got(GOT_NOTHING)


@conversation(route={"retry": {"on": ["reset"], "non_idempotent": True}})
def test_where_the_app_bears_it(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.got(GOT_POST)
    app.resets()
    app = world.app()
    app.got(GOT_POST)
    app.sends(OK)
    client.got(GOT_OK)


# --- once the client has got a byte ---


@conversation(route=EVERYTHING)
def test_not_within_a_response(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 5"))
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 5", *ANSWERED))
    app.sends(b"ab")
    client.got(b"ab")
    app.resets()
    assert client.reset
    assert world.flags == ["UC"]
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_not_within_a_response_in_chunks(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"ab"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunk(b"ab"))
    app.sends(b"oops")
    assert client.reset
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_not_after_100_continue(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 2"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 100 Continue"))
    client.got(head("HTTP/1.1 100 Continue"))
    app.resets()
    client.got_reply(503, "UC", "1 attempt")
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_not_after_an_answer_that_follows_100(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 2"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 100 Continue"))
    client.got(head("HTTP/1.1 100 Continue"))
    client.sends(b"hi")
    app.got(b"hi")
    app.sends(NOTHING)
    client.got(GOT_NOTHING)


@conversation(route=EVERYTHING)
def test_not_after_early_hints(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 103 Early Hints", "Link: </a.css>"))
    client.got(head("HTTP/1.1 103 Early Hints", "Link: </a.css>"))
    app.resets()
    client.got_reply(503, "UC", "1 attempt", close=False)
    world.no_more_apps()


# --- of requests cut short ---


@conversation(route=EVERYTHING)
def test_a_client_that_breaks_its_request_off(world: World) -> None:
    """What is then wrong is the client's fault, and no reason to try again."""
    world.chance = 0.0
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"ab"))
    app = world.app()
    app.takes()
    client.sends(b"nonsense\r\n")
    client.got_reply(400, "DPE")
    assert app.state == "closed" or app.reset
    world.no_more_apps()


@conversation(route={**EVERYTHING, "max_body": 4})
def test_a_body_that_grows_too_large_between_tries(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"ab"))
    app = world.app()
    app.takes()
    app.resets()
    app = world.app()
    app.takes()
    client.sends(chunk(b"cde"))
    app.takes()
    client.got_reply(413, "DPE")
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_a_connection_with_bytes_too_many_is_not_used_again(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 503 No", "Connection: close", "Content-Length: 0"))
    assert app.state == "closed" or app.reset
    app = world.app()
    app.got(GOT_GET)
    app.sends(chunked(b"x"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


def test_surplus_bytes_behind_an_answer_that_is_not_passed_on() -> None:
    with World(route=EVERYTHING) as world:
        world.chance = 0.0
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(NOTHING + OK.replace(b"ok", b"no"))
        assert app.state == "closed" or app.reset
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)


# --- the budget ---


@conversation(route=EVERYTHING, cluster={"retry_budget": {"percent": 0, "min_concurrency": 1}})
def test_the_budget(world: World) -> None:
    world.chance = 0.0
    clients = [world.client() for _ in range(3)]
    apps = []
    for client in clients:
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        apps.append(app)
    apps[0].sends(NOTHING)
    apps[0].got(GOT_GET)
    assert world.cluster.breakers["default"].retries == 1
    apps[1].sends(NOTHING)
    clients[1].got(GOT_NOTHING)
    apps[2].resets()
    clients[2].got_reply(503, "UO,UC", "1 attempt", close=False)
    # A further try of the same request takes no more of the budget.
    apps[0].sends(NOTHING)
    apps[0].got(GOT_GET)
    apps[0].sends(OK)
    clients[0].got(GOT_OK)
    assert world.cluster.breakers["default"].retries == 0
    assert world.stats().retries_over_budget == 2
    assert world.cluster.breakers["default"].overflows["retries"] == 2
    assert world.flags == ["UO", "UO,UC", ""]


@conversation(cluster={"retry_budget": {"percent": 0, "min_concurrency": 0}})
def test_the_budget_is_not_for_stale_connections(world: World) -> None:
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
    assert world.cluster.breakers["default"].retries == 0
    app.sends(OK)
    client.got(GOT_OK)


def test_the_budget_is_a_share_of_the_requests() -> None:
    with World(route=EVERYTHING, cluster={"retry_budget": {"percent": 50, "min_concurrency": 0}}) as world:
        clients = [world.client() for _ in range(4)]
        for client in clients:
            client.sends(GET)
        apps = [world.app() for _ in clients]
        for app in apps:
            app.got(GOT_GET)
            app.sends(NOTHING)
        passed_on = [client for client in clients if client.takes()]
        # The third asks while four are in flight, two of them again; then there are fewer.
        assert len(passed_on) == 2
        assert world.stats().retries == 2
        world.passes(1)
        for app in apps:
            if app.takes():
                app.sends(OK)
        assert sum(bool(client.takes()) for client in clients) == 2


def test_a_further_bound_on_retries() -> None:
    with World(route=EVERYTHING, cluster={"circuit_breaker": {"max_retries": 0}}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(NOTHING)
        client.got(GOT_NOTHING)
        assert world.flags == ["UO"]


@pytest.mark.parametrize("field", ["X-Envoy-Overloaded: true", "x-envoy-ratelimited: true"])
def test_overload_is_not_answered_with_retries(field: str) -> None:
    with World(route={"retry": {"on": ["5xx"]}}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 503 Busy", field, "Content-Length: 0"))
        (answer,) = messages(client.takes())
        assert answer.status == 503
        world.passes(1)
        assert app.takes() == b""
        world.no_more_apps()


def test_an_app_that_fails_later_has_closed_no_stale_connection() -> None:
    with World() as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        world.passes(2)
        client.sends(GET)
        app.got(GOT_GET)
        world.passes(1.1)
        app.resets()
        client.got_reply(503, "UC", close=False)
        world.no_more_apps()
        assert world.pool.idle_timeout == 60.0  # nothing was learned either


@pytest.mark.parametrize("route", [{}, {"retry": {"attempts": 1, "on": ["5xx"]}}, {"hedge": {"after": "50ms"}}])
def test_a_request_that_has_failed_leaves_nothing_for_the_garbage_collector(route: dict[str, object]) -> None:
    with World(route=route) as world:
        world.refuse()
        client = world.client()
        gc.collect()
        before = {id(each) for each in gc.get_objects()}  # other tests keep heads for all of the run
        gc.disable()
        try:
            for _ in range(5):
                client.sends(GET)
                world.passes(1)
                client.takes()
            kinds = Exchange | Tries | RequestHead
            left = [each for each in gc.get_objects() if isinstance(each, kinds) and id(each) not in before]
        finally:
            gc.enable()
        assert left == []
