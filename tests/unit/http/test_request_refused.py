"""What a client may not send: the status it gets, and that nothing of it is sent on.

Most of these are the vectors of published collections on request smuggling, and of conformance suites for HTTP/1.1.
"""

from __future__ import annotations

import pytest

from meshlet.errors import BadRequest
from meshlet.http.grammar import FIELD, TARGET, TOKEN
from meshlet.http.head import HeadLimits
from tests.support import codec

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n"
CONTROLS = [byte for byte in range(256) if byte not in FIELD]
#: what some language or library takes for white space, or drops
ODD_SPACES = [b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x1f", b"\x7f", b"\x85", b"\xa0", b"\xad", b"\xff", b"\xc2\xa0"]


def refused(wire: bytes, status: int = 400, limits: HeadLimits | None = None) -> None:
    outcome = codec.requests(wire, limits)
    assert outcome.refusal == (BadRequest, status)
    assert outcome.messages == ()


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"%b\r\nHost: app\r\n%b\r\n" % (line, fields) + SMUGGLED


def post(fields: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: app\r\n%b\r\n%b" % (fields, body) + SMUGGLED


REQUEST_LINES = {
    "empty": b"",
    "a word": b"GET",
    "HTTP/0.9": b"GET /",
    "no target": b"GET HTTP/1.1",
    "an empty target": b"GET  HTTP/1.1",
    "two spaces before": b"GET  / HTTP/1.1",
    "two spaces after": b"GET /  HTTP/1.1",
    "a space before": b" GET / HTTP/1.1",
    "a tab before": b"\tGET / HTTP/1.1",
    "a space at the end": b"GET / HTTP/1.1 ",
    "tabs": b"GET\t/\tHTTP/1.1",
    "a tab for the second space": b"GET /\tHTTP/1.1",
    "a space in the target": b"GET /a b HTTP/1.1",
    "a tab in the target": b"GET /a\tb HTTP/1.1",
    "a fragment": b"GET /a#b HTTP/1.1",
    "no slash": b"GET a HTTP/1.1",
    "a query only": b"GET ?a HTTP/1.1",
    "an asterisk for GET": b"GET * HTTP/1.1",
    "an asterisk and more": b"OPTIONS *a HTTP/1.1",
    "a backslash": b"GET \\a HTTP/1.1",
    "an authority for GET": b"GET app:80 HTTP/1.1",
    "no method": b" / HTTP/1.1",
    "a method with a colon": b"GET: / HTTP/1.1",
    "a method in brackets": b"(GET) / HTTP/1.1",
    "a method with obs-text": b"G\xc3\x8bT / HTTP/1.1",
    "a method of 65 characters": b"M" * 65 + b" / HTTP/1.1",
    "no version": b"GET / ",
    "another protocol": b"GET / HTCPCP/1.0",
    "a version in lower case": b"GET / http/1.1",
    "a version without a minor": b"GET / HTTP/1",
    "a version with a dot": b"GET / HTTP/1.",
    "a version with a comma": b"GET / HTTP/1,1",
    "a version of three": b"GET / HTTP/1.1.1",
    "a version with two digits": b"GET / HTTP/1.10",
    "a version with zeros": b"GET / HTTP/01.1",
    "a version with a space": b"GET / HTTP/ 1.1",
    "a version with a sign": b"GET / HTTP/+1.1",
    "a version in other digits": "GET / HTTP/1.१".encode(),
    "a version and more": b"GET / HTTP/1.1x",
    "two versions": b"GET / HTTP/1.1 HTTP/1.1",
    "ftp": b"GET ftp://app/ HTTP/1.1",
    "a scheme without authority": b"GET http:///a HTTP/1.1",
    "a scheme with one slash": b"GET http:/a HTTP/1.1",
    "a scheme with a path only": b"GET http:a HTTP/1.1",
    "user info": b"GET http://user@app/ HTTP/1.1",
    "user info that looks like a host": b"GET http://app:80@evil/ HTTP/1.1",
    "a backslash in the authority": b"GET http://app\\@evil/ HTTP/1.1",
    "a port of letters": b"GET http://app:http/ HTTP/1.1",
    "a port too large": b"GET http://app:65536/ HTTP/1.1",
    "CONNECT without a port": b"CONNECT app HTTP/1.1",
    "CONNECT with an empty port": b"CONNECT app: HTTP/1.1",
    "CONNECT to IPv6 without a port": b"CONNECT [::1] HTTP/1.1",
    "CONNECT to a path": b"CONNECT / HTTP/1.1",
    "CONNECT to a URI": b"CONNECT http://app:80 HTTP/1.1",
    "CONNECT to nothing": b"CONNECT :443 HTTP/1.1",
    "CONNECT to a path after a port": b"CONNECT app:443/a HTTP/1.1",
}

HEADERS = {
    "a space before the colon": b"A : b\r\n",
    "a tab before the colon": b"A\t: b\r\n",
    "a space in the name": b"A b: c\r\n",
    "a space before the name": b" A: b\r\n",
    "obs-fold": b"A: b\r\n c\r\n",
    "obs-fold with a tab": b"A: b\r\n\tc: d\r\n",
    "an empty fold": b"A: b\r\n \r\n",
    "no colon": b"A\r\n",
    "no name": b": b\r\n",
    "only a colon": b":\r\n",
    "a name in brackets": b"[A]: b\r\n",
    "a name in quotes": b'"A": b\r\n',
    "a name with a slash": b"A/b: c\r\n",
    "a name with obs-text": b"\xc3\x84: b\r\n",
    "bare LF": b"A: b\nC: d\r\n",
    "bare CR": b"A: b\rC: d\r\n",
    "CR CR LF": b"A: b\r\r\nC: d\r\n",
    "LF CR": b"A: b\n\rC: d\r\n",
    "a head that bare LF ends": b"A: b\n\nGET /smuggled HTTP/1.1\nHost: app\n",
    "CR alone ends": b"A: b\r\r",
    "two Hosts": b"Host: app\r\n",
    "two different Hosts": b"Host: other\r\n",
    "another Host in another case": b"hOsT: other\r\n",
    "an empty second Host": b"Host:\r\n",
}

LOOKALIKES = [
    b"Transfer_Encoding",
    b"TRANSFER_ENCODING",
    b"Transfer.Encoding",
    b"transfer~encoding",
    b"Transfer'Encoding",
    b"Content_Length",
    b"content.length",
    b"Content!Length",
    b"CONTENT^LENGTH",
]

HOSTS = [
    b"",
    b" ",
    b"a b",
    b"a\tb",
    b"a, b",
    b"a@b",
    b"user:pw@a",
    b"a/b",
    b"/a",
    b"http://a",
    b"a?b",
    b"a#b",
    b"a\\b",
    b'"a"',
    b"<a>",
    b"a%",
    b"a%zz",
    b"a:b",
    b"a:80:80",
    b"a:-1",
    b"a:+80",
    b"a: 80",
    b"a :80",
    b"a:80 b",
    b"a:65536",
    b"a:000080",
    b":80",
    b":",
    b"[]",
    b"[::1",
    b"::1",
    b"[::1]]",
    b"[::1]a",
    b"[1.2.3.4]",
    b"[::1::2]",
    b"[12345::]",
    b"[::ffff:1.2.3.256]",
    b"[:::::::::]",
    b"[::g]",
    b"[fe80::1%25eth0]",
    b"\xc3\xa4",
    b"a\xa0",
    b"h" * 256,
]

LENGTHS = [
    b"",
    b" ",
    b"-1",
    b"-0",
    b"+5",
    b"5.0",
    b"5e0",
    b"0x5",
    b"0o5",
    b"5x",
    b"x5",
    b"1_0",
    b"1 0",
    b"1\t0",
    b"5,5",
    b"5, 5",
    b"5, 6",
    b",5",
    b"5,",
    b"5;",
    b"'5'",
    b'"5"',
    b"five",
    b"\xb2",
    "\u096b".encode(),
    "\uff15".encode(),
    b"18446744073709551616",
    b"99999999999999999999",
    b"0" * 18 + b"5",
    b"9" * 5000,
]

CODINGS = [
    b"",
    b" ",
    b",",
    b"identity",
    b"gzip",
    b"xchunked",
    b"chunkedx",
    b"chunk",
    b"x chunked",
    b"chunked x",
    b"chunked, chunked",
    b"chunked,",
    b", chunked",
    b",chunked",
    b"gzip, chunked",
    b"chunked, gzip",
    b"identity, chunked",
    b"chunked, identity",
    b"chunked;a=b",
    b"chunked;",
    b'"chunked"',
    b"'chunked'",
    b"(chunked)",
    b"chunked\\",
    b"=?iso-8859-1?B?Y2h1bmtlZA==?=",
    b"chun%6bed",
    "chun\u0138ed".encode(),
    "\uff43hunked".encode(),
]

BOTH = {
    "both, length first": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "both, coding first": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "both, the length zero": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "both, the coding unknown": b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two lengths, the same": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "two lengths, far apart": b"Content-Length: 5\r\nA: b\r\ncontent-length: 0\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "two codings, the second unknown": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "two codings, the first unknown": b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    "a coding on a line of its own": b"Transfer-Encoding:\r\n chunked\r\n",
    "a coding after an empty fold": b"Transfer-Encoding:\r\n \r\n chunked\r\n",
    "a coding in a fold of another field": b"A: b\r\n Transfer-Encoding: chunked\r\n",
    "a coding after a bare CR": b"A: b\rTransfer-Encoding: chunked\r\n",
    "a coding after a bare LF": b"A: b\nTransfer-Encoding: chunked\r\n",
    "a coding after LF before the colon": b"Transfer-Encoding\n : chunked\r\n",
    "CR within the name": b"Tra\rnsfer-Encoding: chunked\r\n",
    "CR after the coding": b"Transfer-Encoding: chunked\r\r\n",
    "junk before the colon": b"Transfer-Encoding x: chunked\r\n",
    "a space for the hyphen": b"Transfer Encoding: chunked\r\n",
    "a backslash for the hyphen": b"Transfer\\Encoding: chunked\r\n",
    "a length on a line of its own": b"Content-Length:\r\n 5\r\n",
}

#: after `Transfer-Encoding: chunked`; the last two bytes of many are where a lenient reader would go on
CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a negative zero": b"-0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal digit": b"g\r\nhello\r\n0\r\n\r\n",
    "another digit": "\uff15\r\nhello\r\n0\r\n\r\n".encode(),
    "a space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space after": b"5 \r\nhello\r\n0\r\n\r\n",
    "a tab after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "a space within": b"0 5\r\nhello\r\n0\r\n\r\n",
    "a comma": b"5,\r\nhello\r\n0\r\n\r\n",
    "a dot": b"5.0\r\nhello\r\n0\r\n\r\n",
    "16 digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "more than 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "the largest 64 bits": b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "a size that ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "a size that ends in CR": b"5\rhello\r\n0\r\n\r\n",
    "a size that ends in CR CR LF": b"5\r\r\nhello\r\n0\r\n\r\n",
    "a chunk that ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "a chunk that ends in CR": b"5\r\nhello\r0\r\n\r\n",
    "a chunk without an end": b"5\r\nhello0\r\n\r\n",
    "a chunk that is too long": b"5\r\nhello!\r\n0\r\n\r\n",
    "a chunk that is too long by CRLF": b"3\r\nhel\r\n\r\n0\r\n\r\n",
    "a chunk that is too short": b"6\r\nhello\r\n0\r\n\r\n",
    "a size that ends in any two bytes": b"5XXhello\r\n0\r\n\r\n",
    "an end in LF": b"0\n\n",
    "an end in CRLF LF": b"0\r\n\n",
    "an end in LF CRLF": b"0\n\r\n",
    "an end in CR CR": b"0\r\r",
    "a bare semicolon": b"5;\r\nhello\r\n0\r\n\r\n",
    "a semicolon and a space": b"5; \r\nhello\r\n0\r\n\r\n",
    "two semicolons": b"5;;a\r\nhello\r\n0\r\n\r\n",
    "an extension without a name": b"5;=a\r\nhello\r\n0\r\n\r\n",
    "an extension without a value": b"5;a=\r\nhello\r\n0\r\n\r\n",
    "an extension of two words": b"5;a b\r\nhello\r\n0\r\n\r\n",
    "an extension with two values": b"5;a=b=c\r\nhello\r\n0\r\n\r\n",
    "an extension that is no token": b"5;a[=x\r\nhello\r\n0\r\n\r\n",
    "an extension with LF": b"5;\nhello\r\n0\r\n\r\n",
    "an extension that hides a size": b"5;a\nhello\r\n2b\r\nxx",
    "an extension with CR": b"5;a\rX\r\nhello\r\n0\r\n\r\n",
    "an extension with NUL": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "a quote that is not closed": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "a line end in quotes": b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    "an escaped line end": b'5;a="\\\r\n"\r\nhello\r\n0\r\n\r\n',
    "a size line of more than 1024 bytes": b"5;a=%b\r\nhello\r\n0\r\n\r\n" % (b"x" * 1021),
    "many long extensions": b"".join([b"1;a=%b\r\nx\r\n" % (b"x" * 1000)] * 17) + b"0\r\n\r\n",
    "many short extensions": b"1;a\r\nx\r\n" * 8200 + b"0\r\n\r\n",
}

TRAILERS = {
    "no colon": b"A\r\n",
    "no name": b": a\r\n",
    "a space before the colon": b"A : b\r\n",
    "obs-fold": b"A: b\r\n c\r\n",
    "a space before the name": b" A: b\r\n",
    "bare LF": b"A: b\nC: d\r\n",
    "bare CR": b"A: b\rC: d\r\n",
    "NUL": b"A: \x00\r\n",
    "DEL": b"A: \x7f\r\n",
    "a lookalike": b"Content_Length: 5\r\n",
    "a lookalike of what meshlet writes": b"X_Forwarded_For: 1.2.3.4\r\n",
    "the next request": b"GET /smuggled HTTP/1.1\r\nHost: app\r\n",
    "a request in a trailer's place": b"GET /smuggled HTTP/1.1\r\n",
}

FORBIDDEN_TRAILERS = [
    b"Transfer-Encoding: chunked",
    b"Content-Length: 5",
    b"Host: other",
    b"Connection: close",
    b"Upgrade: websocket",
    b"TE: trailers",
    b"Trailer: A",
    b"Expect: 100-continue",
    b"Max-Forwards: 1",
    b"Authorization: Basic eDp5",
    b"Proxy-Authorization: Basic eDp5",
    b"Cookie: a=b",
    b"Set-Cookie: a=b",
    b"Content-Type: text/html",
    b"Content-Encoding: gzip",
    b"Content-Range: bytes 0-1/2",
    b"Range: bytes=0-1",
    b"Cache-Control: no-store",
    b"If-Match: a",
    b"X-Forwarded-For: 1.2.3.4",
    b"x-request-id: 1",
]


@pytest.mark.parametrize("line", REQUEST_LINES.values(), ids=REQUEST_LINES)
def test_request_lines(line: bytes) -> None:
    # An empty line is skipped; the Host line that follows it here is no request line.
    refused(get(line=line))


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.0"])
def test_other_major_versions(version: bytes) -> None:
    refused(get(line=b"GET / " + version), 505)


def test_the_preface_of_http_2() -> None:
    refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS)
def test_header_lines(fields: bytes) -> None:
    refused(get(fields))
    refused(get(fields, b"GET / HTTP/1.0"))


@pytest.mark.parametrize("byte", CONTROLS)
def test_control_characters(byte: int) -> None:
    for wire in (
        get(b"A: b%cc\r\n" % byte),
        get(b"A: %c\r\n" % byte),
        get(b"A: b%c\r\n" % byte),
        get(b"A%c: b\r\n" % byte),
        get(line=b"GET /%c HTTP/1.1" % byte),
        get(line=b"GET%c/ HTTP/1.1" % byte),
        get(line=b"GET / HTTP/1.1%c" % byte),
        get(line=b"%cGET / HTTP/1.1" % byte),
    ):
        # A line end of two bytes cannot be told from one with a control character before it is whole.
        if b"\r\r\n" not in wire:
            refused(wire)


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in TOKEN and byte != ord(":")])
def test_bytes_that_no_name_and_no_method_holds(byte: int) -> None:
    refused(get(b"A%cb: c\r\n" % byte))
    refused(get(b"%cA: b\r\n" % byte))
    refused(get(b"A%c: b\r\n" % byte))
    if byte != ord(" "):
        refused(get(line=b"G%cT / HTTP/1.1" % byte))


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in TARGET])
def test_bytes_that_no_target_holds(byte: int) -> None:
    refused(get(line=b"GET /a%cb HTTP/1.1" % byte))
    refused(get(line=b"GET http://app/a%cb HTTP/1.1" % byte))


def test_no_host() -> None:
    refused(b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED)
    refused(b"GET http://app/ HTTP/1.1\r\n\r\n" + SMUGGLED)
    refused(b"CONNECT app:443 HTTP/1.1\r\n\r\n" + SMUGGLED)
    refused(b"OPTIONS * HTTP/1.1\r\nX-Host: app\r\n\r\n" + SMUGGLED)


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(host: bytes) -> None:
    refused(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host + SMUGGLED)
    refused(b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % host + SMUGGLED)
    refused(b"GET http://app/ HTTP/1.1\r\nHost: %b\r\n\r\n" % host + SMUGGLED)
    if b"/" not in host and b"?" not in host:  # there the authority ends
        refused(b"GET http://%b/ HTTP/1.1\r\nHost: app\r\n\r\n" % host + SMUGGLED)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_lookalikes_of_framing_fields(name: bytes) -> None:
    refused(post(name + b": chunked\r\n"))
    refused(post(name + b": 5\r\nContent-Length: 5\r\n"))


@pytest.mark.parametrize("value", LENGTHS, ids=lambda value: repr(value[:30]))
def test_content_lengths(value: bytes) -> None:
    refused(post(b"Content-Length: %b\r\n" % value, b""))
    refused(post(b"Content-Length:%b\r\n" % value, b""))


@pytest.mark.parametrize("value", CODINGS)
def test_transfer_encodings(value: bytes) -> None:
    refused(post(b"Transfer-Encoding: %b\r\n" % value))
    refused(post(b"Content-Length: 5\r\nTransfer-Encoding: %b\r\n" % value))


@pytest.mark.parametrize("odd", ODD_SPACES)
def test_framing_fields_with_odd_white_space(odd: bytes) -> None:
    for value in (odd + b"chunked", b"chunked" + odd, b"chunked" + odd + b"x", b"chun" + odd + b"ked"):
        refused(post(b"Transfer-Encoding: %b\r\n" % value))
        refused(post(b"Transfer-Encoding:%b\r\n" % value))
    for value in (odd + b"5", b"5" + odd, b"5" + odd + b"5"):
        refused(post(b"Content-Length: %b\r\n" % value))
    for name in (odd + b"Transfer-Encoding", b"Transfer-Encoding" + odd, b"Transfer" + odd + b"Encoding"):
        refused(post(b"%b: chunked\r\n" % name))
        refused(post(b"Content-Length: 5\r\n%b: chunked\r\n" % name))


@pytest.mark.parametrize("fields", BOTH.values(), ids=BOTH)
def test_framing_that_is_ambiguous(fields: bytes) -> None:
    refused(post(fields))
    refused(post(b"Content-Length: 5\r\n" + fields))
    refused(get(fields))
    refused(b"OPTIONS * HTTP/1.1\r\nHost: app\r\n%b\r\n0\r\n\r\n" % fields + SMUGGLED)
    refused(b"HEAD / HTTP/1.1\r\n%bHost: app\r\n\r\n0\r\n\r\n" % fields + SMUGGLED)


@pytest.mark.parametrize("value", [b"chunked", b"identity", b"", b"gzip"])
def test_transfer_encoding_in_http_1_0(value: bytes) -> None:
    refused(b"POST / HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: %b\r\n\r\n0\r\n\r\n" % value + SMUGGLED)
    refused(b"POST / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\nTransfer-Encoding: %b\r\n\r\n" % value)


def test_connect_with_a_body() -> None:
    connect = b"CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\n%b\r\n"
    refused(connect % b"Content-Length: 5\r\n")
    refused(connect % b"Transfer-Encoding: chunked\r\n")


def small_cuts(data: bytes) -> list[list[bytes]]:
    """Some ways to cut a long input, where all of them would take too long."""
    return [[data], [data[:100], data[100:]], [data[at : at + 7] for at in range(0, len(data), 7)]]


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_chunks(chunks: bytes) -> None:
    wire = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    if len(wire) < 2000:
        # What a lenient reader goes on with is there to be read; a strict one that still waits would be told apart.
        refused(wire + SMUGGLED)
    for pieces in small_cuts(wire + SMUGGLED):
        outcome = codec.read_requests(pieces)
        assert outcome.refusal == (BadRequest, 400)
        assert outcome.settled == ()


@pytest.mark.parametrize("fields", TRAILERS.values(), ids=TRAILERS)
def test_trailers(fields: bytes) -> None:
    refused(post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n%b\r\n" % fields))
    refused(post(b"Transfer-Encoding: chunked\r\n", b"0\r\nOkay: 1\r\n%b\r\n" % fields))


@pytest.mark.parametrize("field", FORBIDDEN_TRAILERS)
def test_fields_that_no_trailer_may_hold(field: bytes) -> None:
    refused(post(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % field))
    refused(post(b"Transfer-Encoding: chunked\r\n", b"0\r\nOkay: 1\r\n%b\r\n\r\n" % field.upper()))


@pytest.mark.parametrize(
    "wire",
    [
        b"\n",
        b"\r\n\n",
        b"\r\r",
        b"\x00",
        b"\x16\x03\x01",
        b" ",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\rHost",
        b"GET / HTTP/1.1\r\nHost: app\nA",
        b"GET / HTTP/1.1\r\nHost: app\r\n\n",
        b"{}",
    ],
)
def test_what_can_become_no_head_is_refused_before_its_end(wire: bytes) -> None:
    refused(wire)


# --- limits ---

LIMITS = HeadLimits(header_bytes=64, headers=4, target_bytes=32)


def of_size(size: int) -> bytes:
    """A request whose header section has so many bytes."""
    fields = b"Host: app\r\n"
    return b"GET / HTTP/1.1\r\n%bA: %b\r\n\r\n" % (fields, b"b" * (size - len(fields) - 5))


@pytest.mark.parametrize(
    ("good", "bad", "status"),
    [
        (of_size(64), of_size(65), 431),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:\r\n" * 3 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:\r\n" * 4 + b"\r\n",
            431,
        ),
        (
            b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 31),
            b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 32),
            414,
        ),
    ],
    ids=["header section", "fields", "target"],
)
def test_limits_to_the_byte(good: bytes, bad: bytes, status: int) -> None:
    assert codec.requests(good, LIMITS).refusal is None
    for pieces in ([bad], [bad[:-1], bad[-1:]], [bad[:20], bad[20:]], [bad[at : at + 1] for at in range(len(bad))]):
        assert codec.read_requests(pieces, LIMITS).refusal == (BadRequest, status)


@pytest.mark.parametrize(
    ("endless", "status"),
    [
        (b"GET /" + b"x" * 300, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 100, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 20, 431),
    ],
)
def test_a_head_without_end_is_refused_at_its_limit(endless: bytes, status: int) -> None:
    for size in (1, 7, 1000):
        pieces = [endless[at : at + size] for at in range(0, len(endless), size)]
        assert codec.read_requests(pieces, LIMITS).refusal == (BadRequest, status)


def test_the_default_limits() -> None:
    assert codec.read_requests([b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 16383)]).refusal is None
    assert codec.read_requests([b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 16384)]).refusal == (BadRequest, 414)
    fields = b"A: b\r\n" * 99
    assert codec.read_requests([b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields]).refusal is None
    assert codec.read_requests([b"GET / HTTP/1.1\r\nHost: a\r\nA:b\r\n%b\r\n" % fields]).refusal == (BadRequest, 431)
    assert codec.read_requests([b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n\r\n" % (b"x" * 65520)]).refusal is None
    assert codec.read_requests([b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n\r\n" % (b"x" * 65530)]).refusal == (
        BadRequest,
        431,
    )


def test_trailers_have_the_limits_of_headers() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    assert codec.requests(head + b"A:\r\n" * 4 + b"\r\n", LIMITS).refusal is None
    refused(head + b"A:\r\n" * 5 + b"\r\n", limits=LIMITS)
    refused(head + b"A: %b\r\n\r\n" % (b"x" * 64), limits=LIMITS)
    refused(head + b"A: " + b"x" * 100, limits=LIMITS)
