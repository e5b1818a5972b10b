"""Listeners of protocol `auto`: what a connection is, by its first bytes or by its silence."""

from __future__ import annotations

import pytest

from meshlet.proxy.detect import Verdict, classify
from tests.conversations.world import GET, GOT_GET, GOT_OK, OK, Client, World, conversation
from tests.support.wire import head

AUTO = {"protocol": "auto"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = bytes.fromhex("16030102000100")
ADDED = b"x-forwarded-for: "


def _detected(world: World) -> dict[str, int]:
    return world.listener.settings.stats.detected


@conversation(listener=AUTO)
def test_http(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(GET)
    app.got(GOT_GET)
    assert _detected(world) == {"http": 1}
    assert world.listener.connections == 1


@conversation(listener=AUTO)
def test_custom_methods_empty_lines_and_malformed_lines_are_http(world: World) -> None:
    app = None
    for first in (b"BREW / HTTP/1.1\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n"):
        client = world.client()
        client.sends(first, b"Host: a\r\n\r\n")
        app = app or world.app()
        assert ADDED in app.takes()
        app.sends(OK)
        client.got(GOT_OK)
        client.ends()
    for bad in (b"GET /\r\n\r\n", b"GET / HTTP/1.1\n\n", b"B(D / HTTP/1.1\r\n\r\n", b"GET / HTTP/3\r\n\r\n"):
        client = world.client()
        client.sends(bad)
        assert client.takes().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
        client.ends()
    world.no_more_apps()


@conversation(listener=AUTO)
def test_http2_preface_is_passed_through(world: World) -> None:
    client = world.client()
    client.sends(PREFACE, b"\0\0\0\4\0\0\0\0\0")
    app = world.app()
    app.got(PREFACE, b"\0\0\0\4\0\0\0\0\0")
    app.sends(b"\0\0\0\4\1\0\0\0\0")
    client.got(b"\0\0\0\4\1\0\0\0\0")
    assert _detected(world) == {"http2": 1}


@conversation(listener=AUTO)
def test_tls_client_hello_is_passed_through(world: World) -> None:
    client = world.client()
    client.sends(CLIENT_HELLO)
    app = world.app()
    app.got(CLIENT_HELLO)
    app.sends(b"\x16\x03\x03")
    client.got(b"\x16\x03\x03")
    assert _detected(world) == {"tls": 1}


@pytest.mark.parametrize(
    "word",
    [
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x02",
        b"{}\n",
        b"\x80\x01",
        b"\xff",
    ],
)
def test_anything_else_is_tcp(word: bytes) -> None:
    for cut in range(len(word)):
        with World(listener=AUTO) as world:
            world.cuts[Client] = frozenset({cut})
            client = world.client()
            client.sends(word)
            app = world.app()
            app.got(word)
            app.sends(b"ok")
            client.got(b"ok")
            assert _detected(world) == {"tcp": 1}


@conversation(listener=AUTO, cut=False)
def test_a_silent_client_and_an_app_that_speaks_first(world: World) -> None:
    client = world.client()
    world.passes(0.09)
    world.no_more_apps()
    world.passes(0.02)
    app = world.app()
    client.got()
    app.sends(b"220 mail\r\n")
    client.got(b"220 mail\r\n")
    client.sends(b"EHLO x\r\n")
    app.got(b"EHLO x\r\n")
    client.sends(GET)  # too late: it is TCP
    app.got(GET)
    assert _detected(world) == {"tcp": 1}


@conversation(listener=AUTO)
def test_a_client_that_speaks_http_after_a_silence(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    dialled = world.app()
    assert world.active() == 0  # nothing to do for the app yet
    client.sends(GET)
    assert dialled.closed
    dialled.got()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert _detected(world) == {"http": 1}
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(listener=AUTO)
def test_a_client_that_speaks_http_while_the_app_is_dialled(world: World) -> None:
    client = world.client()
    world.hold()
    world.passes(0.2)
    client.sends(GET)
    assert world.pooled() == "open=0 idle=0 connecting=1 pending=1"
    world.let_in()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.takes()
    world.no_more_apps()


@conversation(listener=AUTO)
def test_a_client_that_speaks_something_else_after_a_silence(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    app = world.app()
    client.sends(b"*1\r\n")
    app.got(b"*1\r\n")
    app.sends(b"+PONG\r\n")
    client.got(b"+PONG\r\n")
    assert _detected(world) == {"tcp": 1}


@conversation(listener=AUTO, cut=False)
def test_a_slow_request_line_is_still_http(world: World) -> None:
    client = world.client()
    client.sends(GET[:2])
    world.passes(0.2)
    client.sends(GET[2:20])
    world.passes(0.2)
    client.sends(GET[20:])
    app = world.app()
    app.got(GOT_GET)


@conversation(listener=AUTO, cut=False)
def test_a_client_that_says_a_little_after_a_silence(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    app = world.app()
    client.sends(b"G")
    world.passes(0.05)
    app.got()
    client.sends(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n")
    app = world.app()
    app.got(GOT_GET)


@conversation(listener=AUTO)
def test_an_app_that_closes_before_anybody_spoke(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    app = world.app()
    app.closes()
    assert client.state == "half-closed"
    client.ends()
    assert client.state == "closed"


@conversation(listener=AUTO)
def test_a_client_that_comes_and_goes(world: World) -> None:
    client = world.client()
    client.ends()
    assert client.closed
    world.no_more_apps()
    other = world.client()
    other.resets()
    assert world.listener.connections == 0


@conversation(listener=AUTO)
def test_a_silent_client_that_ends_may_get_an_answer(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    app = world.app()
    client.ends()
    assert app.state == "half-closed"
    app.sends(b"12:00\r\n")
    client.got(b"12:00\r\n")
    app.closes()
    assert client.state == "closed"


@conversation(listener=AUTO, cut=False)
def test_a_word_and_the_end(world: World) -> None:
    client = world.client()
    with world.at_once():
        client.sends(b"finger")
        client.ends()
    app = world.app()
    app.got(b"finger")
    app.sends(b"name")
    app.closes()
    client.got(b"name")
    assert client.state == "closed"


@conversation(listener=AUTO, cut=False)
def test_a_request_and_the_end(world: World) -> None:
    client = world.client()
    with world.at_once():
        client.sends(GET)
        client.ends()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert client.state == "closed"


@conversation(listener=AUTO)
def test_a_silent_client_and_no_app(world: World) -> None:
    world.refuse()
    client = world.client()
    world.passes(0.2)
    assert client.state == "reset"
    assert world.flags == ["UF"]


@conversation(listener=AUTO, cut=False)
def test_a_long_first_line_is_bounded(world: World) -> None:
    client = world.client()
    client.sends(b"x" * 5000)
    world.app().got(b"x" * 5000)
    assert _detected(world) == {"tcp": 1}


@conversation(listener=AUTO, cut=False)
def test_a_large_request_at_once(world: World) -> None:
    body = bytes(200_000)
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 200000"), body)
    app = world.app()
    assert app.takes().endswith(body)
    app.sends(OK)
    client.got(GOT_OK)
    assert not client.is_paused()


def test_draining_lets_a_silent_client_go() -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        world.listener.drain()
        world.passes(1.1)
        assert client.closed
        world.expire()


@pytest.mark.parametrize(
    "line",
    [
        b"QUERY /" + b"a" * 9000 + b" HTTP/1.1\r\n",
        b"QUERY /" + b"a" * 4200,
        b"QUERY / http/1.1\n",
        b"QUERY /\r\n",
        b"query /a\0b HTTP/1.1\r\n",
        b"QUERY * HTTP/1.1\r\n",
        b"QUERY http://a/ HTTP/1.1\r\n",
        b"X\r\nGET / HTTP/1.1\r\n",
    ],
)
def test_what_may_be_a_request_meets_the_parser(line: bytes) -> None:
    assert classify(line) is Verdict.HTTP


def test_a_version_within_a_binary_message_makes_no_request_of_it() -> None:
    proxy_header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)  # PROXY protocol, version 2
    assert classify(proxy_header + b"GET / HTTP/1.1\r\n") is Verdict.TCP
