"""Copies of requests: whatever becomes of them, the request itself notices nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations.world import (
    ANSWERED,
    FIRST,
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

SHADOW = "10.0.9.1:80"
CONFIG: dict[str, Any] = {
    "routes": [{"cluster": "app", "mirror": {"cluster": "shadow"}}],
    "clusters": [{"name": "shadow", "endpoints": [SHADOW]}],
}
ROUTE = CONFIG["routes"][0]
PUT = head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
GOT_PUT = head("PUT / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked")


def _begin(world: World, request: bytes = GET) -> tuple[Client, App, App]:
    client = world.client()
    client.sends(request)
    app, shadow = world.app(FIRST), world.app(SHADOW)
    app.got(GOT_GET)
    shadow.got(GOT_GET)
    return client, app, shadow


def _pool(world: World) -> str:
    return repr(world.clusters["shadow"].endpoints[0].pool)


def _over(world: World) -> None:
    """Assert that no copy is under way."""
    world.counted(["shadow"])


@conversation(**CONFIG)
def test_a_copy(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.sends(head("HTTP/1.1 500 No", "Content-Length: 2"), b"no")
    client.got()
    app.sends(OK)
    client.got(GOT_OK)
    _over(world)
    assert "open=1 idle=1" in _pool(world)
    client.sends(GET)
    app.got(GOT_GET)
    shadow.got(GOT_GET)  # on the same connection
    app.sends(OK)
    client.got(GOT_OK)
    shadow.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"x"))
    shadow.sends(chunked())
    _over(world)
    stats = world.stats("shadow")
    assert (stats.mirrors, stats.mirrors_dropped) == (2, 0)
    assert stats.codes == {}
    assert world.attempts == [1, 1]


@conversation(**CONFIG)
def test_a_copy_of_a_body(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app, shadow = world.app(FIRST), world.app(SHADOW)
    client.sends(chunk(b"cd"))
    client.sends(chunked(b"e", trailers=("X-Sum: 1",)))
    for side in (app, shadow):
        side.got(GOT_PUT, chunked(b"abcde", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)
    shadow.sends(OK)
    _over(world)


@pytest.mark.parametrize(("chance", "copied"), [(0.0, True), (0.29, True), (0.31, False), (0.9, False)])
def test_a_share_of_the_requests(chance: float, copied: bool) -> None:
    config = {**CONFIG, "routes": [{"cluster": "app", "mirror": {"cluster": "shadow", "percent": 30}}]}
    with World(**config) as world:
        world.chance = chance
        client = world.client()
        client.sends(GET)
        assert (SHADOW in world.dialled) is copied
        client.resets()
        for app in world.apps:
            app.takes()


# --- what may be wrong with who gets the copies ---


@conversation(**CONFIG)
def test_it_refuses(world: World) -> None:
    world.refuse(SHADOW)
    client = world.client()
    client.sends(GET)
    app = world.app(FIRST)
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    _over(world)
    assert world.stats("shadow").mirrors_dropped == 1
    assert world.flags == [""]


@conversation(**CONFIG)
def test_it_resets(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.resets()
    _over(world)
    app.sends(OK)
    client.got(GOT_OK)


@conversation(**CONFIG)
def test_it_talks_nonsense(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.sends(b"220 hello\r\n")
    _over(world)
    app.sends(OK)
    client.got(GOT_OK)


@conversation(**CONFIG)
def test_it_says_too_much(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.sends(OK, OK)
    app.sends(OK)
    client.got(GOT_OK)
    assert shadow.state == "closed" or shadow.reset
    _over(world)


@conversation(**CONFIG)
def test_it_switches_protocols(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.sends(head("HTTP/1.1 100 Continue"), head("HTTP/1.1 101 Switching", "Connection: upgrade", "Upgrade: x"))
    client.got()
    assert shadow.state == "closed" or shadow.reset
    app.sends(OK)
    client.got(GOT_OK)


@conversation(**CONFIG)
def test_its_response_has_no_end(world: World) -> None:
    client, app, shadow = _begin(world)
    shadow.sends(head("HTTP/1.1 200 OK"))
    assert shadow.state == "closed" or shadow.reset
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, **CONFIG)
def test_it_never_answers(world: World) -> None:
    client, app, shadow = _begin(world)
    app.sends(OK)
    client.got(GOT_OK)
    world.passes(14.9)
    assert shadow.state == "open"
    world.passes(0.2)
    assert shadow.closed
    _over(world)
    assert world.stats("shadow").mirrors_dropped == 1


@conversation(cut=False, **CONFIG)
def test_it_cannot_be_connected_to(world: World) -> None:
    world.hold(SHADOW)
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app = world.app(FIRST)
    client.sends(chunk(bytes(60000)))
    client.sends(chunk(bytes(60000)))  # more than is kept for it
    assert not client.is_paused()
    _over(world)
    client.sends(chunked())
    assert app.takes().endswith(b"0\r\n\r\n")
    app.sends(OK)
    client.got(GOT_OK)
    world.let_in(SHADOW)
    world.app(SHADOW).got()
    assert "open=1 idle=1" in _pool(world)


@conversation(cut=False, **CONFIG)
def test_it_is_connected_to_late(world: World) -> None:
    world.hold(SHADOW)
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app = world.app(FIRST)
    client.sends(chunked(b"cd", trailers=("X-Sum: 1",)))
    app.got(GOT_PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)
    client.resets()
    world.let_in(SHADOW)
    shadow = world.app(SHADOW)
    shadow.got(GOT_PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    shadow.sends(OK)
    _over(world)
    assert "open=1 idle=1" in _pool(world)


@conversation(cut=False, **CONFIG)
def test_it_does_not_read(world: World) -> None:
    world.on_accept = lambda app: app.stall() if app.address == SHADOW else None
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app, shadow = world.app(FIRST), world.app(SHADOW)
    for _ in range(8):
        client.sends(chunk(bytes(50000)))
        assert not client.is_paused()
    assert shadow.closed
    _over(world)
    client.sends(chunked())
    assert len(app.takes()) > 400000
    app.sends(OK)
    client.got(GOT_OK)


@conversation(**CONFIG)
def test_it_answers_before_it_has_the_whole_request(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app, shadow = world.app(FIRST), world.app(SHADOW)
    shadow.sends(OK)
    assert shadow.state == "closed" or shadow.reset
    _over(world)
    client.sends(chunked(b"cd", trailers=("X-Sum: 1",)))
    app.got(GOT_PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    shadow.got(GOT_PUT, chunk(b"ab"))
    app.sends(OK)
    client.got(GOT_OK)


def test_its_breaker_is_open() -> None:
    limits = {"circuit_breaker": {"max_requests": 1}}
    config = {**CONFIG, "clusters": [{"name": "shadow", "endpoints": [SHADOW], **limits}]}
    with World(**config) as world:
        client, app, shadow = _begin(world)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(GET)
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        shadow.got()
        assert (world.stats("shadow").mirrors, world.stats("shadow").mirrors_dropped) == (2, 1)
        shadow.sends(OK)


def test_it_has_no_endpoint() -> None:
    config = {**CONFIG, "clusters": [{"name": "shadow", "endpoints": ["name.invalid:80"]}]}
    with World(**config) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        assert world.stats("shadow").mirrors_dropped == 1


# --- what may become of the request ---


@conversation(**CONFIG)
def test_a_client_that_leaves_within_its_body(world: World) -> None:
    """A copy cut short must not look whole."""
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app, shadow = world.app(FIRST), world.app(SHADOW)
    client.resets()
    assert app.state == "closed" or app.reset
    assert shadow.state == "closed" or shadow.reset
    app.takes()
    shadow.got(GOT_PUT, chunk(b"ab"))
    _over(world)


@conversation(**CONFIG)
def test_a_client_that_leaves_when_its_request_is_whole(world: World) -> None:
    client, app, shadow = _begin(world)
    client.resets()
    assert app.state == "closed" or app.reset
    assert shadow.state == "open"
    shadow.sends(OK)
    _over(world)
    assert "open=1 idle=1" in _pool(world)


@conversation(**{**CONFIG, "routes": [{**ROUTE, "retry": {"on": ["503"]}}]})
def test_tries_are_not_copied(world: World) -> None:
    world.chance = 0.0
    client, app, shadow = _begin(world)
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    shadow.got()
    shadow.sends(OK)


@conversation(**{**CONFIG, "routes": [{**ROUTE, "retry": {"on": ["503"]}}]})
def test_a_body_goes_on_to_the_copy_while_the_request_is_tried_again(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    app, shadow = world.app(FIRST), world.app(SHADOW)
    app.got(GOT_PUT, chunk(b"ab"))
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
    app = world.app(FIRST)
    client.sends(chunked(b"cd"))
    for side in (app, shadow):
        side.got(GOT_PUT, chunked(b"abcd"))
    app.sends(OK)
    client.got(GOT_OK)
    shadow.sends(OK)
    _over(world)


def test_tunnels_are_not_copied() -> None:
    config = {**CONFIG, "routes": [{**ROUTE, "connect": True}]}
    with World(**config) as world:
        for request in (
            head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"),
            head("CONNECT a:80 HTTP/1.1", "Host: a:80"),
        ):
            client = world.client()
            client.sends(request)
            world.app(FIRST).takes()
            client.resets()
        assert SHADOW not in world.dialled


@conversation(cut=False, **{**CONFIG, "routes": [{**ROUTE, "fault": {"delay": {"duration": "1s"}}}]})
def test_trailers_that_came_while_the_request_was_held(world: World) -> None:
    client = world.client()
    warm = [client]
    client.sends(GET)
    world.passes(1.1)
    app, shadow = world.app(FIRST), world.app(SHADOW)
    for side in (app, shadow):
        side.got(GOT_GET)
        side.sends(OK)
    client.takes()
    client.sends(PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    world.passes(1.1)
    for side in (app, shadow):
        side.got(GOT_PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
        side.sends(OK)
    warm[0].takes()
    _over(world)


def test_what_is_rewritten_is_copied_as_it_was_sent() -> None:
    config = {
        **CONFIG,
        "routes": [{**ROUTE, "rewrite": {"path": "/b"}, "request_headers": {"set": {"X-A": "1"}}}],
    }
    with World(**config) as world:
        client = world.client()
        client.sends(GET)
        for address in (FIRST, SHADOW):
            app = world.app(address)
            app.got(head("GET /b HTTP/1.1", "Host: a", "X-A: 1", *FORWARDED))
            app.sends(OK)
        client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", *ANSWERED), b"ok")
