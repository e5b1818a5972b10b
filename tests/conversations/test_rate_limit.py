"""Requests beyond what is let through."""

from __future__ import annotations

from typing import Any

from tests.conversations.world import ANSWERED, GET, GOT_GET, GOT_OK, OK, Client, World, conversation
from tests.support.wire import chunk, head


def _limit(**more: Any) -> dict[str, Any]:
    return {"rate_limit": {"requests": 2, "per": "10s", **more}}


def _answered(world: World, client: Client, request: bytes = GET) -> None:
    client.sends(request)
    app = world.apps[0] if world.apps else world.app()
    app.takes()
    app.sends(OK)
    assert client.takes().endswith(b"ok")


@conversation(route=_limit())
def test_a_limit(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    for _ in range(2):
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
    client.sends(GET)
    client.got_reply(429, "RL", "too many requests", close=False)


@conversation(cut=False, route=_limit())
def test_beyond_it(world: World) -> None:
    client = world.client()
    _answered(world, client)
    _answered(world, client)
    client.sends(GET)
    reply = client.got_reply(429, "RL", "too many requests; cluster app, 0 attempts", close=False)
    assert reply.field("retry-after") == "5"
    assert reply.field("x-ratelimit-limit") == "2"
    assert reply.field("x-ratelimit-remaining") == "0"
    world.passes(5.1)
    _answered(world, client)
    client.sends(GET)
    client.got_reply(429, "RL", close=False)
    assert world.flags == ["", "", "RL", "", "RL"]
    assert world.cluster.breakers["default"].requests == 0


@conversation(cut=False, route=_limit(burst=1), listener=_limit())
def test_the_listeners_limit_comes_first(world: World) -> None:
    client = world.client()
    _answered(world, client)
    client.sends(GET)
    client.got_reply(429, "RL", close=False)  # the route's
    world.passes(5.1)
    client.sends(GET)
    app = world.apps[0]
    app.got(GOT_GET)
    app.sends(OK)
    client.takes()


@conversation(cut=False, route=_limit(source=True))
def test_each_client_has_its_own(world: World) -> None:
    one, other = world.client("10.0.0.1"), world.client("10.0.0.2")
    for client in (one, other):
        _answered(world, client)
        _answered(world, client)
    one.sends(GET)
    one.got_reply(429, "RL", close=False)


@conversation(cut=False, route=_limit(header="x-user"))
def test_each_value_of_a_header_has_its_own(world: World) -> None:
    client = world.client()
    for user in ("a", "b"):
        for _ in range(2):
            _answered(world, client, head("GET / HTTP/1.1", "Host: a", f"X-User: {user}"))
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-User: b"))
    client.got_reply(429, "RL", close=False)


@conversation(route=_limit(report=True))
def test_what_is_left_is_told(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    figures = ("x-ratelimit-limit: 2", "x-ratelimit-remaining: 1", "x-ratelimit-reset: 0")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", *figures, *ANSWERED), b"ok")


@conversation(route=_limit(report=True))
def test_what_is_left_is_told_in_local_replies_as_well(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(GET)
    reply = client.got_reply(503, "UF", close=False)
    assert reply.field("x-ratelimit-remaining") == "1"


@conversation(route={**_limit(), "retry": {"on": ["503"]}})
def test_tries_count_once(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    for _ in range(2):
        client.sends(GET)
        app = world.apps[0] if world.apps else world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)


@conversation(cut=False, route=_limit(burst=1))
def test_half_a_request_beyond_it(world: World) -> None:
    client = world.client()
    _answered(world, client)
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"ab"))
    client.got_reply(429, "RL", close=True)
    assert len(world.dialled) == 1
