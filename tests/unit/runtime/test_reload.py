"""Which config wins, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from meshlet.config.dump import digest
from meshlet.config.load import load
from meshlet.runtime import reload, service
from meshlet.runtime.child import NoAnswer, Refused
from meshlet.runtime.plane import DataPlane
from meshlet.runtime.reload import Reloads
from meshlet.runtime.service import Service
from meshlet.runtime.sockets import BindError, bind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meshlet.config.schema import Config


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Steps:
    """A reload whose ends a test decides."""

    def __init__(self) -> None:
        self.begun = 0
        self._end: asyncio.Future[bool] | None = None
        self.reloads = Reloads(self._reload)
        self.task = asyncio.create_task(self.reloads.run())

    async def _reload(self) -> bool:
        self.begun += 1
        self._end = asyncio.get_running_loop().create_future()
        return await self._end

    async def end(self, done: bool) -> None:
        assert self._end is not None
        self._end.set_result(done)
        await turns()


async def test_who_asks_meanwhile_gets_one_more() -> None:
    steps = Steps()
    steps.reloads.ask()
    await turns()
    for _ in range(5):
        steps.reloads.ask()
    await turns()
    assert steps.begun == 1
    await steps.end(True)
    assert steps.begun == 2
    await steps.end(True)
    assert steps.begun == 2
    steps.task.cancel()


async def test_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(reload, "_MAX_PAUSE", 0.0)
    steps = Steps()
    steps.reloads.ask()
    await turns()
    for begun in (1, 2, 3):
        assert steps.begun == begun
        await steps.end(False)
        async with asyncio.timeout(5):
            while steps.begun == begun:  # noqa: ASYNC110
                await asyncio.sleep(0)
    await steps.end(True)
    await turns()
    assert steps.begun == 4
    steps.task.cancel()


async def test_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        pauses.append(seconds)
        return real(0)

    async def fail() -> bool:
        if len(pauses) == 8:
            await asyncio.get_running_loop().create_future()
        return len(pauses) == 7  # once it goes well, all begins anew

    monkeypatch.setattr(asyncio, "timeout", timeout)
    reloads = Reloads(fail)
    task = asyncio.create_task(reloads.run())
    reloads.ask()
    while len(pauses) < 7:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await turns()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    task.cancel()


async def test_whoever_asks_need_not_wait_for_the_next_try() -> None:
    steps = Steps()
    steps.reloads.ask()
    await turns()
    await steps.end(False)
    assert steps.begun == 1
    steps.reloads.ask()
    await turns()
    assert steps.begun == 2
    steps.task.cancel()


# --- what is whose fault ---


class Plane(DataPlane):
    """Raises what a test says when a config is applied."""

    error: Exception | None = None
    applied: list[Config]

    async def apply(self, config: Config) -> None:
        if self.error is not None:
            raise self.error
        self.applied.append(config)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "meshlet.yaml"
        self.write("app")
        self.plane = Plane(bind)
        self.plane.applied = []
        self.service = Service(load(self.path), str(self.path), self.plane)

    def write(self, cluster: str) -> None:
        self.path.write_text(
            f"listeners: [{{name: in, address: '127.0.0.1:0', routes: [{{cluster: {cluster}}}]}}]\n"
            f"clusters: [{{name: {cluster}, endpoints: ['127.0.0.1:1']}}]\n"
        )

    async def reload(self) -> bool:
        return await self.service._reload(str(self.path))

    @property
    def counts(self) -> dict[str, int]:
        return {result: count for result, count in self.service._history if count}


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        NoAnswer("worker 1 (pid 7) is gone"),
        BindError("cannot listen on 127.0.0.1:80: too many open files", errno.EMFILE),
        OSError(errno.ENFILE, "Too many open files in system"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
    ],
)
async def test_what_the_machine_lacks_is_no_mistake(bench: Bench, error: Exception) -> None:
    bench.write("other")
    bench.plane.error = error
    assert not await bench.reload()
    assert bench.counts == {"failed": 1}
    bench.plane.error = None
    assert await bench.reload()
    assert bench.counts == {"failed": 1, "accepted": 1}
    assert [config.clusters[0].name for config in bench.plane.applied] == ["other"]


async def test_a_refusal_for_want_of_descriptors_is_no_mistake(bench: Bench) -> None:
    bench.write("other")
    refused = Refused("worker 2: cannot listen: too many open files")
    refused.errno = errno.EMFILE
    bench.plane.error = refused
    assert not await bench.reload()
    assert bench.counts == {"failed": 1}


@pytest.mark.parametrize(
    "error",
    [
        BindError("cannot listen on 127.0.0.1:80: address already in use", errno.EADDRINUSE),
        Refused("worker 1: no such file or directory: /nowhere/log"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere/log"),
        KeyError("a bug"),
    ],
)
async def test_what_the_config_asks_for_in_vain_is_a_mistake(bench: Bench, error: Exception) -> None:
    bench.write("other")
    bench.plane.error = error
    assert await bench.reload()
    assert bench.counts == {"rejected": 1}
    last = bench.service._history.last
    assert last is not None
    assert last.reasons
    assert not bench.plane.applied


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
async def test_a_file_that_could_not_be_read_just_now(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bench.write("other")
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, "open", fail)
        assert not await bench.reload()
    assert await bench.reload()
    assert bench.counts == {"failed": 1, "accepted": 1}


async def test_a_file_that_is_a_pipe(bench: Bench) -> None:
    bench.path.unlink()
    os.mkfifo(bench.path)
    async with asyncio.timeout(5):
        assert await bench.reload()
    assert bench.counts == {"rejected": 1}


async def test_reading_that_does_not_end_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever asks afterwards is not kept waiting. Each try leaves a thread, so none comes by itself."""
    go_on = threading.Event()

    def hang(path: str) -> tuple[Config, str]:
        go_on.wait()
        raise AssertionError

    bench.write("other")
    with monkeypatch.context() as patch:
        patch.setattr(service, "_load", hang)
        patch.setattr(service, "_READ", 0.01)
        assert await bench.reload()
    assert bench.counts == {"failed": 1}
    assert await bench.reload()
    assert bench.counts == {"failed": 1, "accepted": 1}
    go_on.set()


async def test_all_that_takes_its_time_is_done_in_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, threading.Thread] = {}

    def noting(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def note(*arguments: object) -> object:
            threads[name] = threading.current_thread()
            return work(*arguments)

        return note

    monkeypatch.setattr(service, "load", noting("load", load))
    monkeypatch.setattr(service, "digest", noting("digest", digest))
    bench.write("other")
    assert await bench.reload()
    assert set(threads) == {"load", "digest"}
    assert threading.main_thread() not in threads.values()
    assert (await bench.service.config_dump())["version"] == digest(load(bench.path))
    assert (await bench.service.server_info())["config_version"] == digest(load(bench.path))
    assert set(threads) == {"load", "digest"}


async def test_the_newest_config_wins_though_the_first_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_FIRST_PAUSE", 0.0)
    reloads = Reloads(bench.reload)
    task = asyncio.create_task(reloads.run())
    bench.plane.error = NoAnswer("no worker answers")
    bench.write("second")
    reloads.ask()
    async with asyncio.timeout(10):
        while not bench.counts.get("failed"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        bench.write("third")
        bench.plane.error = None
        while not bench.counts.get("accepted"):  # noqa: ASYNC110
            await asyncio.sleep(0)
    task.cancel()
    assert [config.clusters[0].name for config in bench.plane.applied] == ["third"]
    assert "rejected" not in bench.counts


async def test_the_end_of_the_machines_trouble_shows_in_the_last_outcome(bench: Bench) -> None:
    bench.write("other")
    bench.plane.error = NoAnswer("no worker answers")
    await bench.reload()
    assert (await bench.service.config_dump())["last_reload"]["result"] == "failed"
    bench.plane.error = None
    await bench.reload()
    assert (await bench.service.config_dump())["last_reload"]["result"] == "accepted"
    assert bench.service._config == replace(bench.plane.applied[0])
