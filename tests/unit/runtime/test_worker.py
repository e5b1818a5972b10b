from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from meshlet.config.load import loads
from meshlet.runtime import worker as worker_module
from meshlet.runtime.channel import Channel
from meshlet.runtime.messages import NONE, Answer, Method, Request, decode, encode
from meshlet.runtime.plane import DataPlane
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
        self.beats = 0
        self.orphaned: list[float] = []
        self.channel = Channel(ours, self._on_frame, lambda: None)
        self.worker = asyncio.create_task(Worker(theirs, self.orphaned.append).run())

    def _on_frame(self, payload: bytes, fds: list[int]) -> None:
        if payload:
            self._answers.put_nowait(decode(payload, Answer))
        else:
            self.beats += 1

    async def call(self, method: Method, argument: object = None, fds: tuple[int, ...] = ()) -> Answer:
        await self.post(method, argument, fds)
        return await self.answer()

    async def post(self, method: Method, argument: object = None, fds: tuple[int, ...] = ()) -> None:
        await self.channel.send(encode(Request(7, method, Raw(encode(argument)))), fds)

    async def answer(self) -> Answer:
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


def config(port: int, more: str = "") -> Config:
    listener = f"{{name: in, address: '127.0.0.1:{port}', routes: [{{cluster: app}}]}}"
    return loads(f"listeners: [{listener}]\nclusters: [{{name: app, endpoints: ['127.0.0.1:1']}}]\n{more}", "test")


async def test_it_listens_on_the_sockets_it_is_given(supervisor: Supervisor, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    for _ in range(2):  # the second time it has no use for the socket
        assert await supervisor.call("apply", config(port), (listening.fileno(),)) == Answer(7, NONE)
    listeners = decode((await supervisor.call("listeners")).result, list[dict[str, Any]])
    assert [entry["address"] for entry in listeners] == [f"127.0.0.1:{port}"]
    with await asyncio.to_thread(Client, f"127.0.0.1:{port}") as client:
        assert (await asyncio.to_thread(client.get)).status == 503
        assert decode((await supervisor.call("abort")).result, int) == 1


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


async def test_it_gives_signs_of_life(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BEAT", 0.001)
    async with asyncio.timeout(5):
        while supervisor.beats < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_it_finishes_what_is_under_way_when_the_supervisor_is_gone(
    supervisor: Supervisor, listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = listening.getsockname()[1]
    await supervisor.call("apply", config(port, "shutdown: {timeout: 7s}"), (listening.fileno(),))
    listening.close()
    with await asyncio.to_thread(Client, f"127.0.0.1:{port}") as client:
        client.send(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\n")
        async with asyncio.timeout(5):
            connections = 0
            while not connections:
                (listener,) = decode((await supervisor.call("listeners")).result, list[dict[str, Any]])
                connections = listener["connections"]
        supervisor.channel.close()
        async with asyncio.timeout(5):
            while not supervisor.orphaned:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert not supervisor.worker.done()
        response = await asyncio.to_thread(client.response)  # nobody listens behind it, so it is answered at once
        assert (response.status, response.closes) == (503, True)
        async with asyncio.timeout(5):
            await supervisor.worker
    assert supervisor.orphaned == [7.0]
    assert "the supervisor is gone: draining, for 7 s at most" in caplog.text


@pytest.mark.parametrize(("written", "bound"), [("50ms", 0.05), ("0s", 25.0), ("1m", 60.0)])
async def test_its_drain_is_bounded_without_a_supervisor(
    supervisor: Supervisor,
    listening: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    written: str,
    bound: float,
) -> None:
    """Where `shutdown.timeout` is 0, the default is the bound."""
    port = listening.getsockname()[1]
    await supervisor.call("apply", config(port, f"shutdown: {{grace: 0s, timeout: {written}}}"), (listening.fileno(),))
    listening.close()
    idle = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(DataPlane, "wait_idle", lambda _: idle)
    supervisor.channel.close()
    async with asyncio.timeout(5):
        while not supervisor.orphaned:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert supervisor.orphaned == [bound]
        if bound > 1:
            idle.set_result(None)
        await supervisor.worker
    assert ("the time to drain is up" in caplog.text) == (bound < 1)


async def test_one_that_was_let_go_does_not_drain(supervisor: Supervisor) -> None:
    await supervisor.call("abort")
    supervisor.channel.close()
    async with asyncio.timeout(5):
        await supervisor.worker
    assert supervisor.orphaned == []


async def test_one_config_after_the_other(
    supervisor: Supervisor, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that answers again after some time finds several in its channel, and the last one must win."""
    port = listening.getsockname()[1]
    under_way: list[str | None] = []
    done: list[str | None] = []
    real = DataPlane.apply

    async def apply(self: DataPlane, config: Config) -> None:
        under_way.append(config.zone)
        assert len(under_way) == 1
        await asyncio.sleep(0)
        await real(self, config)
        done.append(under_way.pop())

    monkeypatch.setattr(DataPlane, "apply", apply)
    for zone in "abc":
        await supervisor.post("apply", replace(config(port), zone=zone), (listening.fileno(),))
    for _ in "abc":
        assert (await supervisor.answer()).error is None
    assert done == ["a", "b", "c"]


def test_log_lines_tell_which_worker(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        _name_in_log(3)
        logging.getLogger("meshlet").warning("Something.")
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.records[0].__dict__["worker"] == 3
