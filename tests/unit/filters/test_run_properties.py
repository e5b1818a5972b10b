"""Whatever mix of filters and whatever pieces: the same bytes in the same order, and silence after the end."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.filters import SKIP_BODY, Call, Filter, Hold
from tests.unit.filters.world import World, request_head, response_head

if TYPE_CHECKING:
    from meshlet.filters import HeadResult


class Sync(Filter):
    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data

    def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data


class Heads(Filter):
    async def on_request_head(self, call: Call) -> None:
        await asyncio.sleep(0)

    def on_response_head(self, call: Call) -> None:
        pass


class Async(Filter):
    """Waits a different number of turns each time."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(7)

    async def pause(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def on_request_head(self, call: Call) -> HeadResult:
        await self.pause()
        return None

    async def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        await self.pause()
        return data

    async def on_response_head(self, call: Call) -> HeadResult:
        await self.pause()
        return None

    async def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        await self.pause()
        return data


class Skips(Async):
    async def on_request_head(self, call: Call) -> HeadResult:
        await self.pause()
        return SKIP_BODY


class Holds(Async):
    async def on_request_head(self, call: Call) -> HeadResult:
        return Hold(10_000)

    async def on_response_head(self, call: Call) -> HeadResult:
        return Hold(10_000)


class Delays(Filter):
    """Keeps each piece until the next one is there."""

    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        key = f"kept {id(self)}"
        kept = call.state.get(key, b"")
        assert isinstance(kept, bytes)
        call.state[key] = data
        return kept + data if end else kept


KINDS: list[type[Filter]] = [Sync, Heads, Async, Skips, Holds, Delays]


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    body = draw(st.binary(max_size=200))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [piece for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True) if (piece := body[start:end])]


class Strict(World):
    """Holds the rules of the interface: one head, then data, then one end, and pauses that alternate."""

    def check(self, kind: str, whole: bytes, trailers: tuple[bytes, ...]) -> None:
        events = [event for event in self.seen if event not in ("pause", "resume")]
        pauses = [event for event in self.seen if event in ("pause", "resume")]
        assert pauses == ["pause", "resume"] * (len(pauses) // 2)
        head, *rest = events
        assert isinstance(head, tuple)
        assert head[0] == kind
        if head[2]:
            assert rest == []
            assert trailers == ()
        else:
            assert rest.pop() == ("end", *trailers)
        data = [piece for piece in rest if isinstance(piece, bytes) and piece]
        assert len(data) == len(rest)
        assert head[1] + b"".join(data) == whole


async def turns(run_time: list[int]) -> None:
    for _ in range(run_time.pop() if run_time else 0):
        await asyncio.sleep(0)


async def settle() -> None:
    """Let all tasks end, and those that follow them."""
    idle = 0
    while idle < 3:
        await asyncio.sleep(0)
        idle = idle + 1 if len(asyncio.all_tasks()) == 1 else 0


@settings(max_examples=200, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=5),
    body=pieces(),
    with_head=st.booleans(),
    trailers=st.sampled_from([(), (b"x-t: 1",)]),
    waits=st.lists(st.integers(0, 5), max_size=10),
    direction=st.sampled_from(["request", "response"]),
)
def test_the_same_bytes_in_the_same_order(
    kinds: list[type[Filter]],
    body: list[bytes],
    with_head: bool,
    trailers: tuple[bytes, ...],
    waits: list[int],
    direction: str,
) -> None:
    async def play() -> None:
        world = Strict(request_head("Transfer-Encoding: chunked"))
        run = world.start(*(kind() for kind in kinds))
        begin, data, end = run.begin, run.data, run.end
        if direction == "response":
            begin(b"", False)
            await settle()
            world.take()
            begin = partial(run.response_head, response_head("Transfer-Encoding: chunked"))
            data, end = run.response_data, run.response_end

        rest = list(body)
        first = rest.pop(0) if rest and with_head else b""
        if with_head and not rest and not trailers:
            begin(first, True)
        else:
            begin(first, False)
            for piece in rest:
                await turns(waits)
                data(piece)
            await turns(waits)
            end(trailers)
        await settle()
        world.check(direction, b"".join(body), trailers)
        run.close()

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    body=pieces(),
    waits=st.lists(st.integers(0, 5), max_size=10),
    close_at=st.integers(0, 10),
)
def test_after_the_end_nothing_is_called_back(
    kinds: list[type[Filter]], body: list[bytes], waits: list[int], close_at: int
) -> None:
    async def play() -> None:
        world = World(request_head("Transfer-Encoding: chunked"))
        run = world.start(*(kind() for kind in kinds))
        run.begin(b"", False)
        seen = None
        for number, piece in enumerate([*body, b"more", b"more"]):
            if number == close_at:
                run.close()
                seen = list(world.seen)
            run.data(piece)
            await turns(waits)
        if seen is None:
            run.close()
            seen = list(world.seen)
        run.end()
        await settle()
        assert world.seen == seen

    asyncio.run(play())
