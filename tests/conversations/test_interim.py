"""1xx responses and `Expect: 100-continue`, passed end to end."""

from __future__ import annotations

from tests.conversations.world import (
    ANSWERED,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

EXPECT = head("POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-continue")
GOT_EXPECT = head("POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-continue", *FORWARDED)
CONTINUE = head("HTTP/1.1 100 Continue")
CLOSING_417 = head("HTTP/1.1 417 Expectation Failed", "Content-Length: 0", *ANSWERED, "connection: close")


@conversation()
def test_interim_responses_are_passed_on(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 103 Early Hints", "Link: </a>", "Link: </b>", "Connection: x-a", "X-A: 1"))
    client.got(head("HTTP/1.1 103 Early Hints", "Link: </a>", "Link: </b>"))
    app.sends(head("HTTP/1.1 102 Processing"), head("HTTP/1.1 199 Odd"), OK)
    client.got(head("HTTP/1.1 102 Processing"), head("HTTP/1.1 199 Odd"), GOT_OK)
    app.got(GOT_GET)
    assert world.counts == {(200, ""): 1}


@conversation()
def test_a_length_in_an_interim_response_means_nothing(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 103 Early Hints", "Content-Length: 5"), OK)
    client.got(head("HTTP/1.1 103 Early Hints"), GOT_OK)
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation()
def test_the_app_says_when_to_continue(world: World) -> None:
    client = world.client()
    client.sends(EXPECT)
    app = world.app()
    app.got(GOT_EXPECT)
    client.got()
    app.sends(CONTINUE)
    client.got(CONTINUE)
    client.sends(b"abc")
    app.got(b"abc")
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(GET)
    app.got(GOT_GET)


@conversation()
def test_continue_in_chunks(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Expect: 100-Continue", "Transfer-Encoding: chunked"))
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Expect: 100-Continue", *FORWARDED, "transfer-encoding: chunked"))
    app.sends(CONTINUE)
    client.got(CONTINUE)
    client.sends(chunked(b"abc"))
    app.got(chunked(b"abc"))
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_a_client_that_does_not_wait(world: World) -> None:
    client = world.client()
    client.sends(EXPECT, b"abc", GET)
    app = world.app()
    app.got(GOT_EXPECT, b"abc")
    app.sends(OK)
    client.got(GOT_OK)  # its body came, so its connection can be kept
    app.got(GOT_GET)


@conversation()
def test_the_app_refuses_the_body(world: World) -> None:
    client = world.client()
    client.sends(EXPECT)
    app = world.app()
    app.got(GOT_EXPECT)
    app.sends(head("HTTP/1.1 417 Expectation Failed", "Content-Length: 0"))
    client.got(CLOSING_417)  # nobody can know whether the body comes
    assert app.state == "closed"
    client.sends(b"abc", GET)
    assert client.state == "half-closed"
    client.ends()
    assert client.state == "closed"
    world.no_more_apps()


@conversation()
def test_the_app_continues_and_then_answers_early(world: World) -> None:
    client = world.client()
    client.sends(EXPECT)
    app = world.app()
    app.got(GOT_EXPECT)
    app.sends(CONTINUE, OK)
    client.got(CONTINUE, GOT_OK)
    client.sends(b"abc", GET)
    app = world.app()
    app.got(GOT_GET)


@conversation()
def test_a_request_that_saw_100_is_not_sent_again(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 3"))
    app.got(head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 3", *FORWARDED))
    app.sends(CONTINUE)
    client.got(CONTINUE)
    app.closes()
    client.got_reply(503, "UC")
    world.no_more_apps()


@conversation(cut=False)
def test_endless_interim_responses_meet_back_pressure(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    hint = head("HTTP/1.1 103 Early Hints", "Link: " + "x" * 900)
    app.sends(hint * 100)
    app.sends(hint * 100)
    assert app.is_paused()
    assert len(client.transport.buffer) < 100 * len(hint) + 65536
    client.reads()
    client.got(hint * 200)


@conversation()
def test_interim_then_malformed(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"abc"))
    app = world.app()
    app.takes()
    app.sends(CONTINUE)
    client.got(CONTINUE)
    app.sends(b"HTTP/1.1 OK\r\n\r\n")
    client.got_reply(502, "UPE")
