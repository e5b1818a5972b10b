"""One request on its way through a chain, as a state machine without I/O.

    request:  begin, data …, end --stages, in order--> request_ready, request_data …, request_end
    response: head, data …, end  --stages, reversed--> response_ready, response_data …, response_end

Each direction does one thing at a time. The head enters the stages one after the other; pieces of the body follow as
far as the head has come. Where a hook waits, or the head is held, what comes meanwhile is kept in order; the sink is
told to pause while a hook waits, and a hold has a bound. A call may come while another is under way, from the sink.

What is there of a body when its head has come through leaves together with it, so that a short message stays one write.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

from meshlet.filters.base import SKIP_BODY, Hold
from meshlet.filters.call import Response
from meshlet.filters.framing import set_length
from meshlet.filters.reply import Reply
from meshlet.filters.side import RequestSide, ResponseSide, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from meshlet.filters.base import Outcome
    from meshlet.filters.call import Call
    from meshlet.filters.chain import Chain, Stage
    from meshlet.filters.sink import ChainSink
    from meshlet.http.head import RequestHead, ResponseHead

logger = logging.getLogger("meshlet.filters")

CreateTask: TypeAlias = "Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]"
Then: TypeAlias = "Callable[[Side, Stage, object], None]"  # takes what a hook returned


class ChainRun:
    """Plays one request. Its owner calls `complete` once, at the end; nothing is called back from then on."""

    __slots__ = ("_call", "_chain", "_create_task", "_over", "_request", "_response", "_sink")

    def __init__(
        self, chain: Chain, call: Call, head: RequestHead, sink: ChainSink, create_task: CreateTask | None
    ) -> None:
        self._chain = chain
        self._call = call
        self._sink = sink
        self._create_task = create_task
        self._over = False
        self._request = RequestSide(chain.requests, head)
        self._response: ResponseSide | None = None

    def __repr__(self) -> str:
        return f"<ChainRun {'over' if self._over else 'on'} request={self._request} response={self._response}>"

    # --- the request ---

    def begin(self, data: bytes = b"", complete: bool = False) -> None:
        """Take the request's head (given to `Chain.start`) with what is there of its body."""
        self._take(self._request, data, complete)

    def data(self, data: bytes) -> None:
        """Take a piece of the request body."""
        side = self._request
        if side.plain and not side.playing and not self._over:
            self._sink.request_data(data)
        else:
            self._take(side, data, False)

    def end(self, trailers: tuple[bytes, ...] = ()) -> None:
        """Take the end of the request body."""
        self._take(self._request, b"", True, trailers)

    # --- the response ---

    def response_head(self, head: ResponseHead, data: bytes = b"", complete: bool = False) -> None:
        """Take the head of the final response with what is there of its body. Interim ones are not for filters."""
        self._call.response = Response(head)
        self._response = side = ResponseSide(self._chain.responses, head, self._request.head.method)
        if side.stages:
            self._take(side, data, complete)
        elif not self._over:
            side.told = side.plain = True
            self._sink.response_ready(head, data, complete)

    def response_data(self, data: bytes) -> None:
        """Take a piece of the response body."""
        side = self._response
        assert side is not None
        if side.plain and not side.playing and not self._over:
            self._sink.response_data(data)
        else:
            self._take(side, data, False)

    def response_end(self, trailers: tuple[bytes, ...] = ()) -> None:
        """Take the end of the response body."""
        assert self._response is not None
        self._take(self._response, b"", True, trailers)

    # --- the end ---

    def close(self) -> None:
        """Stop: what runs is cancelled, what comes is ignored."""
        self._over = True
        for side in (self._request, self._response):
            if side is not None and side.task is not None:
                side.task.cancel()

    def complete(self, outcome: Outcome) -> None:
        """Stop, and tell the filters that the request came to. An exception in `on_complete` is logged."""
        self.close()
        side = self._request
        for stage in side.stages[: side.entered]:
            if stage.complete is not None:
                try:
                    stage.complete(self._call, outcome)
                except Exception:
                    logger.exception("filter %s failed in on_complete", stage.name)

    # --- one thing after the other ---

    def _take(self, side: Side, data: bytes, end: bool, trailers: tuple[bytes, ...] = ()) -> None:
        if self._over:
            return
        side.ended = end
        if side.task is not None or side.playing:
            side.events.append((data, end, trailers))
            return
        if data or end:  # nothing is at hand, or it would be played or waited for
            side.data, side.end, side.event_trailers = data, end, trailers
            side.at = 0
        self._play(side)

    def _play(self, side: Side) -> None:
        """Go on until there is nothing more to do for now."""
        side.playing = True
        try:
            while not self._over:
                if side.task is None and self._advance(side):
                    continue
                if side.told or side.passed < len(side.stages):
                    break
                side.tell(self._sink)
                if side.trailers and not self._over:
                    side.send_end(self._sink, side.trailers)
        finally:
            side.playing = False
        if side.paused and side.task is None and not self._over:
            side.paused = False
            side.resume(self._sink)

    def _advance(self, side: Side) -> bool:
        """Do one thing; return False where there was none."""
        if side.hold is None and side.passed < len(side.stages):
            self._enter(side)
        elif side.at >= 0:
            self._pass_on(side)
        elif side.events:
            side.data, side.end, side.event_trailers = side.events.pop(0)
            side.at = 0
        else:
            return False
        return True

    # --- heads ---

    def _enter(self, side: Side) -> None:
        """Let the head into the next stages, up to one that does more than to let it go on."""
        stages = side.stages
        while side.passed < len(stages):
            stage = stages[side.passed]
            side.entered = side.passed + 1
            result = None
            if stage.head is not None:
                try:
                    result = stage.head(self._call)
                except Exception as error:  # noqa: BLE001 - it is somebody else's code
                    self._fail(stage, error)
                    return
            if result is not None:
                self._settle(side, stage, result, self._entered)
                return
            if self._over:
                return
            self._entered(side, stage, None)

    def _entered(self, side: Side, stage: Stage, result: object) -> None:
        if result is None:
            if stage.data is not None:
                side.chunk()
            side.passed += 1
        elif result is SKIP_BODY:
            side.skipped += (side.passed,)
            side.passed += 1
        elif isinstance(result, Hold):
            self._hold(side, stage, result)
        elif isinstance(result, Reply):
            self._reply(stage, result)
        else:
            self._fail(stage, _unexpected("head", result, "None, SKIP_BODY, a Hold or a Reply"))

    def _hold(self, side: Side, stage: Stage, hold: Hold) -> None:
        if side.bodiless:  # nothing to wait for
            side.skipped += (side.passed,)
            side.passed += 1
        elif side.head.length > hold.max_bytes:
            self._reply(stage, side.too_large(hold))
        else:
            side.hold = hold
            side.want(self._sink)

    # --- bodies ---

    def _pass_on(self, side: Side) -> None:
        """Bring the piece at hand on by one stage, or out."""
        stages, at, passed = side.stages, side.at, side.passed
        while at < passed and (stages[at].data is None or at in side.skipped or side.head.length == 0):
            at += 1
        side.at = at
        if at < passed:
            self._call_data(side, stages[at], self._passed_on)
        elif side.hold is not None:
            self._collect(side, stages[at], side.hold)
        else:
            side.at = -1
            self._put_out(side)

    def _call_data(self, side: Side, stage: Stage, then: Then) -> None:
        assert stage.data is not None
        try:
            result = stage.data(self._call, side.data, side.end)
        except Exception as error:  # noqa: BLE001 - it is somebody else's code
            self._fail(stage, error)
            return
        self._settle(side, stage, result, then)

    def _passed_on(self, side: Side, stage: Stage, result: object) -> None:
        if isinstance(result, bytes):
            side.data = result
            side.at = side.at + 1 if result or side.end else -1
        else:
            self._not_bytes(stage, result)

    def _collect(self, side: Side, stage: Stage, hold: Hold) -> None:
        """Keep the piece at hand until the body is whole."""
        side.held.append(side.data)
        side.held_bytes += len(side.data)
        if side.held_bytes > hold.max_bytes:
            self._reply(stage, side.too_large(hold))
        elif not side.end:
            side.at = -1
        else:
            side.data = b"".join(side.held)
            side.held.clear()
            side.held_bytes = 0
            if stage.data is None:
                self._let_go(side, stage, side.data)
            else:
                self._call_data(side, stage, self._let_go)

    def _let_go(self, side: Side, stage: Stage, result: object) -> None:
        """Let a head that was held go on, with the whole body behind it."""
        if not isinstance(result, bytes):
            self._not_bytes(stage, result)
            return
        if not side.event_trailers:
            set_length(side.head, len(result))
        side.data = result
        side.hold = None
        side.passed += 1
        side.at = side.passed

    def _put_out(self, side: Side) -> None:
        if not side.told:
            side.ready.append(side.data)
            side.whole = side.end
            side.trailers = side.event_trailers
            return
        if side.data:
            side.send_data(self._sink, side.data)
        if side.end and not self._over:
            side.send_end(self._sink, side.event_trailers)

    # --- hooks that wait, answer or fail ---

    def _settle(self, side: Side, stage: Stage, result: object, then: Then) -> None:
        """Go on with what a hook returned, at once or when it is there."""
        if not isinstance(result, CoroutineType):
            if not self._over:
                then(side, stage, result)
            return
        if self._over:
            result.close()
            return
        create_task = self._create_task or asyncio.get_running_loop().create_task
        side.task = task = create_task(result)
        task.add_done_callback(partial(self._on_done, side, stage, then))
        if not side.ended and not side.paused:
            side.paused = True
            side.pause(self._sink)

    def _on_done(self, side: Side, stage: Stage, then: Then, task: asyncio.Task[Any]) -> None:
        side.task = None
        error = RuntimeError("the hook was cancelled from within") if task.cancelled() else task.exception()
        if self._over:
            return
        if error is not None:
            self._fail(stage, error)
            return
        then(side, stage, task.result())
        self._play(side)

    def _not_bytes(self, stage: Stage, result: object) -> None:
        if isinstance(result, Reply):
            self._reply(stage, result)
        else:
            self._fail(stage, _unexpected("data", result, "bytes or a Reply"))

    def _reply(self, stage: Stage, reply: Reply) -> None:
        if self._response is not None and self._response.told:
            self._fail(stage, RuntimeError(f"{reply!r} came when the response had begun already"))
            return
        self.close()
        self._sink.reply(stage.name, reply)

    def _fail(self, stage: Stage, error: BaseException) -> None:
        if not self._over:
            self.close()
            self._sink.filter_failed(stage.name, error)


def _unexpected(hook: str, result: object, expected: str) -> TypeError:
    return TypeError(f"the {hook} hook returned {type(result).__name__}, expected {expected}")
