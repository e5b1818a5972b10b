from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from meshlet.runtime import channel
from meshlet.runtime.channel import Channel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class End:
    """One end of a channel, and what came out of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.frames: asyncio.Queue[tuple[bytes, list[int]]] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.channel = Channel(sock, lambda payload, fds: self.frames.put_nowait((payload, fds)), self.closed.set)

    async def send(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        await self.channel.send(payload, fds)

    async def frame(self) -> tuple[bytes, list[int]]:
        async with asyncio.timeout(5):
            return await self.frames.get()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    first, second = map(End, socket.socketpair())
    yield first, second
    first.channel.close()
    second.channel.close()


async def test_frames_arrive_whole_and_in_order(ends: tuple[End, End]) -> None:
    here, there = ends
    payloads = [b"", b"a", os.urandom(3_000_000), b"b" * 70_000]
    async with asyncio.TaskGroup() as group:
        for payload in payloads:
            group.create_task(here.send(payload))
        assert [await there.frame() for _ in payloads] == [(payload, []) for payload in payloads]


async def test_descriptors_stay_with_their_frame(ends: tuple[End, End]) -> None:
    here, there = ends
    # More than the kernel passes on at once (SCM_MAX_FD), and more frames than one read takes.
    with socket.socket() as sock:
        async with asyncio.TaskGroup() as group:
            for count in (0, 300, 1, 0):
                group.create_task(here.send(b"x" * 400_000, [sock.fileno()] * count))
            for count in (0, 300, 1, 0):
                payload, fds = await there.frame()
                assert payload == b"x" * 400_000
                assert len(fds) == count
                assert {os.fstat(fd).st_ino for fd in fds} <= {os.fstat(sock.fileno()).st_ino}
                for fd in fds:
                    os.close(fd)


async def test_missing_descriptors_are_missing_all_together(ends: tuple[End, End]) -> None:
    here, there = ends
    reader, writer = os.pipe()
    # As when this process has too many open: the frame announces two and one arrives.
    await here.channel._send(channel._HEADER.pack(2, 2) + b"hi", [writer])
    os.close(writer)
    assert await there.frame() == (b"hi", [])
    assert os.read(reader, 1) == b""  # no copy of the other end is open any more
    os.close(reader)


async def test_the_other_end_is_told_of_the_close(ends: tuple[End, End]) -> None:
    here, there = ends
    here.channel.close()
    assert here.closed.is_set()
    async with asyncio.timeout(5):
        await there.closed.wait()
    with pytest.raises(ConnectionResetError):
        await there.send(b"")


async def test_descriptors_of_half_a_frame_are_closed(ends: tuple[End, End]) -> None:
    here, there = ends
    reader, writer = os.pipe()
    await here.channel._send(channel._HEADER.pack(10, 1) + b"half", [writer])
    os.close(writer)
    here.channel.close()
    async with asyncio.timeout(5):
        await there.closed.wait()
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_too_much_is_neither_sent_nor_taken(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = ends
    monkeypatch.setattr(channel, "MAX_PAYLOAD", 1000)
    with pytest.raises(ValueError, match="1001 bytes, expected at most 1000"):
        await here.send(bytes(1001))
    await here.send(bytes(1000))
    assert await there.frame() == (bytes(1000), [])
    await here.channel._send(channel._HEADER.pack(1001, 0), ())
    async with asyncio.timeout(5):
        await there.closed.wait()


async def test_a_frame_that_is_cut_short_closes_the_channel() -> None:
    ours, theirs = socket.socketpair()
    with theirs:  # nobody reads
        here = End(ours)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await here.send(bytes(10_000_000))
        assert here.closed.is_set()
