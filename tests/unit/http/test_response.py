"""What an app may answer, what exactly the client gets of it, and what is refused as a 502."""

from __future__ import annotations

import pytest

from meshlet.errors import UpstreamProtocolError, UpstreamReset
from meshlet.http.grammar import FIELD, TOKEN
from meshlet.http.head import CHUNKED, UNTIL_CLOSE, HeadLimits, ResponseHead
from meshlet.http.response import encode_response, parse_response, status_line
from tests.support import codec, strict


def ok(fields: bytes = b"", body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"%b\r\n%b\r\n%b" % (line, fields, body)


def head_of(raw: bytes, method: bytes = b"GET") -> ResponseHead:
    return parse_response(raw.removesuffix(b"\r\n\r\n"), HeadLimits(), method)


EMPTY = b"Content-Length: 0\r\n"

#: name: what comes in, which is what goes out
UNCHANGED = {
    "no body": ok(EMPTY),
    "a body": ok(b"Content-Length: 5\r\n", b"hello"),
    "no reason": ok(EMPTY, line=b"HTTP/1.1 200 "),
    "a reason of words": ok(EMPTY, line=b"HTTP/1.1 404 Not  Found: \t at all"),
    "a reason with obs-text": ok(EMPTY, line=b"HTTP/1.1 200 \xe4\xff"),
    "an unknown status": ok(EMPTY, line=b"HTTP/1.1 299 Odd"),
    "a status past 599": ok(EMPTY, line=b"HTTP/1.1 999 Odd"),
    "case, order and duplicates": ok(b"x-B: 1\r\nSet-Cookie: a\r\nX-b: 2\r\nset-cookie: b\r\ncontent-length:0\r\n"),
    "Date and Server": ok(b"Date: x\r\nServer: y\r\n" + EMPTY),
    "white space around a value": ok(b"A:\t b  c \t\r\nB:\r\nContent-Length: \t0 \r\n"),
    "an error with a body": ok(b"Content-Length: 2\r\n", b"no", b"HTTP/1.1 500 No"),
    "205": ok(EMPTY, line=b"HTTP/1.1 205 Reset Content"),
    "a name of all token characters": ok(TOKEN + b": 1\r\n" + EMPTY),
}

#: name: (what comes in, what goes out)
CHANGED = {
    "no space after the status": (ok(EMPTY, line=b"HTTP/1.1 200"), ok(EMPTY, line=b"HTTP/1.1 200 ")),
    "HTTP/1.0": (ok(EMPTY, line=b"HTTP/1.0 200 OK"), ok(EMPTY)),
    "a higher minor version": (ok(EMPTY, line=b"HTTP/1.7 200 OK"), ok(EMPTY)),
    "hop by hop": (
        ok(
            b"Connection: close\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: a\r\nUpgrade: h2c\r\n"
            + EMPTY
        ),
        ok(EMPTY),
    ),
    "named by Connection": (
        ok(b"A: 1\r\nConnection: a, close, SET-cookie\r\nset-cookie: b\r\nB: 2\r\n" + EMPTY),
        ok(b"B: 2\r\n" + EMPTY),
    ),
    "what cannot be named away": (
        ok(b"Connection: Content-Length, Date, Server\r\nDate: x\r\nServer: y\r\nContent-Length: 2\r\n", b"ab"),
        ok(b"Date: x\r\nServer: y\r\nContent-Length: 2\r\n", b"ab"),
    ),
    "what meshlet writes itself": (ok(b"X-Envoy-Upstream-Service-Time: 3\r\n" + EMPTY), ok(EMPTY)),
    "leading zeros": (ok(b"Content-Length: 005\r\n", b"hello"), ok(b"Content-Length: 5\r\n", b"hello")),
}


@pytest.mark.parametrize("wire", UNCHANGED.values(), ids=UNCHANGED)
def test_what_is_sent_on_as_it_came(wire: bytes) -> None:
    outcome = codec.response(wire)
    assert outcome.refusal is None
    assert outcome.forwarded == wire
    assert outcome.reusable


@pytest.mark.parametrize(("wire", "forwarded"), CHANGED.values(), ids=CHANGED)
def test_what_is_changed_on_its_way(wire: bytes, forwarded: bytes) -> None:
    outcome = codec.response(wire)
    assert outcome.refusal is None
    assert outcome.forwarded == forwarded


@pytest.mark.parametrize("forwarded", [*UNCHANGED.values(), *(it for _, it in CHANGED.values())])
def test_what_is_sent_on_can_be_read_in_one_way_only(forwarded: bytes) -> None:
    strict.read_response(forwarded)


# --- bodies ---


def test_a_chunked_body() -> None:
    outcome = codec.response(
        ok(b"TRANSFER-encoding: Chunked \r\nA: b\r\n", b"5;x\r\nhello\r\n01\r\n!\r\n0\r\nDigest: x\r\n\r\n")
    )
    (message,) = outcome.messages
    assert message.head == ok(b"A: b\r\n")  # how it is framed is for the client's side to say
    assert (message.body, message.trailers, message.complete) == (b"hello!", (b"Digest: x",), True)
    assert outcome.reusable


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_a_body_to_the_end_of_the_stream(line: bytes) -> None:
    wire = ok(b"A: b\r\n", b"hello", line)
    (message,) = codec.response(wire, eof=True).messages
    assert (message.body, message.complete) == (b"hello", True)
    (message,) = codec.response(wire).messages
    assert not message.complete
    (message,) = codec.response(ok(line=line), eof=True).messages
    assert (message.body, message.complete) == (b"", True)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r",
        ok(b"Content-Length: 5\r\n"),
        ok(b"Content-Length: 5\r\n", b"hell"),
        ok(b"Transfer-Encoding: chunked\r\n"),
        ok(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"),
        ok(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n"),
        ok(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\nA: b\r\n"),
        ok(line=b"HTTP/1.1 100 Continue"),
        ok(line=b"HTTP/1.1 103 Early Hints") + b"HTTP/1.1 200",
    ],
)
def test_an_end_too_early_is_no_end(wire: bytes) -> None:
    outcome = codec.response(wire, eof=True)
    assert outcome.refusal == (UpstreamReset, 503)
    assert not any(message.complete for message in outcome.messages if message.facts[0] == 200)


NO_BODY = [
    (b"HEAD", b"HTTP/1.1 200 OK"),
    (b"HEAD", b"HTTP/1.1 201 Created"),
    (b"HEAD", b"HTTP/1.1 404 Not Found"),
    (b"HEAD", b"HTTP/1.0 200 OK"),
    (b"GET", b"HTTP/1.1 304 Not Modified"),
    (b"GET", b"HTTP/1.1 204 No Content"),
    (b"POST", b"HTTP/1.1 204 No Content"),
    (b"HEAD", b"HTTP/1.1 204 No Content"),
]


@pytest.mark.parametrize(
    ("method", "line", "framing"),
    [
        (method, line, framing)
        for method, line in NO_BODY
        for framing in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n")
        if not (framing.startswith(b"T") and line.startswith(b"HTTP/1.0"))  # which is refused
    ],
)
def test_responses_that_have_no_body_whatever_they_say(method: bytes, line: bytes, framing: bytes) -> None:
    outcome = codec.response(ok(b"A: b\r\n" + framing, line=line), method)
    (message,) = outcome.messages
    assert message.complete
    assert outcome.reusable
    # A length says what a GET would have got, but 204 must not have one (RFC 9110 section 8.6).
    kept = framing if framing.startswith(b"C") and b"204" not in line else b""
    assert message.head == ok(b"A: b\r\n" + kept, line=line.replace(b"1.0", b"1.1"))


@pytest.mark.parametrize(("method", "line"), NO_BODY)
def test_a_body_where_none_may_be_is_not_the_next_response(method: bytes, line: bytes) -> None:
    outcome = codec.response(ok(b"Content-Length: 5\r\n", b"hello", line), method)
    assert [message.body for message in outcome.messages] == [b""]
    assert not outcome.reusable


@pytest.mark.parametrize(
    "wire",
    [
        ok(EMPTY) + b"x",
        ok(EMPTY) + b"\r\n",
        ok(EMPTY) + ok(EMPTY),
        ok(b"Content-Length: 5\r\n", b"hello!"),
        ok(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\nx"),
        ok(b"Transfer-Encoding: chunked\r\n", b"0\r\nA: b\r\n\r\nx"),
    ],
)
def test_bytes_after_a_response_belong_to_nobody(wire: bytes) -> None:
    outcome = codec.response(wire)
    assert len(outcome.messages) == 1
    assert outcome.messages[0].complete
    assert not outcome.reusable


# --- interim responses and tunnels ---


def test_interim_responses() -> None:
    early = ok(b"Link: a\r\n", line=b"HTTP/1.1 103 Early Hints")
    wire = ok(line=b"HTTP/1.1 100 Continue") + early + ok(b"Content-Length: 2\r\n", b"ab")
    outcome = codec.response(wire)
    assert outcome.forwarded == wire
    assert outcome.reusable


def test_an_interim_response_has_no_framing() -> None:
    wire = ok(b"Content-Length: 5\r\nConnection: close\r\nA: b\r\n", line=b"HTTP/1.1 102 Processing")
    outcome = codec.response(wire + ok(EMPTY))
    assert outcome.forwarded == ok(b"A: b\r\n", line=b"HTTP/1.1 102 Processing") + ok(EMPTY)
    outcome = codec.response(ok(b"Transfer-Encoding: chunked\r\n", line=b"HTTP/1.1 100 Continue") + ok(EMPTY))
    assert outcome.forwarded == ok(line=b"HTTP/1.1 100 Continue") + ok(EMPTY)


def test_the_switch_of_protocols_begins_a_tunnel() -> None:
    wire = ok(
        b"Connection: upgrade\r\nUpgrade:  websocket \r\nSec-WebSocket-Accept: x\r\n",
        line=b"HTTP/1.1 101 Switching Protocols",
    )
    outcome = codec.response(wire + b"\x81\x00\r\n\r\n")
    (message,) = outcome.messages
    assert message.facts[-1] == b"websocket"
    assert message.head == ok(b"Sec-WebSocket-Accept: x\r\n", line=b"HTTP/1.1 101 Switching Protocols")
    assert outcome.rest == b"\x81\x00\r\n\r\n"
    assert codec.response(wire, eof=True).refusal is None


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_connect_begins_a_tunnel_without_framing(fields: bytes) -> None:
    outcome = codec.response(ok(b"A: b\r\n" + fields, b"hello"), b"CONNECT")
    (message,) = outcome.messages
    assert message.head == ok(b"A: b\r\n")
    assert outcome.rest == b"hello"


def test_connect_that_is_refused_has_a_body() -> None:
    wire = ok(b"Content-Length: 5\r\n", b"sorry", b"HTTP/1.1 403 Forbidden")
    outcome = codec.response(wire, b"CONNECT")
    assert outcome.forwarded == wire
    assert outcome.reusable


# --- refused ---

REFUSED = {
    "nothing of HTTP": b"hello\r\n\r\n",
    "an empty line first": b"\r\n" + ok(EMPTY),
    "HTTP/2": ok(EMPTY, line=b"HTTP/2 200"),
    "HTTP/2.0": ok(EMPTY, line=b"HTTP/2.0 200 OK"),
    "HTTP/0.9": ok(EMPTY, line=b"HTTP/0.9 200 OK"),
    "ICY": ok(EMPTY, line=b"ICY 200 OK"),
    "lower case": ok(EMPTY, line=b"http/1.1 200 OK"),
    "two digits of a minor": ok(EMPTY, line=b"HTTP/1.11 200 OK"),
    "no minor": ok(EMPTY, line=b"HTTP/1 200 OK"),
    "no status": ok(EMPTY, line=b"HTTP/1.1"),
    "an empty status": ok(EMPTY, line=b"HTTP/1.1  OK"),
    "two digits": ok(EMPTY, line=b"HTTP/1.1 20 OK"),
    "four digits": ok(EMPTY, line=b"HTTP/1.1 2000 OK"),
    "below 100": ok(EMPTY, line=b"HTTP/1.1 099 Odd"),
    "a negative status": ok(EMPTY, line=b"HTTP/1.1 -20 Odd"),
    "a status of letters": ok(EMPTY, line=b"HTTP/1.1 2OO OK"),
    "two spaces": ok(EMPTY, line=b"HTTP/1.1  200 OK"),
    "a tab": ok(EMPTY, line=b"HTTP/1.1\t200 OK"),
    "a tab after the status": ok(EMPTY, line=b"HTTP/1.1 200\tOK"),
    "a space before": ok(EMPTY, line=b" HTTP/1.1 200 OK"),
    "NUL in the reason": ok(EMPTY, line=b"HTTP/1.1 200 O\x00K"),
    "bare CR in the reason": ok(EMPTY, line=b"HTTP/1.1 200 O\rK"),
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare LF in a field": ok(b"A: b\nC: d\r\n" + EMPTY),
    "bare CR in a field": ok(b"A: b\rC: d\r\n" + EMPTY),
    "CR CR LF": ok(b"A: b\r\r\n" + EMPTY),
    "NUL": ok(b"A: \x00\r\n" + EMPTY),
    "DEL": ok(b"A: \x7f\r\n" + EMPTY),
    "obs-fold": ok(b"A: b\r\n c\r\n" + EMPTY),
    "a space before the name": ok(b" A: b\r\n" + EMPTY),
    "a space before the colon": ok(b"A : b\r\n" + EMPTY),
    "no colon": ok(b"A\r\n" + EMPTY),
    "no name": ok(b": b\r\n" + EMPTY),
    "a name with obs-text": ok(b"\xc3\x84: b\r\n" + EMPTY),
    "a lookalike": ok(b"Content_Length: 5\r\n" + EMPTY),
    "another lookalike": ok(b"TRANSFER_ENCODING: chunked\r\n" + EMPTY),
    "both": ok(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "both, the other way round": ok(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    "two lengths": ok(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "two lengths, the same": ok(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "a list of lengths": ok(b"Content-Length: 5, 5\r\n", b"hello"),
    "an empty length": ok(b"Content-Length:\r\n"),
    "a negative length": ok(b"Content-Length: -1\r\n"),
    "a signed length": ok(b"Content-Length: +5\r\n", b"hello"),
    "a hexadecimal length": ok(b"Content-Length: 0x5\r\n", b"hello"),
    "a length in other digits": ok("Content-Length: \u0665\r\n".encode(), b"hello"),
    "a huge length": ok(b"Content-Length: 99999999999999999999\r\n"),
    "two codings": ok(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "gzip, chunked": ok(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "xchunked": ok(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "identity": ok(b"Transfer-Encoding: identity\r\n", b"hello"),
    "an empty coding": ok(b"Transfer-Encoding:\r\n", b"hello"),
    "a vertical tab before the coding": ok(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "a coding in HTTP/1.0": ok(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.0 200 OK"),
    "an interim response that is malformed": ok(b"A\r\n", line=b"HTTP/1.1 100 Continue") + ok(EMPTY),
}

REFUSED_CHUNKS = {
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a space after": b"5 \r\nhello\r\n0\r\n\r\n",
    "LF": b"5\nhello\n0\n\n",
    "a chunk that is too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "16 digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "a malformed extension": b"5;\r\nhello\r\n0\r\n\r\n",
    "a malformed trailer": b"5\r\nhello\r\n0\r\nA\r\n\r\n",
    "a trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that sets a cookie": b"5\r\nhello\r\n0\r\nSet-Cookie: a\r\n\r\n",
}


@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_what_is_refused(wire: bytes, method: bytes) -> None:
    outcome = codec.response(wire, method)
    assert outcome.refusal == (UpstreamProtocolError, 502)
    assert outcome.messages == ()


@pytest.mark.parametrize("body", REFUSED_CHUNKS.values(), ids=REFUSED_CHUNKS)
def test_chunks_that_are_refused_before_the_client_got_the_head(body: bytes) -> None:
    outcome = codec.response(ok(b"Transfer-Encoding: chunked\r\n", body))
    assert outcome.refusal == (UpstreamProtocolError, 502)
    assert outcome.messages == ()


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in FIELD])
def test_control_characters(byte: int) -> None:
    for wire in (ok(b"A: b%cc\r\n" % byte), ok(b"A%c: b\r\n" % byte), ok(line=b"HTTP/1.1 200 O%cK" % byte)):
        assert codec.response(wire).refusal == (UpstreamProtocolError, 502)


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in TOKEN and byte != ord(":")])
def test_bytes_that_no_name_holds(byte: int) -> None:
    for wire in (ok(b"A%cb: c\r\n" % byte), ok(b"%cA: b\r\n" % byte), ok(b"A%c: b\r\n" % byte)):
        assert codec.response(wire).refusal == (UpstreamProtocolError, 502)


@pytest.mark.parametrize("wire", [b"H\n", b"HTTP/2", b"hTTP", b"\r\n", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200 OK\rA"])
def test_what_can_become_no_head_is_refused_before_its_end(wire: bytes) -> None:
    assert codec.response(wire).refusal == (UpstreamProtocolError, 502)


# --- limits ---


def test_limits() -> None:
    limits = HeadLimits(header_bytes=64, headers=4)
    assert codec.response(ok(EMPTY + b"A:\r\n" * 3), limits=limits).refusal is None
    assert codec.response(ok(EMPTY + b"A:\r\n" * 4), limits=limits).refusal == (UpstreamProtocolError, 502)
    assert codec.response(ok(b"A: %b\r\n" % (b"b" * 200)), limits=limits).refusal == (UpstreamProtocolError, 502)
    assert codec.response(b"HTTP/1.1 200 " + b"x" * 200, limits=limits).refusal == (UpstreamProtocolError, 502)


def test_the_limit_of_a_head_is_the_same_for_every_cut() -> None:
    limits = HeadLimits(header_bytes=64)
    for size in range(60, 220, 1):
        codec.response(ok(EMPTY + b"A: %b\r\n" % (b"b" * size)), limits=limits)


# --- what the head says of the connection ---


@pytest.mark.parametrize(
    ("line", "fields", "persistent"),
    [
        (b"HTTP/1.1 200 OK", b"", True),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: x, Close\r\n", False),
        (b"HTTP/1.1 200 OK", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.0 200 OK", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_whether_the_connection_may_carry_another_request(line: bytes, fields: bytes, persistent: bool) -> None:
    assert head_of(ok(fields + EMPTY, line=line)).persistent is persistent


@pytest.mark.parametrize(
    ("value", "timeout"),
    [
        (b"timeout=5", 5.0),
        (b"max=100, TIMEOUT = 15", 15.0),
        (b'timeout="30"', 30.0),
        (b"xtimeout=5", None),
        (b"timeout=", None),
        (b"timeout=-1", None),
        (b"max=5", None),
        (b"", None),
    ],
)
def test_how_long_the_app_says_it_keeps_the_connection(value: bytes, timeout: float | None) -> None:
    assert head_of(ok(b"Keep-Alive: %b\r\n" % value)).timeout == timeout


def test_framing() -> None:
    assert head_of(ok()).length == UNTIL_CLOSE
    assert head_of(ok(b"Content-Length: 7\r\n")).length == 7
    assert head_of(ok(b"Transfer-Encoding: chunked\r\n")).length == CHUNKED


def test_date() -> None:
    assert head_of(ok(b"dATE: x\r\n")).has_date
    assert not head_of(ok(b"X-Date: x\r\n")).has_date


def test_added_lines_come_last() -> None:
    assert encode_response(head_of(ok(b"A: b\r\n")), b"c: d\r\n") == ok(b"A: b\r\nc: d\r\n")


def test_status_lines_of_our_own() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found"
    assert status_line(503) == b"HTTP/1.1 503 Service Unavailable"


def test_upgrade_required_says_what_is_required() -> None:
    head = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: upgrade"
    assert b"Upgrade: TLS/1.3" in parse_response(head, HeadLimits(), b"GET").lines
