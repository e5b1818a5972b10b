"""Drives the HTTP/1.1 codec in tests: whole, cut in two at every byte, byte by byte; all must give the same events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlet.errors import BadRequest, UpstreamError
from meshlet.http.chunked import encode_chunk, encode_last_chunk
from meshlet.http.head import CHUNKED, HeadLimits
from meshlet.http.reader import RequestReader, ResponseReader, State
from meshlet.http.request import encode_request
from meshlet.http.response import encode_response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from meshlet.http.head import RequestHead, ResponseHead

# A head past a limit is refused half-way where it comes in pieces, else at its end, where another fault may win.
_LIMITS = {414, 431}


class Refusal(NamedTuple):
    """How a message was refused."""

    kind: type[Exception]
    status: int


class Message(NamedTuple):
    """What a sink was told of one message; `head` is how it would be sent on, without the fields that meshlet adds."""

    head: bytes
    facts: tuple[object, ...]
    body: bytes
    trailers: tuple[bytes, ...]
    complete: bool
    chunked: bool

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.head[9:12])

    @property
    def forwarded(self) -> bytes:
        """The message as it would be sent on."""
        if not self.chunked:
            return self.head + self.body
        chunk = encode_chunk(self.body) if self.body else b""
        return self.head + chunk + (encode_last_chunk(self.trailers) if self.complete else b"")


class Outcome(NamedTuple):
    """All that came of an input."""

    messages: tuple[Message, ...]
    refusal: Refusal | None
    rest: bytes = b""  # of a tunnel
    reusable: bool = False

    @property
    def forwarded(self) -> bytes:
        return b"".join(message.forwarded for message in self.messages)

    @property
    def settled(self) -> tuple[Message, ...]:
        """The messages; after a refusal only whole ones, for how much of another was told depends on the pieces."""
        if self.refusal is None:
            return self.messages
        return tuple(message for message in self.messages if message.complete)

    def agrees(self, other: Outcome) -> bool:
        """Whether both are the same as far as the pieces that an input came in must not matter."""
        if self.refusal is None or other.refusal is None:
            return self == other
        same = self.refusal == other.refusal or bool({self.refusal.status, other.refusal.status} & _LIMITS)
        return same and self.settled == other.settled


class _Recorder:
    """A sink that checks what every sink may rely on."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def _begin(self, message: Message) -> None:
        assert not self.messages or self.messages[-1].complete, "a head within a message"
        self.messages.append(message)

    def on_data(self, data: bytes) -> None:
        assert data, "an empty piece"
        assert not self.messages[-1].complete, "a piece after the end"
        self.messages[-1] = self.messages[-1]._replace(body=self.messages[-1].body + data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        assert not self.messages[-1].complete, "two ends"
        self.messages[-1] = self.messages[-1]._replace(trailers=trailers, complete=True)


class RequestRecorder(_Recorder):
    """Takes requests, and goes on to the next one at the end of each as if it had been answered."""

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__()
        self.reader = RequestReader(self, limits)
        self.heads: list[RequestHead] = []

    def on_request(self, head: RequestHead, data: bytes, complete: bool) -> None:
        self.heads.append(head)
        facts = (head.method, head.target, head.minor, head.host, head.length, head.persistent, head.upgrade)
        self._begin(Message(encode_request(head, b""), facts, data, (), complete, head.length == CHUNKED))
        if complete:
            self.reader.next()

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        super().on_end(trailers)
        self.reader.next()


class ResponseRecorder(_Recorder):
    """Takes the responses to one request."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[ResponseHead] = []

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        self.heads.append(head)
        facts = (head.status, head.minor, head.length, head.persistent, head.upgrade)
        self._begin(Message(encode_response(head, b""), facts, data, (), complete, head.length == CHUNKED))


def read_requests(pieces: Iterable[bytes], limits: HeadLimits | None = None) -> Outcome:
    """Return what a client's connection that brings these pieces comes to."""
    recorder = RequestRecorder(limits or HeadLimits())
    try:
        for piece in pieces:
            recorder.reader.feed(piece)
            while recorder.reader.behind:
                recorder.reader.feed(b"")
    except BadRequest as error:
        return Outcome(tuple(recorder.messages), Refusal(type(error), error.status))
    return Outcome(tuple(recorder.messages), None)


def read_response(
    pieces: Iterable[bytes], method: bytes = b"GET", limits: HeadLimits | None = None, *, eof: bool = False
) -> Outcome:
    """Return what an app's answer to a request of `method` comes to; with `eof` it ends its stream afterwards."""
    recorder = ResponseRecorder()
    reader = ResponseReader(limits or HeadLimits())
    reader.expect(method, recorder)
    try:
        for piece in pieces:
            reader.feed(piece)
            while reader.behind:
                reader.feed(b"")
        if eof:
            reader.eof()
    except UpstreamError as error:
        return Outcome(tuple(recorder.messages), Refusal(type(error), error.status))
    reusable = reader.state is State.DONE and not reader.surplus
    rest = reader.tunnel() if reader.state is State.TUNNEL else b""
    return Outcome(tuple(recorder.messages), None, rest, reusable)


def cuts(data: bytes) -> Iterator[Sequence[bytes]]:
    """Every way to cut `data` in two, and byte by byte."""
    for at in range(1, len(data)):
        yield (data[:at], data[at:])
    yield [data[at : at + 1] for at in range(len(data))]


def requests(data: bytes, limits: HeadLimits | None = None) -> Outcome:
    """Read `data` in all its cuts, which must agree, and return the outcome."""
    whole = read_requests([data], limits)
    for pieces in cuts(data):
        assert read_requests(pieces, limits).agrees(whole), pieces
    return whole


def response(data: bytes, method: bytes = b"GET", limits: HeadLimits | None = None, *, eof: bool = False) -> Outcome:
    """Read `data` in all its cuts, which must agree, and return the outcome."""
    whole = read_response([data], method, limits, eof=eof)
    for pieces in cuts(data):
        assert read_response(pieces, method, limits, eof=eof).agrees(whole), pieces
    return whole
