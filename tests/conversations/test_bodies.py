"""Bodies: both framings, both ways, streamed, with trailers, without; early answers; back-pressure."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    ANSWERED,
    DATE,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    SERVICE_TIME,
    App,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 6")
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 6", *FORWARDED)
POST_CHUNKED = head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
GOT_POST_CHUNKED = head("POST / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked")
CHUNKED = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
GOT_CHUNKED = head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked")


# --- requests ---


@conversation()
def test_request_with_content_length(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    app = world.app()
    app.got(GOT_POST, b"abc")  # at once, not when all of it is here
    client.sends(b"def")
    app.got(b"def")
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(POST, b"GET / ")
    app.got(GOT_POST, b"GET / ")
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_request_in_chunks(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunk(b"abc"))
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunk(b"abc"))
    client.sends(b"3;name=value\r\ndef\r\n", b"000A \r\n"[:4], b"\r\n0123456789\r\n")
    app.got(chunk(b"def"), chunk(b"0123456789"))
    client.sends(b"0;last\r\n\r\n")
    app.got(b"0\r\n\r\n")
    app.sends(OK)
    client.got(GOT_OK)
    entry = world.log.entries[0]
    assert (entry.received, entry.sent) == (16, 2)


@conversation()
def test_empty_chunked_request(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunked())
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunked())
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_request_trailers(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunked(b"abc", trailers=("X-Sum: 1", "x-sum: 2")))
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunked(b"abc", trailers=("X-Sum: 1", "x-sum: 2")))
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_trailers_without_a_body(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunked(trailers=("X-Sum: 1",)))
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunked(trailers=("X-Sum: 1",)))
    app.sends(CHUNKED, chunked(trailers=("X-Sum: 2",)))
    client.got(GOT_CHUNKED, chunked(trailers=("X-Sum: 2",)))
    client.sends(GET)
    app.got(GOT_GET)


@conversation()
def test_content_length_zero_is_passed_on(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 0"))
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 0", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_get_with_a_body(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Content-Length: 3"), b"abc", GET)
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", "Content-Length: 3", *FORWARDED), b"abc")
    app.sends(OK)
    client.got(GOT_OK)
    app.got(GOT_GET)


# --- responses ---


@conversation()
def test_response_with_content_length(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 6", DATE), b"abc")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 6", DATE, SERVICE_TIME), b"abc")
    app.sends(b"def")
    client.got(b"def")
    client.sends(GET)
    app.got(GOT_GET)


@conversation()
def test_response_in_chunks_with_trailers(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(CHUNKED, b"003\r\nabc\r\n")
    client.got(GOT_CHUNKED, chunk(b"abc"))
    app.sends(b'3;x="y;z"\r\ndef\r\n')
    client.got(chunk(b"def"))
    app.sends(b"0\r\nX-Sum: 1\r\n\r\n")
    client.got(b"0\r\nX-Sum: 1\r\n\r\n")
    client.sends(GET)
    app.got(GOT_GET)


@conversation()
def test_response_until_the_end_of_the_connection(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK"), b"abc")
    client.got(GOT_CHUNKED, chunk(b"abc"))
    app.sends(b"def")
    client.got(chunk(b"def"))
    app.closes()
    client.got(b"0\r\n\r\n")
    assert client.state == "open"
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation()
def test_response_until_the_end_for_http_1_0(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.0 200 OK"), b"abc")
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "connection: close"), b"abc")
    app.closes()
    assert client.state == "closed"


@conversation(drop=False)  # after a step the answer to HEAD looks as if it were cut short
def test_head(world: World) -> None:
    client = world.client()
    client.sends(head("HEAD / HTTP/1.1", "Host: a"), head("HEAD / HTTP/1.1", "Host: a"), GET)
    app = world.app()
    app.got(head("HEAD / HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2"))
    client.forgets()
    app.got(head("HEAD / HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED))
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    world.no_more_apps()


@conversation()
def test_204_and_304(world: World) -> None:
    client = world.client()
    client.sends(GET, GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 204 No Content"))
    client.got(head("HTTP/1.1 204 No Content", *ANSWERED))
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 304 Not Modified", "ETag: x"))
    client.got(head("HTTP/1.1 304 Not Modified", "ETag: x", *ANSWERED))
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    world.no_more_apps()


@conversation()
def test_204_with_a_length_and_304_with_the_length_of_a_get(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 204 No Content", "Content-Length: 0", "X-A: b"))
    client.got(head("HTTP/1.1 204 No Content", "X-A: b", *ANSWERED))
    client.sends(GET)
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 304 Not Modified", "Content-Length: 5"))
    assert client.takes() == head("HTTP/1.1 304 Not Modified", "Content-Length: 5", *ANSWERED)
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation()
def test_empty_responses(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0"))
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 0", *ANSWERED))
    app.got(GOT_GET)
    app.sends(CHUNKED, chunked())
    client.got(GOT_CHUNKED, chunked())


# --- an answer before the request's end ---


@conversation()
def test_early_answer_keeps_the_clients_connection_but_not_the_apps(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    app = world.app()
    app.got(GOT_POST, b"abc")
    app.sends(OK)
    client.got(GOT_OK)
    assert app.state == "closed"
    assert client.state == "open"
    client.sends(b"GET", GET[:10])
    client.sends(GET[10:])
    app = world.app()
    app.got(GOT_GET)  # the rest of the body was thrown away, nothing else was
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_early_answer_to_a_chunked_request(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunk(b"abc"))
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunk(b"abc"))
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(chunk(b"def"), chunked(trailers=("X-Sum: 1",)), GET)
    app = world.app()
    app.got(GOT_GET)


@conversation()
def test_early_head_and_the_request_goes_on(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    app = world.app()
    app.got(GOT_POST, b"abc")
    app.sends(CHUNKED, chunk(b"1"))
    client.got(GOT_CHUNKED, chunk(b"1"))
    client.sends(b"def")
    app.got(b"def")
    app.sends(chunked(b"2"))
    client.got(chunked(b"2"))
    assert app.state == client.state == "open"
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(cut=False)
def test_early_answer_and_more_body_than_is_worth_reading(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000"))
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(bytes(262144))
    assert client.state == "open"
    client.sends(b"x")
    assert client.state == "half-closed"
    client.sends(bytes(100000))
    world.passes(2.1)
    assert client.state == "closed"


@conversation(cut=False, drop=False)
def test_early_answer_and_a_body_that_does_not_end(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    app = world.app()
    app.got(GOT_POST, b"abc")
    app.sends(OK)
    client.got(GOT_OK)
    world.passes(2.1)
    assert client.state == "closed"


@conversation()
def test_early_answer_and_malformed_rest(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunk(b"abc"))
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunk(b"abc"))
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(b"x\r\n")
    assert client.state == "half-closed"  # no second answer


# --- back-pressure ---


@conversation(cut=False)
def test_a_slow_app_pauses_the_client(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000"))
    app = world.app()
    app.takes()
    app.stalls()
    client.sends(bytes(65536))
    assert not client.is_paused()
    client.sends(bytes(65536))
    assert client.is_paused()
    client.sends(bytes(300000))
    assert len(app.transport.buffer) == 131072
    app.reads(131072 - 17)
    assert client.is_paused()
    app.reads(1)
    assert client.is_paused()  # what was waiting has filled the buffer again
    app.reads()
    assert not client.is_paused()
    assert len(app.takes()) == 131072 + 300000
    assert client.transport.pauses == client.transport.resumes == 2


@conversation(cut=False)
def test_an_app_that_is_slow_from_the_start_pauses_the_client(world: World) -> None:
    world.on_accept = App.stall
    world.hold()
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000"))
    client.sends(bytes(200000))
    assert client.is_paused()  # there is no connection yet
    world.let_in()
    app = world.app()
    assert client.is_paused()
    app.reads()
    assert not client.is_paused()
    app.takes()


@conversation(cut=False)
def test_a_slow_client_pauses_the_app(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 1000000"))
    app.sends(bytes(65000))
    assert not app.is_paused()
    app.sends(bytes(65000))
    assert app.is_paused()
    app.sends(bytes(870000))
    assert len(client.transport.buffer) < 140000
    client.reads(100)
    assert app.is_paused()
    client.reads()
    assert not app.is_paused()
    assert len(client.takes()) > 1000000
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    assert app.transport.pauses == app.transport.resumes


@conversation(cut=False)
def test_an_app_that_was_paused_at_its_last_byte_is_reused(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100000"), bytes(100000))
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    assert not app.is_paused()
    other = world.client()
    other.sends(GET)
    app.got(GOT_GET)
    app.sends(OK)
    other.got(GOT_OK)
    client.reads()
    client.takes()


@conversation(cut=False)
def test_both_ways_paused_at_once(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"))
    app = world.app()
    app.takes()
    app.sends(CHUNKED)
    client.takes()
    client.stalls()
    app.stalls()
    for _ in range(20):
        client.sends(chunk(bytes(20000)))
        app.sends(chunk(bytes(20000)))
    assert client.is_paused()
    assert app.is_paused()
    assert len(client.transport.buffer) < 90000
    assert len(app.transport.buffer) < 90000
    app.reads()
    client.reads()
    assert not client.is_paused()
    assert not app.is_paused()
    client.sends(b"0\r\n\r\n")
    app.sends(b"0\r\n\r\n")
    assert app.takes().count(0) == client.takes().count(0) == 400000
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(cut=False)
def test_a_body_waits_while_there_is_no_connection(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1000000"), bytes(1000))
    client.sends(bytes(200000))
    client.sends(bytes(200000))
    assert client.is_paused()
    world.passes(6)
    assert not client.is_paused()
    client.got_reply(503, "UF", "no connection to 10.0.1.1:8080 within 5 s")


@conversation(cut=False)
def test_a_chunked_body_that_began_while_connecting(world: World) -> None:
    with world.at_once():
        client = world.client()
        client.sends(POST_CHUNKED, chunk(b"abc"))
        client.sends(chunk(b"def"))
        client.sends(chunked(b"ghi", trailers=("X-Sum: 1",)))
        client.sends(GET)
    app = world.app()
    app.got(GOT_POST_CHUNKED, chunked(b"abcdefghi", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)
    app.got(GOT_GET)


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 300_000])
def test_large_bodies_arrive_whole(size: int) -> None:
    body = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    body = body[:size]
    with World() as world:
        client = world.client()
        client.sends(head("PUT / HTTP/1.1", "Host: a", f"Content-Length: {size}"), body)
        app = world.app()
        app.got(head("PUT / HTTP/1.1", "Host: a", f"Content-Length: {size}", *FORWARDED), body)
        app.sends(head("HTTP/1.1 200 OK", f"Content-Length: {size}"), body)
        client.got(head("HTTP/1.1 200 OK", f"Content-Length: {size}", *ANSWERED), body)
        entry = world.log.entries[0]
        assert (entry.received, entry.sent) == (size, size)
