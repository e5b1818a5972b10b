"""The reading side of an HTTP/1 connection as a state machine without I/O.

    HEAD --head--> FIXED | CHUNKED | UNTIL_CLOSE --last byte--> DONE --next()--> HEAD
    HEAD --head without a body--> DONE;  any --tunnel()--> TUNNEL;  any --stop()--> STOPPED

A reader calls its sink while `feed` runs. A head comes together with as much of its body as arrived with it, so that
a short message is one call here and one write on the other side. The reader stops by itself after each message and
keeps what follows, so a pipelined request waits until the one before has been answered.

One call does a bounded amount of work, whatever it is given: some heads, some bytes of them, some chunks. Where more is
left the reader is `behind`, and `feed(b"")` goes on: in a later turn of the event loop, so that others have theirs.
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
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
# A CR at the very end may yet be followed by its LF.
_BARE_CR_OR_LF = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
# What a start line holds besides the target, or, in a response, altogether: bytes.
_START_LINE = 128
# Empty lines before a request line are an old client's slip of one or two (RFC 9112 section 2.2); more are work for
# nothing.
_MOST_EMPTY_LINES = 64
# A turn's worth of heads: so many, and none begun past so many bytes. One that is answered by ourselves costs some
# 25 µs; one that is proxied ends the turn anyway.
_TURN_HEADS = 8
_TURN_BYTES = 16384


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

    __slots__ = ("_at", "_decoder", "_limits", "_partial", "_remaining", "_sink", "state", "surplus", "unread")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self.state: State = _HEAD
        self._partial: bytearray | None = None  # an incomplete head
        #: what is in hand, to be read from `_at` on: it follows a message, or was more than a turn's worth
        self.unread = b""
        self._at = 0
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        #: Bytes followed a message, known before its end is told: a client's next request, but from an app
        #: bytes that belong to no response, so its connection must not be used again.
        self.surplus = False

    @property
    def behind(self) -> bool:
        """Whether bytes in hand can be read now: `feed(b"")` does a turn's worth."""
        return bool(self.unread) and self.state < _DONE

    @property
    def head_began(self) -> bool:
        """Whether some bytes of the next head are here, but not all; half an empty line before it is none of them."""
        return self.state is _HEAD and self._partial is not None and self._partial != b"\r"

    def _in_hand(self, data: bytes) -> tuple[bytes, int]:
        """Return `data` behind what was left in hand, and where to begin in it."""
        unread, self.unread = self.unread, b""
        return (unread[self._at :] + data, 0) if data else (unread, self._at)

    def _keep(self, data: bytes, at: int) -> None:
        """Keep what was not read, for a later turn, for `next` or for `tunnel`."""
        if self.state is not _STOPPED:
            self.unread = data
            self._at = at

    def _hold_head(self, data: bytes) -> None:
        """Keep the first part of a head."""
        self._partial = bytearray(data)
        self._check_partial(self._partial, 0)

    def _continue_head(self, data: bytes) -> bytes:
        """Return the bytes to look at once the head's end is among them, none before."""
        partial = self._partial
        assert partial is not None
        # Search only where the end can newly be, so that a head sent byte by byte costs no more than linear time.
        seen = len(partial)
        partial += data
        if partial.find(b"\r\n\r\n", max(0, seen - 3)) < 0:
            self._check_partial(partial, max(0, seen - 1))
            return b""
        self._partial = None
        return bytes(partial)

    def _check_partial(self, partial: bytearray, start: int) -> None:
        """Refuse at once what becomes no head however it goes on; the lines before `start` were looked at before."""
        raise NotImplementedError

    def _read_body(self, data: bytes, at: int, sink: BodySink) -> int:
        """Pass body bytes from `at` on to `sink` and return where what is left begins.

        Where something is left and the body goes on, this was a turn's worth.
        """
        if self.state is _FIXED:
            remaining = self._remaining - (len(data) - at)
            if remaining > 0:
                self._remaining = remaining
                sink.on_data(data[at:])
                return len(data)
            end = len(data) + remaining
            self.state = _DONE
            self.surplus = remaining < 0
            sink.on_data(data[at:end])
            sink.on_end(())
            return end
        if self.state is _CHUNKED:
            decoder = self._decoder
            assert decoder is not None
            payload = decoder.feed(data, at)
            if decoder.done:
                self.state = _DONE
                self.surplus = decoder.unread > 0
                self._decoder = None
            if payload:
                sink.on_data(payload)
            if decoder.done:
                sink.on_end(decoder.trailers)
            return len(data) - decoder.unread
        sink.on_data(data[at:])
        return len(data)

    def _begin_body(self, length: int, data: bytes, at: int) -> tuple[bytes, bool, int]:
        """Return what of the body came with the head, whether that is all of it, and where what is left begins."""
        if length >= 0:
            end = at + length
            if end > len(data):
                self.state = _FIXED
                self._remaining = end - len(data)
                return data[at:], False, len(data)
            self.state = _DONE
            return data[at:end], True, end
        if length == UNTIL_CLOSE:
            self.state = _UNTIL_CLOSE
            return data[at:], False, len(data)
        self.state = _CHUNKED
        self._decoder = decoder = ChunkedDecoder(self._limits)
        payload = decoder.feed(data, at)
        complete = decoder.done and not decoder.trailers
        if complete:
            self.state = _DONE
            self._decoder = None
        return payload, complete, len(data) - decoder.unread

    def _end_with_trailers(self, sink: BodySink) -> None:
        """Where a whole chunked body came with its head: tell its trailers."""
        decoder = self._decoder
        if self.state is _CHUNKED and decoder is not None and decoder.done:
            self.state = _DONE
            self._decoder = None
            self.surplus = decoder.unread > 0
            sink.on_end(decoder.trailers)

    def stop(self) -> None:
        """Take nothing more, not even what `feed` has in hand: the connection is given up."""
        self.state = _STOPPED
        self.surplus = True
        self.unread = b""
        self._partial = None

    def tunnel(self) -> bytes:
        """Stop reading messages; return what was received beyond the last one."""
        self.state = _TUNNEL
        rest = self.unread[self._at :]
        self.unread = b""
        return rest


class RequestReader(_Reader):
    """Reads a client's requests. `feed` raises BadRequest; the connection must not be read on after that."""

    __slots__ = ("_empty_lines", "pumping")

    def __init__(self, sink: RequestSink, limits: HeadLimits) -> None:
        super().__init__(limits)
        self._empty_lines = 0  # before the next request line
        self._sink: RequestSink | None = sink
        #: `feed` is at work and may have further requests in hand
        self.pumping = False

    def let_go(self) -> None:
        """Forget the sink, for good: the two refer to each other, and only the garbage collector would free them."""
        self._sink = None

    @property
    def waiting(self) -> int:
        """Bytes of further requests that wait until the current one is answered."""
        return len(self.unread) - self._at if self.unread and self.state is _DONE else 0

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire, none to go on with those in hand."""
        at, far = 0, _TURN_BYTES
        if self.unread:
            data, at = self._in_hand(data)
            far += at
        elif self._partial is not None:
            # An empty line before a request line may come in two pieces.
            if self._partial == b"\r":
                self._partial = None
                data = b"\r" + data
            else:
                data = self._continue_head(data)
        size = len(data)
        heads = _TURN_HEADS
        self.pumping = True
        try:
            while at < size:
                state = self.state
                if state is _HEAD:
                    if not heads or at > far:
                        self._keep(data, at)
                        return
                    heads -= 1
                    at = self._read_head(data, at)
                else:
                    if state < _DONE:
                        at = self._read(data, at)
                    if at < size and self.state is not _HEAD:
                        self._keep(data, at)
                        return
        finally:
            self.pumping = False

    def next(self) -> None:
        """Go on to the next request; the one before has been answered."""
        self.state = _HEAD
        # Answered from within `feed`: its loop goes on, so that a long pipeline is no deep recursion.
        if self.unread and not self.pumping:
            self.feed(b"")

    def _read(self, data: bytes, at: int) -> int:
        try:
            assert self._sink is not None
            return self._read_body(data, at, self._sink)
        except ChunkedError as error:
            raise BadRequest(str(error)) from error

    def _read_head(self, data: bytes, at: int) -> int:
        if data[at] == 0x0D:
            at = self._skip_empty_lines(data, at)
            if at == len(data):
                return at
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._hold_head(data[at:])
            return len(data)
        head = parse_request(data[at:end], self._limits)
        sink = self._sink
        assert sink is not None
        if head.length == 0:
            self.state = _DONE
            sink.on_request(head, b"", True)
            return end + 4
        try:
            body, complete, at = self._begin_body(head.length, data, end + 4)
        except ChunkedError as error:
            raise BadRequest(str(error)) from error
        sink.on_request(head, body, complete)
        if not complete:
            self._end_with_trailers(sink)
        return at

    def _skip_empty_lines(self, data: bytes, at: int) -> int:
        match = _EMPTY_LINES.match(data, at)
        assert match is not None
        end = match.end()
        self._empty_lines += (end - at) // 2
        if self._empty_lines > _MOST_EMPTY_LINES:
            raise BadRequest(f"more than {_MOST_EMPTY_LINES} empty lines before a request")
        if end < len(data) and data[end:] != b"\r":
            self._empty_lines = 0
        return end

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
        """Take bytes off the wire, none to go on with those in hand."""
        self.began = True
        at = 0
        if self.unread:
            data, at = self._in_hand(data)
        elif self._partial is not None:
            data = self._continue_head(data)
        size = len(data)
        heads = _TURN_HEADS
        # Whatever follows a response belongs to nobody, even where the sink has sent the next request meanwhile.
        while at < size and not self.surplus:
            state = self.state
            if state is _HEAD:
                if not heads:
                    self._keep(data, at)
                    return
                heads -= 1
                at = self._read_head(data, at)
            elif state is _DONE:
                self.surplus = True
            else:
                if state is not _TUNNEL:
                    at = self._read(data, at)
                if at < size and (self.state is _CHUNKED or self.state is _TUNNEL):
                    self._keep(data, at)
                    return

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

    def _read(self, data: bytes, at: int) -> int:
        assert self._sink is not None
        try:
            return self._read_body(data, at, self._sink)
        except ChunkedError as error:
            raise UpstreamProtocolError(f"{error}, in the response") from error

    def _read_head(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._hold_head(data[at:])
            return len(data)
        if end - at > self._limits.header_bytes + _START_LINE:
            raise UpstreamProtocolError(f"the response head is larger than {self._limits.header_bytes} bytes")
        head = parse_response(data[at:end], self._limits, self._method)
        at = end + 4
        sink = self._sink
        assert sink is not None
        status = head.status
        if status < 200 and status != 101:
            sink.on_response(head, b"", True)
            return at
        if status == 101 or (self._method == b"CONNECT" and status < 300):
            # What follows is the tunnel's; it is taken from here by `tunnel()`.
            self.state = _TUNNEL
            self._keep(data, at)
            sink.on_response(head, b"", True)
            return len(data)
        try:
            body, complete, at = self._begin_body(head.length, data, at)
        except ChunkedError as error:
            raise UpstreamProtocolError(f"{error}, in the response") from error
        if complete and at < len(data):
            self.surplus = True
        sink.on_response(head, body, complete)
        if not complete:
            self._end_with_trailers(sink)
        return at

    def _check_partial(self, partial: bytearray, start: int) -> None:
        if _BARE_CR_OR_LF.search(partial, start):
            raise UpstreamProtocolError("a bare CR or LF in the response head")
        if not b"HTTP/1.".startswith(partial[:7]):
            raise UpstreamProtocolError("the response does not begin with HTTP/1.")
        if len(partial) > self._limits.header_bytes + _START_LINE + 4:
            raise UpstreamProtocolError(f"the response head is larger than {self._limits.header_bytes} bytes")
