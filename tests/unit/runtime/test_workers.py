from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from meshlet.config.load import loads
from meshlet.config.schema import Workers as WorkersConfig
from meshlet.config.text_file import is_passing
from meshlet.config.units import Duration
from meshlet.runtime import child as child_module
from meshlet.runtime import workers as workers_module
from meshlet.runtime.child import Child, NoAnswer, Refused
from meshlet.runtime.heartbeat import BEAT
from meshlet.runtime.left import Left
from meshlet.runtime.messages import decode, encode
from meshlet.runtime.workers import Workers
from meshlet.telemetry.tap import TapRead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from meshlet.config.schema import Config


class FakeChild:
    """A worker that takes every config, unless it has a listener that the worker `refuses`; or fails altogether."""

    made: list[FakeChild]

    def __init__(self, number: int) -> None:
        self.number = number
        self.silent = False
        self.hangs = False  # answers nothing until `resume`
        self.configs: list[Config] = []
        self.ports: list[set[int]] = []
        self.told: list[str] = []
        self.failing: Exception | None = None
        self.refuses = ""
        self.patience: list[bool] = []
        self.limits: list[float] = []
        self.shoots = False
        self.over = asyncio.Event()
        self._undone: list[tuple[asyncio.Future[Raw], str, Any]] = []
        self.made.append(self)

    def __str__(self) -> str:
        return f"worker {self.number}"

    async def start(self, log_format: str) -> None:
        if self.failing is not None:
            raise self.failing

    def post(self, method: str, argument: Any = None, *, fds: Iterable[int] = ()) -> asyncio.Future[Raw]:
        answer: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self.told.append(method)
        if method == "apply":
            self.ports.append({os.fstat(fd).st_ino for fd in fds})
        self._undone.append((answer, method, argument))
        if not self.hangs:
            self.resume()
        return answer

    def resume(self) -> None:
        """Do what was left undone, in its order."""
        self.hangs = self.silent = False
        undone, self._undone = self._undone, []
        for answer, method, argument in undone:
            self._do(answer, method, argument)

    def _do(self, answer: asyncio.Future[Raw], method: str, argument: Any) -> None:
        error = self.failing
        if method == "apply" and error is None:
            if self.refuses in names(argument):
                error = Refused(f"worker {self.number}: not {self.refuses}")
            else:
                self.configs.append(argument)
        if error is not None:
            answer.set_exception(error)
            answer.exception()
        else:
            answer.set_result(Raw(encode([])))

    async def result(self, answer: asyncio.Future[Raw], within: float, *, patient: bool = False) -> Raw:
        self.patience.append(patient)
        if not answer.done():
            self.silent = True
            raise NoAnswer(f"{self} does not answer")
        return await answer

    async def call(self, method: str, argument: Any = None, *, within: float = 1.0) -> Raw:
        if self.silent:
            raise NoAnswer(f"{self} does not answer")
        return await self.result(self.post(method, argument), within)

    def look(self, limit: float) -> bool:
        self.limits.append(limit)
        shot, self.shoots = self.shoots, False
        return shot

    async def refresh(self, method: str) -> None:
        pass

    def known(self, method: str) -> None:
        return None

    async def ended(self) -> str:
        await self.over.wait()
        return "was ended"

    def kill(self) -> None:
        self.over.set()

    async def close(self) -> Left:
        self.kill()
        return Left(self.number, hung=int(self.silent))


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


def with_hang_timeout(name: str, seconds: float) -> Config:
    return replace(config(name), workers=WorkersConfig(hang_timeout=Duration(seconds)))


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


async def test_one_refuses_first_and_the_others_never_hear_of_it(workers: Workers) -> None:
    await workers.apply(config("a"))
    for fake in FakeChild.made:
        fake.refuses = "b"
    with pytest.raises(Refused, match="not b"):
        await workers.apply(config("b"))
    assert sorted(fake.told.count("apply") for fake in FakeChild.made) == [1, 1, 3]


# --- one that hangs ---


async def test_a_silent_worker_holds_no_config_up_and_gets_it_later(workers: Workers) -> None:
    await workers.apply(config("a"))
    hung = FakeChild.made[1]
    hung.hangs = hung.silent = True
    await workers.apply(config("a", "b"))
    await workers.apply(config("c"))
    assert [names(fake.configs[-1]) for fake in FakeChild.made] == [["c"], ["a"], ["c"]]
    hung.resume()
    await asyncio.sleep(0)
    assert [names(given) for given in hung.configs] == [["a"], ["a", "b"], ["c"]]
    assert not hung.over.is_set()


async def test_a_silent_worker_is_replaced_by_one_with_the_newest_config(workers: Workers) -> None:
    await workers.apply(config("a"))
    FakeChild.made[0].hangs = FakeChild.made[0].silent = True
    await workers.apply(config("b"))
    FakeChild.made[0].kill()
    fourth = await replacement()
    assert names(fourth.configs[0]) == ["b"]
    assert fourth.number == 1


async def test_a_worker_that_refuses_too_late_is_replaced(workers: Workers) -> None:
    await workers.apply(config("a"))
    hung = FakeChild.made[2]
    hung.hangs, hung.refuses = True, "b"
    await workers.apply(config("b"))
    hung.resume()
    fourth = await replacement()
    assert (names(fourth.configs[0]), fourth.number) == (["b"], 3)


async def test_a_worker_that_cannot_go_back_is_replaced(workers: Workers) -> None:
    await workers.apply(config("a"))
    for fake in FakeChild.made:
        fake.refuses = "b"
    FakeChild.made[0].refuses = "a"
    with pytest.raises(Refused):
        await workers.apply(config("a", "b"))
    fourth = await replacement()
    assert (names(fourth.configs[0]), fourth.number) == (["a"], 1)


async def test_what_nobody_could_be_asked_about_is_no_mistake_of_the_config(workers: Workers) -> None:
    await workers.apply(config("a"))
    before = open_files()
    for fake in FakeChild.made:
        fake.hangs = fake.silent = True
    with pytest.raises(NoAnswer, match="no worker answers") as caught:
        await workers.apply(config("b"))
    assert is_passing(caught.value)
    assert open_files() == before
    for fake in FakeChild.made:
        fake.resume()
    await workers.apply(config("b"))
    assert [names(fake.configs[-1]) for fake in FakeChild.made] == [["b"]] * 3


async def test_all_have_died_and_nobody_could_be_asked(workers: Workers) -> None:
    await workers.apply(config("a"))
    for fake in FakeChild.made:
        fake.failing = NoAnswer(f"{fake} is gone")
    with pytest.raises(NoAnswer):
        await workers.apply(config("b"))
    FakeChild.made[0].kill()
    assert names((await replacement()).configs[0]) == ["a"]


async def test_a_config_that_makes_workers_hang_costs_one(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    await workers.apply(config("a"))
    real = FakeChild._do

    def hang(fake: FakeChild, answer: asyncio.Future[Raw], method: str, argument: Any) -> None:
        if method == "apply" and "b" in names(argument):
            fake.hangs = True
            fake._undone.append((answer, method, argument))
        else:
            real(fake, answer, method, argument)

    monkeypatch.setattr(FakeChild, "_do", hang)
    with pytest.raises(NoAnswer):
        await workers.apply(config("b"))
    assert sorted(fake.hangs for fake in FakeChild.made) == [False, False, True]


async def test_only_the_first_may_take_its_time(workers: Workers) -> None:
    await workers.apply(config("a"))
    for fake in FakeChild.made:
        fake.patience.clear()
    await workers.apply(config("b"))
    assert sorted(patience for fake in FakeChild.made for patience in fake.patience) == [False, False, True]


async def test_a_silent_worker_is_told_all_the_same(workers: Workers) -> None:
    """It hears of the end when it answers again, and nobody waits for that."""
    await workers.apply(config("a"))
    hung = FakeChild.made[1]
    hung.hangs = hung.silent = True
    await workers.set_log_level("debug")
    await workers.reopen_logs()
    await workers.announce_drain()
    await workers.stop_accepting()
    assert hung.told[1:] == ["set_log_level", "reopen_logs", "announce_drain", "stop_accepting"]


async def test_a_silent_worker_is_not_asked(workers: Workers) -> None:
    await workers.apply(config("a"))
    hung = FakeChild.made[0]
    hung.hangs = hung.silent = True
    before = list(hung.told)
    for _ in range(3):
        await workers.explain("x")
        await workers.recent(5)
        await workers.tap(TapRead("x"))
    assert hung.told == before


async def test_not_ready_while_connections_wait_for_a_worker(workers: Workers) -> None:
    await workers.apply(config("a"))
    assert await workers.unreachable(()) == []
    FakeChild.made[0].silent = True
    assert await workers.unreachable(()) == ["worker 1 does not answer"]
    FakeChild.made[0].silent = False
    workers._places[2].child = None
    assert await workers.unreachable(()) == ["worker 3 has ended, and the next one does not run yet"]
    for fake in FakeChild.made:
        fake.silent = True
    assert await workers.unreachable(()) == ["no worker answers"]


async def test_all_are_looked_after_with_the_limit_of_the_config(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "BEAT", 0.0)
    await workers.apply(with_hang_timeout("a", 7.0))
    await eventually(lambda: all(fake.limits[-1:] == [7.0] for fake in FakeChild.made))
    await workers.apply(with_hang_timeout("a", 30.0))
    await eventually(lambda: all(fake.limits[-1:] == [30.0] for fake in FakeChild.made))


async def test_the_end_tells_of_workers_that_hung_in_it(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "BEAT", 0.0)
    await workers.apply(config("a"))
    FakeChild.made[0].shoots = True  # it is replaced, and nothing is lost that would have to be told at the end
    await eventually(lambda: not FakeChild.made[0].shoots)
    await workers.announce_drain()
    FakeChild.made[1].shoots = True
    await eventually(lambda: not FakeChild.made[1].shoots)
    FakeChild.made[2].silent = True
    assert await workers.close() == Left(1 + 2 + 3, hung=2)


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
    before = open_files()
    with pytest.raises(NoAnswer, match="no more connections are accepted"):
        await workers.apply(config("b"))
    assert open_files() == before


async def test_one_that_takes_a_place_during_the_drain_drains(workers: Workers) -> None:
    await workers.apply(config("a"))
    await workers.announce_drain()
    FakeChild.made[0].kill()
    fourth = await replacement()
    assert fourth.told == ["announce_drain", "apply"]


async def test_one_that_is_just_joining_hears_of_the_end(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which waits neither for it nor for the reload that waits for it."""
    await workers.apply(config("a"))

    async def never(self: FakeChild, answer: asyncio.Future[Raw], within: float, *, patient: bool = False) -> Raw:
        await asyncio.Event().wait()
        raise AssertionError

    FakeChild.made[0].kill()
    monkeypatch.setattr(FakeChild, "result", never)
    await eventually(lambda: len(FakeChild.made) == 4 and FakeChild.made[3].told == ["apply"])
    reload = asyncio.create_task(workers.apply(config("b")))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await workers.announce_drain()
        await workers.stop_accepting()
    assert FakeChild.made[3].told == ["apply", "announce_drain", "stop_accepting"]
    reload.cancel()


async def test_without_workers_nothing_is_reachable(workers: Workers) -> None:
    assert await workers.unreachable(()) == ["no worker answers"]


async def test_close_tells_how_many_connections_were_left(workers: Workers) -> None:
    await workers.apply(config("a"))
    assert await workers.close() == Left(1 + 2 + 3)


async def test_kill_ends_all_at_once(workers: Workers) -> None:
    await workers.apply(config("a"))
    workers.kill()
    assert all(fake.over.is_set() for fake in FakeChild.made)


# --- a process ---


async def test_worker_that_cannot_start_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    child = Child(1)
    with pytest.raises(NoAnswer, match=r"worker 1 \(pid [0-9]+\) is gone"):
        await child.start("text")
    assert await child.ended() == "exited with status 1"
    assert await child.close() == Left(0)


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    """A real one, whose time a test makes."""
    child = Child(1, Time())
    await child.start("text")
    yield child
    child.kill()
    await child.ended()


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def stop(child: Child) -> None:
    assert child._process is not None
    os.kill(child._process.pid, signal.SIGSTOP)


def resume(child: Child) -> None:
    assert child._process is not None
    os.kill(child._process.pid, signal.SIGCONT)


def pass_time(child: Child, seconds: float, limit: float = 10.0) -> bool:
    """Let time pass for whoever looks after it; say whether it was killed."""
    clock = child._heart._clock
    assert isinstance(clock, Time)
    killed = False
    for _ in range(int(seconds / BEAT)):
        clock.now += BEAT
        killed |= child.look(limit)
    return killed


async def test_worker_that_hangs_is_waited_for_once(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "meshlet")
    stop(child)
    waiting = [asyncio.create_task(child.call("listeners", within=60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not pass_time(child, 1.5)
    quiet = [child.silent]
    assert not pass_time(child, 1)
    assert [*quiet, child.silent] == [False, True]
    async with asyncio.timeout(1):
        for call in waiting:
            with pytest.raises(NoAnswer, match=r"worker 1 \(pid [0-9]+\) does not answer"):
                await call
        for _ in range(40):
            with pytest.raises(NoAnswer, match="does not answer"):
                await child.call("explain", "x")
            await child.refresh("families")
    assert len(child._waiting) == 3
    resume(child)
    async with asyncio.timeout(5):
        while child.silent:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert decode(await child.call("listeners"), list[Any]) == []
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 1


async def test_worker_that_hangs_is_killed_in_time(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    stop(child)
    assert not pass_time(child, 9.5)
    assert pass_time(child, 1)
    assert not pass_time(child, 20)  # said once
    assert await child.ended() == "was ended by SIGKILL"
    assert caplog.text.count("has not answered for 10 s: it is killed") == 1


async def test_worker_that_hangs_does_later_what_it_was_told(child: Child, tmp_path: Path) -> None:
    """A call that nobody waited for is no half frame in its channel, however large, and its descriptors are alive."""
    large = replace(config("a"), zone="z" * 2_000_000)
    stop(child)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        listeners = (replace(large.listeners[0], address=large.listeners[0].address._replace(port=port)),)
        taken = child.post("apply", replace(large, listeners=listeners), fds=[sock.fileno()])
        pass_time(child, 3)
        with pytest.raises(NoAnswer):
            await child.result(taken, 60)
    resume(child)
    async with asyncio.timeout(10):
        await taken
        (listener,) = decode(await child.post("listeners"), list[dict[str, Any]])
    assert listener["address"] == f"127.0.0.1:{port}"


async def test_whoever_is_patient_waits_for_a_silent_worker(child: Child) -> None:
    stop(child)
    answer = child.post("listeners")
    pass_time(child, 3)
    patient = asyncio.create_task(child.result(answer, 60, patient=True))
    await asyncio.sleep(0)
    assert not patient.done()
    resume(child)
    async with asyncio.timeout(5):
        await patient
    stop(child)
    with pytest.raises(NoAnswer, match=r"has not answered for 0\.05 s"):
        await child.result(child.post("listeners"), 0.05, patient=True)


async def test_what_waits_for_a_worker_is_bounded(child: Child) -> None:
    stop(child)
    for _ in range(child_module._MAX_ASKED):
        child.post("listeners")
    with pytest.raises(NoAnswer, match="does not answer"):
        await child.call("listeners")
    before = open_files()
    for _ in range(child_module._MAX_WAITING - child_module._MAX_ASKED):
        child.post("set_log_level", "info")
    with pytest.raises(NoAnswer, match="left too many calls unanswered"):
        child.post("set_log_level", "info")
    assert await child.ended() == "was ended by SIGKILL"
    assert open_files() <= before


async def test_no_descriptors_for_copies_leak_none(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.dup
    copies: list[int] = []

    def dup(fd: int) -> int:
        if len(copies) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        copies.append(real(fd))
        return copies[-1]

    monkeypatch.setattr(os, "dup", dup)
    before = open_files()
    with pytest.raises(OSError, match="Too many open files"):
        child.post("apply", config("a"), fds=[1, 1, 1])
    assert open_files() == before
    assert not child._waiting


async def test_close_does_not_wait_for_one_that_hangs(child: Child) -> None:
    stop(child)
    pass_time(child, 3)
    async with asyncio.timeout(0.9):
        assert await child.close() == Left(0, hung=1)
    assert await child.ended() == "was ended by SIGKILL"


async def test_close_waits_a_second_for_one_that_has_just_begun_to_hang(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_CLOSE", 0.05)
    stop(child)
    assert await child.close() == Left(0, hung=1)
    assert await child.ended() == "was ended by SIGKILL"


async def test_one_that_has_died_has_not_hung(child: Child) -> None:
    child.kill()
    await child.ended()
    async with asyncio.timeout(5):
        while not child._gone:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert await child.close() == Left(0)


async def test_the_cause_of_a_refusal_is_known(child: Child, tmp_path: Path) -> None:
    """So that what the machine lacks is told from what is wrong with the config."""
    with pytest.raises(Refused, match="too many open files") as caught:
        await child.post("apply", config("a"))  # without the sockets, as where there was no room for them
    assert caught.value.errno == errno.EMFILE
    assert is_passing(caught.value)


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
