"""The chunked transfer coding, decoded strictly (RFC 9112 section 7.1).

Chunk framing is never relayed: the decoder yields payload only, and what is sent on is framed anew.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlet.http.grammar import FIELD, OWS, is_token, looks_like

if TYPE_CHECKING:
    from meshlet.http.head import HeadLimits

# chunk-ext is *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ). A bare ";" or other sloppy forms are
# read differently by different servers, so the grammar is taken at its word.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*;[ \t]*"
    + _TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + _TOKEN
    + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*'
)
_HEX = frozenset(b"0123456789abcdefABCDEF")
# Whole chunks of up to 15 bytes, one after the other. A sender of such chunks makes us work for each of its bytes;
# found in one pass, a chunk costs an eighth of what it costs by itself.
_SMALL = b"|".join(rb"[%x%X]\r\n(?s:.{%d})\r\n" % (size, size, size) for size in range(1, 16))
_SMALL_CHUNK = re.compile(_SMALL)
_SMALL_CHUNKS = re.compile(rb"(?:%b)++" % _SMALL)
# The work of one call of `feed`: so many chunks, or so many bytes of small ones at the price of `_RUN_PRICE` each.
_TURN = 256
_RUN = 2048
_RUN_PRICE = 32
_LONGEST_SIZE_LINE = 1024
# All chunk extensions of a body together: senders have no use for them, attackers do (they cost CPU and carry no data).
_MOST_EXTENSIONS = 16384

#: fields that a trailer must not hold: framing, routing, authentication, content format, response control
#: (RFC 9110 section 6.5.1)
FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host trailer connection te upgrade keep-alive proxy-connection http2-settings "
    b"expect max-forwards authorization proxy-authorization proxy-authenticate www-authenticate authentication-info "
    b"proxy-authentication-info cookie set-cookie content-type content-encoding content-range range cache-control "
    b"pragma age date expires vary location retry-after warning if-match if-none-match if-modified-since "
    b"if-unmodified-since if-range x-forwarded-for x-forwarded-proto x-forwarded-host x-request-id forwarded".split()
)


class ChunkedError(ValueError):
    """The body's framing is malformed; the message says how."""


class ChunkedDecoder:
    """Takes the bytes of a chunked body; gives its payload, and at the end its trailer lines and what follows."""

    __slots__ = (
        "_at_crlf",
        "_buffer",
        "_extensions",
        "_in_trailers",
        "_limits",
        "_remaining",
        "done",
        "trailers",
        "unread",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer = b""  # an incomplete size line, CRLF or trailer section
        self._remaining = 0  # payload bytes of the current chunk
        self._at_crlf = False  # the CRLF after a chunk's payload is due
        self._in_trailers = False
        self._extensions = 0
        self.done = False
        self.trailers: tuple[bytes, ...] = ()
        #: How many bytes `feed` has left, behind the body's end or because it had done a turn's worth of work.
        self.unread = 0

    def feed(self, data: bytes, start: int = 0) -> bytes:
        """Return the payload in `data` from `start` on; all of one call together: many tiny chunks cost one write.

        Raises ChunkedError. After the body's end `done` is true. `unread` bytes at the end of `data` were not looked
        at; while the body is not done, another call takes them.
        """
        if self._buffer:
            data = self._buffer + data[start:]
            self._buffer = b""
            start = 0
        payload: list[bytes] = []
        position = start
        work = _TURN
        while not self.done:
            if self._remaining:
                piece = data[position : position + self._remaining]
                if not piece:
                    break
                payload.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if self._remaining:
                    break
                self._at_crlf = True
            if self._in_trailers:
                position = self._read_trailers(data, position)
                break
            line_start = position
            if self._at_crlf:
                line_start = self._skip_crlf(data, position)
                if line_start < 0:
                    self._buffer = data[position:]
                    break
            end = data.find(b"\r\n", line_start)
            if end < 0 or end - line_start > _LONGEST_SIZE_LINE:
                self._check_partial_line(data[line_start:])
                self._at_crlf = False
                self._buffer = data[line_start:]
                break
            self._at_crlf = False
            position = line_start
            if work <= 0:
                self.unread = len(data) - position
                return b"".join(payload)
            if end == line_start + 1:
                run = _SMALL_CHUNKS.match(data, line_start, line_start + _RUN)
                if run is not None:
                    work -= 1 + (run.end() - line_start) // _RUN_PRICE
                    payload += [chunk[3:-2] for chunk in _SMALL_CHUNK.findall(run[0])]
                    position = run.end()
                    continue
            work -= 1
            self._read_size(data[line_start:end])
            position = end + 2
        self.unread = len(data) - position if self.done else 0
        return payload[0] if len(payload) == 1 else b"".join(payload)

    @staticmethod
    def _skip_crlf(data: bytes, position: int) -> int:
        """Return where the CRLF at `position` ends, or -1 where it is not all there."""
        found = data[position : position + 2]
        if found == b"\r\n":
            return position + 2
        if found not in (b"", b"\r"):
            raise ChunkedError("a chunk is longer than its size said")
        return -1

    @staticmethod
    def _check_partial_line(line: bytes) -> None:
        if len(line) > _LONGEST_SIZE_LINE + 1:  # the CR of its end may be there already
            raise ChunkedError(f"a chunk size line of more than {_LONGEST_SIZE_LINE} bytes")
        if line and line[0] not in _HEX:
            raise ChunkedError("a malformed chunk size or extension")
        if b"\n" in line or b"\r" in line[:-1]:
            raise ChunkedError("a bare CR or LF in a chunk size line")

    def _read_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ChunkedError("a malformed chunk size or extension")
        self._extensions += len(line) - len(match[1])
        if self._extensions > _MOST_EXTENSIONS:
            raise ChunkedError(f"more than {_MOST_EXTENSIONS} bytes of chunk extensions")
        self._remaining = int(match[1], 16)
        self._in_trailers = self._remaining == 0

    def _read_trailers(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self.done = True
            return position + 2
        end = data.find(b"\r\n\r\n", position)
        section = data[position : end if end >= 0 else len(data)]
        if len(section) > self._limits.header_bytes:
            raise ChunkedError(f"trailers of more than {self._limits.header_bytes} bytes")
        if end < 0:
            if section.count(b"\n") != section.count(b"\r\n"):
                raise ChunkedError("a bare LF in the trailers")
            self._buffer = section
            return len(data)
        self.trailers = _parse_trailers(section, self._limits)
        self.done = True
        return end + 4


def _parse_trailers(section: bytes, limits: HeadLimits) -> tuple[bytes, ...]:
    lines = section.split(b"\r\n")
    if len(section.translate(None, FIELD)) != 2 * len(lines) - 2:
        raise ChunkedError("a control character, or a bare CR or LF, in the trailers")
    if len(lines) > limits.headers:
        raise ChunkedError(f"more than {limits.headers} trailer fields")
    for line in lines:
        name, colon, _ = line.partition(b":")
        if not colon or not is_token(name):
            raise ChunkedError("a malformed trailer field")
        if name.lower() in FORBIDDEN_TRAILERS or looks_like(name, FORBIDDEN_TRAILERS):
            raise ChunkedError(f"the field {name.strip(OWS).decode()} is not allowed in trailers")
    return tuple(lines)


def encode_chunk(payload: bytes) -> bytes:
    """Frame `payload`, which must not be empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


#: the end of a chunked body without trailers
LAST_CHUNK = b"0\r\n\r\n"


def encode_chunks(payload: bytes, *, complete: bool) -> bytes:
    """Frame what is there of a body; `complete`: that is all, without trailers."""
    chunk = encode_chunk(payload) if payload else b""
    return chunk + LAST_CHUNK if complete else chunk


def encode_last_chunk(trailers: tuple[bytes, ...]) -> bytes:
    """End a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers)
