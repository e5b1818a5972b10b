"""The reading side of an HTTP/1 connection as a state machine without I/O.

    HEAD --head--> FIXED | CHUNKED | UNTIL_CLOSE --last byte--> DONE --next()--> HEAD
    HEAD --head without a body--> DONE;  any --tunnel()--> TUNNEL;  any --stop()--> STOPPED

A reader calls its sink while `feed` runs. A head comes together with as much of its body as arrived with it, so that
a short message is one call here and one write on the other side. The reader stops by itself after each message and
keeps what follows, so a pipelined request waits until the one before has been answered.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Protocol

from meshlet.errors import BadRequest, UpstreamProtocolError, UpstreamReset
from meshlet.http.chunked import ChunkedDecoder, ChunkedError
from meshlet.http.grammar import TOKEN
from meshlet.http.head import UNTIL_CLOSE, HeadLimits, RequestHead, ResponseHead
from meshlet.http.request import parse_request
from meshlet.http.response import parse_response


class State(IntEnum):
    """Where a reader is in its message."""

    HEAD = 0
    FIXED = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3
    DONE = 4
    TUNNEL = 5
    STOPPED = 6


# Plain module constants: an attribute look-up on an enum class costs as much as parsing a header line.
_HEAD, _FIXED, _CHUNKED, _UNTIL_CLOSE, _DONE, _TUNNEL, _STOPPED = State

_TOKEN = frozenset(TOKEN)
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
# A CR at the very end may yet be followed by its LF.
_BARE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
# What a start line holds besides the target, or, in a response, altogether: bytes.
_START_LINE = 128


class BodySink(Protocol):
    """Takes what comes after a head that was not `complete`."""

    def on_data(self, data: bytes) -> None:
        """Take a piece of the body, never empty."""
        ...

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        """Take the end of the message."""
        ...


class RequestSink(BodySink, Protocol):
    """Takes requests."""

    def on_request(self, head: RequestHead, data: bytes, complete: bool) -> None:
        """Take a request head with what came of its body; no other call follows for a `complete` one."""
        ...


class ResponseSink(BodySink, Protocol):
    """Takes responses."""

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """Take a response head with what came of its body; no other call follows for a `complete` one.

        A head of status 1xx is complete, and followed by another head.
        """
        ...


class _Reader:
    """What both directions share: heads that come in pieces, and bodies."""

    __slots__ = ("_decoder", "_limits", "_partial", "_remaining", "_sink", "state", "surplus")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self.state: State = _HEAD
        self._partial: bytearray | None = None  # an incomplete head, or what follows a message
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        #: Bytes followed a message, known before its end is told: a client's next request, but from an app
        #: bytes that belong to no response, so its connection must not be used again.
        self.surplus = False

    @property
    def head_began(self) -> bool:
        """Whether some bytes of the next head are here, but not all; half an empty line before it is none of them."""
        return self.state is _HEAD and self._partial is not None and self._partial != b"\r"

    def _hold_head(self, data: bytes) -> None:
        """Keep the first part of a head."""
        self._partial = bytearray(data)
        self._check_partial(self._partial, 0)

    def _continue_head(self, data: bytes) -> tuple[bytes, int]:
        """Return the bytes to look at and where the head ends in them, -1 while it is incomplete."""
        partial = self._partial
        assert partial is not None
        # Search only where the end can newly be, so that a head sent byte by byte costs no more than linear time.
        seen = len(partial)
        partial += data
        end = partial.find(b"\r\n\r\n", max(0, seen - 3))
        if end < 0:
            self._check_partial(partial, max(0, seen - 1))
            return data, end
        self._partial = None
        return bytes(partial), end

    def _check_partial(self, partial: bytearray, start: int) -> None:
        """Refuse at once what becomes no head however it goes on; the lines before `start` were looked at before."""
        raise NotImplementedError

    def _read_body(self, data: bytes, sink: BodySink) -> bytes:
        """Pass body bytes to `sink` and return what follows the message."""
        if self.state is _FIXED:
            remaining = self._remaining - len(data)
            if remaining > 0:
                self._remaining = remaining
                sink.on_data(data)
                return b""
            rest = b""
            if remaining:
                rest = data[remaining:]
                data = data[:remaining]
            self.state = _DONE
            self.surplus = remaining < 0
            sink.on_data(data)
            sink.on_end(())
            return rest
        if self.state is _CHUNKED:
            decoder = self._decoder
            assert decoder is not None
            payload = decoder.feed(data)
            if decoder.done:
                self.state = _DONE
                self.surplus = bool(decoder.rest)
                self._decoder = None
            if payload:
                sink.on_data(payload)
            if decoder.done:
                sink.on_end(decoder.trailers)
                return decoder.rest
            return b""
        sink.on_data(data)
        return b""

    def _begin_body(self, length: int, rest: bytes) -> tuple[bytes, bool, bytes]:
        """Return what of the body came with the head, whether that is all of it, and what follows the message."""
        if length >= 0:
            missing = length - len(rest)
            if missing > 0:
                self.state = _FIXED
                self._remaining = missing
                return rest, False, b""
            self.state = _DONE
            return (rest, True, b"") if missing == 0 else (rest[:length], True, rest[length:])
        if length == UNTIL_CLOSE:
            self.state = _UNTIL_CLOSE
            return rest, False, b""
        self.state = _CHUNKED
        self._decoder = decoder = ChunkedDecoder(self._limits)
        payload = decoder.feed(rest) if rest else b""
        if not decoder.done or decoder.trailers:
            return payload, False, b""
        self.state = _DONE
        self._decoder = None
        return payload, True, decoder.rest

    def _end_with_trailers(self, sink: BodySink) -> bytes:
        """Where a whole chunked body came with its head: tell its trailers, and return what follows the message."""
        decoder = self._decoder
        if self.state is not _CHUNKED or decoder is None or not decoder.done:
            return b""
        self.state = _DONE
        self._decoder = None
        self.surplus = bool(decoder.rest)
        sink.on_end(decoder.trailers)
        return decoder.rest

    def stop(self) -> None:
        """Take nothing more, not even what `feed` has in hand: the connection is given up."""
        self.state = _STOPPED
        self.surplus = True

    def tunnel(self) -> bytes:
        """Stop reading messages; return what was received beyond the last one."""
        self.state = _TUNNEL
        rest = bytes(self._partial) if self._partial is not None else b""
        self._partial = None
        return rest


class RequestReader(_Reader):
    """Reads a client's requests. `feed` raises BadRequest; the connection must not be read on after that."""

    __slots__ = ("pumping",)

    def __init__(self, sink: RequestSink, limits: HeadLimits) -> None:
        super().__init__(limits)
        self._sink: RequestSink | None = sink
        #: `feed` is at work and may have further requests in hand
        self.pumping = False

    def let_go(self) -> None:
        """Forget the sink, for good: the two refer to each other, and only the garbage collector would free them."""
        self._sink = None

    @property
    def waiting(self) -> int:
        """Bytes of further requests that wait until the current one is answered."""
        return len(self._partial) if self._partial is not None and self.state is _DONE else 0

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire."""
        self.pumping = True
        try:
            while data:
                state = self.state
                if state is _HEAD:
                    data = self._read_head(data)
                elif state < _DONE:
                    data = self._read(data)
                else:
                    self._keep(data)
                    return
        finally:
            self.pumping = False

    def _keep(self, data: bytes) -> None:
        """Keep what follows the message for `next` or `tunnel`."""
        if self.state is _STOPPED:
            return
        if self._partial is None:
            self._partial = bytearray(data)
        else:
            self._partial += data

    def next(self) -> None:
        """Go on to the next request; the one before has been answered."""
        self.state = _HEAD
        # Answered from within `feed`: its loop goes on, so that a long pipeline is no deep recursion.
        if self._partial is not None and not self.pumping:
            data = bytes(self._partial)
            self._partial = None
            self.feed(data)

    def _read(self, data: bytes) -> bytes:
        try:
            assert self._sink is not None
            return self._read_body(data, self._sink)
        except ChunkedError as error:
            raise BadRequest(str(error)) from error

    def _read_head(self, data: bytes) -> bytes:
        # Empty lines before a request line are skipped (RFC 9112 section 2.2), also one that comes in two pieces.
        if self._partial is not None and self._partial.startswith(b"\r"):
            self._partial = None
            data = b"\r" + data
        if self._partial is not None:
            data, end = self._continue_head(data)
            if end < 0:
                return b""
        else:
            if data[0] == 0x0D:
                data = _EMPTY_LINES.sub(b"", data)
                if not data:
                    return b""
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._hold_head(data)
                return b""
        head = parse_request(data[:end], self._limits)
        sink = self._sink
        assert sink is not None
        if head.length == 0:
            self.state = _DONE
            sink.on_request(head, b"", True)
            return data[end + 4 :]
        try:
            body, complete, rest = self._begin_body(head.length, data[end + 4 :])
        except ChunkedError as error:
            raise BadRequest(str(error)) from error
        sink.on_request(head, body, complete)
        return rest if complete else self._end_with_trailers(sink)

    def _check_partial(self, partial: bytearray, start: int) -> None:
        limits = self._limits
        if partial[0] not in _TOKEN and partial != b"\r":
            raise BadRequest("the first byte is not that of an HTTP request")
        # A head whose lines end otherwise never ends: say so now, not when the time is up.
        if _BARE_CR_OR_LF.search(partial, start):
            raise BadRequest("a bare CR or LF in the request head")
        line_end = partial.find(b"\r\n")
        if (line_end if line_end >= 0 else len(partial)) > limits.target_bytes + _START_LINE:
            raise BadRequest(f"the request target is longer than {limits.target_bytes} bytes", 414)
        if line_end >= 0 and len(partial) - line_end > limits.header_bytes + 4:
            raise BadRequest(f"the header section is larger than {limits.header_bytes} bytes", 431)


class ResponseReader(_Reader):
    """Reads an app's responses, one for each `expect`. `feed` and `eof` raise UpstreamError."""

    __slots__ = ("_method", "began")

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(limits)
        self.state = _DONE
        self._sink: ResponseSink | None = None
        self._method = b""
        #: Any byte of the expected response has come.
        self.began = False

    def expect(self, method: bytes, sink: ResponseSink) -> None:
        """Get ready for the response to a request of `method`."""
        self._method = method
        self._sink = sink
        self.began = False
        self.state = _HEAD

    def let_go(self) -> None:
        """Forget the sink: an idle connection must not keep alive what it last worked for."""
        self._sink = None

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire."""
        self.began = True
        # Whatever follows a response belongs to nobody, even where the sink has sent the next request meanwhile.
        while data and not self.surplus:
            if self.state is _HEAD:
                data = self._read_head(data)
            elif self.state is _DONE:
                self.surplus = True
                return
            elif self.state is _TUNNEL:
                self._partial = (self._partial or bytearray()) + data
                return
            else:
                data = self._read(data)

    def eof(self) -> None:
        """Take the end of the app's stream: the end of a response that has no other, an error elsewhere."""
        if self.state is _UNTIL_CLOSE:
            self.state = _DONE
            assert self._sink is not None
            self._sink.on_end(())
        elif self.state is _HEAD:
            raise UpstreamReset(
                "the app closed the connection within a response head"
                if self._partial is not None
                else "the app closed the connection before it responded"
            )
        elif self.state is not _DONE and self.state is not _TUNNEL:
            raise UpstreamReset("the app closed the connection before its response was complete")

    def _read(self, data: bytes) -> bytes:
        assert self._sink is not None
        try:
            rest = self._read_body(data, self._sink)
        except ChunkedError as error:
            raise UpstreamProtocolError(f"{error}, in the response") from error
        return rest

    def _read_head(self, data: bytes) -> bytes:
        if self._partial is not None:
            data, end = self._continue_head(data)
            if end < 0:
                return b""
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._hold_head(data)
                return b""
        if end > self._limits.header_bytes + _START_LINE:
            raise UpstreamProtocolError(f"the response head is larger than {self._limits.header_bytes} bytes")
        head = parse_response(data[:end], self._limits, self._method)
        rest = data[end + 4 :]
        sink = self._sink
        assert sink is not None
        status = head.status
        if status < 200 and status != 101:
            sink.on_response(head, b"", True)
            return rest
        if status == 101 or (self._method == b"CONNECT" and status < 300):
            # What follows is the tunnel's; it is taken from here by `tunnel()`.
            self.state = _TUNNEL
            self._partial = bytearray(rest) if rest else None
            sink.on_response(head, b"", True)
            return b""
        try:
            body, complete, rest = self._begin_body(head.length, rest)
        except ChunkedError as error:
            raise UpstreamProtocolError(f"{error}, in the response") from error
        self.surplus = bool(rest)
        sink.on_response(head, body, complete)
        return rest if complete else self._end_with_trailers(sink)

    def _check_partial(self, partial: bytearray, start: int) -> None:
        if _BARE_CR_OR_LF.search(partial, start):
            raise UpstreamProtocolError("a bare CR or LF in the response head")
        if not b"HTTP/1.".startswith(partial[:7]):
            raise UpstreamProtocolError("the response does not begin with HTTP/1.")
        if len(partial) > self._limits.header_bytes + _START_LINE + 4:
            raise UpstreamProtocolError(f"the response head is larger than {self._limits.header_bytes} bytes")
