"""A second reader of HTTP/1.1, to judge what meshlet sends: it shares no code with it and forgives nothing.

What this one accepts, no server can reasonably frame in another way. It is written plainly, byte after byte.
"""

from __future__ import annotations

from typing import NamedTuple

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HEX = b"0123456789abcdef"
_FRAMING = ("content-length", "transfer-encoding")
#: what must not be passed on to the next hop, apart from an upgrade's pair of fields
_HOP_BY_HOP = {"keep-alive", "proxy-connection", "te", "http2-settings"}
_NEVER_IN_TRAILERS = {b"content-length", b"transfer-encoding", b"host", b"connection", b"authorization", b"set-cookie"}


class Ambiguous(Exception):
    """Some server could read these bytes in another way."""


class Message(NamedTuple):
    """A message as read."""

    start: list[bytes]
    fields: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for found, value in self.fields if found.lower() == name]


def read_requests(data: bytes) -> list[Message]:
    """Read a connection's whole requests; raises Ambiguous, also where the last one is not complete."""
    messages = []
    at = 0
    while at < len(data):
        message, at = _message(data, at, is_request=True)
        messages.append(message)
    return messages


def read_response(data: bytes, *, has_body: bool = True) -> Message:
    """Read one response, which must be all of `data`; without framing its body goes to the end."""
    message, at = _message(data, 0, is_request=False, has_body=has_body)
    if at != len(data):
        raise Ambiguous(f"bytes after the response: {data[at:]!r}")
    return message


def _message(data: bytes, at: int, *, is_request: bool, has_body: bool = True) -> tuple[Message, int]:
    line, at = _line(data, at)
    start = line.split(b" ", 2)
    if is_request:
        _check_request_line(start)
    elif len(start) != 3 or start[0] != b"HTTP/1.1" or len(start[1]) != 3 or not start[1].isdigit():
        raise Ambiguous(f"status line {line!r}")
    fields, at = _fields(data, at)
    message = Message(start, fields, b"", [])
    old = is_request and start[2] == b"HTTP/1.0"
    if is_request and len(message.values(b"host")) != (0 if old else 1):
        raise Ambiguous(f"Host: {message.values(b'host')}")
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Ambiguous(f"framed more than once: {lengths} {codings}")
    if codings and (codings != [b"chunked"] or old):
        raise Ambiguous(f"transfer coding {codings}")
    if lengths and str(int(lengths[0])).encode() != lengths[0]:
        raise Ambiguous(f"length {lengths}")
    if not has_body:
        return message, at
    if codings:
        body, trailers, at = _chunks(data, at)
        return message._replace(body=body, trailers=trailers), at
    end = at + int(lengths[0]) if lengths else at if is_request else len(data)
    if end > len(data):
        raise Ambiguous("the body is cut short")
    return message._replace(body=data[at:end]), end


def _check_request_line(start: list[bytes]) -> None:
    # HTTP/1.0 is for what a client of that version asks without Host, which HTTP/1.1 must have.
    if len(start) != 3 or start[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise Ambiguous(f"request line {start}")
    method, target, _ = start
    if not method or not _TOKEN.issuperset(method):
        raise Ambiguous(f"method {method!r}")
    if not target or b"#" in target or b"\t" in target:
        raise Ambiguous(f"target {target!r}")
    if method != b"CONNECT" and target[:1] != b"/" and (method, target) != (b"OPTIONS", b"*"):
        raise Ambiguous(f"target {target!r}")


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = at
    while data[end : end + 1] != b"\r":
        if end == len(data):
            raise Ambiguous("a line without an end")
        byte = data[end]
        if byte == 0x7F or (byte < 0x20 and byte != 0x09):
            raise Ambiguous(f"control character {byte:#x}")
        end += 1
    if data[end + 1 : end + 2] != b"\n":
        raise Ambiguous("a bare CR")
    return data[at:end], end + 2


def _fields(data: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = _line(data, at)
        if not line:
            return fields, at
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise Ambiguous(f"field line {line!r}")
        lower = name.lower().decode()
        plain = "".join(c if c.isalnum() else "-" for c in lower)
        if plain in _FRAMING and lower != plain:
            raise Ambiguous(f"lookalike {line!r}")
        if lower in _HOP_BY_HOP:
            raise Ambiguous(f"hop-by-hop {line!r}")
        fields.append((name, value.strip(b" \t")))


def _chunks(data: bytes, at: int) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    body = b""
    while True:
        line, at = _line(data, at)
        if not line or any(byte not in _HEX for byte in line) or (line[:1] == b"0" and line != b"0"):
            raise Ambiguous(f"chunk size {line!r}")
        size = int(line, 16)
        if size == 0:
            trailers, at = _fields(data, at)
            if any(name.lower() in _NEVER_IN_TRAILERS for name, _ in trailers):
                raise Ambiguous(f"trailers {trailers}")
            return body, trailers, at
        if data[at + size : at + size + 2] != b"\r\n":
            raise Ambiguous("a chunk's end")
        body += data[at : at + size]
        at += size + 2
