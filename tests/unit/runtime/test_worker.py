from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from meshlet.config.load import loads
from meshlet.runtime.channel import Channel
from meshlet.runtime.messages import NONE, Answer, Method, Request, decode, encode
from meshlet.runtime.sockets import bind
from meshlet.runtime.worker import Worker, _name_in_log
from tests.support.http1 import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from meshlet.config.schema import Config


class Supervisor:
    """The other end of a worker's channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.channel = Channel(ours, lambda data, _: self._answers.put_nowait(decode(data, Answer)), lambda: None)
        self.worker = asyncio.create_task(Worker(theirs).run())

    async def call(self, method: Method, argument: object = None, fds: tuple[int, ...] = ()) -> Answer:
        await self.channel.send(encode(Request(7, method, Raw(encode(argument)))), fds)
        async with asyncio.timeout(5):
            answer = await self._answers.get()
        assert answer.id == 7
        return answer


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.channel.close()
    async with asyncio.timeout(5):
        await supervisor.worker


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with bind(config(1).listeners[0].address._replace(port=0)) as sock:
        yield sock


def config(port: int) -> Config:
    listener = f"{{name: in, address: '127.0.0.1:{port}', routes: [{{cluster: app}}]}}"
    return loads(f"listeners: [{listener}]\nclusters: [{{name: app, endpoints: ['127.0.0.1:1']}}]", "test")


async def test_it_listens_on_the_sockets_it_is_given(supervisor: Supervisor, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    for _ in range(2):  # the second time it has no use for the socket
        assert await supervisor.call("apply", config(port), (listening.fileno(),)) == Answer(7, NONE)
    listeners = decode((await supervisor.call("listeners")).result, list[dict[str, Any]])
    assert [entry["address"] for entry in listeners] == [f"127.0.0.1:{port}"]
    with await asyncio.to_thread(Client, f"127.0.0.1:{port}") as client:
        assert (await asyncio.to_thread(client.get)).status == 503
        assert decode((await supervisor.call("close")).result, int) == 1


async def test_it_says_why_it_cannot(supervisor: Supervisor) -> None:
    answer = await supervisor.call("apply", config(9))
    assert answer.error == f"cannot listen on 127.0.0.1:9: {os.strerror(24).lower()}"
    answer = await supervisor.call("set_log_level", "loud")
    assert answer.error is not None
    assert answer.error.startswith("set_log_level failed: ValueError('expected one of debug, ")


async def test_it_ends_when_the_supervisor_is_gone(supervisor: Supervisor, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    await supervisor.call("apply", config(port), (listening.fileno(),))
    listening.close()
    supervisor.channel.close()
    async with asyncio.timeout(5):
        await supervisor.worker
    with pytest.raises(ConnectionRefusedError), contextlib.closing(socket.socket()) as sock:
        sock.connect(("127.0.0.1", port))


def test_log_lines_tell_which_worker(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        _name_in_log(3)
        logging.getLogger("meshlet").warning("Something.")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.records[0].__dict__["worker"] == 3
