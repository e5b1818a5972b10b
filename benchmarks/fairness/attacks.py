"""What the attackers do: each attack as the bytes of its connections. Pure; the buffers are made when asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fairness.pump import TICK, Script

# Bytes of a buffer that is sent over and over, at most: large enough that a send costs little.
BUFFER = 1 << 19
# Bytes per second of the paced bodies, over all connections of an attack.
BODY_RATE = 8_000_000
# Bytes that an attack may move at most, however fast the proxy is.
MOST_BYTES = 16_000_000_000
# The flood of connections: how many in a tick (5,000 a second), and how many are open at once.
FLOOD_PER_TICK, FLOOD_OPEN = 15, 1000
BURST = 10_000

# What a proxy may get by default in meshlet: a head and trailers of 64 KiB, chunk extensions of 16 KiB.
_FIELDS = tuple(f"X-Field-{number:02}: {'v' * 1010}" for number in range(60))
_EXTENSIONS, _EXTENSION = 16, 1000
# As long as nobody will wait for.
_ENDLESS = 10**12
# The example of RFC 6455, section 1.3.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@dataclass(frozen=True)
class Attack:
    """One way to take a proxy's time."""

    name: str
    title: str
    script: Callable[[], Script] = Script
    """What each of its connections sends."""
    connections: int = 1
    statuses: tuple[str, ...] = ("",)
    """Of the first answers, if the attack is what it is meant to be; empty: none comes."""
    opening: bytes = b""
    """A request that is sent before, over a connection of its own that stays open."""
    relay: bool = False
    """Goes to the port of the TCP relay."""
    flood: bool = False
    """Opens connections all the time; each sends the script's prefix."""


def request(method: str, path: str, *fields: str) -> bytes:
    """A request head on the wire."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: fairness", *fields, "\r\n")).encode("ascii")


def response(status: str, *fields: str) -> bytes:
    """A response head on the wire."""
    return "\r\n".join((f"HTTP/1.1 {status}", *fields, "\r\n")).encode("ascii")


def repeated(message: bytes) -> bytes:
    """A buffer full of whole messages, one at least."""
    return message * max(BUFFER // len(message), 1)


def one_byte_chunks() -> bytes:
    """Of a chunked body, without its end."""
    return repeated(b"1\r\nx\r\n")


def mixed_chunks(seed: int = 1) -> bytes:
    """Chunks of 1 to 16 bytes, without the body's end."""
    dice = random.Random(seed)
    sizes = [dice.randint(1, 16) for _ in range(BUFFER // 22)]  # the largest takes 22 bytes on the wire
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


def frames() -> bytes:
    """WebSocket frames of a client: binary, 60 KB each, masked with zeros (RFC 6455, section 5.2)."""
    size = 60_000
    return repeated(b"\x82\xfe" + size.to_bytes(2, "big") + bytes(4) + bytes(size))


def trailers() -> bytes:
    """A whole request: chunks with long extensions, then long trailers."""
    chunks = b"1;%b\r\nx\r\n" % (b"e" * _EXTENSION) * _EXTENSIONS
    fields = "".join(f"{field}\r\n" for field in _FIELDS).encode("ascii")
    return request("POST", "/app/upload", "Transfer-Encoding: chunked") + chunks + b"0\r\n" + fields + b"\r\n"


def app_scripts(path: str) -> Script:
    """What the attacker's app answers on a path; anything else gets an empty 200."""
    chunked = response("200 OK", "Transfer-Encoding: chunked")
    switch = response("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", _accept())
    match path:
        case "/sink/upload" | "/full/hold":
            return Script()  # reads all, and never answers
        case "/sink/chunks":
            return Script(chunked, one_byte_chunks())
        case "/sink/hints":
            return Script(cycle=repeated(response("103 Early Hints", "Link: </style.css>; rel=preload")))
        case "/sink/download":
            return Script(response("200 OK", f"Content-Length: {_ENDLESS}"), bytes(BUFFER))
        case "/sink/upgrade":
            return Script(switch, frames())
        case "/sink/relay":
            return Script(cycle=bytes(BUFFER))
    return Script(response("200 OK", "Content-Length: 0"))


def _accept() -> str:
    return f"Sec-WebSocket-Accept: {_ACCEPT}"


def _chunked_upload(cycle: bytes, connections: int = 1) -> Script:
    head = request("POST", "/sink/upload", "Transfer-Encoding: chunked")
    return Script(head, cycle, bite=round(BODY_RATE * TICK / connections))


def _upload() -> Script:
    return Script(request("POST", "/sink/upload", f"Content-Length: {_ENDLESS}"), bytes(BUFFER))


def _asking(path: str) -> Callable[[], Script]:
    return lambda: Script(request("GET", path))


def _pipelined(path: str) -> Callable[[], Script]:
    return lambda: Script(cycle=repeated(request("GET", path)))


def _tunnel() -> Script:
    fields = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {_KEY}", "Sec-WebSocket-Version: 13")
    return Script(request("GET", "/sink/upgrade", *fields), frames(), after_answer=True)


_EIGHT = 8
_ATTACKS = (
    Attack("none", "no attack", connections=0),
    Attack("upload-chunks", "upload of one-byte chunks, 8 MB/s", lambda: _chunked_upload(one_byte_chunks())),
    Attack(
        "upload-chunks-8",
        "upload of one-byte chunks, 8 MB/s, eight connections",
        lambda: _chunked_upload(one_byte_chunks(), _EIGHT),
        _EIGHT,
    ),
    Attack("upload-mixed", "upload of chunks of 1 to 16 bytes, 8 MB/s", lambda: _chunked_upload(mixed_chunks())),
    Attack("response-chunks", "response of one-byte chunks", _asking("/sink/chunks"), statuses=("200",)),
    Attack(
        "response-chunks-8", "response of one-byte chunks, eight connections", _asking("/sink/chunks"), _EIGHT, ("200",)
    ),
    # A proxy may end such an exchange: the attacker has further requests in line.
    Attack(
        "hints",
        "an app that floods 103 Early Hints",
        lambda: Script(request("GET", "/sink/hints") * 1000),
        statuses=("", "103", "502"),
    ),
    Attack("pipelined-direct", "pipelined GETs: direct response", _pipelined("/direct"), statuses=("200",)),
    Attack(
        "pipelined-limited",
        "pipelined GETs: 429 of a rate limit",
        _pipelined("/limited"),
        statuses=("429",),
        opening=request("GET", "/limited"),
    ),
    Attack("pipelined-no-route", "pipelined GETs: 404, no route", _pipelined("/nowhere"), statuses=("404",)),
    Attack("pipelined-redirect", "pipelined GETs: redirect", _pipelined("/redirect"), statuses=("301",)),
    Attack(
        "pipelined-overflow",
        "pipelined GETs: 503 of a circuit breaker",
        _pipelined("/full/"),
        statuses=("503",),
        opening=request("GET", "/full/hold"),
    ),
    Attack("pipelined-app", "pipelined GETs to the app", _pipelined("/app"), statuses=("200",)),
    Attack(
        "burst",
        f"{BURST:,} pipelined GETs at once: direct response",
        lambda: Script(request("GET", "/direct") * BURST),
        statuses=("200",),
    ),
    Attack("empty-lines", "endless empty lines", lambda: Script(cycle=b"\r\n" * (BUFFER // 2)), statuses=("", "400")),
    Attack("accept-silent", "5,000 new connections a second, silent", flood=True),
    Attack("accept-byte", "5,000 new connections a second, one byte each", lambda: Script(b"G"), flood=True),
    Attack("upload", "upload at full speed", _upload),
    Attack("upload-8", "upload at full speed, eight connections", _upload, _EIGHT),
    Attack("download", "download at full speed", _asking("/sink/download"), statuses=("200",)),
    Attack("download-8", "download at full speed, eight connections", _asking("/sink/download"), _EIGHT, ("200",)),
    Attack(
        "relay",
        "TCP relay at full speed, both ways",
        lambda: Script(request("GET", "/sink/relay"), bytes(BUFFER)),
        relay=True,
    ),
    Attack("tunnel", "WebSocket at full speed, both ways", _tunnel, statuses=("101",)),
    Attack(
        "big-heads",
        "pipelined GETs with 60 KB of header fields",
        lambda: Script(cycle=repeated(request("GET", "/app", *_FIELDS))),
        statuses=("200",),
    ),
    Attack(
        "trailers",
        "POSTs with 16 KB of chunk extensions, 60 KB of trailers",
        lambda: Script(cycle=repeated(trailers())),
        statuses=("200",),
    ),
    Attack(
        "slow-heads",
        "heads byte by byte over 200 connections",
        lambda: Script(cycle=request("GET", "/direct", f"X-Padding: {'v' * 400}"), bite=1),
        200,
        ("", "200"),
    ),
)
ALL = {attack.name: attack for attack in _ATTACKS}
