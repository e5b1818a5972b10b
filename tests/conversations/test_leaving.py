"""Clients that end their side and stay, and clients that are gone."""

from __future__ import annotations

from tests.conversations.world import (
    ANSWERED,
    DATE,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    Client,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

PROBE = head("HTTP/1.1 100 Continue")


@conversation()
def test_a_client_that_ends_its_side_gets_its_answer(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.ends()
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 6"), b"abc")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 6", *ANSWERED), b"abc")
    app.sends(b"def")
    client.got(b"def")
    assert client.state == "closed"
    assert world.flags == [""]
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(cut=False)
def test_a_client_that_ends_its_side_and_waits_long(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.ends()
    app = world.app()
    app.got(GOT_GET)
    world.passes(0.9)
    client.got()
    world.passes(0.2)
    client.got(PROBE)  # the only way to find out whether it is still there
    world.passes(10)
    app.sends(OK)
    client.got(
        head("HTTP/1.1 200 OK", "Content-Length: 2", "x-envoy-upstream-service-time: 11100", DATE),
        b"ok",
    )
    assert client.state == "closed"


@conversation()
def test_pipelined_requests_before_the_end_are_all_answered(world: World) -> None:
    client = world.client()
    client.sends(GET, GET, GET)
    client.ends()
    app = world.app()
    for _ in range(3):
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
    assert client.state == "closed"
    assert world.flags == ["", "", ""]


@conversation(route={"match": {"method": "GET"}})
def test_pipelined_requests_before_the_end_some_of_them_answered_by_meshlet_itself(world: World) -> None:
    lost = head("PUT / HTTP/1.1", "Host: a")
    client = world.client()
    client.sends(GET, lost, lost, GET)
    client.ends()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    app.got(GOT_GET)
    assert client.takes().count(b"HTTP/1.1 404 ") == 2
    app.sends(OK)
    client.got(GOT_OK)
    assert client.state == "closed"


@conversation(cut=False)
def test_pipelined_requests_before_the_end_and_a_slow_reader(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100000"), bytes(100000))
    client.ends()  # while its first answer is still on its way
    client.reads()
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 100000", *ANSWERED), bytes(100000))
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert client.state == "closed"


@conversation()
def test_part_of_a_request_before_the_end_is_forgotten(world: World) -> None:
    client = world.client()
    client.sends(GET, GET[:-1])
    client.ends()
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert client.state == "closed"
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation()
def test_a_client_that_ends_between_requests(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    client.ends()
    assert client.state == "closed"


@conversation()
def test_a_client_that_comes_and_goes(world: World) -> None:
    client = world.client()
    client.ends()
    assert client.state == "closed"
    other = world.client()
    other.resets()
    assert world.listener.connections == 0
    assert world.counts == {}


@conversation()
def test_a_client_that_ends_within_a_head(world: World) -> None:
    client = world.client()
    client.sends(GET[:-2])
    client.ends()
    assert client.state == "closed"
    world.no_more_apps()


@conversation()
def test_a_client_that_ends_within_a_body(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abc")
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6", *FORWARDED), b"abc")
    client.ends()
    client.got_reply(400, "DPE", "before the end of the request body")
    assert app.state == "closed"  # it has less than was announced, and sees it
    assert client.state == "closed"


@conversation()
def test_a_client_that_ends_within_a_chunked_body(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"abc"))
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"), chunk(b"abc"))
    client.ends()
    client.got_reply(400, "DPE")
    app.got()  # and no last chunk
    assert app.state == "closed"


@conversation()
def test_a_client_that_ends_within_a_body_after_its_answer_began(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abc")
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"1"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunk(b"1"))
    client.ends()
    assert client.state == "reset"
    assert app.state == "closed"
    assert world.flags == ["DPE"]


# --- gone ---


@conversation()
def test_a_client_that_resets_cancels_its_request_at_once(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.resets()
    assert app.state == "closed"
    assert world.counts == {(0, "DC"): 1}
    assert world.flags == ["DC"]
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation()
def test_a_client_that_resets_within_its_answer(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"1"))
    client.takes()
    client.resets()
    assert app.state == "closed"
    assert world.counts == {(200, "DC"): 1}


@conversation()
def test_a_client_that_resets_within_its_request(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abc")
    app = world.app()
    app.takes()
    client.resets()
    assert app.state == "closed"
    assert world.flags == ["DC"]


@conversation(cut=False)
def test_a_client_that_resets_while_we_connect(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(GET)
    client.resets()
    assert world.flags == ["DC"]
    assert world.active() == 0
    assert world.pooled() == "open=0 idle=0 connecting=1 pending=0"
    world.passes(5.1)
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(cut=False)
def test_a_connection_whose_client_has_left_is_kept_for_the_next(world: World) -> None:
    client = world.client()
    world.hold()
    client.sends(GET)
    client.resets()
    world.let_in()
    app = world.app()
    app.got()
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    other = world.client()
    other.sends(GET)
    app.got(GOT_GET)
    app.sends(OK)
    other.got(GOT_OK)


def _wait_for_the_probe(world: World, client: Client) -> None:
    client.closes()
    world.passes(0.1)
    assert world.flags == []
    world.passes(1.0)


@conversation(cut=False)
def test_a_client_that_closed_is_found_out_by_the_probe(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    _wait_for_the_probe(world, client)
    assert app.state == "closed"
    assert world.flags == ["DC"]
    assert world.counts == {(0, "DC"): 1}
    assert world.listener.connections == 0
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(cut=False)
def test_a_client_that_closed_gets_none_of_its_pipelined_requests_done(world: World) -> None:
    client = world.client()
    client.sends(head("POST /1 HTTP/1.1", "Host: a"), head("POST /2 HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head("POST /1 HTTP/1.1", "Host: a", *FORWARDED))
    _wait_for_the_probe(world, client)
    assert app.state == "closed"
    assert world.flags == ["DC"]
    world.no_more_apps()


@conversation(cut=False)
def test_a_client_that_closed_within_its_answer_is_found_out_by_the_next_bytes(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"1"))
    client.takes()
    client.closes()
    app.sends(chunk(b"2"))
    app.sends(chunk(b"3"))
    assert app.state == "closed"
    assert world.flags == ["DC"]


@conversation()
def test_an_answer_after_the_probe(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.ends()
    world.passes(1.1005)
    client.got(PROBE)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunked(b"ok"))
    fields = ("x-envoy-upstream-service-time: 1100", DATE, "transfer-encoding: chunked")
    client.got(head("HTTP/1.1 200 OK", *fields), chunked(b"ok"))
    assert client.state == "closed"


@conversation(cut=False)
def test_http_1_0_is_not_probed(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    client.ends()
    app = world.app()
    app.got(GOT_GET)
    world.passes(5)
    client.got()
    app.sends(OK)
    head_lines = ("x-envoy-upstream-service-time: 5000", DATE, "connection: close")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", *head_lines), b"ok")
    assert client.state == "closed"


@conversation(cut=False)
def test_a_client_that_leaves_without_reading_its_answer(world: World) -> None:
    client = world.client()
    client.stalls()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: close"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100000"), bytes(100000))
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    assert world.active() == 0
    world.passes(31)
    assert client.closed
    assert world.listener.connections == 0


@conversation(cut=False)
def test_a_client_that_left_a_silent_stream_is_noticed(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"event"))
    client.takes()
    client.closes()
    world.passes(1.2)  # a zero before the next chunk's size is answered with a reset
    assert app.state == "closed"
    assert world.flags == ["DC"]


@conversation(cut=False)
def test_a_client_that_ended_its_side_of_a_stream_gets_all_of_it(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"one"))
    client.ends()
    world.passes(5)
    app.sends(chunked(b"two"))
    reply = bytes(client.received)
    assert reply.endswith(b"3\r\none\r\n03\r\ntwo\r\n0\r\n\r\n")
    client.takes()
    assert client.state == "closed"
