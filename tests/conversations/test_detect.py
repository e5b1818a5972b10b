"""Listeners of protocol `auto`: what a connection is, by its first bytes or by its silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import EndpointConfig
from meshlet.config.units import Address
from meshlet.upstream.discovery.base import Found
from tests.conversations.world import FIRST, GET, GOT_GET, GOT_OK, OK, App, Client, World, conversation
from tests.support.requests import REFUSED, Refused
from tests.support.wire import head

AUTO = {"protocol": "auto"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = bytes.fromhex("16030102000100")
ADDED = b"x-forwarded-for: "


DOOR = b" /x HTTP/1.1\r\nHost: a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
#: a listener whose rules hold for everybody
RULES: dict[str, Any] = {
    "listener": AUTO,
    "routes": [{"match": {"prefix": "/admin"}, "direct_response": {"status": 403}}, {"cluster": "app"}],
}


def _silent(world: World, count: int) -> list[Client]:
    """Connect clients that say nothing, one after the other."""
    clients = []
    for _ in range(count):
        clients.append(world.client())
        world.passes(0.02)
    return clients


def _detected(world: World) -> dict[str, int]:
    return world.listener.settings.stats.detected


def _answer_one(world: World) -> None:
    """Have the app answer a request, so that it is known to speak HTTP."""
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    client.closes()


def _greet(world: World) -> None:
    """Have the app speak first, so that it is known to do so."""
    client = world.client()
    world.passes(0.11)
    app = world.app()
    app.sends(b"220 mail\r\n")
    client.got(b"220 mail\r\n")
    client.closes()
    app.closes()


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
    client.sends(GET[:4])
    world.passes(0.2)
    client.sends(GET[4:20])
    world.passes(0.2)
    client.sends(GET[20:])
    app = world.app()
    app.got(GOT_GET)


@pytest.mark.parametrize("word", [b"ruok", b"JDWP-Handshake", b"GE", b"\r\n", b"\0", b"BREW /"])
def test_a_short_word_is_not_http_but_where_the_app_speaks_it(word: bytes) -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        client.sends(word)
        world.passes(0.09)
        world.no_more_apps()
        world.passes(0.02)
        app = world.app()
        app.got(word)
        app.sends(b"imok")
        client.got(b"imok")
        assert _detected(world) == {"tcp": 1}


@conversation(listener=AUTO, cut=False, drop=False)
def test_a_short_word_to_an_app_that_speaks_http(world: World) -> None:
    _answer_one(world)
    client = world.client()
    client.sends(b"JDWP-Handshake")
    world.passes(9)
    client.got()
    world.passes(1.2)
    client.got_reply(408, "DT")
    world.no_more_apps()


@conversation(listener=AUTO, cut=False)
def test_more_bytes_do_not_prolong_the_time_for_the_first(world: World) -> None:
    client = world.client()
    client.sends(b"r")
    world.passes(0.06)
    client.sends(b"u")
    world.passes(0.06)
    world.app().got(b"ru")


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
def test_an_app_that_closes_before_anybody_spoke_tells_nothing(world: World) -> None:
    client = world.client()
    world.passes(0.2)
    world.app().closes()
    assert client.state == "open"
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


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
def test_a_late_client_is_treated_as_a_quick_one(world: World) -> None:
    world.refuse()
    client = world.client()
    world.passes(0.3)
    assert client.state == "open"
    client.sends(GET)
    client.got_reply(503, "UF", "connection refused", close=False)
    assert world.flags == ["UF"]
    assert world.statuses == [503]


@conversation(**RULES)
def test_a_late_client_is_routed_by_its_path(world: World) -> None:
    client = world.client()
    world.passes(0.3)
    client.sends(b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.takes().startswith(b"HTTP/1.1 403 ")
    world.no_more_apps()


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


# --- nothing goes past rules ---


@pytest.mark.parametrize(
    "first",
    [
        b"A" * 4097,
        b"\x0b",
        b" " * 40,
        b"GET\r\nHost: a\r\n\r\n",
        b"\0",
        b"\0 / HTTP/1.1\r\n\r\n",
        b"<190>",
        b"get /a\r\n",
        b"{}\n",
        b"\x80",
        b"QUIT\r\n",
        b"OPTIONS * RTSP/1.0\r\n\r\n",
        PREFACE,
        b"\x16\x02",
        b"\x16",
    ],
)
@pytest.mark.parametrize("pause", [0.0, 0.3])
@pytest.mark.parametrize("known", [False, True])
def test_no_door_past_rules(first: bytes, pause: float, known: bool) -> None:
    with World(**RULES) as world:
        if known:
            _answer_one(world)
        client = world.client()
        client.sends(first)
        world.passes(pause)
        if not client.gone:
            client.sends(DOOR)
        assert client.takes().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
        world.no_more_apps()
        client.ends()
        assert client.state == "closed"
        assert world.statuses[-1] in (400, 505)
        assert world.flags[-1] == "DPE"


def test_bytes_one_by_one_open_no_door() -> None:
    with World(**RULES) as world:
        client = world.client()
        for byte in b"BREW / HTTP/1.1":
            client.sends(bytes([byte]))
            world.passes(0.2)
        client.sends(b"\r\n\r\n")  # no Host
        client.got_reply(400, "DPE")
        world.no_more_apps()


PIECES = [
    *(b"GET", b" ", b"/", b"/x", b" HTTP/1.1", b"HTTP/2.0", b"\r\n", b"\n", b"\r\n\r\n", b"Host: a", b"\0", b"\x0b"),
    *(b"\x16", b"\x03", b"A" * 4097, b"<190>", b"{", b"brew", PREFACE, DOOR),
]


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([0.0, 0.06, 0.2])), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_however_slowly_the_app_gets_requests_alone(pieces: list[tuple[bytes, float]]) -> None:
    with World(**RULES) as world:
        client = world.client()
        for piece, pause in [*pieces, (DOOR, 0.0)]:
            if not client.gone:
                client.sends(piece)
                world.passes(pause)
        for app in world.apps:
            assert ADDED in app.takes()
            assert b"/admin" not in app.received
            assert app.received.count(b" HTTP/1.1\r\n") == app.received.count(ADDED)
        client.takes()
        client.closes()


@conversation(**RULES, cut=False)
def test_tls_is_closed_where_there_are_rules(world: World) -> None:
    client = world.client()
    client.sends(CLIENT_HELLO)
    assert client.closed
    client.got()
    world.no_more_apps()
    (entry,) = world.log.entries
    assert (entry.status, entry.flag, entry.cluster) == (0, "DPE", None)
    assert entry.error == "this is TLS, and the listener has rules that only HTTP/1 can be held to"
    assert _detected(world) == {"tls": 1}
    assert world.counts == {(0, "DPE"): 1}


@conversation(**RULES)
def test_http2_is_refused_where_there_are_rules(world: World) -> None:
    client = world.client()
    client.sends(PREFACE)
    client.got_reply(505, "DPE", "HTTP version")
    assert _detected(world) == {"http2": 1}
    world.no_more_apps()


@conversation(**RULES, drop=False)
def test_what_is_not_http_is_refused_where_there_are_rules(world: World) -> None:
    client = world.client()
    client.sends(b"<190>1 - GET / HTTP/1.1\n")
    client.got_reply(400, "DPE", "this is not HTTP/1, and the listener has rules")
    assert client.state == "half-closed"
    client.ends()
    assert client.state == "closed"
    assert _detected(world) == {"tcp": 1}
    assert world.counts == {(400, "DPE"): 1}
    world.no_more_apps()


@conversation(**RULES, cut=False)
def test_a_word_and_the_end_where_there_are_rules(world: World) -> None:
    client = world.client()
    with world.at_once():
        client.sends(b"finger")
        client.ends()
    client.got_reply(400, "DPE")
    world.no_more_apps()


@conversation(**RULES, drop=False)
def test_a_silent_client_where_there_are_rules(world: World) -> None:
    client = world.client()
    world.passes(10)
    assert client.state == "open"
    world.passes(0.2)
    assert client.closed
    assert world.flags == [""]
    world.no_more_apps()


NAMED = {**RULES, "listener": {**AUTO, "cluster": "app"}}


@conversation(**NAMED)
def test_a_cluster_that_is_named_gets_what_is_not_http_past_rules(world: World) -> None:
    client = world.client()
    client.sends(b"*1\r\n$4\r\nPING\r\n")
    app = world.app()
    app.got(b"*1\r\n$4\r\nPING\r\n")
    app.sends(b"+PONG\r\n")
    client.got(b"+PONG\r\n")


def test_rules_that_a_reload_brings_hold_for_who_has_not_spoken() -> None:
    with World(listener=AUTO) as world:
        early, late = world.client(), world.client()
        early.sends(b"ru")
        world.listener.settings = replace(world.listener.settings, tcp_cluster=None)
        early.sends(b"ok\r\n")
        early.got_reply(400, "DPE")
        world.passes(0.2)
        world.no_more_apps()
        late.sends(b"<190>")
        late.got_reply(400, "DPE")
        world.no_more_apps()


def test_rules_that_a_reload_brings_while_the_app_is_asked() -> None:
    with World(listener=AUTO) as world:
        client, other = _silent(world, 2)
        world.passes(0.2)
        app = world.app()
        world.listener.settings = replace(world.listener.settings, tcp_cluster=None)
        app.sends(b"220 mail\r\n")
        assert app.closed
        world.passes(0.2)
        world.no_more_apps()
        for each in (client, other):
            each.got()
            each.sends(b"EHLO a\r\n")
            each.got_reply(400, "DPE")


# --- what looks like broken HTTP ---


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET /a b HTTP/1.1\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\n", 400),
        (b" GET / HTTP/1.1\r\n", 400),
        (b"\x0bGET / HTTP/1.1\r\n", 400),
        (b"GET / http/1.1\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET /\0 HTTP/1.1\r\n", 400),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n", 414),
    ],
)
def test_broken_http_is_refused_whatever_the_app_speaks(line: bytes, status: int) -> None:
    for known in (False, True):
        with World(listener=AUTO) as world:
            if known:
                _answer_one(world)
            client = world.client()
            client.sends(line, b"Host: a\r\n\r\n")
            client.got_reply(status, "DPE")
            world.no_more_apps()


#: these might be of another protocol, so they are for an app of which nothing is known
PERHAPS = {"http-0.9", "version-of-another-protocol", "line-method-not-a-token", "line-no-method"}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_protocol_http_refuses(case: Refused, known: bool) -> None:
    with World(listener=AUTO) as world:
        if known:
            _answer_one(world)
        client = world.client()
        client.sends(case.raw)
        if not known and case.name in PERHAPS:
            world.app().got(case.raw)
        else:
            assert client.takes().startswith(b"HTTP/1.1 %d " % case.status)
            world.no_more_apps()


SUSPECTS = [
    b"GET\r\nHost: a\r\n\r\n",
    b"\0 / HTTP/1.1\r\n\r\n",
    b"GET /\r\n",
    b"BREW  / HTTP/1.1\r\n\r\n",
    b"BREW /\x01 HTTP/1.1\r\n\r\n",
    b"A" * 4097,
]


@pytest.mark.parametrize("word", SUSPECTS)
def test_suspects_are_refused_at_once_where_the_app_speaks_http(word: bytes) -> None:
    with World(listener=AUTO) as world:
        _answer_one(world)
        client = world.client()
        client.sends(word)
        client.got_reply(400, "DPE")
        world.no_more_apps()


@pytest.mark.parametrize("word", SUSPECTS)
def test_suspects_are_relayed_where_nothing_is_known(word: bytes) -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        client.sends(word)
        world.app().got(word)
        assert _detected(world) == {"tcp": 1}


@pytest.mark.parametrize("word", [b'SET a "GET / HTTP/1.1"\r\n', b"{}", b"OPTIONS rtsp://a/ RTSP/1.0\r\n", PREFACE])
def test_another_protocol_is_relayed_even_where_the_app_speaks_http(word: bytes) -> None:
    with World(listener=AUTO) as world:
        _answer_one(world)
        client = world.client()
        client.sends(word)
        world.app().got(word)


# --- silent clients ---


def test_silent_clients_cost_an_unknown_app_one_connection_for_a_moment() -> None:
    with World(listener=AUTO, cluster={"circuit_breaker": {"max_connections": 2}}) as world:
        clients = [world.client() for _ in range(30)]
        world.passes(0.2)
        app = world.app()
        assert world.pooled() == "open=1 idle=0 connecting=0 pending=0"
        world.passes(1.0)
        assert app.state == "open"
        world.passes(0.5)
        assert app.closed  # a second and a half without a word
        assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
        clients += [world.client() for _ in range(30)]
        world.passes(8.4)
        assert not any(client.gone for client in clients)
        world.passes(0.2)
        assert all(client.closed for client in clients[:30])  # by the head timeout
        world.passes(2)
        assert all(client.closed for client in clients)
        world.no_more_apps()
        assert set(world.flags) == {"SI"}
        assert world.cluster.endpoints[0].failures_total == 0


def test_a_request_ends_the_question_who_speaks_first() -> None:
    """An app with one worker would answer it only when the question's connection is closed."""
    with World(listener=AUTO, cluster={"circuit_breaker": {"max_connections": 1, "max_pending": 0}}) as world:
        silent = world.client()
        world.passes(0.2)
        asked = world.app()
        client = world.client()
        client.sends(GET)
        assert asked.closed
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        world.passes(5)
        world.no_more_apps()  # by now it is known to speak HTTP
        assert silent.state == "open"


def test_an_app_that_speaks_http_is_not_asked() -> None:
    with World(listener=AUTO) as world:
        _answer_one(world)
        silent = [world.client() for _ in range(5)]
        world.passes(9)
        assert all(client.state == "open" for client in silent)
        silent[0].sends(GET)  # late, and treated as any other
        app = world.apps[0]
        app.got(GOT_GET)
        app.sends(OK)
        silent[0].got(GOT_OK)
        world.passes(2)
        assert all(client.closed for client in silent[1:])
        assert set(world.flags) == {""}  # connections that were opened in advance, most likely
        world.no_more_apps()


def test_all_who_wait_are_dialled_once_the_app_has_spoken_first() -> None:
    with World(listener=AUTO) as world:
        clients = _silent(world, 4)
        world.passes(0.2)
        first = world.app()
        world.no_more_apps()
        first.sends(b"220 one\r\n")
        clients[0].got(b"220 one\r\n")
        for client in clients[1:]:
            app = world.app()
            app.sends(b"220 more\r\n")
            client.got(b"220 more\r\n")
        later = world.client()  # known by now: no detour
        world.passes(0.11)
        app = world.app()
        also = world.client()
        world.passes(0.11)
        world.app()
        later.got()
        app.sends(b"220 later\r\n")
        later.got(b"220 later\r\n")
        also.sends(b"EHLO a\r\n")
        world.apps[-1].got(b"EHLO a\r\n")


def test_a_greeting_in_pieces_and_one_that_begins_like_http() -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        world.passes(0.2)
        app = world.app()
        app.sends(b"H")
        client.got()
        app.sends(b"ELLO\r\n")
        client.got(b"HELLO\r\n")


def test_an_app_that_is_tired_of_waiting_does_not_greet() -> None:
    with World(listener=AUTO) as world:
        clients = [world.client() for _ in range(3)]
        world.passes(0.2)
        app = world.app()
        app.sends(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert app.closed
        world.passes(3)
        world.no_more_apps()
        assert all(client.state == "open" for client in clients)


def test_what_was_learned_is_forgotten_after_some_minutes() -> None:
    with World(listener=AUTO) as world:
        world.client()
        world.passes(2)
        world.app()
        world.passes(285)
        world.client()
        world.passes(12)
        world.no_more_apps()
        world.passes(5)
        late = world.client()  # an app that greets has taken the place of the other one
        world.passes(0.2)
        app = world.app()
        app.sends(b"220 new\r\n")
        late.got(b"220 new\r\n")
        app.closes()
        late.closes()
        world.passes(310)
        clients = [world.client() for _ in range(3)]
        world.passes(0.2)
        world.app()
        world.no_more_apps()
        assert all(client.state == "open" for client in clients)


def test_what_was_learned_is_forgotten_with_the_endpoints() -> None:
    with World(listener=AUTO) as world:
        world.client()
        world.passes(11)
        world.app()
        world.cluster._set_endpoints([Found(EndpointConfig(address=Address.parse("10.0.1.2:8080")))])
        client = world.client()
        world.passes(0.2)
        app = world.app("10.0.1.2:8080")
        app.sends(b"hello")
        client.got(b"hello")


def test_who_is_asked_about_may_speak_meanwhile() -> None:
    with World(listener=AUTO) as world:
        client, other = _silent(world, 2)
        world.passes(0.2)
        app = world.app()
        client.sends(b"*1\r\n")  # takes the connection over
        app.got(b"*1\r\n")
        app.sends(b"+OK\r\n")
        client.got(b"+OK\r\n")
        world.no_more_apps()
        world.passes(1.1)
        app = world.app()  # the other one still waits to know
        app.sends(b"hello")
        other.got(b"hello")


def test_who_is_asked_about_may_speak_while_the_app_is_dialled() -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        world.hold()
        world.passes(0.2)
        client.sends(b"*1\r\n")
        assert world.pooled() == "open=1 idle=0 connecting=0 pending=0"  # a relay's place
        world.let_in()
        world.app().got(b"*1\r\n")
        world.no_more_apps()


def test_who_is_asked_about_may_leave() -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        world.passes(0.2)
        app = world.app()
        client.closes()
        assert app.state == "half-closed"  # an end without a word is the client's, not HTTP's
        app.closes()
        gone = world.client()
        world.passes(1.2)
        app = world.app()
        gone.resets()
        assert app.state == "open"
        app.sends(b"hello")
        assert app.closed
        late = world.client()  # what was learned serves the next
        world.passes(0.11)
        app = world.app()
        app.sends(b"hello")
        late.got(b"hello")


def test_an_app_that_is_down_teaches_nothing() -> None:
    with World(listener=AUTO, cluster={"outlier_detection": {"consecutive_local_failures": 1}}) as world:
        world.refuse()
        clients = _silent(world, 3)
        world.passes(3)
        assert 2 <= len(world.dialled) <= 4  # once a second, not once for each
        assert all(client.state == "open" for client in clients)
        assert not world.cluster.endpoints[0].ejected
        world.unreachable.clear()
        world.passes(1.1)
        app = world.app()
        app.sends(b"hello")
        clients[0].got(b"hello")
        for client in clients[1:]:
            app = world.app()
            app.sends(b"hello")
            client.got(b"hello")


def test_an_app_that_greets_and_is_down_holds_nobody_up() -> None:
    with World(listener=AUTO) as world:
        _greet(world)
        world.refuse()
        client, other = _silent(world, 2)
        world.passes(0.2)
        assert client.state == other.state == "open"
        client.sends(GET)
        client.got_reply(503, "UF", close=False)
        world.unreachable.clear()
        world.passes(1.1)
        app = world.app()
        app.sends(b"hello")
        other.got(b"hello")


def test_an_app_that_greets_and_breaks_off() -> None:
    for leave in (App.ends, App.closes, App.resets):
        with World(listener=AUTO) as world:
            _greet(world)
            client = world.client()
            world.passes(0.11)
            leave(world.app())
            assert client.state == "open"
            assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
            client.sends(GET)
            app = world.app()
            app.got(GOT_GET)
            app.sends(OK)
            client.got(GOT_OK)


def test_a_full_cluster_is_not_asked() -> None:
    with World(listener=AUTO, cluster={"circuit_breaker": {"max_connections": 1}}) as world:
        talking = world.client()
        talking.sends(b"*1\r\n")
        world.app().got(b"*1\r\n")
        silent = world.client()
        world.passes(3)
        world.no_more_apps()
        assert silent.state == "open"
        talking.closes()
        world.apps[0].closes()
        world.passes(1.1)
        app = world.app()
        app.sends(b"hello")
        silent.got(b"hello")


def test_a_cluster_without_endpoints_is_not_asked() -> None:
    with World(listener=AUTO) as world:
        world.cluster._set_endpoints([])
        client = world.client()
        world.passes(2)
        client.sends(GET)
        client.got_reply(503, "UH", close=False)
        world.no_more_apps()


def test_closing_the_cluster_ends_the_question() -> None:
    with World(listener=AUTO) as world:
        client, other = _silent(world, 2)
        world.passes(0.2)
        app = world.app()
        world.cluster.close()
        world.loop.run()
        assert app.closed
        world.passes(1)
        late = world.client()
        world.passes(10.2)
        assert client.closed
        assert other.closed
        world.passes(1)
        assert late.closed
        world.no_more_apps()


def test_draining_ends_the_wait() -> None:
    with World(listener=AUTO) as world:
        client = world.client()
        world.passes(0.2)
        app = world.app()
        world.listener.drain()
        world.passes(1.1)
        assert client.closed
        world.passes(0.5)
        assert app.closed


def test_protocol_tcp_dials_for_every_client() -> None:
    with World(listener={"protocol": "tcp", "cluster": "app"}) as world:
        for _ in range(3):
            world.client()
            world.app()
        assert world.dialled == [FIRST] * 3
