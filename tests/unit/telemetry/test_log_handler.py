from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshlet.telemetry import log_handler
from meshlet.telemetry.log_handler import LogHandler
from meshlet.telemetry.repeats import LIMIT, WINDOW
from tests.support.processes import until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A logger with nothing but the handler in question, which writes to a FIFO or to a file."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self.handler = LogHandler(str(path), logging.Formatter("%(levelname)s %(message)s"), clock=clock)
        self.logger = logging.getLogger(str(path))
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        self.handler.flush()
        return self.path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[Log]:
    found = Log(tmp_path / "log", clock)
    yield found
    found.handler.close()


class Pipe(Log):
    """One that nobody reads until `read` is called."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        super().__init__(path, clock)
        self.received = b""

    def read(self) -> list[str]:
        select.select([self.reader], [], [], 0.01)
        with contextlib.suppress(BlockingIOError):
            self.received += os.read(self.reader, 1 << 20)
        return self.received.decode().splitlines()

    def read_to(self, end: str) -> list[str]:
        """Read until the last line holds this, and return all lines."""
        until(lambda: end in "".join(self.read()[-1:]))
        return self.read()


@pytest.fixture
def pipe(tmp_path: Path, clock: Clock) -> Iterator[Pipe]:
    found = Pipe(tmp_path / "fifo", clock)
    yield found
    # Whatever a test has left in it: the thread ends once that is read.
    os.set_blocking(found.reader, True)
    rest = threading.Thread(target=lambda: all(iter(lambda: os.read(found.reader, 1 << 20), b"")))
    rest.start()
    found.handler.close()
    rest.join()
    os.close(found.reader)


# --- a reader that stalls ---


def flood(log: Log, count: int) -> None:
    # Each line says something else, so none is held back.
    for number in range(count):
        log.logger.error(f"line {number} {'x' * 980}")  # noqa: G004


def test_who_logs_never_waits_for_the_reader(pipe: Pipe) -> None:
    began = time.monotonic()
    flood(pipe, 4000)
    assert time.monotonic() - began < 5
    lost = pipe.handler.lost()
    # 64 KiB are in the pipe, 1 MiB waits.
    assert 4000 - 1200 < lost["queue"] < 4000 - 1000
    assert (lost["failed"], lost["repeated"]) == (0, 0)


def test_what_was_dropped_is_told_once_the_reader_is_back(pipe: Pipe) -> None:
    flood(pipe, 4000)
    dropped = pipe.handler.lost()["queue"]
    lines = pipe.read_to("were lost")
    assert lines[-1] == (
        f"WARNING {dropped} lines of this log were lost since the start: "
        f"{dropped} found no room, 0 could not be written"
    )
    # Whole lines, in order, and as many as the figures say. Where the thread was late to fill the pipe there was room
    # again for a moment, and it was told of what was lost by then.
    written = [line for line in lines if not line.startswith("WARNING ")]
    numbers = [int(line.split()[2]) for line in written]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 4000 - dropped
    assert all(line.endswith("x" * 980) for line in written)
    pipe.logger.error("again")
    assert pipe.read_to("ERROR again")[:-1] == lines


def test_a_reader_that_stalls_again_is_told_of_again(pipe: Pipe) -> None:
    for _ in range(2):
        flood(pipe, 2000)
        dropped = pipe.handler.lost()["queue"]
        pipe.read_to(f" {dropped} found no room")


def test_the_end_is_not_kept_waiting(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "_GRACE", 0.05)
    flood(pipe, 200)
    began = time.monotonic()
    pipe.handler.flush()
    pipe.handler.close()
    pipe.handler.close()
    assert time.monotonic() - began < 2
    pipe.logger.error("too late")  # of no effect


def test_the_end_writes_what_waits(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_handler, "_GRACE", 10)
    flood(log, 500)
    log.handler.close()
    assert len(log.path.read_text(encoding="utf-8").splitlines()) == 500


def test_several_threads_lose_nothing(log: Log) -> None:
    def run(name: int) -> None:
        for number in range(200):
            log.logger.error(f"{name} {number}")  # noqa: G004

    threads = [threading.Thread(target=run, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = log.lines()
    for name in range(8):
        assert [line for line in lines if line.startswith(f"ERROR {name} ")] == [
            f"ERROR {name} {number}" for number in range(200)
        ]


async def test_the_loop_goes_on(pipe: Pipe) -> None:
    """The loop runs what is due while its own thread logs more than the pipe takes."""
    turns = 0
    for _ in range(50):
        flood(pipe, 20)
        await asyncio.sleep(0)
        turns += 1
    assert turns == 50


# --- repeated lines ---


def test_a_repeated_line_is_held_back_and_told_of(log: Log, clock: Clock) -> None:
    for number in range(LIMIT + 30):
        log.logger.error("filter %s failed", number)
    assert log.handler.lost()["repeated"] == 30
    assert len(log.lines()) == LIMIT
    clock.now += WINDOW
    # Without a further line: the thread looks by itself.
    log.handler._writer.write(b"")
    until(lambda: len(log.lines()) > LIMIT)
    assert log.lines()[LIMIT:] == [f"ERROR held back 30 more within {WINDOW:g} s: filter {LIMIT} failed"]


def test_the_thread_waits_for_the_end_of_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshlet.telemetry.repeats.WINDOW", 0.1)
    log = Log(tmp_path / "log", time.monotonic)
    for number in range(LIMIT + 30):
        log.logger.error("filter %s failed", number)
    until(lambda: any("held back 30 more within 0.1 s" in line for line in log.lines()))
    log.handler.close()


def test_what_is_held_back_at_the_end_is_told(log: Log) -> None:
    for number in range(LIMIT + 3):
        log.logger.error("filter %s failed", number)
    log.handler.close()
    assert log.path.read_text(encoding="utf-8").splitlines()[-1].startswith("ERROR held back 3 more")


def test_debug_says_everything(log: Log) -> None:
    for number in range(LIMIT * 3):
        log.logger.debug("refused %s", number)
    assert len(log.lines()) == LIMIT * 3


def test_holding_back_costs_no_memory_while_the_reader_stalls(pipe: Pipe) -> None:
    flood(pipe, 4000)
    before = pipe.handler._writer._work.qsize()
    for number in range(5000):
        pipe.logger.error("filter %s failed", number)
    assert pipe.handler._writer._work.qsize() <= before + 1


# --- a disk that is full ---


def test_lines_that_could_not_be_written_are_told_of_once_it_works_again(
    log: Log, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("meshlet.telemetry.line_file.os.write", full)
        for number in range(7):
            log.logger.error(f"lost {number}")  # noqa: G004
        log.handler.flush()
    assert log.handler.lost()["failed"] == 7
    log.logger.error("kept")
    until(lambda: len(log.lines()) > 1)
    assert log.lines() == [
        "ERROR kept",
        "WARNING 7 lines of this log were lost since the start: "
        "0 found no room, 7 could not be written (no space left on device)",
    ]
    assert log.handler.lost()["failed"] == 7
    assert capfd.readouterr().err == ""
