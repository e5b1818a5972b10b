"""Upgrade and CONNECT: from requests to bytes of any kind."""

from __future__ import annotations

import pytest

from tests.conversations.world import ANSWERED, FIRST, FORWARDED, GET, GOT_GET, GOT_OK, OK, World, conversation
from tests.support.wire import head

WEBSOCKET = head("GET /chat HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
GOT_WEBSOCKET = head(
    "GET /chat HTTP/1.1",
    "Host: a",
    "Sec-WebSocket-Key: x",
    *FORWARDED,
    "connection: upgrade",
    "upgrade: websocket",
)
SWITCHING = head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "X-A: 1")
GOT_SWITCHING = head("HTTP/1.1 101 Switching Protocols", "X-A: 1", "Connection: upgrade", "Upgrade: websocket")
CONNECT = head("CONNECT b:443 HTTP/1.1", "Host: b:443")
GOT_CONNECT = head("CONNECT b:443 HTTP/1.1", "Host: b:443", *FORWARDED)


@conversation()
def test_websocket(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.got(GOT_WEBSOCKET)
    app.sends(SWITCHING)
    client.got(GOT_SWITCHING)
    client.sends(b"\x81\x00", b"GET / HTTP/1.1\r\n\r\n")
    app.got(b"\x81\x00GET / HTTP/1.1\r\n\r\n")
    app.sends(b"HTTP/1.1 200 OK\r\n\r\n")
    client.got(b"HTTP/1.1 200 OK\r\n\r\n")
    assert world.active() == 2  # the endpoint's and the route's
    app.ends()
    assert client.state == "half-closed"
    client.sends(b"last")
    app.got(b"last")
    client.ends()
    assert client.state == app.state == "closed"
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    assert world.active() == 0
    assert world.listener.connections == 0
    entry = world.log.entries[0]
    assert (entry.status, entry.flag, entry.received, entry.sent) == (101, "", 24, 19)


@conversation()
def test_early_bytes_on_both_sides(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET, b"early client")
    app = world.app()
    app.got(GOT_WEBSOCKET)  # not before the app agrees
    app.sends(SWITCHING, b"early app")
    client.got(GOT_SWITCHING, b"early app")
    app.got(b"early client")


@conversation()
def test_the_app_declines(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET, GET)
    app = world.app()
    app.got(GOT_WEBSOCKET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: upgrade", "Upgrade: websocket"), b"ok")
    client.got(GOT_OK)
    app.got(GOT_GET)
    assert world.flags == [""]


@conversation()
def test_a_protocol_that_the_route_does_not_allow(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: tls/1.0"), GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    app.got(GOT_GET)


@conversation(route={"upgrades": ["*"]})
def test_any_protocol_but_h2c(world: World) -> None:
    client = world.client()
    client.sends(
        head("GET / HTTP/1.1", "Host: a", "Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: x")
    )
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: x/1", "Upgrade: y"))
    app.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "connection: upgrade", "upgrade: x/1, y"))
    app.sends(head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: Y"))
    client.got(head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: Y"))


@conversation()
def test_upgrade_without_connection_upgrade_or_with_a_body_is_none(world: World) -> None:
    client = world.client()
    client.sends(
        head("GET / HTTP/1.1", "Host: a", "Upgrade: websocket"),
        head("GET / HTTP/1.1", "Host: a", "Content-Length: 1", "Connection: upgrade", "Upgrade: websocket"),
        b"x",
    )
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("GET / HTTP/1.1", "Host: a", "Content-Length: 1", *FORWARDED), b"x")


@pytest.mark.parametrize(
    ("request_head", "answer"),
    [
        (GET, SWITCHING),
        (head("GET / HTTP/1.0", "Host: a", "Connection: upgrade", "Upgrade: websocket"), SWITCHING),
        (WEBSOCKET, head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade")),
        (WEBSOCKET, head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: tls/1.0")),
    ],
)
def test_a_101_nobody_asked_for(request_head: bytes, answer: bytes) -> None:
    with World() as world:
        client = world.client()
        client.sends(request_head)
        app = world.app()
        app.takes()
        app.sends(answer, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfoo")
        client.got_reply(502, "UPE", "switched", close=b"HTTP/1.0" in request_head)
        assert app.state == "closed"
        assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(route={"connect": True})
def test_connect(world: World) -> None:
    client = world.client()
    client.sends(CONNECT, b"\x16\x03\x01")
    app = world.app()
    app.got(GOT_CONNECT)
    app.sends(head("HTTP/1.1 200 Connection established", "Content-Length: 5", "X-A: 1"), b"early")
    client.got(head("HTTP/1.1 200 Connection established", "X-A: 1"), b"early")
    app.got(b"\x16\x03\x01")
    client.ends()
    assert app.state == "half-closed"
    app.sends(b"the rest")
    client.got(b"the rest")
    app.closes()
    assert client.state == "closed"
    entry = world.log.entries[0]
    assert (entry.status, entry.flag, entry.received, entry.sent) == (200, "", 3, 13)


@conversation(route={"connect": True})
def test_connect_declined(world: World) -> None:
    client = world.client()
    client.sends(CONNECT, GET)
    app = world.app()
    app.got(GOT_CONNECT)
    app.sends(head("HTTP/1.1 407 Proxy Authentication Required", "Content-Length: 2"), b"no")
    client.got(head("HTTP/1.1 407 Proxy Authentication Required", "Content-Length: 2", *ANSWERED), b"no")
    app.got(GOT_GET)


@conversation()
def test_connect_not_allowed(world: World) -> None:
    client = world.client()
    client.sends(CONNECT)
    reply = client.got_reply(405, "NR", "CONNECT", close=False)
    assert reply.field("allow") is not None
    client.sends(GET)
    world.app().got(GOT_GET)


@conversation()
def test_a_tunnel_that_breaks_is_reset_on_the_other_side(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    app.resets()
    assert client.state == "reset"
    assert world.flags == ["UC"]


@conversation()
def test_a_client_that_leaves_its_tunnel(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    client.resets()
    assert app.state == "reset"
    assert world.flags == ["DC"]


@conversation()
def test_a_client_that_ended_before_the_tunnel_began(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET, b"all I say")
    client.ends()
    app = world.app()
    app.got(GOT_WEBSOCKET)
    app.sends(SWITCHING, b"hello")
    client.got(GOT_SWITCHING, b"hello")
    app.got(b"all I say")
    assert app.state == "half-closed"
    app.sends(b"bye")
    client.got(b"bye")
    app.ends()
    assert client.state == app.state == "closed"


@conversation(cut=False)
def test_back_pressure_in_a_tunnel(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    client.stalls()
    app.stalls()
    for side in (client, app):
        side.sends(bytes(65536))
        assert not side.is_paused()
        side.sends(b"x")
        assert side.is_paused()
        side.sends(bytes(100000))
    client.reads()
    app.reads()
    assert not client.is_paused()
    assert not app.is_paused()
    assert len(client.takes()) == len(app.takes()) == 165537


@conversation(cut=False, limits={"tcp_idle_timeout": "10s"})
def test_an_idle_tunnel_is_closed(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    world.passes(9)
    client.sends(b"x")
    app.got(b"x")
    world.passes(10.5)
    assert client.state == "open"
    world.passes(10)
    assert client.state == app.state == "reset"
    assert world.flags == ["SI"]


@conversation(cut=False)
def test_a_tunnel_has_no_request_timeout(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    world.passes(1000)
    assert client.state == app.state == "open"


@conversation(cut=False)
def test_back_pressure_before_and_into_a_tunnel(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET, bytes(200000))
    assert client.is_paused()
    app = world.app()
    app.got(GOT_WEBSOCKET)
    app.sends(SWITCHING)
    client.got(GOT_SWITCHING)
    assert not client.is_paused()
    assert app.takes() == bytes(200000)


@conversation(cut=False, drop=False)
def test_ending_all_connections_ends_tunnels(world: World) -> None:
    client = world.client()
    client.sends(WEBSOCKET)
    app = world.app()
    app.takes()
    app.sends(SWITCHING)
    client.takes()
    world.listener.abort()
    world.rest()
    world.cleared()


@conversation(cut=False, cluster={"endpoints": [FIRST, "10.0.1.2:8080"]})
def test_a_tunnel_is_no_retry_any_more(world: World) -> None:
    world.refuse(FIRST)
    for tries in (2, 1):  # the endpoints take turns
        client = world.client()
        client.sends(WEBSOCKET)
        app = world.app()
        app.got(GOT_WEBSOCKET)
        app.sends(SWITCHING)
        client.got(GOT_SWITCHING)
        breaker = world.cluster.breakers["default"]
        assert (breaker.requests, breaker.retries) == (1, 0)
        client.ends()
        app.ends()
        assert world.attempts[-1] in (tries, 3 - tries)
    assert world.stats().retries == 1
