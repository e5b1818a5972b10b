from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from pathlib import Path

import pytest

from meshlet.telemetry import line_file
from meshlet.telemetry.line_writer import LineWriter

GRACE = 5.0


def read(path: Path) -> bytes:
    return path.read_bytes()


def read_available(fd: int) -> bytes:
    """All that is in a pipe."""
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def test_lines_are_appended_to_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    writer = LineWriter(str(path))
    writer.write(b"one\n")
    writer.write(b"two\n")
    await writer.close(GRACE)
    assert read(path) == b"before\none\ntwo\n"


async def test_a_writer_that_never_wrote_starts_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    writer = LineWriter(str(tmp_path / "log"))
    assert threading.active_count() == before
    await writer.close(GRACE)


async def test_reopen_leaves_the_rotated_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path))
    writer.write(b"old\n")
    path.rename(tmp_path / "log.1")
    writer.reopen()
    writer.write(b"new\n")
    await writer.close(GRACE)
    assert read(tmp_path / "log.1") == b"old\n"
    assert read(path) == b"new\n"


async def test_a_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(str(folder / "log"))
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        writer.reopen()
    writer.write(b"still here\n")
    await writer.close(GRACE)
    assert read(moved / "log") == b"still here\n"


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LineWriter(str(tmp_path / "none" / "log"))


async def test_a_standard_stream_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    writer = LineWriter("/dev/stdout")
    writer.write(b"one\n")
    writer.reopen()
    await writer.close(GRACE)
    os.write(1, b"two\n")
    assert capfd.readouterr().out == "one\ntwo\n"


async def test_a_reader_who_stalls_does_not_stall_the_loop(fifo: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(fifo), max_backlog=1 << 20)
    line = b"x" * 1023 + b"\n"
    for _ in range(16):
        assert not writer.full
        writer.write(line * 64)
    await writer.close(0.0)
    assert "nobody reads it" in caplog.text

    received = 0
    while received < 1 << 20:
        await asyncio.to_thread(select.select, [reader], [], [], GRACE)
        received += len(read_available(reader))
    assert received == 1 << 20
    await writer.close(GRACE)
    assert writer._bytes_done == writer._bytes_offered
    os.close(reader)


async def test_a_fifo_without_a_reader_is_no_error(fifo: Path) -> None:
    writer = LineWriter(str(fifo))
    writer.write(b"kept by the kernel\n")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    await writer.close(GRACE)
    assert read_available(reader) == b"kept by the kernel\n"
    os.close(reader)


async def test_a_non_blocking_stdout_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writing_end = os.pipe()
    os.set_blocking(writing_end, False)
    monkeypatch.setitem(line_file.STANDARD_STREAMS, "/p", writing_end)
    writer = LineWriter("/p")
    batch = b"y" * 200_000 + b"\n"
    writer.write(batch)
    received = b""
    while len(received) < len(batch):
        await asyncio.to_thread(select.select, [reader], [], [], GRACE)
        received += read_available(reader)
    await writer.close(GRACE)
    assert received == batch
    os.close(reader)
    os.close(writing_end)


async def test_failures_are_counted_but_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "log"
    writer = LineWriter(str(path))
    with monkeypatch.context() as patched:
        patched.setattr("meshlet.telemetry.line_file.os.write", full)
        writer.write(b"1\n2\n")
        writer.write(b"3\n")
        await writer.close(GRACE)
    assert (writer.errors, writer.lines_lost) == (2, 3)
    assert caplog.text.count("cannot write") == 1


async def test_writing_goes_on_where_a_failure_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = os.write, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def fails_once(fd: int, data: bytes) -> int:
        if failures:
            raise failures.pop()
        return real(fd, data)

    path = tmp_path / "log"
    writer = LineWriter(str(path))
    monkeypatch.setattr("meshlet.telemetry.line_file.os.write", fails_once)
    writer.write(b"lost\n")
    writer.write(b"kept\n")
    await writer.close(GRACE)
    assert read(path) == b"kept\n"


async def test_a_shared_pipe_is_written_in_pieces(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(fifo), shared=True)
    batch = (b"z" * 99 + b"\n") * 500
    writer.write(batch)
    await writer.close(GRACE)
    assert read_available(reader) == batch
    os.close(reader)


# --- files that go away ---


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def _settled(writer: LineWriter) -> None:
    """Return when all that was written is in the file."""
    while writer._bytes_done != writer._bytes_offered:
        await asyncio.to_thread(select.select, [], [], [], 0.001)


@pytest.mark.parametrize("removed", [False, True])
async def test_a_file_that_was_moved_or_removed_is_made_anew(tmp_path: Path, removed: bool) -> None:
    clock = Clock()
    path = tmp_path / "log"
    writer = LineWriter(str(path), clock=clock)
    writer.write(b"1\n")
    await _settled(writer)
    moved = path.rename(tmp_path / "log.1")
    if removed:
        moved.unlink()
    clock.now += 0.9
    writer.write(b"2\n")
    await _settled(writer)
    assert not path.exists()
    clock.now += 0.2
    writer.write(b"3\n")
    await writer.close(GRACE)
    assert read(path) == b"3\n"
    if not removed:
        assert read(moved) == b"1\n2\n"


async def test_a_file_that_somebody_put_in_its_place_is_gone_on_with(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "log"
    writer = LineWriter(str(path), clock=clock)
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"made by logrotate\n")
    clock.now += 1.0
    writer.write(b"new\n")
    await writer.close(GRACE)
    assert read(path) == b"made by logrotate\nnew\n"


async def test_a_file_that_is_where_it_was_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    writer = LineWriter(str(tmp_path / "log"), clock=clock)
    opened: list[str] = []
    monkeypatch.setattr(line_file, "open_lines", opened.append)
    for _ in range(3):
        clock.now += 1.0
        writer.write(b"1\n")
        await _settled(writer)
    await writer.close(GRACE)
    assert opened == []
    assert read(tmp_path / "log") == b"1\n" * 3


async def test_a_folder_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(str(folder / "log"), clock=clock)
    moved = folder.rename(tmp_path / "moved")
    for _ in range(3):
        clock.now += 1.0
        writer.write(b"still here\n")
        await _settled(writer)
    assert caplog.text.count("its lines go on to the file that was there") == 1
    folder.mkdir()
    clock.now += 1.0
    writer.write(b"back\n")
    await writer.close(GRACE)
    assert (read(moved / "log"), read(folder / "log")) == (b"still here\n" * 3, b"back\n")
    assert (writer.errors, writer.lines_lost) == (0, 0)
