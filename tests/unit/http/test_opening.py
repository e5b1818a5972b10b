"""What a connection is, by its first bytes: the table of `meshlet.http.opening`, and what holds for all bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshlet.errors import BadRequest
from meshlet.http import opening
from meshlet.http.head import HeadLimits
from meshlet.http.opening import Opening, Verdict, classify
from meshlet.http.reader import RequestReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.http.head import RequestHead

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIMIT = 16384

HTTP = [
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.",
    b"\r\nGET / HTTP/1.1\r\n",
    b"\r\n" * 16 + b"GET / HTTP/1.1\r\n",
    b"BREW /pot HTTP/1.0\r\n",
    b"query /a HTTP/1.1\n",
    b"QUERY * HTTP/1.1\r\n",
    b"QUERY http://a/ HTTP/1.1\r\n",
    b"CONNECT a:443 HTTP/1.1\r\n",
    b"PRI * HTTP/1.1\r\n",
    b'GET /\xc3\xa4?q={}|" HTTP/1.1\r\n',
    b"QUERY /" + b"a" * (LIMIT - 1) + b" HTTP/1.1\r\n",
    b"x" * 128 + b" / HTTP/1.1\r\n",
    # values that quote HTTP without quotes around it cannot be told from it
    b"SET a HTTP/1.1\r\n",
]
BROKEN = [
    b"GET  / HTTP/1.1\r\n",
    b"GET /  HTTP/1.1\r\n",
    b"GET / HTTP/2.0\r\n",
    b"GET / HTTP/3\r\n",
    b"GET / HTTP/11\r\n",
    b"GET / HTTP/1x1\r\n",
    b"GET /a b HTTP/1.1\r\n",
    b"GET / HTTP/1,1 \t\r\n",
    b"GET\t/ HTTP/1.1\r\n",
    b"GET\r/ HTTP/1.1\r\n",
    b"GET / http/1.1\r\n",
    b"GET / hTtP/2\n",
    b"GET  / HTTP/1.1\n",
    b" GET / HTTP/1.1\r\n",
    b"\t\x0b\x0cGET / HTTP/1.1\r\n",
    b"\x0bGET / HTTP/1.1\r\n",
    b"\nGET / HTTP/1.1\n",
    b"\r\n GET / HTTP/1.1\r\n",
    b"POST /a\0b HTTP/1.1\r\n",
    b"GET /\x1b HTTP/1.1\r\n",
    b"GET / HTTP/2.0junk\r\n",
    b"GET HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nXX",
    b"GET /" + b"a" * LIMIT,
    b"GET  /" + b"a" * (LIMIT + 300),
]
SUSPECT = [
    b"GET\r\nHost: a\r\n\r\n",
    b"GET\n",
    b"GET /\r\n",
    b"GET / \r\n",
    b"GET a b c\r\n",
    b"DELETE / HTTP\r\n",
    b"GET / RTSP/1.0\r\n",
    b"OPTIONS / XTTP/1.1\r\n",
    b"GET\0 / HTTP/1.1\r\n",
    b"\0 / HTTP/1.1\r\n",
    b"\x01 http://a/ HTTP/1.1\r\n",
    b"BREW  / HTTP/1.1\r\n",
    b"BREW / HTTP/2.0\r\n",
    b"brew\t/ http/1.1\r\n",
    b"B(D / HTTP/1.1\r\n",
    b"/ HTTP/1.1\r\n",
    b"QUERY /a\0b HTTP/1.1\r\n",
    b"A" * 129,
    b"A" * 4097 + b" /x HTTP/1.1\r\nHost: a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
    b"BREW /" + b"a" * LIMIT,
    b" " * 33,
    b"\r\n" * 17,
]
TCP = [
    b'<190>1 2026-01-01T00:00:00Z web nginx - - - "GET /a HTTP/1.1" 200 12\n',
    b"<190>GET / HTTP/1.1\n",
    b'120 <190>1 2026-01-01T00:00:00Z web nginx - - - "GET /a HTTP/1.1"',
    b'{"request": "GET / HTTP/1.1"}\n',
    b"[1]",
    b'{"version":"1.1","short_message":"GET / HTTP/1.1"}\0',
    b"servers.web.cpu 12.5 1767225600\n",
    b"cpu,host=a value=1 1767225600000000000\n",
    b'log,host=a line="GET / HTTP/1.1" 1767225600000000000\n',
    b"OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\n",
    b"DESCRIBE rtsp://a/b RTSP/2.0\r\n",
    b"OPTIONS sip:a@b SIP/2.0\r\n",
    b"OPTIONS icap://a/b ICAP/1.0\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$14\r\nGET / HTTP/1.1\r\n",
    b'SET a "GET /a HTTP/1.1"\r\n',
    b"PING\r\n",
    b"0036git-upload-pack /x\0host=a\0",
    b"0+\x02\x01\x01`&\x02\x01\x03\x04\x00\x80\x00",
    b"0 \x02\x01\x01`\x1b",
    b"8=FIX.4.4\x019=70\x0135=A\x01",
    b"get /user/1\r\n",
    b"set a 0 0 14\r\nGET / HTTP/1.1\r\n",
    b"stats\r\n",
    b"QUERY /\r\n",
    b"X\r\nGET / HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"SSH-2.0-OpenSSH\r\n",
    b"AMQP\0\0\x09\x01",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x29\0\x03\0\0user\0GET / HTTP/1.1\0",
    b"\0 \x12\x34\x01\0\0\x01",  # DNS: two bytes of length, and an id
    b" \0\0\0\x01\0\0\0",
    b"?\0\0\0\x01\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + b"GET / HTTP/1.1\r\n",  # PROXY protocol, version 2
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\n",
    b"\x16\x02",
    b"\x80\x01",
    b"\xff",
]
UNKNOWN = [
    b"ruok",
    b"JDWP-Handshake",
    b"G",
    b"GET",
    b"GET ",
    b"GET /a/long/way",
    b"GET / HTTP/1",
    b"GET  / HTT",
    b"GET / HTTP/2.0\r",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\0",
    b"\0 ",
    b"\x16",
    PREFACE[:-1],
]
CASES = [
    *((data, Verdict.HTTP) for data in HTTP),
    *((data, Verdict.BROKEN) for data in BROKEN),
    *((data, Verdict.SUSPECT) for data in SUSPECT),
    *((data, Verdict.TCP) for data in TCP),
    *((data, Verdict.UNKNOWN) for data in UNKNOWN),
    (PREFACE + b"\0\0\0\4", Verdict.HTTP2),
    (b"\x16\x03\x01", Verdict.TLS),
]


def in_pieces(data: bytes, cuts: Iterable[int]) -> Verdict:
    """The verdict where the bytes come in pieces, as they do on a connection."""
    look = Opening(LIMIT)
    places = sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)})
    for place in places:
        verdict = look.look(bytearray(data[:place]))
        if verdict is not Verdict.UNKNOWN:
            return verdict
    return Verdict.UNKNOWN


@pytest.mark.parametrize(("data", "verdict"), CASES)
def test_verdict(data: bytes, verdict: Verdict) -> None:
    assert classify(data, LIMIT) is verdict
    assert in_pieces(data, range(len(data))) is verdict


# What has to do with the borders between verdicts.
PARTS = [
    *(b"GET", b"BREW", b"brew", b"OPTIONS", b"PRI", b" ", b"  ", b"\t", b"\x0b", b"\r\n", b"\r", b"\n", b"\r\n\r\n"),
    *(b"/", b"*", b"/a?b", b"http://a/", b"HTTP/1.1", b"HTTP/1.", b"HTTP/2.0", b"http/1.1", b"RTSP/1.0", b"H", b"HTT"),
    *(b"1.1", b"\0", b"\x01", b"\x7f", b"\x80", b"<", b"{", b"(", b"=", b"0", b"8", b"\x16", b"\x03", b'"'),
    *(b"Host: a", PREFACE, PREFACE[:9], b"A" * 60, b"a" * 127),
]
FRAGMENTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map(b"".join)
BYTES = st.binary(min_size=1, max_size=300) | FRAGMENTS


@given(BYTES, st.sets(st.integers(1, 300)))
@example(b"GET / HTTP/1.1", {12})
@example(b"BREW /\0", {1, 6})
def test_pieces_make_no_difference(data: bytes, cuts: set[int]) -> None:
    assert in_pieces(data, cuts) is classify(data) is in_pieces(data, range(len(data)))


@given(BYTES, BYTES)
def test_a_verdict_is_final(data: bytes, more: bytes) -> None:
    verdict = classify(data)
    if verdict is not Verdict.UNKNOWN:
        assert classify(data + more) is verdict


class Requests:
    """Takes what a reader reads."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []

    def on_request(self, head: RequestHead, data: bytes, complete: bool) -> None:
        self.heads.append(head)

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: tuple[bytes, ...]) -> None: ...


def accepted(data: bytes) -> bool:
    """Whether our own parser takes it for a request."""
    sink = Requests()
    try:
        RequestReader(sink, HeadLimits()).feed(data)
    except BadRequest:
        return bool(sink.heads)
    return bool(sink.heads)


REQUESTS = st.builds(
    b"%b%b %b HTTP/1.%b\r\nHost: a\r\n\r\n".__mod__,
    st.tuples(
        st.sampled_from([b"", b"\r\n", b"\r\n" * 16]),
        st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}", fullmatch=True),
        st.from_regex(rb"/[!-\"$-~\x80-\xff]{0,200}", fullmatch=True) | st.sampled_from([b"http://b/", b"http://b"]),
        st.sampled_from([b"0", b"1", b"9"]),
    ),
)


@given(REQUESTS)
def test_what_the_parser_takes_is_http(data: bytes) -> None:
    assert accepted(data)
    assert classify(data) is Verdict.HTTP


@given(FRAGMENTS.map(lambda data: data + b"\r\nHost: a\r\n\r\n"))
def test_no_request_is_taken_for_something_else(data: bytes) -> None:
    verdict = classify(data)
    if accepted(data):
        many_empty_lines = len(data) - len(data.lstrip(b"\r\n")) > 32
        assert verdict is (Verdict.SUSPECT if many_empty_lines else Verdict.HTTP)
    if re.match(rb"[ \t\v\f]*(GET|OPTIONS)[ \t\v\f\r](?:[^\n]*[ \t\v\f\r])?HTTP/\d[^\s]*[ \t\v\f\r]*\n", data):
        assert verdict in (Verdict.HTTP, Verdict.BROKEN)


@pytest.mark.parametrize(
    "data", [b"GET /" + b"a" * 16000, b"BREW /" + b"a" * 16000, b"GET  " + b"a " * 8000, b"Word  " + b"a " * 8000]
)
def test_bytes_that_come_one_by_one_are_looked_at_once(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = opening._end

    def counted(pattern: re.Pattern[bytes], seen: bytes, begin: int) -> int:
        nonlocal looked
        end = real(pattern, seen, begin)
        looked += end - begin + 1
        return end

    monkeypatch.setattr(opening, "_end", counted)
    look = Opening(LIMIT)
    come = bytearray()
    for byte in data:
        come.append(byte)
        assert look.look(come) is Verdict.UNKNOWN
    assert looked < 3 * len(data)


@pytest.mark.parametrize(("data", "method"), [(b"GET ", True), (b"GET\t", True), (b"GET", False), (b"BREW /", False)])
def test_a_method_is_seen_before_the_verdict(data: bytes, method: bool) -> None:
    look = Opening(LIMIT)
    assert look.look(data) is Verdict.UNKNOWN
    assert look.method is method
