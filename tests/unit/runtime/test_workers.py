from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from meshlet.config.load import loads
from meshlet.runtime import child as child_module
from meshlet.runtime import workers as workers_module
from meshlet.runtime.child import Child, NoAnswer, Refused
from meshlet.runtime.messages import encode
from meshlet.runtime.workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from meshlet.config.schema import Config


class FakeChild:
    """A worker that takes every config, unless it has a listener that the worker `refuses`; or fails altogether."""

    made: list[FakeChild]

    def __init__(self, number: int) -> None:
        self.number = number
        self.silent = False
        self.configs: list[Config] = []
        self.ports: list[set[int]] = []
        self.told: list[str] = []
        self.failing: Exception | None = None
        self.refuses = ""
        self.over = asyncio.Event()
        self.made.append(self)

    async def start(self, log_format: str) -> None:
        if self.failing is not None:
            raise self.failing

    async def call(
        self, method: str, argument: Any = None, *, fds: Sequence[int] = (), within: float | None = 1.0
    ) -> Raw:
        if self.failing is not None:
            raise self.failing
        self.told.append(method)
        if method == "apply":
            if self.refuses in names(argument):
                raise Refused(f"worker {self.number}: not {self.refuses}")
            self.configs.append(argument)
            self.ports.append({os.fstat(fd).st_ino for fd in fds})
        return Raw(encode(None))

    async def refresh(self, method: str) -> None:
        pass

    def known(self, method: str) -> None:
        return None

    async def ended(self) -> str:
        await self.over.wait()
        return "was ended"

    def kill(self) -> None:
        self.over.set()

    async def close(self) -> int:
        self.kill()
        return self.number


@pytest.fixture
async def workers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    monkeypatch.setattr(FakeChild, "made", [], raising=False)
    monkeypatch.setattr(workers_module, "Child", FakeChild)
    monkeypatch.setattr(workers_module, "_FIRST_DELAY", 0.0)
    workers = Workers(3)
    yield workers
    await workers.close()


def config(*names: str) -> Config:
    listeners = "".join(f"  - {{name: {name}, address: '127.0.0.1:0', routes: [{{cluster: app}}]}}\n" for name in names)
    return loads(f"listeners:\n{listeners}clusters: [{{name: app, endpoints: ['127.0.0.1:1']}}]\n", "test")


def names(config: Config) -> list[str]:
    return [listener.name for listener in config.listeners]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the code under test sets no Event
            await asyncio.sleep(0)


async def replacement() -> FakeChild:
    """Wait for the fourth of three workers, and for its config."""
    await eventually(lambda: len(FakeChild.made) == 4)
    await eventually(lambda: bool(FakeChild.made[3].configs))
    return FakeChild.made[3]


async def test_each_worker_gets_its_own_socket_of_the_same_port(workers: Workers) -> None:
    await workers.apply(config("a", "b"))
    assert len({str(fake.configs) for fake in FakeChild.made}) == 1
    ports = [listener.address.port for listener in FakeChild.made[0].configs[0].listeners]
    assert len(set(ports)) == 2
    assert 0 not in ports
    assert len(set.union(*(fake.ports[0] for fake in FakeChild.made))) == 6


async def test_all_workers_count_in_the_buckets_of_the_start(workers: Workers) -> None:
    def with_buckets(*bounds: float) -> Config:
        telemetry = config("a").telemetry
        return replace(
            config("a"), telemetry=replace(telemetry, metrics=replace(telemetry.metrics, duration_buckets=bounds))
        )

    await workers.apply(with_buckets(0.1, 1.0))
    await workers.apply(with_buckets(0.5))
    FakeChild.made[0].over.set()
    late = await replacement()
    assert late.configs[-1].telemetry.metrics.duration_buckets == (0.1, 1.0)


async def test_ports_stay_over_reloads(workers: Workers) -> None:
    await workers.apply(config("a"))
    await workers.apply(config("b", "a"))
    first, second = FakeChild.made[0].configs
    assert second.listeners[1] == first.listeners[0]
    assert FakeChild.made[0].ports[0] < FakeChild.made[0].ports[1]


async def test_one_refuses_and_all_go_back(workers: Workers) -> None:
    await workers.apply(config("a"))
    FakeChild.made[1].refuses = "b"
    before = open_files()
    with pytest.raises(Refused, match="worker 2: not b"):
        await workers.apply(config("b"))
    assert open_files() == before
    assert [[names(given) for given in fake.configs] for fake in FakeChild.made] == [
        [["a"], ["b"], ["a"]],
        [["a"], ["a"]],
        [["a"], ["b"], ["a"]],
    ]
    assert all(fake.ports[0] == fake.ports[-1] for fake in FakeChild.made)
    assert not any(fake.over.is_set() for fake in FakeChild.made)


async def test_one_that_hangs_is_replaced_by_one_with_the_config_before(workers: Workers) -> None:
    await workers.apply(config("a"))
    FakeChild.made[0].failing = NoAnswer("worker 1 has not answered")
    with pytest.raises(NoAnswer):
        await workers.apply(config("b"))
    assert FakeChild.made[0].over.is_set()
    fourth = await replacement()
    assert names(fourth.configs[0]) == ["a"]
    assert fourth.number == 1


async def test_start_fails_as_a_whole(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: FakeChild, log_format: str) -> None:
        raise NoAnswer(f"worker {self.number} is gone")

    monkeypatch.setattr(FakeChild, "start", start)
    before = open_files()
    with pytest.raises(NoAnswer, match="worker 1 is gone"):
        await workers.apply(config("a"))
    assert open_files() == before


async def test_nobody_is_replaced_once_no_more_is_accepted(workers: Workers) -> None:
    await workers.apply(config("a"))
    await workers.announce_drain()
    await workers.stop_accepting()
    FakeChild.made[0].kill()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(FakeChild.made) == 3
    await workers.wait_idle()
    await workers.apply(config("a"))
    fourth = await replacement()
    assert fourth.told == ["announce_drain", "apply"]


async def test_without_workers_nothing_is_reachable(workers: Workers) -> None:
    assert await workers.unreachable(()) == ["no worker answers"]


async def test_close_tells_how_many_connections_were_left(workers: Workers) -> None:
    await workers.apply(config("a"))
    assert await workers.close() == 1 + 2 + 3


# --- a process ---


async def test_worker_that_cannot_start_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    child = Child(1)
    with pytest.raises(NoAnswer, match=r"worker 1 \(pid [0-9]+\) is gone"):
        await child.start("text")
    assert await child.ended() == "exited with status 1"
    assert await child.close() == 0


async def test_worker_that_hangs_is_killed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_CLOSE", 0.05)
    child = Child(1)
    await child.start("text")
    assert child._process is not None
    os.kill(child._process.pid, signal.SIGSTOP)
    with pytest.raises(NoAnswer, match=r"has not answered for 0\.05 s"):
        await child.call("listeners", within=0.05)
    assert child.silent
    for _ in range(child_module._MAX_WAITING):
        with pytest.raises(NoAnswer):
            await child.call("listeners", within=0.0)
    with pytest.raises(NoAnswer, match="does not answer"):
        await child.call("listeners", within=None)
    assert await child.close() == 0
    assert await child.ended() == "was ended by SIGKILL"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("meshlet.runtime.worker", {"aiohttp", "click", "yaml", "prometheus_client", "meshlet.runtime.workers"}),
        ("meshlet.runtime.workers", {"aiohttp", "prometheus_client", "meshlet.proxy.downstream"}),
        ("meshlet.runtime.plane, meshlet.runtime.service, meshlet.cli.run", {"meshlet.runtime.workers"}),
    ],
)
def test_no_process_imports_what_another_one_does(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*(sys.modules.keys() & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
