"""What is malformed or ambiguous is answered with its status, and nothing of it reaches the app."""

from __future__ import annotations

import pytest

from tests.conversations.world import FORWARDED, GET, GOT_GET, GOT_OK, OK, Client, World, conversation
from tests.support.wire import chunk, head

_HOST = "Host: a"


def post(*lines: str) -> bytes:
    return head("POST / HTTP/1.1", _HOST, *lines)


MALFORMED = {
    "length and coding": post("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "coding and length": post("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
    "two lengths": post("Content-Length: 5", "Content-Length: 6"),
    "the same length twice": post("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": post("Content-Length: 5, 5"),
    "negative length": post("Content-Length: -1"),
    "length with a sign": post("Content-Length: +5"),
    "length in hex": post("Content-Length: 0x5"),
    "length with an underscore": post("Content-Length: 1_0"),
    "empty length": post("Content-Length:"),
    "huge length": post("Content-Length: 99999999999999999999"),
    "length in other digits": post("Content-Length: \xb2"),
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked"),
    "chunked, gzip": post("Transfer-Encoding: chunked, gzip"),
    "chunked twice": post("Transfer-Encoding: chunked, chunked"),
    "two codings": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "xchunked": post("Transfer-Encoding: xchunked"),
    "identity": post("Transfer-Encoding: identity"),
    "empty coding": post("Transfer-Encoding:"),
    "quoted coding": post('Transfer-Encoding: "chunked"'),
    "coding with VT": post("Transfer-Encoding: \x0bchunked"),
    "coding in 1.0": head("POST / HTTP/1.0", _HOST, "Transfer-Encoding: chunked"),
    "bare LF as line end": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF in the head": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LFs at the end": b"GET / HTTP/1.1\r\nHost: a\n\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
    "folded with a tab": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz: 1\r\n\r\n",
    "space before the colon": head("GET / HTTP/1.1", "Host : a"),
    "tab before the colon": head("GET / HTTP/1.1", _HOST, "Content-Length\t: 5"),
    "space in a name": head("GET / HTTP/1.1", _HOST, "X Y: 1"),
    "empty name": head("GET / HTTP/1.1", _HOST, ": 1"),
    "no colon": head("GET / HTTP/1.1", _HOST, "X"),
    "NUL in a name": head("GET / HTTP/1.1", _HOST, "X\0: 1"),
    "NUL in a value": head("GET / HTTP/1.1", _HOST, "X: \0"),
    "control character": head("GET / HTTP/1.1", _HOST, "X: \x01"),
    "DEL": head("GET / HTTP/1.1", _HOST, "X: \x7f"),
    "obs-text in a name": head("GET / HTTP/1.1", _HOST, "X\xe9: 1"),
    "no Host": head("GET / HTTP/1.1", "X: 1"),
    "no Host and no field": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": head("GET / HTTP/1.1", _HOST, _HOST),
    "empty Host": head("GET / HTTP/1.1", "Host:"),
    "Host with a path": head("GET / HTTP/1.1", "Host: a/b"),
    "Host with user": head("GET / HTTP/1.1", "Host: u@a"),
    "Host with a space": head("GET / HTTP/1.1", "Host: a b"),
    "list of Hosts": head("GET / HTTP/1.1", "Host: a, b"),
    "Host with a bad port": head("GET / HTTP/1.1", "Host: a:x"),
    "absolute form without Host": head("GET http://a/ HTTP/1.1"),
    "Transfer_Encoding": post("Transfer_Encoding: chunked"),
    "Content_Length": post("Content_Length: 5"),
    "Content.Length": post("Content.Length: 5"),
    "bad method": head("G(T / HTTP/1.1", _HOST),
    "no method": head(" / HTTP/1.1", _HOST),
    "no target": head("GET HTTP/1.1", _HOST),
    "two spaces": head("GET  / HTTP/1.1", _HOST),
    "space in the target": head("GET /a b HTTP/1.1", _HOST),
    "tab for space": head("GET\t/ HTTP/1.1", _HOST),
    "fragment": head("GET /#x HTTP/1.1", _HOST),
    "control character in the target": head("GET /\x01 HTTP/1.1", _HOST),
    "relative target": head("GET a HTTP/1.1", _HOST),
    "asterisk for GET": head("GET * HTTP/1.1", _HOST),
    "another scheme": head("GET ftp://a/ HTTP/1.1", _HOST),
    "CONNECT without port": head("CONNECT a HTTP/1.1", _HOST),
    "CONNECT with a path": head("CONNECT /a HTTP/1.1", _HOST),
    "CONNECT with a body": head("CONNECT a:1 HTTP/1.1", _HOST, "Content-Length: 5"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "lower-case version": head("GET / http/1.1", _HOST),
    "version with two digits": head("GET / HTTP/1.10", _HOST),
    "space after the version": head("GET / HTTP/1.1 ", _HOST),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00",
    "a NUL": b"\0",
    "a line that is none": b"\n",
}
_VERSIONS = {"HTTP/2.0": 505, "HTTP/0.9": 505, "HTTP/3.1": 505}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_refused(data: bytes) -> None:
    _refused(data, 400)


@pytest.mark.parametrize(("version", "status"), _VERSIONS.items())
def test_other_versions(version: str, status: int) -> None:
    _refused(head(f"GET / {version}", _HOST), status)


def _refused(data: bytes, status: int) -> None:
    for cut in (set[int](), *({place} for place in range(1, len(data))), set(range(len(data)))):
        with World() as world:
            world.cuts[Client] = frozenset(cut)
            client = world.client()
            client.sends(data, GET)
            client.got_reply(status, "DPE")
            assert client.state == "half-closed"
            client.sends(GET)
            client.ends()
            assert client.state == "closed"
            assert world.dialled == []
            assert world.counts == {(status, "DPE"): 1}
            assert world.listener.connections == 0


def test_refused_behind_a_good_one() -> None:
    for data in MALFORMED.values():
        with World() as world:
            client = world.client()
            client.sends(GET, data, GET)
            app = world.app()
            app.got(GOT_GET)
            app.sends(OK)
            client.begins(GOT_OK)
            client.got_reply(400, "DPE")
            app.got()
            world.no_more_apps()
            assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


CHUNKS = {
    "no size": b"\r\n",
    "not hex": b"g\r\n",
    "0x": b"0x5\r\n",
    "sign": b"+5\r\n",
    "negative": b"-5\r\n",
    "space before": b" 5\r\n",
    "space after": b"5 \r\n",
    "too large": b"fffffffffffffffff\r\n",
    "bare LF": b"5\nabcde\r\n0\r\n\r\n",
    "bare CR": b"5\rabcde\r\n0\r\n\r\n",
    "longer than it says": b"3\r\nabcde\r\n0\r\n\r\n",
    "LF at its end": b"3\r\nabc\n0\r\n\r\n",
    "empty extension": b"5;\r\nabcde\r\n",
    "LF in an extension": b"5;a\nb\r\n",
    "long extension": b"5;" + b"a" * 2000 + b"\r\n",
    "many extensions": b"".join(b"1;" + b"a" * 1000 + b"\r\nx\r\n" for _ in range(20)),
    "trailer: length": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer: coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer: host": b"0\r\nHost: b\r\n\r\n",
    "trailer: look-alike": b"0\r\nContent_Length: 5\r\n\r\n",
    "trailer: authorization": b"0\r\nAuthorization: x\r\n\r\n",
    "trailer: no colon": b"0\r\nX\r\n\r\n",
    "trailer: space before colon": b"0\r\nX : 1\r\n\r\n",
    "trailer: folded": b"0\r\nX: 1\r\n y\r\n\r\n",
    "trailer: bare LF": b"0\r\nX: 1\nY: 2\r\n\r\n",
    "trailer: bare LF at the end": b"0\r\nX: 1\n\n",
    "trailer: NUL": b"0\r\nX: \0\r\n\r\n",
    "trailers: too large": b"0\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
    "trailers: too many": b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS)
def test_malformed_chunks(data: bytes) -> None:
    """The head has left by then; the app sees its connection closed before the body's end, never the bad part."""
    post_head = post("Transfer-Encoding: chunked")
    places = range(1, len(data)) if len(data) < 100 else ()
    for cut in (set[int](), *({len(post_head) + 8 + place} for place in places)):
        with World() as world:
            world.cuts[Client] = frozenset(cut)
            client = world.client()
            client.sends(post_head, chunk(b"abc"))
            app = world.app()
            app.got(head("POST / HTTP/1.1", _HOST, *FORWARDED, "transfer-encoding: chunked"), chunk(b"abc"))
            client.sends(data, GET)
            client.got_reply(400, "DPE")
            assert b"\r\n0\r\n" not in app.received
            app.takes()
            assert app.state == "closed"
            assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
            assert world.statuses == [400]


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS)
def test_malformed_chunks_with_their_head(data: bytes) -> None:
    with World() as world:
        client = world.client()
        client.sends(post("Transfer-Encoding: chunked"), data)
        client.got_reply(400, "DPE")
        for app in world.apps:
            assert b"0\r\n" not in app.takes()
            assert app.closed
        assert world.counts == {(400, "DPE"): 1}


@conversation()
def test_malformed_chunks_after_the_answer_began(world: World) -> None:
    client = world.client()
    client.sends(post("Transfer-Encoding: chunked"), chunk(b"abc"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100"), b"abc")
    client.takes()
    client.sends(b"x\r\n")
    assert client.state == "reset"
    assert app.state == "closed"
    assert world.flags == ["DPE"]


@conversation()
def test_a_refused_client_that_goes_on_sending_is_read_for_a_while(world: World) -> None:
    client = world.client()
    client.sends(b"GET / HTTP/9.9\r\n\r\n")
    client.got_reply(505, "DPE")
    client.sends(bytes(1000))
    assert client.state == "half-closed"  # a close now would destroy our answer on its way (RFC 9112 section 9.6)


@conversation(cut=False)
def test_a_refused_client_is_not_read_for_ever(world: World) -> None:
    client = world.client()
    client.sends(b"GET / HTTP/9.9\r\n\r\n")
    client.got_reply(505, "DPE")
    world.passes(1.9)
    client.sends(bytes(1000))
    world.passes(0.2)
    assert client.closed
