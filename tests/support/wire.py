"""HTTP/1.1 messages as tests write them, and a reader of them that shares nothing with the code under test."""

from __future__ import annotations

import re
from typing import NamedTuple

# One zero in front of a size is how a half-closed client is asked whether it is still there.
_SIZE = re.compile(rb"0?(?:0|[1-9a-f][0-9a-f]*)")
_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"


def head(*lines: str) -> bytes:
    """Return a message head, or a section of trailers."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def chunk(payload: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def chunked(*payloads: bytes, trailers: tuple[str, ...] = ()) -> bytes:
    """Return a whole chunked body."""
    return b"".join(map(chunk, payloads)) + b"0\r\n" + head(*trailers)


class Message(NamedTuple):
    """One message of a stream; `body` is None where its head is not all there."""

    head: bytes
    body: bytes
    trailers: bytes
    complete: bool
    until_close: bool = False

    @property
    def start(self) -> str:
        return self.head.split(_CRLF)[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    def field(self, name: str) -> str | None:
        """Return the one value of a field, or None."""
        values = fields(self.head, name.encode())
        assert len(values) < 2, f"{name} more than once in {self.head!r}"
        return values[0].decode() if values else None


def fields(section: bytes, name: bytes) -> list[bytes]:
    """Return the values of all fields called `name`, lower case."""
    lines = (line.partition(b":") for line in section.split(_CRLF)[1:])
    return [value.strip() for found, _, value in lines if found.lower() == name]


def messages(stream: bytes, *, bodyless: tuple[int, ...] = ()) -> list[Message]:
    """Read a stream as the strictest of readers would. `bodyless`: the indexes of answers to HEAD."""
    found: list[Message] = []
    while stream:
        end = stream.find(_HEAD_END)
        if end < 0:
            return [*found, Message(stream, b"", b"", complete=False)]
        top, stream = stream[: end + 4], stream[end + 4 :]
        assert b"\r" not in top.replace(_CRLF, b""), f"a bare CR in {top!r}"
        assert b"\n" not in top.replace(_CRLF, b""), f"a bare LF in {top!r}"
        lengths, codings = fields(top, b"content-length"), fields(top, b"transfer-encoding")
        assert len(lengths) + len(codings) <= 1, f"ambiguous: {top!r}"
        status = int(top.split(b" ")[1]) if top.startswith(b"HTTP/") else 0
        if status == 101:  # what follows is of another protocol
            return [*found, Message(top, stream, b"", complete=True)]
        if 0 < status < 200 or status in (204, 304) or len(found) in bodyless:
            found.append(Message(top, b"", b"", complete=True))
        elif codings:
            assert codings == [b"chunked"], top
            body, trailers, complete, stream = _chunks(stream)
            found.append(Message(top, body, trailers, complete))
        elif lengths or not status:
            length = int(lengths[0]) if lengths else 0
            found.append(Message(top, stream[:length], b"", len(stream) >= length))
            stream = stream[length:]
        else:
            found.append(Message(top, stream, b"", complete=True, until_close=True))
            stream = b""
    return found


def _chunks(stream: bytes) -> tuple[bytes, bytes, bool, bytes]:
    """Return payload, trailers, whether that is all, and what follows."""
    body = b""
    while True:
        line, found, rest = stream.partition(_CRLF)
        if not found:
            return body, b"", False, b""
        assert _SIZE.fullmatch(line), f"a chunk size that some would read in another way: {line!r}"
        size = int(line, 16)
        if size == 0:
            if rest.startswith(_CRLF):
                return body, b"", True, rest[2:]
            trailers, found, rest = rest.partition(_HEAD_END)
            return body, trailers + _HEAD_END, bool(found), rest
        body += rest[:size]
        if len(rest) < size + 2:
            return body, b"", False, b""
        assert rest[size : size + 2] == _CRLF, f"a chunk without its end: {rest[size : size + 9]!r}"
        stream = rest[size + 2 :]


def canonical(stream: bytes) -> bytes:
    """Return the stream without the borders of chunks: where a body was cut on its way is nobody's business.

    What a longer stream becomes begins with what the shorter one became.
    """
    out: list[bytes] = []
    while stream:
        end = stream.find(_HEAD_END)
        if end < 0:
            out.append(stream)
            break
        top, stream = stream[: end + 4], stream[end + 4 :]
        out.append(top)
        lengths = fields(top, b"content-length")
        if fields(top, b"transfer-encoding") == [b"chunked"]:
            body, trailers, complete, stream = _chunks(stream)
            out.append(body)
            if complete:
                out.append(b"<end of chunks>" + trailers)
        elif lengths:
            out.append(stream[: int(lengths[0])])
            stream = stream[int(lengths[0]) :]
    return b"".join(out)
