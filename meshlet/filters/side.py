"""What a run of a chain knows about one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from meshlet.filters.framing import chunk_request, chunk_response, drop_expectation, is_bodiless
from meshlet.filters.reply import Reply

if TYPE_CHECKING:
    import asyncio

    from meshlet.filters.base import Hold
    from meshlet.filters.chain import Stage
    from meshlet.filters.sink import ChainSink
    from meshlet.http.head import RequestHead, ResponseHead

#: a piece of a body: data, whether it is the last, trailers
Event: TypeAlias = "tuple[bytes, bool, tuple[bytes, ...]]"


class Side:
    """One direction: a message and how far it has come. It knows which of the sink's methods are its own."""

    __slots__ = (
        "at",
        "bodiless",
        "data",
        "end",
        "ended",
        "entered",
        "event_trailers",
        "events",
        "held",
        "held_bytes",
        "hold",
        "passed",
        "paused",
        "plain",
        "playing",
        "ready",
        "skipped",
        "stages",
        "task",
        "told",
        "trailers",
        "whole",
    )

    head: RequestHead | ResponseHead

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        # the message as it comes in
        self.events: list[Event] = []
        self.ended = False
        self.bodiless = False  # whatever its head says
        # the head
        self.entered = 0  # stages that it has come to
        self.passed = 0  # stages that it has left
        self.skipped: tuple[int, ...] = ()  # stages that do not want the body
        self.hold: Hold | None = None  # of stage number `passed`
        self.held: list[bytes] = []
        self.held_bytes = 0
        # the piece of the body at hand
        self.at = -1  # the stage it comes to next; -1: there is none at hand
        self.data = b""
        self.end = False
        self.event_trailers: tuple[bytes, ...] = ()
        # what goes out together with the head
        self.ready: list[bytes] = []
        self.whole = False
        self.trailers: tuple[bytes, ...] = ()
        # what is going on
        self.task: asyncio.Task[Any] | None = None
        self.playing = False
        self.paused = False
        self.told = False  # the sink has got the head
        self.plain = False  # and no stage wants the body: it goes straight on

    def __repr__(self) -> str:
        waits = " waits" if self.task is not None else " holds" if self.hold is not None else ""
        return f"<{self.passed}/{len(self.stages)}{waits}>"

    def tell(self, sink: ChainSink) -> None:
        """Hand the head out, with what came through of the body."""
        self.told = True
        self.plain = self.task is None and not (self.whole or self.changes())
        ready = self.ready
        data = ready.pop() if len(ready) == 1 else b"".join(ready)
        ready.clear()
        self.send_head(sink, data, self.whole and not self.trailers)

    def changes(self) -> bool:
        """Say whether a stage wants the body."""
        for at, stage in enumerate(self.stages):  # noqa: SIM110 (a generator would double the cost)
            if stage.data is not None and at not in self.skipped:
                return True
        return False

    def send_head(self, sink: ChainSink, data: bytes, complete: bool) -> None:
        raise NotImplementedError

    def send_data(self, sink: ChainSink, data: bytes) -> None:
        raise NotImplementedError

    def send_end(self, sink: ChainSink, trailers: tuple[bytes, ...]) -> None:
        raise NotImplementedError

    def pause(self, sink: ChainSink) -> None:
        raise NotImplementedError

    def resume(self, sink: ChainSink) -> None:
        raise NotImplementedError

    def want(self, sink: ChainSink) -> None:
        """See to it that the body comes."""

    def chunk(self) -> None:
        """Frame the message so that its body may change."""
        raise NotImplementedError

    def too_large(self, hold: Hold) -> Reply:
        """Return the answer where the body is larger than a filter holds."""
        raise NotImplementedError


class RequestSide(Side):
    """The request."""

    __slots__ = ("head",)

    def __init__(self, stages: tuple[Stage, ...], head: RequestHead) -> None:
        super().__init__(stages)
        self.head: RequestHead = head

    def send_head(self, sink: ChainSink, data: bytes, complete: bool) -> None:
        sink.request_ready(data, complete)

    def send_data(self, sink: ChainSink, data: bytes) -> None:
        sink.request_data(data)

    def send_end(self, sink: ChainSink, trailers: tuple[bytes, ...]) -> None:
        sink.request_end(trailers)

    def pause(self, sink: ChainSink) -> None:
        sink.pause_request()

    def resume(self, sink: ChainSink) -> None:
        sink.resume_request()

    def want(self, sink: ChainSink) -> None:
        if self.head.expects_continue and not self.ended:
            drop_expectation(self.head)
            sink.request_wanted()

    def chunk(self) -> None:
        chunk_request(self.head)

    def too_large(self, hold: Hold) -> Reply:
        reply = Reply(413, f"the request body is larger than {hold.max_bytes} bytes\n")
        reply.flag = "DPE"  # as of a body that is larger than its route allows
        return reply


class ResponseSide(Side):
    """The response; it is made when its head is there."""

    __slots__ = ("_method", "head")

    def __init__(self, stages: tuple[Stage, ...], head: ResponseHead, method: bytes) -> None:
        super().__init__(stages)
        self.head: ResponseHead = head
        self._method = method
        self.bodiless = is_bodiless(head, method)

    def send_head(self, sink: ChainSink, data: bytes, complete: bool) -> None:
        sink.response_ready(self.head, data, complete)

    def send_data(self, sink: ChainSink, data: bytes) -> None:
        sink.response_data(data)

    def send_end(self, sink: ChainSink, trailers: tuple[bytes, ...]) -> None:
        sink.response_end(trailers)

    def pause(self, sink: ChainSink) -> None:
        sink.pause_response()

    def resume(self, sink: ChainSink) -> None:
        sink.resume_response()

    def chunk(self) -> None:
        chunk_response(self.head, self._method)

    def too_large(self, hold: Hold) -> Reply:
        return Reply(500, f"the response body is larger than {hold.max_bytes} bytes\n")
