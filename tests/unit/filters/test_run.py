from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.filters import SKIP_BODY, Call, Filter, Hold, Outcome, Reply
from meshlet.filters.chain import Chain
from tests.unit.filters.world import World, request_head, response_head

if TYPE_CHECKING:
    from meshlet.filters import BodyResult, HeadResult
    from meshlet.filters.run import ChainRun

OUTCOME = Outcome(200, "", 0.1, 6, 0)


class Plain(Filter):
    """Overrides nothing."""


class Mark(Filter):
    """Writes its name into both heads."""

    def on_request_head(self, call: Call) -> None:
        call.request.headers.add("x-mark", self.config)

    def on_response_head(self, call: Call) -> None:
        assert call.response is not None
        call.response.headers.add("x-mark", self.config)


class Upper(Filter):
    """Changes both bodies."""

    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data.upper() + (b"!" if end else b"")

    def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data.upper() + (b"!" if end else b"")


class Gate:
    """Mixed into a filter that waits: opened by the test, which learns when it was come to."""

    def __init__(self, config: object = None) -> None:
        self.config = config
        self.waiting = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = False

    async def pass_through(self) -> None:
        self.waiting.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class SlowHead(Gate, Filter):
    async def on_request_head(self, call: Call) -> HeadResult:
        await self.pass_through()
        return self.config  # type: ignore[return-value]


class SlowData(Gate, Filter):
    async def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        await self.pass_through()
        return data


class SlowResponse(Gate, Filter):
    async def on_response_head(self, call: Call) -> None:
        await self.pass_through()


class HeadReturns(Filter):
    def on_request_head(self, call: Call) -> Any:
        return self.config


class DataReturns(Filter):
    def on_request_data(self, call: Call, data: bytes, end: bool) -> Any:
        return self.config


class ResponseReturns(Filter):
    def on_response_head(self, call: Call) -> Any:
        return self.config


class Whole(Filter):
    """Wants the whole body and changes it."""

    def on_request_head(self, call: Call) -> Hold:
        return Hold(self.config)

    def on_request_data(self, call: Call, data: bytes, end: bool) -> BodyResult:
        assert end
        call.request.headers.set("x-size", str(len(data)))
        return b"<%b>" % data

    def on_response_head(self, call: Call) -> Hold:
        return Hold(self.config)

    def on_response_data(self, call: Call, data: bytes, end: bool) -> BodyResult:
        assert end
        return b"<%b>" % data


class HoldOnly(Filter):
    def on_request_head(self, call: Call) -> Hold:
        return Hold(self.config)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def lines(world: World) -> list[bytes]:
    return world.head.lines


# --- what goes straight through ---


def test_a_filter_without_hooks_is_no_stage() -> None:
    chain = Chain([Plain(), Plain()])
    assert not chain
    assert chain.requests == chain.responses == ()


def test_only_the_hooks_there_are_are_compiled() -> None:
    chain = Chain([Plain(), Upper(), Mark("a")])
    assert [(stage.name, stage.head is None, stage.data is None) for stage in chain.requests] == [
        ("Upper", True, False),
        ("Mark", False, True),
    ]
    assert [stage.name for stage in chain.responses] == ["Mark", "Upper"]


def test_a_hook_set_on_the_object_counts() -> None:
    class Chooses(Filter):
        def __init__(self) -> None:
            self.on_request_head = lambda call: Reply(401)  # type: ignore[method-assign]

    world = World()
    world.start(Chooses()).begin()
    assert world.take() == [("reply", 401)]


async def test_a_whole_message_passes_in_one_call_without_a_task() -> None:
    world = World(request_head(start="GET / HTTP/1.1"))
    before = asyncio.all_tasks()
    run = world.start(Mark("a"), Mark("b"))
    run.begin(b"", True)
    assert world.take() == [("request", b"", True)]
    run.response_head(response_head("Content-Length: 2"), b"ok", True)
    assert world.take() == [("response", b"ok", True)]
    assert asyncio.all_tasks() == before


def test_the_response_passes_in_reverse() -> None:
    world = World(request_head(start="GET / HTTP/1.1"))
    run = world.start(Mark("a"), Mark("b"))
    run.begin(b"", True)
    head = response_head("Content-Length: 0")
    run.response_head(head, b"", True)
    assert lines(world)[2:] == [b"x-mark: a", b"x-mark: b"]
    assert head.lines[2:] == [b"x-mark: b", b"x-mark: a"]


def test_what_came_with_the_head_leaves_with_it() -> None:
    world = World()
    run = world.start(Upper())
    run.begin(b"abc", False)
    assert world.take() == [("request", b"ABC", False)]
    run.data(b"def")
    run.end((b"x-t: 1",))
    assert world.take() == [b"DEF", b"!", ("end", b"x-t: 1")]


def test_a_body_that_no_filter_changes_keeps_its_framing() -> None:
    world = World()
    run = world.start(Mark("a"))
    run.begin(b"abc", False)
    run.data(b"def")
    run.end()
    assert world.take() == [("request", b"abc", False), b"def", ("end",)]
    assert world.head.length == 6
    assert b"Content-Length: 6" in lines(world)


def test_a_body_that_a_filter_may_change_is_chunked() -> None:
    world = World()
    run = world.start(Upper())
    run.begin(b"abcdef", True)
    assert world.take() == [("request", b"ABCDEF!", True)]
    assert world.head.length == -1
    assert not any(line.lower().startswith(b"content-length") for line in lines(world))


def test_no_body_no_data_hook() -> None:
    world = World(request_head(start="GET / HTTP/1.1"))
    run = world.start(Upper())
    run.begin(b"", True)
    head = response_head("Content-Length: 9", method=b"HEAD")
    run.response_head(head, b"", True)
    assert world.take() == [("request", b"", True), ("response", b"", True)]
    assert world.head.length == 0


def test_a_data_hook_that_keeps_a_piece_back_sends_nothing() -> None:
    class Keeps(Filter):
        def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
            return b"all" if end else b""

    world = World()
    run = world.start(Keeps(), Upper())
    run.begin(b"abc", False)
    run.data(b"def")
    assert world.take() == [("request", b"", False)]
    run.end()
    assert world.take() == [b"ALL!", ("end",)]


# --- skipping and holding ---


def test_a_filter_may_leave_a_body_alone() -> None:
    class Skips(Upper):
        def on_request_head(self, call: Call) -> HeadResult:
            return SKIP_BODY

    world = World()
    run = world.start(Skips())
    run.begin(b"abc", False)
    run.data(b"def")
    run.end()
    assert world.take() == [("request", b"abc", False), b"def", ("end",)]
    assert world.head.length == 6


def test_a_held_request_goes_on_when_it_is_whole() -> None:
    world = World(request_head("Transfer-Encoding: chunked"))
    run = world.start(Mark("before"), Whole(10), Mark("after"))
    run.begin(b"ab", False)
    run.data(b"cd")
    assert world.take() == []
    assert b"x-mark: after" not in lines(world)
    run.end()
    assert world.take() == [("request", b"<abcd>", True)]
    assert lines(world)[2:] == [b"x-mark: before", b"x-size: 4", b"content-length: 6", b"x-mark: after"]
    assert world.head.length == 6


def test_a_held_request_keeps_its_trailers() -> None:
    world = World(request_head("Transfer-Encoding: chunked"))
    run = world.start(Whole(10))
    run.begin(b"ab", False)
    run.end((b"x-t: 1",))
    assert world.take() == [("request", b"<ab>", False), ("end", b"x-t: 1")]
    assert world.head.length == -1


def test_filters_around_one_that_holds_see_the_body_in_order() -> None:
    world = World()
    run = world.start(Upper(), Whole(10), Whole(10), Upper())
    run.begin(b"ab", False)
    run.data(b"cd")
    run.end()
    assert world.take() == [("request", b"<<ABCD!>>!", True)]
    assert world.head.length == -1


def test_a_filter_that_only_holds_makes_the_length_known() -> None:
    world = World(request_head("Transfer-Encoding: chunked"))
    run = world.start(HoldOnly(10))
    run.begin(b"ab", False)
    run.data(b"cd")
    run.end()
    assert world.take() == [("request", b"abcd", True)]
    assert b"content-length: 4" in lines(world)


def test_a_held_request_without_body_is_seen_too() -> None:
    world = World(request_head(start="GET / HTTP/1.1"))
    run = world.start(Whole(10))
    run.begin(b"", True)
    assert world.take() == [("request", b"<>", True)]
    assert b"content-length: 2" in lines(world)


def test_a_get_that_is_only_held_gets_no_content_length() -> None:
    world = World(request_head(start="GET / HTTP/1.1"))
    run = world.start(HoldOnly(10))
    run.begin(b"", True)
    assert world.take() == [("request", b"", True)]
    assert lines(world) == [b"GET / HTTP/1.1", b"Host: app"]


@pytest.mark.parametrize(("size", "passes"), [(6, True), (5, False)])
def test_a_request_larger_than_a_hold_is_refused_by_its_length(size: int, passes: bool) -> None:
    world = World()
    run = world.start(HoldOnly(size))
    run.begin(b"", False)
    assert world.take() == ([] if passes else [("reply", 413)])
    run.data(b"abcdef")
    run.end()
    assert world.take() == ([("request", b"abcdef", True)] if passes else [])


@pytest.mark.parametrize(("size", "passes"), [(4, True), (3, False)])
def test_a_request_larger_than_a_hold_is_refused_as_it_grows(size: int, passes: bool) -> None:
    world = World(request_head("Transfer-Encoding: chunked"))
    run = world.start(HoldOnly(size))
    run.begin(b"ab", False)
    assert world.take() == []
    run.data(b"cd")
    assert world.take() == ([] if passes else [("reply", 413)])


def test_a_client_that_waits_for_100_is_told_to_go_on() -> None:
    world = World(request_head("Content-Length: 2", "Expect: 100-continue"))
    run = world.start(HoldOnly(10))
    run.begin(b"", False)
    assert world.take() == ["wanted"]
    assert not world.head.expects_continue
    assert not any(line.startswith(b"Expect") for line in lines(world))
    run.data(b"ab")
    run.end()
    assert world.take() == [("request", b"ab", True)]


def test_nobody_is_told_to_go_on_where_the_body_is_there() -> None:
    world = World(request_head("Content-Length: 2", "Expect: 100-continue"))
    world.start(HoldOnly(10)).begin(b"ab", True)
    assert world.take() == [("request", b"ab", True)]


def test_a_held_response() -> None:
    world = World()
    run = world.start(Whole(10))
    run.begin(b"abcdef", True)
    world.take()
    head = response_head("Transfer-Encoding: chunked")
    run.response_head(head, b"a", False)
    run.response_data(b"b")
    assert world.take() == []
    run.response_end()
    assert world.take() == [("response", b"<ab>", True)]
    assert head.lines[1:] == [b"content-length: 4"]


def test_a_response_larger_than_a_hold_becomes_500() -> None:
    world = World()
    run = world.start(Whole(6))
    run.begin(b"abcdef", True)
    world.take()
    run.response_head(response_head("Content-Length: 7"), b"", False)
    assert world.take() == [("reply", 500)]


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_has_no_body_is_not_held(status: int) -> None:
    world = World()
    run = world.start(Whole(10))
    run.begin(b"abcdef", True)
    world.take()
    run.response_head(response_head(status=status), b"", True)
    assert world.take() == [("response", b"", True)]


# --- replies and failures ---


def test_a_reply_ends_the_request() -> None:
    world = World()
    run = world.start(HeadReturns(Reply(403, "no\n")), Mark("never"))
    run.begin(b"abc", False)
    assert world.take() == [("reply", 403)]
    assert b"x-mark: never" not in lines(world)
    run.data(b"def")
    run.end()
    assert world.take() == []


def test_a_reply_to_the_body_before_the_response() -> None:
    world = World()
    run = world.start(DataReturns(Reply(422)))
    run.begin(b"abc", False)
    assert world.take() == [("reply", 422)]


def test_a_reply_to_the_body_while_the_app_has_the_head() -> None:
    world = World()
    run = world.start(DataReturns(Reply(422)))
    run.begin(b"", False)
    run.data(b"abc")
    assert world.take() == [("request", b"", False), ("reply", 422)]


def test_a_reply_in_place_of_the_response() -> None:
    world = World()
    run = world.start(ResponseReturns(Reply(451)))
    run.begin(b"abcdef", True)
    run.response_head(response_head("Content-Length: 2"), b"ok", True)
    assert world.take() == [("request", b"abcdef", True), ("reply", 451)]


def test_a_reply_after_the_response_has_begun_is_a_failure() -> None:
    world = World()
    run = world.start(DataReturns(Reply(422)))
    run.begin(b"", False)
    run.response_head(response_head("Content-Length: 2"), b"o", False)
    run.data(b"abc")
    assert world.take() == [("request", b"", False), ("response", b"o", False), ("failed", "DataReturns")]
    run.response_data(b"k")
    assert world.take() == []


def test_an_exception_is_reported_once_and_ends_the_run() -> None:
    class Fails(Filter):
        def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
            raise KeyError("x")

    world = World()
    run = world.start(Fails())
    run.begin(b"abc", False)
    run.data(b"def")
    run.end()
    assert world.take() == [("failed", "Fails")]
    assert isinstance(world.failure, KeyError)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (HeadReturns(b"x"), "the head hook returned bytes, expected None, SKIP_BODY, a Hold or a Reply"),
        (DataReturns(None), "the data hook returned NoneType, expected bytes or a Reply"),
        (DataReturns("x"), "the data hook returned str, expected bytes or a Reply"),
    ],
)
def test_a_hook_that_returns_nonsense_is_a_failure(broken: Filter, says: str) -> None:
    world = World()
    world.start(broken).begin(b"abcdef", True)
    assert world.take() == [("failed", type(broken).__name__)]
    assert str(world.failure) == says


async def test_an_exception_of_a_hook_that_waited() -> None:
    class Fails(Filter):
        async def on_request_head(self, call: Call) -> None:
            await asyncio.sleep(0)
            raise KeyError("x")

    world = World()
    world.start(Fails()).begin(b"abcdef", True)
    await turns()
    assert world.take() == [("failed", "Fails")]
    assert isinstance(world.failure, KeyError)


async def test_a_hook_that_cancels_itself_is_a_failure() -> None:
    class Cancels(Filter):
        async def on_request_head(self, call: Call) -> None:
            raise asyncio.CancelledError

    world = World()
    world.start(Cancels()).begin(b"abcdef", True)
    await turns()
    assert world.take() == [("failed", "Cancels")]


# --- waiting ---


async def test_what_comes_while_a_hook_waits_is_played_afterwards() -> None:
    world = World()
    slow = SlowHead()
    run = world.start(Mark("a"), slow, Upper())
    run.begin(b"ab", False)
    assert world.take() == ["pause"]
    run.data(b"cd")
    run.end()
    await slow.waiting.wait()
    assert world.take() == []
    slow.open.set()
    await turns()
    assert world.take() == [("request", b"ABCD!", True), "resume"]


async def test_a_whole_message_pauses_nobody() -> None:
    world = World()
    slow = SlowHead()
    world.start(slow).begin(b"abcdef", True)
    slow.open.set()
    await turns()
    assert world.take() == [("request", b"abcdef", True)]


async def test_the_head_goes_on_while_a_data_hook_waits() -> None:
    world = World()
    slow = SlowData()
    run = world.start(slow)
    run.begin(b"abc", False)
    assert world.take() == ["pause", ("request", b"", False)]
    run.data(b"def")
    slow.open.set()
    await turns()
    assert world.take() == [b"abc", b"def", "resume"]
    run.end()
    await turns()
    assert world.take() == [("end",)]


async def test_a_reply_of_a_hook_that_waited() -> None:
    world = World()
    slow = SlowHead(Reply(401))
    world.start(slow).begin(b"abc", False)
    slow.open.set()
    await turns()
    assert world.take() == ["pause", ("reply", 401)]


async def test_a_hold_of_a_hook_that_waited() -> None:
    world = World()
    slow = SlowHead(Hold(10))
    run = world.start(slow)
    run.begin(b"abc", False)
    slow.open.set()
    await turns()
    run.data(b"def")
    run.end()
    assert world.take() == ["pause", "resume", ("request", b"abcdef", True)]


async def test_a_response_waits_too() -> None:
    world = World()
    slow = SlowResponse()
    run = world.start(slow)
    run.begin(b"abcdef", True)
    run.response_head(response_head("Content-Length: 4"), b"ab", False)
    run.response_data(b"cd")
    run.response_end()
    assert world.take() == [("request", b"abcdef", True), "pause"]
    slow.open.set()
    await turns()
    assert world.take() == [("response", b"abcd", True), "resume"]


async def test_closing_cancels_what_waits_and_silences_the_rest() -> None:
    world = World()
    slow = SlowHead()
    run = world.start(slow)
    run.begin(b"abc", False)
    await slow.waiting.wait()
    world.take()
    run.close()
    await turns()
    assert slow.cancelled
    run.data(b"def")
    run.end()
    run.response_head(response_head("Content-Length: 0"), b"", True)
    assert world.take() == []


async def test_a_failure_in_one_direction_cancels_the_other() -> None:
    class FailsOnResponse(Filter):
        def on_response_head(self, call: Call) -> None:
            raise KeyError("x")

    world = World()
    slow = SlowData()
    run = world.start(slow, FailsOnResponse())
    run.begin(b"abc", False)
    await slow.waiting.wait()
    run.response_head(response_head("Content-Length: 0"), b"", True)
    await turns()
    assert slow.cancelled
    assert world.take()[-1] == ("failed", "FailsOnResponse")


async def test_a_hook_that_will_not_be_cancelled_changes_nothing_any_more() -> None:
    done = asyncio.Event()

    class Stubborn(Filter):
        async def on_request_head(self, call: Call) -> Reply:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                done.set()
            return Reply(200)

    world = World()
    run = world.start(Stubborn())
    run.begin(b"abcdef", True)
    await turns(1)
    run.close()
    await done.wait()
    await turns()
    assert world.take() == []


async def test_the_task_can_be_made_by_someone_else() -> None:
    made: list[asyncio.Task[Any]] = []

    def create_task(coroutine: Any) -> asyncio.Task[Any]:
        made.append(asyncio.get_running_loop().create_task(coroutine))
        return made[-1]

    world = World()
    slow = SlowHead()
    run = Chain([slow]).start(world, world, create_task)
    run.begin(b"abcdef", True)
    assert len(made) == 1
    run.close()
    await turns()


# --- re-entrance ---


class Eager(World):
    """A sink that calls for more from within each call."""

    def feed(self, run: ChainRun) -> None:
        self.run = run
        self.left = [b"1", b"2", b"3", b"4"]

    def more(self) -> None:
        if self.left:
            self.run.data(self.left.pop(0))
            if not self.left:
                self.run.end()

    def request_ready(self, data: bytes, complete: bool) -> None:
        self.more()
        self.more()
        super().request_ready(data, complete)

    def request_data(self, data: bytes) -> None:
        super().request_data(data)
        self.more()


@pytest.mark.parametrize("each", [Mark("a"), Upper()])
def test_calls_from_within_the_sink_keep_their_order(each: Filter) -> None:
    world = Eager(request_head("Transfer-Encoding: chunked"))
    run = world.start(each)
    world.feed(run)
    run.begin(b"0", False)
    seen = world.take()
    assert seen[0] == ("request", b"0", False)
    data = b"".join(piece for piece in seen if isinstance(piece, bytes))
    assert data.rstrip(b"!") == b"1234"
    assert seen[-1] == ("end",)


def test_closing_from_within_the_sink() -> None:
    class Leaves(World):
        run: ChainRun

        def request_ready(self, data: bytes, complete: bool) -> None:
            super().request_ready(data, complete)
            self.run.close()

    world = Leaves(request_head("Transfer-Encoding: chunked"))
    run = world.run = world.start(Upper())
    run.begin(b"a", False)
    run.data(b"b")
    run.end((b"x-t: 1",))
    assert world.take() == [("request", b"A", False)]


class Hangs(Filter):
    """The client leaves while its hooks run."""

    def leave(self) -> None:
        self.config.close()

    def on_request_head(self, call: Call) -> None:
        if "head" in call.request.path:
            self.leave()

    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        self.leave()
        return data

    async def late(self) -> None:
        raise AssertionError("nobody waits for it")


class HangsLate(Hangs):
    def on_request_head(self, call: Call) -> Any:
        self.leave()
        return self.late()


@pytest.mark.parametrize(("kind", "path"), [(Hangs, "/head"), (Hangs, "/data"), (HangsLate, "/")])
def test_closing_from_within_a_hook(kind: type[Hangs], path: str) -> None:
    world = World(request_head("Content-Length: 3", start=f"POST {path} HTTP/1.1"))
    hangs = kind()
    run = hangs.config = world.start(hangs, Mark("never"))
    run.begin(b"abc", True)
    assert world.take() == []


def test_an_exception_after_closing_is_nobodys() -> None:
    class Fails(Hangs):
        def on_request_head(self, call: Call) -> None:
            self.leave()
            raise KeyError("x")

    world = World()
    fails = Fails()
    run = fails.config = world.start(fails)
    run.begin(b"abcdef", True)
    assert world.take() == []


def test_the_end_is_not_sent_to_who_left_with_the_last_piece() -> None:
    class Leaves(World):
        run: ChainRun

        def request_data(self, data: bytes) -> None:
            super().request_data(data)
            self.run.close()

    world = Leaves(request_head("Transfer-Encoding: chunked"))
    run = world.run = world.start(Upper())
    run.begin(b"", False)
    run.end()
    assert world.take() == [("request", b"", False), b"!"]


def test_a_response_that_no_filter_is_for() -> None:
    class OnlyRequests(Filter):
        def on_request_head(self, call: Call) -> None:
            pass

    world = World(request_head(start="GET / HTTP/1.1"))
    run = world.start(OnlyRequests())
    run.begin(b"", True)
    run.response_head(response_head("Transfer-Encoding: chunked"), b"a", False)
    run.response_data(b"b")
    run.response_end((b"x-t: 1",))
    assert world.take() == [("request", b"", True), ("response", b"a", False), b"b", ("end", b"x-t: 1")]


async def test_the_base_class_lets_everything_pass() -> None:
    call, each = Call(World()), Filter()
    assert each.on_request_head(call) is each.on_response_head(call) is None
    assert each.on_request_data(call, b"a", False) == each.on_response_data(call, b"a", True) == b"a"
    each.on_complete(call, OUTCOME)


# --- the end ---


class Completes(Filter):
    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_every_filter_that_was_come_to_learns_of_the_end() -> None:
    before, after = Completes(), Completes()
    world = World()
    run = world.start(before, HeadReturns(Reply(403)), after)
    run.begin(b"abcdef", True)
    run.complete(OUTCOME)
    assert before.outcomes == [OUTCOME]
    assert after.outcomes == []


def test_an_exception_at_the_end_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Filter):
        def on_complete(self, call: Call, outcome: Outcome) -> None:
            raise KeyError("x")

    world = World()
    other = Completes()
    run = world.start(Fails(), other)
    run.begin(b"abcdef", True)
    with caplog.at_level(logging.ERROR):
        run.complete(OUTCOME)
    assert other.outcomes == [OUTCOME]
    assert "Fails" in caplog.text


async def test_the_end_cancels_what_waits() -> None:
    world = World()
    slow = SlowData()
    run = world.start(slow)
    run.begin(b"abc", False)
    await slow.waiting.wait()
    run.complete(OUTCOME)
    await turns()
    assert slow.cancelled


def test_its_state_can_be_read() -> None:
    world = World()
    run = world.start(HoldOnly(10))
    run.begin(b"abc", False)
    assert repr(run) == "<ChainRun on request=<0/1 holds> response=None>"
    assert repr(Chain([HoldOnly(1), Upper()])) == "<Chain HoldOnly Upper>"
