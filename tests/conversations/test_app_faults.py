"""Apps that break off, break the protocol, or say more than they were asked."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    ANSWERED,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    App,
    World,
    conversation,
)
from tests.support.wire import chunk, head

MALFORMED = {
    "length and coding": head("HTTP/1.1 200 OK", "Content-Length: 3", "Transfer-Encoding: chunked"),
    "two lengths": head("HTTP/1.1 200 OK", "Content-Length: 3", "Content-Length: 4"),
    "the same length twice": head("HTTP/1.1 200 OK", "Content-Length: 3", "Content-Length: 3"),
    "a list of lengths": head("HTTP/1.1 200 OK", "Content-Length: 3, 3"),
    "negative length": head("HTTP/1.1 200 OK", "Content-Length: -3"),
    "length in hex": head("HTTP/1.1 200 OK", "Content-Length: 0x3"),
    "gzip, chunked": head("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"),
    "xchunked": head("HTTP/1.1 200 OK", "Transfer-Encoding: xchunked"),
    "two codings": head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "coding in 1.0": head("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"),
    "look-alike": head("HTTP/1.1 200 OK", "Transfer_Encoding: chunked"),
    "two digits": head("HTTP/1.1 20 OK"),
    "four digits": head("HTTP/1.1 2000 OK"),
    "status 099": head("HTTP/1.1 099 OK"),
    "no status": head("HTTP/1.1"),
    "version 2": head("HTTP/2.0 200 OK"),
    "lower case": head("http/1.1 200 OK"),
    "not HTTP": b"220 mail.example ESMTP\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
    "bare LFs": b"HTTP/1.1 200 OK\n\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "space before the colon": head("HTTP/1.1 200 OK", "Content-Length : 3"),
    "no colon": head("HTTP/1.1 200 OK", "X"),
    "NUL": head("HTTP/1.1 200 OK", "X: \0"),
    "control character": head("HTTP/1.1 200 \x01"),
    "too many fields": head("HTTP/1.1 200 OK", *["X: 1"] * 201),
    "too large": head("HTTP/1.1 200 OK", "X: " + "x" * 70000),
    "too large and endless": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
def test_malformed_answers_become_502(answer: bytes) -> None:
    places = range(1, len(answer)) if len(answer) < 200 else ()
    for cut in (set[int](), *({place} for place in places)):
        with World() as world:
            world.cuts[App] = frozenset(cut)
            client = world.client()
            client.sends(GET)
            app = world.app()
            app.got(GOT_GET)
            app.sends(answer, b"abc")
            client.got_reply(502, "UPE", "cluster app, endpoint 10.0.1.1:8080, 1 attempt", close=False)
            assert app.state == "closed" or app.reset
            assert world.counts == {(502, "UPE"): 1}
            assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
            client.sends(GET)  # the client's connection is as good as before
            world.app().got(GOT_GET)


CHUNKS = {
    "not hex": b"x\r\n",
    "longer than it says": b"3\r\nabcd\r\n",
    "bare LF": b"3\nabc\r\n",
    "trailer: length": b"0\r\nContent-Length: 3\r\n\r\n",
    "trailer: folded": b"0\r\nX: 1\r\n 2\r\n\r\n",
}


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("together", [False, True])
def test_malformed_chunks_abort_the_client(data: bytes, *, together: bool) -> None:
    for place in range(len(data)):
        with World() as world:
            client = world.client()
            client.sends(GET)
            app = world.app()
            app.got(GOT_GET)
            first = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + chunk(b"abc")
            if together:
                world.cuts[App] = frozenset({len(first) + place})
                app.sends(first, data)
            else:
                world.cuts[App] = frozenset({len(first) + place})
                app.sends(first)
                app.sends(data)
            assert app.closed
            assert b"0\r\n\r\n" not in client.received
            if client.received.startswith(b"HTTP/1.1 502"):
                client.got_reply(502, "UPE", close=False)
            else:
                assert client.takes().startswith(b"HTTP/1.1 200 OK")
                assert client.state == "reset"
            assert world.flags == ["UPE"]


# --- breaking off ---


@conversation()
def test_an_app_that_closes_without_an_answer(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.closes()
    client.got_reply(503, "UC", "closed", "cluster app, endpoint 10.0.1.1:8080, 1 attempt", close=False)
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation()
def test_an_app_that_resets_without_an_answer(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.resets()
    client.got_reply(503, "UC", "reset", close=False)


@conversation()
def test_an_app_that_closes_within_its_head(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK[:20])
    app.closes()
    client.got_reply(503, "UC", "within a response head", close=False)


@conversation()
def test_a_body_cut_short_is_never_passed_off_as_whole(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 6"), b"abc")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 6", *ANSWERED), b"abc")
    app.closes()
    assert client.state == "reset"
    assert world.flags == ["UC"]
    assert world.statuses == [200]
    world.no_more_apps()


@conversation()
def test_a_chunked_body_cut_short(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"abc"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunk(b"abc"))
    app.closes()
    assert client.state == "reset"


@conversation()
def test_a_chunked_body_cut_short_for_http_1_0_does_not_end_well(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"abc"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "connection: close"), b"abc")
    app.closes()
    assert client.state == "reset"  # an end of stream would mean: complete


@conversation()
def test_a_body_until_close_that_is_reset(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK"), b"abc")
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunk(b"abc"))
    app.resets()
    assert client.state == "reset"


@conversation(cut=False)
def test_a_body_cut_short_while_the_client_is_slow(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 600000"), bytes(200000))
    app.closes()
    client.reads()
    client.takes()
    assert client.state == "reset"


@conversation()
def test_an_app_that_ends_its_side_after_its_answer(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    with world.at_once():
        app.sends(OK)
        app.ends()
    client.got(GOT_OK)
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    client.sends(GET)
    world.app().got(GOT_GET)


@conversation()
def test_an_app_that_refuses_a_body_and_resets(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abc")
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6", *FORWARDED), b"abc")
    app.resets()
    client.got_reply(503, "UC")  # with the body under way its connection cannot be kept
    client.sends(b"def")
    assert client.state == "half-closed"


# --- saying more ---


@conversation()
def test_what_follows_a_response_reaches_nobody(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK, head("HTTP/1.1 200 OK", "Content-Length: 3"), b"bad")
    client.got(GOT_OK)
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False)
def test_what_follows_a_response_later_reaches_nobody(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    app.sends(b"H")
    assert app.closed
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    client.sends(GET)
    world.app().got(GOT_GET)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", OK),
        ("GET", head("HTTP/1.1 204 No Content") + b"abc"),
        ("GET", head("HTTP/1.1 304 Not Modified", "Content-Length: 3") + b"abc"),
        ("GET", OK + b"\r\n"),
        ("GET", head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"0\r\n\r\n0\r\n\r\n"),
        ("GET", head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"0\r\nX: 1\r\n\r\n0\r\n\r\n"),
    ],
)
def test_surplus_bytes_end_the_connection(method: str, answer: bytes) -> None:
    for place in range(len(answer)):
        with World() as world:
            world.cuts[App] = frozenset({place})
            client = world.client()
            client.sends(head(f"{method} / HTTP/1.1", "Host: a"))
            app = world.app()
            app.takes()
            app.sends(answer)
            client.takes()
            assert app.closed
            assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
            client.sends(GET)
            app = world.app()
            app.got(GOT_GET)
            app.sends(OK)
            client.got(GOT_OK)


@conversation()
def test_an_app_that_speaks_before_it_is_asked(world: World) -> None:
    world.on_accept = lambda app: app.put(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    client = world.client()
    client.sends(GET)
    reply = client.takes()
    assert reply.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 502 ", b"HTTP/1.1 408 ")), reply
    assert world.active() == 0
    assert world.pool.open == 0
    world.app().takes()


@conversation()
def test_an_app_that_closes_as_soon_as_it_accepts(world: World) -> None:
    world.on_accept = App.close
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "UC", close=False)
    assert world.active() == 0
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    world.app().takes()


@conversation()
def test_an_app_that_resets_as_soon_as_it_accepts(world: World) -> None:
    world.on_accept = App.kill
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "UC", close=False)
    assert world.active() == 0
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    world.app().takes()
