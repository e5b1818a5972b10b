"""Requests as bytes: those that must never reach an app, and those that must reach it just so.

Each is sent in one write, so that meshlet has seen all of it before it decides.
"""

from __future__ import annotations

from typing import NamedTuple

# One request in one write is refused whole; these are the default limits of a listener.
TARGET, HEADER_BYTES, HEADERS = 16384, 65536, 100


class Refused(NamedTuple):
    """A request that meshlet answers itself and no app sees a byte of."""

    name: str
    raw: bytes
    status: int = 400


class Accepted(NamedTuple):
    """A request that is served, and what the app gets of it."""

    name: str
    raw: bytes
    forwarded: bytes


def message(first: str | bytes, *lines: str | bytes, body: bytes = b"") -> bytes:
    """A request with these field lines and no others."""
    encoded = [line.encode() if isinstance(line, str) else line for line in (first, *lines)]
    return b"".join(line + b"\r\n" for line in encoded) + b"\r\n" + body


def get(*lines: str | bytes) -> bytes:
    return message("GET /refused HTTP/1.1", "Host: app", *lines)


def post(*lines: str | bytes, body: bytes = b"") -> bytes:
    return message("POST /refused HTTP/1.1", "Host: app", *lines, body=body)


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def start(line: str | bytes) -> bytes:
    return message(line, "Host: app")


_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n"

REFUSED = [
    # --- one body, two lengths (RFC 9112 section 6.3) ---
    Refused(
        "length-and-coding", post("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + _SMUGGLED)
    ),
    Refused(
        "coding-and-length", post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n" + _SMUGGLED)
    ),
    Refused("two-lengths", post("Content-Length: 5", "Content-Length: 0", body=b"hello" + _SMUGGLED)),
    Refused("same-length-twice", post("Content-Length: 5", "Content-Length: 5", body=b"hello")),
    Refused("length-list", post("Content-Length: 5, 5", body=b"hello")),
    *(
        Refused(f"length-{name}", post(b"Content-Length: " + value, body=b"hello"))
        for name, value in {
            "plus": b"+5",
            "minus": b"-5",
            "hex": b"0x5",
            "space": b"5 5",
            "empty": b"",
            "fraction": b"5.0",
            "exponent": b"5e0",
            "digits-with-underscore": b"0_5",
            "huge": b"9" * 30,
            "arabic-digit": b"\xd9\xa5",
        }.items()
    ),
    Refused("length-in-connect", message("CONNECT app:80 HTTP/1.1", "Host: app", "Content-Length: 5", body=b"hello")),
    # --- codings other than a single chunked (RFC 9112 section 6.1) ---
    *(
        Refused(f"coding-{name}", post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n"))
        for name, value in {
            "gzip": b"gzip",
            "gzip-chunked": b"gzip, chunked",
            "chunked-gzip": b"chunked, gzip",
            "chunked-twice": b"chunked, chunked",
            "identity": b"identity",
            "unknown": b"xchunked",
            "parameter": b"chunked;q=1",
            "quoted": b'"chunked"',
            "empty": b"",
            "vertical-tab": b"\x0bchunked",
            "trailing-nul": b"chunked\x00",
        }.items()
    ),
    Refused(
        "coding-in-two-fields", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    ),
    Refused(
        "coding-in-http-1.0",
        message("POST /refused HTTP/1.0", "Host: app", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    # --- fields that some read as framing ---
    Refused("coding-underscore", post("Transfer_Encoding: chunked", body=b"0\r\n\r\n" + _SMUGGLED)),
    Refused("length-underscore", post("Content_Length: 5")),
    Refused("length-dot", post("Content.Length: 5")),
    Refused("coding-space-before-colon", post("Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    Refused("length-tab-before-colon", post("Content-Length\t: 5", body=b"hello")),
    # --- lines (RFC 9112 section 2.2 and 5) ---
    Refused("folded", get("X-A: 1", " folded")),
    Refused("folded-with-tab", get("X-A: 1", "\tfolded")),
    Refused("folded-coding", post("Transfer-Encoding:", " chunked", body=b"0\r\n\r\n")),
    Refused("space-before-first-field", message("GET /refused HTTP/1.1", " Host: app")),
    Refused("bare-lf", b"GET /refused HTTP/1.1\nHost: app\n\n"),
    Refused("one-bare-lf", get(b"X-A: 1\nX-B: 2")),
    Refused("bare-lf-before-the-end", b"GET /refused HTTP/1.1\r\nHost: app\n\r\n"),
    Refused("bare-cr", get(b"X-A: 1\rX-B: 2")),
    Refused("cr-cr-lf", get(b"X-A: 1\r")),
    Refused("nul-in-value", get(b"X-A: \x00")),
    Refused("nul-in-name", get(b"X-\x00A: 1")),
    Refused("control-in-value", get(b"X-A: \x01")),
    Refused("escape-in-value", get(b"X-A: \x1b[2J")),
    Refused("delete-in-value", get(b"X-A: \x7f")),
    Refused("name-not-a-token", get("X(A): 1")),
    Refused("name-beyond-ascii", get("X-Ä: 1")),
    Refused("empty-name", get(": 1")),
    Refused("no-colon", get("X-A")),
    # --- Host (RFC 9112 section 3.2) ---
    Refused("no-host", message("GET /refused HTTP/1.1")),
    Refused("two-hosts", get("Host: other")),
    Refused("same-host-twice", get("Host: app")),
    *(
        Refused(f"host-{name}", message("GET /refused HTTP/1.1", b"Host: " + value))
        for name, value in {
            "empty": b"",
            "space": b"app other",
            "slash": b"app/path",
            "user": b"user@app",
            "list": b"app, other",
            "port-too-high": b"app:65536",
            "port-letters": b"app:http",
            "bracket": b"[::1",
            "query": b"app?x",
            "backslash": b"app\\other",
        }.items()
    ),
    # --- request line (RFC 9112 section 3) ---
    Refused("http-0.9", b"GET /refused\r\n\r\n"),
    Refused("http-2.0", start("GET /refused HTTP/2.0"), 505),
    *(
        Refused(f"version-{name}", start(line))
        for name, line in {
            "lower": "GET /refused http/1.1",
            "short": "GET /refused HTTP/1",
            "long": "GET /refused HTTP/1.10",
            "space-after": "GET /refused HTTP/1.1 ",
            "of-another-protocol": "GET /refused RTSP/1.0",
        }.items()
    ),
    *(
        Refused(f"line-{name}", message(line, "Host: app"))
        for name, line in {
            "two-spaces": "GET  /refused HTTP/1.1",
            "tab": "GET\t/refused HTTP/1.1",
            "leading-space": " GET /refused HTTP/1.1",
            "space-in-target": "GET /refused /x HTTP/1.1",
            "control-in-target": "GET /refused\x01 HTTP/1.1",
            "fragment": "GET /refused#part HTTP/1.1",
            "relative-target": "GET refused HTTP/1.1",
            "asterisk-for-get": "GET * HTTP/1.1",
            "other-scheme": "GET ftp://app/refused HTTP/1.1",
            "user-in-target": "GET http://user@app/refused HTTP/1.1",
            "no-host-in-target": "GET http:///refused HTTP/1.1",
            "method-not-a-token": "G(T /refused HTTP/1.1",
            "no-method": " /refused HTTP/1.1",
            "method-too-long": "M" * 65 + " /refused HTTP/1.1",
            "connect-to-a-path": "CONNECT /refused HTTP/1.1",
            "connect-without-port": "CONNECT app HTTP/1.1",
        }.items()
    ),
    Refused("connect-not-allowed", start("CONNECT app:80 HTTP/1.1"), 405),
    Refused("absolute-without-host", message("GET http://app/refused HTTP/1.1")),
    # --- chunks (RFC 9112 section 7.1) ---
    *(
        Refused(f"chunk-{name}", chunked(body))
        for name, body in {
            "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
            "plus": b"+5\r\nhello\r\n0\r\n\r\n",
            "minus": b"-5\r\nhello\r\n0\r\n\r\n",
            "no-size": b"\r\nhello\r\n0\r\n\r\n",
            "not-hex": b"g\r\nhello\r\n0\r\n\r\n",
            "space-before": b" 5\r\nhello\r\n0\r\n\r\n",
            "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
            "bare-lf": b"5\nhello\r\n0\r\n\r\n",
            "bare-cr": b"5\rhello\r\n0\r\n\r\n",
            "data-too-long": b"5\r\nhello!\r\n0\r\n\r\n",
            "data-ends-with-lf": b"5\r\nhello\n0\r\n\r\n",
            "extension-without-name": b"5;\r\nhello\r\n0\r\n\r\n",
            "extension-with-nul": b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
            "extension-with-bare-lf": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            "extension-too-long": b"5;a=" + b"b" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
            "trailer-length": b"0\r\nContent-Length: 5\r\n\r\n",
            "trailer-coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "trailer-host": b"0\r\nHost: other\r\n\r\n",
            "trailer-without-colon": b"0\r\nX-T\r\n\r\n",
            "trailer-folded": b"0\r\nX-T: 1\r\n folded\r\n\r\n",
        }.items()
    ),
    # --- limits ---
    Refused("target-too-long", start("GET /" + "a" * TARGET + " HTTP/1.1"), 414),
    Refused("header-too-large", get("X-A: " + "a" * HEADER_BYTES), 431),
    Refused("too-many-headers", get(*(f"X-{n}: 1" for n in range(HEADERS))), 431),
]

# What meshlet adds to each; the client is trusted, so its request id is kept.
_ADDED = ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-request-id: 1"]
_ID = "x-request-id: 1"


def accept(
    name: str,
    sent: list[str],
    got: list[str],
    *,
    body: bytes = b"",
    forwarded_body: bytes | None = None,
) -> Accepted:
    raw = message(sent[0], *sent[1:], _ID, body=body)
    rechunked = ["transfer-encoding: chunked"] if forwarded_body is not None else []
    forwarded = message(*got, *_ADDED, *rechunked, body=body if forwarded_body is None else forwarded_body)
    return Accepted(name, raw, forwarded)


ACCEPTED = [
    accept("plain", ["GET /a?b=c HTTP/1.1", "Host: app"], ["GET /a?b=c HTTP/1.1", "Host: app"]),
    accept(
        "order-case-and-duplicates",
        ["GET / HTTP/1.1", "X-B: 2", "HOST: app", "x-a:1", "X-B:  3  ", "X-Empty:"],
        ["GET / HTTP/1.1", "X-B: 2", "HOST: app", "x-a:1", "X-B:  3  ", "X-Empty:"],
    ),
    accept("beyond-ascii", ["GET / HTTP/1.1", "Host: app", "X-A: ä"], ["GET / HTTP/1.1", "Host: app", "X-A: ä"]),
    accept(
        "hop-by-hop",
        [
            "GET / HTTP/1.1",
            "Host: app",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "X-Kept: 1",
        ],
        ["GET / HTTP/1.1", "Host: app", "X-Kept: 1"],
    ),
    accept(
        "connection-cannot-name-framing-away",
        ["POST / HTTP/1.1", "Host: app", "Connection: Host, Content-Length", "Content-Length: 5"],
        ["POST / HTTP/1.1", "Host: app", "Content-Length: 5"],
        body=b"hello",
    ),
    accept(
        "upgrade-to-h2c",
        ["GET / HTTP/1.1", "Host: app", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"],
        ["GET / HTTP/1.1", "Host: app"],
    ),
    accept("absolute", ["GET http://other/a?b HTTP/1.1", "Host: app"], ["GET /a?b HTTP/1.1", "Host: other"]),
    accept("absolute-without-path", ["GET http://other?b HTTP/1.1", "Host: app"], ["GET /?b HTTP/1.1", "Host: other"]),
    accept("asterisk", ["OPTIONS * HTTP/1.1", "Host: app"], ["OPTIONS * HTTP/1.1", "Host: app"]),
    accept("custom-method", ["BREW /pot HTTP/1.1", "Host: app"], ["BREW /pot HTTP/1.1", "Host: app"]),
    accept("later-version", ["GET / HTTP/1.9", "Host: app"], ["GET / HTTP/1.1", "Host: app"]),
    accept("http-1.0", ["GET / HTTP/1.0", "Host: app"], ["GET / HTTP/1.1", "Host: app"]),
    accept(
        "path-untouched",
        ["GET /a/../b//c;d/%2e%2E/%zz?x=/../y HTTP/1.1", "Host: app"],
        ["GET /a/../b//c;d/%2e%2E/%zz?x=/../y HTTP/1.1", "Host: app"],
    ),
    accept("target-beyond-ascii", ["GET /ä HTTP/1.1", "Host: app"], ["GET /ä HTTP/1.1", "Host: app"]),
    accept("host-with-port", ["GET / HTTP/1.1", "Host: APP:80"], ["GET / HTTP/1.1", "Host: APP:80"]),
    accept("host-ipv6", ["GET / HTTP/1.1", "Host: [::1]:80"], ["GET / HTTP/1.1", "Host: [::1]:80"]),
    accept(
        "length",
        ["POST / HTTP/1.1", "Host: app", "Content-Length: 5"],
        ["POST / HTTP/1.1", "Host: app", "Content-Length: 5"],
        body=b"hello",
    ),
    accept(
        "leading-zeros",
        ["POST / HTTP/1.1", "Host: app", "Content-Length: 005"],
        ["POST / HTTP/1.1", "Host: app", "Content-Length: 5"],
        body=b"hello",
    ),
    accept(
        "empty-body",
        ["DELETE / HTTP/1.1", "Host: app", "Content-Length: 0"],
        ["DELETE / HTTP/1.1", "Host: app", "Content-Length: 0"],
    ),
    accept(
        "body-that-looks-like-a-request",
        ["POST / HTTP/1.1", "Host: app", f"Content-Length: {len(_SMUGGLED)}"],
        ["POST / HTTP/1.1", "Host: app", f"Content-Length: {len(_SMUGGLED)}"],
        body=_SMUGGLED,
    ),
    accept(
        "chunks-are-framed-anew",
        ["POST / HTTP/1.1", "Host: app", "transfer-encoding: Chunked"],
        ["POST / HTTP/1.1", "Host: app"],
        body=b'003\r\nhel\r\n2;a;b="c;d"\r\nlo\r\n000\r\n\r\n',
        forwarded_body=b"5\r\nhello\r\n0\r\n\r\n",
    ),
    accept(
        "no-chunks",
        ["POST / HTTP/1.1", "Host: app", "Transfer-Encoding: chunked"],
        ["POST / HTTP/1.1", "Host: app"],
        body=b"0\r\n\r\n",
        forwarded_body=b"0\r\n\r\n",
    ),
    accept(
        "trailers",
        ["POST / HTTP/1.1", "Host: app", "Transfer-Encoding: chunked"],
        ["POST / HTTP/1.1", "Host: app"],
        body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        forwarded_body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    ),
    accept(
        "expect",
        ["POST / HTTP/1.1", "Host: app", "Expect: 100-continue", "Content-Length: 5"],
        ["POST / HTTP/1.1", "Host: app", "Expect: 100-continue", "Content-Length: 5"],
        body=b"hello",
    ),
    accept(
        "as-many-headers-as-allowed",
        ["GET / HTTP/1.1", "Host: app", *(f"X-{n}: 1" for n in range(HEADERS - 2))],
        ["GET / HTTP/1.1", "Host: app", *(f"X-{n}: 1" for n in range(HEADERS - 2))],
    ),
    accept(
        "as-long-a-target-as-allowed",
        ["GET /" + "a" * (TARGET - 1) + " HTTP/1.1", "Host: app"],
        ["GET /" + "a" * (TARGET - 1) + " HTTP/1.1", "Host: app"],
    ),
    Accepted(
        "http-1.0-without-host",
        message("GET / HTTP/1.0", _ID),
        # HTTP/1.1 must have a Host.
        message("GET / HTTP/1.0", *_ADDED),
    ),
    Accepted(
        "empty-lines-before",
        b"\r\n\r\n" + message("GET / HTTP/1.1", "Host: app", _ID),
        message("GET / HTTP/1.1", "Host: app", *_ADDED),
    ),
    Accepted(
        "forwarded-for-grows",
        message("GET / HTTP/1.1", "Host: app", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", _ID),
        message(
            "GET / HTTP/1.1",
            "Host: app",
            "x-forwarded-for: 192.0.2.1, 127.0.0.1",
            "x-forwarded-proto: https",
            "x-request-id: 1",
        ),
    ),
]
