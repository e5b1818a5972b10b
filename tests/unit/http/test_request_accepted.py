"""What a client may send, and what exactly is sent on for it."""

from __future__ import annotations

import pytest

from meshlet.http.grammar import TARGET, TOKEN
from meshlet.http.head import CHUNKED, HeadLimits, RequestHead
from meshlet.http.request import encode_request, parse_request
from tests.support import codec, strict

HOST = b"Host: app\r\n"


def head_of(raw: bytes) -> RequestHead:
    return parse_request(raw.removesuffix(b"\r\n\r\n"), HeadLimits())


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"%b\r\n%b%b\r\n" % (line, HOST, fields)


def post(fields: bytes, body: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return get(fields, line) + body


CHUNKED_FIELD = b"Transfer-Encoding: chunked\r\n"
REBUILT = b"transfer-encoding: chunked\r\n"

#: name: (what comes in, what goes out)
UNCHANGED = {
    "a path": get(),
    "a query": get(line=b"GET /a/b?c=d&e HTTP/1.1"),
    "two slashes": get(line=b"GET //a//b HTTP/1.1"),
    "dots": get(line=b"GET /a/../b/./c HTTP/1.1"),
    "percent": get(line=b"GET /%00%0d%0a%2e%zz HTTP/1.1"),
    "what browsers leave unescaped": get(line=b'GET /?q={"a":[1|2]}^`<>\\ HTTP/1.1'),
    "raw UTF-8": get(line="GET /ä/€ HTTP/1.1".encode()),
    "a colon": get(line=b"GET /a:b@c HTTP/1.1"),
    "HEAD": get(line=b"HEAD / HTTP/1.1"),
    "DELETE": get(line=b"DELETE /a HTTP/1.1"),
    "TRACE": get(line=b"TRACE / HTTP/1.1"),
    "a method of WebDAV": get(line=b"PROPFIND / HTTP/1.1"),
    "a method of our own": get(line=b"X-Frob.1!~ / HTTP/1.1"),
    "a method in lower case is another method": get(line=b"get / HTTP/1.1"),
    "a long method": get(line=b"M" * 64 + b" / HTTP/1.1"),
    "OPTIONS": get(line=b"OPTIONS /a HTTP/1.1"),
    "OPTIONS *": get(line=b"OPTIONS * HTTP/1.1"),
    "CONNECT": b"CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\n\r\n",
    "CONNECT to IPv6": b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
    "CONNECT with an empty body": b"CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\nContent-Length: 0\r\n\r\n",
    "case and order of fields": get(b"x-B: 1\r\nX-a: 2\r\nX-B: 3\r\nX-A: 4\r\n"),
    "duplicate fields": get(b"Cookie: a=1\r\nCookie: b=2\r\n"),
    "white space around a value": get(b"A:\r\nB: \r\nC:c\r\nD:\td \r\nE:  e  e\t \r\n"),
    "obs-text": get(b"A: \xe4\x80\xff\r\n"),
    "colons in a value": get(b"A: :b:c\r\n"),
    "a name of all token characters": get(TOKEN + b": 1\r\n"),
    "Host last": b"GET / HTTP/1.1\r\nA: b\r\nhOST: app\r\n\r\n",
    "Host without a space": b"GET / HTTP/1.1\r\nHost:app\r\n\r\n",
    "no body": post(b"", b""),
    "an empty body": post(b"Content-Length: 0\r\n", b""),
    "a body": post(b"Content-Length: 5\r\n", b"hello"),
    "a body with GET": post(b"content-length:5\r\n", b"hello", b"GET / HTTP/1.1"),
    "a body with OPTIONS *": post(b"Content-Length: 5\r\n", b"hello", b"OPTIONS * HTTP/1.1"),
    "a body like a request": post(b"Content-Length: 30\r\n", b"GET /smuggled HTTP/1.1\r\nA: b\r\n\r\n"[:30]),
    "white space around a length": post(b"Content-Length:\t 5 \t\r\n", b"hello"),
    "Expect": post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"),
    "another Expect": get(b"Expect: the-unexpected\r\n"),
    "Trailer announces": get(b"Trailer: Digest\r\n"),
    "Via, Max-Forwards, Forwarded": get(b"Via: 1.1 x\r\nMax-Forwards: 0\r\nForwarded: for=x\r\n"),
    "a body after a name that only resembles": post(b"X-Content-Length: 9\r\nContent-Length: 2\r\n", b"ab"),
    "two requests": get() + post(b"Content-Length: 1\r\n", b"x") + get(line=b"GET /3 HTTP/1.1"),
}

CHANGED = {
    "an empty line before": (b"\r\n" + get(), get()),
    "empty lines before": (b"\r\n" * 5 + get(), get()),
    "an empty line between": (post(b"Content-Length: 1\r\n", b"x") + b"\r\n" + get(), None),
    "Connection: close": (get(b"Connection: close\r\n"), get()),
    "Connection: keep-alive": (get(b"connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n"), get()),
    "named by Connection": (get(b"A: 1\r\nConnection: close, a ,\tX-b\r\nx-B: 2\r\nC: 3\r\n"), get(b"C: 3\r\n")),
    "named by the second Connection": (get(b"A: 1\r\nConnection: b\r\nB: 2\r\nConnection: A\r\n"), get()),
    "empty options": (get(b"Connection: ,, ,\r\nA: 1\r\n"), get(b"A: 1\r\n")),
    "framing cannot be named away": (
        post(b"Connection: Content-Length, Host, Transfer-Encoding, Expect\r\nContent-Length: 2\r\n", b"ab"),
        post(b"Content-Length: 2\r\n", b"ab"),
    ),
    "chunked cannot be named away": (
        post(b"Connection: transfer-encoding\r\n" + CHUNKED_FIELD, b"2\r\nab\r\n0\r\n\r\n"),
        post(REBUILT, b"2\r\nab\r\n0\r\n\r\n"),
    ),
    "hop by hop": (
        get(b"TE: trailers\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 1\r\nHTTP2-Settings: AAA\r\n"),
        get(),
    ),
    "what meshlet writes itself": (
        get(b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Request-Id: 7\r\n"),
        get(),
    ),
    "lookalikes of what meshlet writes": (
        get(b"X_Forwarded_For: 1.2.3.4\r\nX-Forwarded_Proto: https\r\nx.request.id: 7\r\n"),
        get(),
    ),
    "Upgrade without Connection": (get(b"Upgrade: websocket\r\n"), get()),
    "Connection without Upgrade": (get(b"Connection: upgrade\r\n"), get()),
    "HTTP/1.0": (get(line=b"GET / HTTP/1.0"), get()),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 with a body": (
        post(b"Content-Length: 2\r\n", b"ab", b"POST / HTTP/1.0"),
        post(b"Content-Length: 2\r\n", b"ab"),
    ),
    "Expect in HTTP/1.0": (get(b"Expect: 100-continue\r\n", b"GET / HTTP/1.0"), get()),
    "a higher minor version": (get(line=b"GET / HTTP/1.9"), get()),
    "absolute-form": (get(line=b"GET http://app/a?b HTTP/1.1"), get(line=b"GET /a?b HTTP/1.1")),
    "absolute-form without a path": (get(line=b"GET HTTP://app HTTP/1.1"), get()),
    "absolute-form with a query only": (get(line=b"GET https://app?a HTTP/1.1"), get(line=b"GET /?a HTTP/1.1")),
    "absolute-form in HTTP/1.0": (
        b"GET http://app/ HTTP/1.0\r\nA: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: app\r\nA: 1\r\n\r\n",
    ),
    "absolute-form wins over Host": (
        b"GET http://other:81/a HTTP/1.1\r\nA: 1\r\nhost: app\r\n\r\n",
        b"GET /a HTTP/1.1\r\nA: 1\r\nHost: other:81\r\n\r\n",
    ),
    "absolute-form of OPTIONS *": (get(line=b"OPTIONS http://app HTTP/1.1"), get(line=b"OPTIONS * HTTP/1.1")),
    "absolute-form of OPTIONS /": (get(line=b"OPTIONS http://app/ HTTP/1.1"), get(line=b"OPTIONS / HTTP/1.1")),
    "CONNECT wins over Host": (
        b"CONNECT other:443 HTTP/1.1\r\nHost: app\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    ),
    "CONNECT in HTTP/1.0": (
        b"CONNECT app:443 HTTP/1.0\r\n\r\n",
        b"CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\n\r\n",
    ),
    "leading zeros": (post(b"Content-Length: 0005\r\n", b"hello"), post(b"Content-Length: 5\r\n", b"hello")),
    "only zeros": (post(b"Content-Length: 00\r\n", b""), post(b"Content-Length: 0\r\n", b"")),
    "chunked": (
        post(CHUNKED_FIELD, b"5\r\nhello\r\n0\r\n\r\n"),
        post(REBUILT, b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    "chunked in any case": (
        post(b"tRANSFER-eNCODING:\t CHUNKED \t\r\n", b"1\r\nx\r\n0\r\n\r\n"),
        post(REBUILT, b"1\r\nx\r\n0\r\n\r\n"),
    ),
    "chunked and empty": (post(CHUNKED_FIELD, b"0\r\n\r\n"), post(REBUILT, b"0\r\n\r\n")),
    "chunks are framed anew": (
        post(CHUNKED_FIELD, b'00A;a ; b=c;d = "e\\"\t;\\\\"\r\n0123456789\r\n1\r\nx\r\n000;e\r\n\r\n'),
        post(REBUILT, b"b\r\n0123456789x\r\n0\r\n\r\n"),
    ),
    "trailers": (
        post(CHUNKED_FIELD, b"1\r\nx\r\n0\r\nDigest: a\r\nx-B:\t2\r\n\r\n"),
        post(REBUILT, b"1\r\nx\r\n0\r\nDigest: a\r\nx-B:\t2\r\n\r\n"),
    ),
    "trailers of an empty body": (
        post(CHUNKED_FIELD, b"0\r\nDigest: a\r\n\r\n") + get(),
        post(REBUILT, b"0\r\nDigest: a\r\n\r\n") + get(),
    ),
    "chunked, then another request": (
        post(CHUNKED_FIELD, b"1\r\nx\r\n0\r\n\r\n") + get(line=b"GET /2 HTTP/1.1"),
        post(REBUILT, b"1\r\nx\r\n0\r\n\r\n") + get(line=b"GET /2 HTTP/1.1"),
    ),
}


@pytest.mark.parametrize("wire", UNCHANGED.values(), ids=UNCHANGED)
def test_what_is_sent_on_as_it_came(wire: bytes) -> None:
    outcome = codec.requests(wire)
    assert outcome.refusal is None
    assert outcome.forwarded == wire


@pytest.mark.parametrize(("wire", "forwarded"), CHANGED.values(), ids=CHANGED)
def test_what_is_changed_on_its_way(wire: bytes, forwarded: bytes | None) -> None:
    outcome = codec.requests(wire)
    assert outcome.refusal is None
    assert all(message.complete for message in outcome.messages)
    if forwarded is not None:
        assert outcome.forwarded == forwarded


@pytest.mark.parametrize(
    "wire", [*UNCHANGED.values(), *(wire for wire, _ in CHANGED.values())], ids=[*UNCHANGED, *CHANGED]
)
def test_what_is_sent_on_can_be_read_in_one_way_only(wire: bytes) -> None:
    outcome = codec.requests(wire)
    assert [message.body for message in strict.read_requests(outcome.forwarded)] == [
        message.body for message in outcome.messages
    ]


HOSTS = {
    b"app": b"app",
    b"APP:8080": b"app",
    b"app:": b"app",
    b"app:0": b"app",
    b"app:65535": b"app",
    b"a-b_c.d~e.": b"a-b_c.d~e.",
    b"a!$&'()*+,;=%C3%a4": b"a!$&'()*+,;=%c3%a4",
    b"127.0.0.1:80": b"127.0.0.1",
    b"[::1]": b"[::1]",
    b"[2001:DB8::1]:80": b"[2001:db8::1]",
    b"[::ffff:1.2.3.4]": b"[::ffff:1.2.3.4]",
    b"h" * 255: b"h" * 255,
}


@pytest.mark.parametrize(("value", "host"), HOSTS.items())
def test_the_host_that_routes_see(value: bytes, host: bytes) -> None:
    assert head_of(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % value).host == host
    assert head_of(b"GET / HTTP/1.1\r\nHost:\t%b \r\n\r\n" % value).host == host
    assert head_of(b"GET http://%b/ HTTP/1.1\r\nHost: other\r\n\r\n" % value).host == host


def test_connect_is_routed_by_its_target() -> None:
    head = head_of(b"CONNECT Other:443 HTTP/1.1\r\nHost: app\r\n\r\n")
    assert (head.host, head.target, head.path) == (b"other", b"Other:443", b"Other:443")


def test_the_path_is_the_target_without_its_query() -> None:
    head = head_of(get(line=b"GET /a?b?c HTTP/1.1"))
    assert (head.target, head.path) == (b"/a?b?c", b"/a")
    assert head_of(get(line=b"OPTIONS * HTTP/1.1")).path == b"*"


@pytest.mark.parametrize(
    ("line", "fields", "persistent"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"Connection: keep-alive\r\n", True),
        (b"GET / HTTP/1.1", b"Connection: close\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: a, CLOSE ,b\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: a\r\nConnection:close\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: keep-alive, close\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: closed, not-close\r\n", True),
        (b"GET / HTTP/1.1", b"Connection: \xa0close\r\n", True),
        (b"GET / HTTP/1.1", b"Proxy-Connection: close\r\n", True),
        (b"GET / HTTP/1.2", b"", True),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
        (b"GET / HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
        (b"GET / HTTP/1.0", b"Keep-Alive: timeout=5\r\n", False),
    ],
)
def test_whether_the_connection_may_carry_another_request(line: bytes, fields: bytes, persistent: bool) -> None:
    assert head_of(get(fields, line)).persistent is persistent


@pytest.mark.parametrize(
    ("line", "fields", "upgrade"),
    [
        (b"GET / HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"GET / HTTP/1.1", b"Upgrade: a/1\r\nConnection: keep-alive, upgrade\r\nUpgrade: b\r\n", b"a/1, b"),
        (b"POST / HTTP/1.1", b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 0\r\n", b"a"),
        (b"POST / HTTP/1.1", b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n", None),
        (b"POST / HTTP/1.1", b"Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n", None),
        (b"GET / HTTP/1.0", b"Connection: upgrade\r\nUpgrade: a\r\n", None),
        (b"GET / HTTP/1.1", b"Upgrade: a\r\n", None),
        (b"GET / HTTP/1.1", b"Connection: upgrades\r\nUpgrade: a\r\n", None),
        (b"GET / HTTP/1.1", b"Connection: upgrade\r\n", None),
    ],
)
def test_an_upgrade_is_offered_only_where_it_is_clear(line: bytes, fields: bytes, upgrade: bytes | None) -> None:
    head = head_of(get(fields, line))
    assert head.upgrade == upgrade
    assert b"pgrade" not in encode_request(head, b"").partition(b"Content-Length")[0]


def test_what_meshlet_wants_to_know_of_forwarding() -> None:
    head = head_of(
        get(
            b"x-forwarded-for: 1.1.1.1\r\nX-FORWARDED-FOR: \r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3 \r\n"
            b"X-Forwarded-Proto: HTTPS\r\nX-Request-Id: \r\nX-Request-Id: first\r\nX-Request-Id: second\r\n"
        )
    )
    assert head.forwarded_for == b"1.1.1.1, 2.2.2.2, 3.3.3.3"
    assert head.forwarded_proto == b"https"
    assert head.request_id == b"first"


def test_an_expectation() -> None:
    assert head_of(get(b"Expect: 100-Continue\r\n")).expects_continue
    assert not head_of(get(b"Expect: x 100-continue\r\n")).expects_continue
    assert not head_of(get(b"Expect: 100-continue\r\n", b"GET / HTTP/1.0")).expects_continue


def test_framing() -> None:
    assert head_of(get()).length == 0
    assert head_of(get(b"Content-Length: 999999999999999999\r\n")).length == 10**18 - 1
    assert head_of(get(CHUNKED_FIELD)).length == CHUNKED


@pytest.mark.parametrize("byte", sorted(TARGET))
def test_a_target_may_hold_nearly_anything(byte: int) -> None:
    target = b"/a%cb" % byte
    assert head_of(get(line=b"GET %b HTTP/1.1" % target)).target == target


def test_added_lines_come_before_the_framing() -> None:
    head = head_of(get(b"A: 1\r\n" + CHUNKED_FIELD))
    assert encode_request(head, b"b: 2\r\n") == get(b"A: 1\r\nb: 2\r\n" + REBUILT)
