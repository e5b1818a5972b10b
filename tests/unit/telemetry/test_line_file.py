from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry import line_file
from meshlet.telemetry.line_file import LineFile, pieces
from tests.support.processes import until

NO_SPACE = errno.ENOSPC


class Disk:
    """Takes `room` bytes, then fails with `error`; None is room without end. For files that LineFile has opened."""

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self._write = write
        self.room: int | None = None
        self.error = NO_SPACE

    def write(self, fd: int, data: bytes) -> int:
        if self.room is None:
            return self._write(fd, data)
        if not self.room:
            raise OSError(self.error, os.strerror(self.error))
        written = self._write(fd, bytes(data)[: self.room])
        self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(os.write)
    monkeypatch.setattr("meshlet.telemetry.line_file.os.write", disk.write)
    return disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def file(path: Path, disk: Disk, said: list[str]) -> LineFile:
    return LineFile(str(path), report=said.append)


@pytest.fixture
def shared(path: Path, disk: Disk, said: list[str]) -> LineFile:
    return LineFile(str(path), shared=True, report=said.append)


# --- a write that stops within a line ---


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EPIPE])
def test_the_rest_of_a_half_line_comes_before_the_next(
    file: LineFile, path: Path, disk: Disk, said: list[str], error: int
) -> None:
    disk.error, disk.room = error, 8
    file.append(b"first\nsecond\nthird\n")
    assert path.read_bytes() == b"first\nse"
    file.append(b"fourth\n")
    disk.room = None
    file.append(b"fifth\n")
    assert path.read_bytes() == b"first\nsecond\nfifth\n"
    assert file.lines_lost == 2
    assert file.errors == 2
    assert len(said) == 1
    assert os.strerror(error) in said[0]


@pytest.mark.parametrize(
    ("room", "left", "lost"),
    [
        (0, b"", 3),
        (1, b"a1\n", 2),
        (2, b"a1\n", 2),  # all of the line but its end
        (3, b"a1\n", 2),  # at a line's end nothing is torn
        (4, b"a1\nb2\n", 1),
        (8, b"a1\nb2\nc3\n", 0),  # nothing is lost where only the last line's end is missing
    ],
)
def test_just_the_whole_lines_that_did_not_get_out_are_counted(
    file: LineFile, path: Path, disk: Disk, room: int, left: bytes, lost: int
) -> None:
    disk.room = room
    file.append(b"a1\nb2\nc3\n")
    disk.room = None
    file.append(b"next\n")
    assert path.read_bytes() == left + b"next\n"
    assert file.lines_lost == lost


def test_a_rest_that_is_cut_again_is_gone_on_with(file: LineFile, path: Path, disk: Disk) -> None:
    disk.room = 2
    file.append(b"0123456789\n")
    for _ in range(3):
        disk.room = 2
        file.append(b"lost\n")
    assert path.read_bytes() == b"01234567"
    disk.room = None
    file.append(b"next\n")
    assert path.read_bytes() == b"0123456789\nnext\n"
    assert file.lines_lost == 3


def test_a_rest_that_is_never_written_is_a_lost_line(file: LineFile, path: Path, disk: Disk) -> None:
    disk.room = 2
    file.append(b"0123456789\n")
    assert file.lines_lost == 0
    file.close()
    assert file.lines_lost == 1


def test_the_end_writes_the_rest(file: LineFile, path: Path, disk: Disk) -> None:
    disk.room = 2
    file.append(b"0123456789\n")
    disk.room = None
    file.close()
    assert path.read_bytes() == b"0123456789\n"
    assert file.lines_lost == 0


def test_the_rest_goes_to_no_other_file(file: LineFile, path: Path, disk: Disk, tmp_path: Path) -> None:
    disk.room = 2
    file.append(b"0123456789\nlost\n")
    moved = path.rename(tmp_path / "log.1")
    file.replace(line_file.open_lines(str(path)))
    disk.room = None
    file.append(b"next\n")
    assert (moved.read_bytes(), path.read_bytes()) == (b"01", b"next\n")
    assert file.lines_lost == 2


def test_the_same_file_opened_anew_has_no_torn_line(file: LineFile, path: Path, disk: Disk) -> None:
    disk.room = 2
    file.append(b"0123456789\n")
    file.replace(line_file.open_lines(str(path)))
    disk.room = None
    file.append(b"next\n")
    assert path.read_bytes() == b"01\nnext\n"
    assert file.lines_lost == 1


def test_a_file_that_was_emptied_gets_no_rest(file: LineFile, path: Path, disk: Disk) -> None:
    disk.room = 2
    file.append(b"0123456789\n")
    os.truncate(path, 0)
    disk.room = None
    file.append(b"next\n")
    assert path.read_bytes() == b"next\n"
    assert file.lines_lost == 1


def test_the_half_line_of_a_process_that_died_gets_an_end(path: Path, file: LineFile) -> None:
    path.write_bytes(b"whole\nhal")
    file.append(b"next\n")
    assert path.read_bytes() == b"whole\nhal\nnext\n"
    assert file.lines_lost == 0


def test_a_file_that_may_only_be_written_to_is_mended_as_well(path: Path, disk: Disk) -> None:
    """As a stderr that was opened by somebody else."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    file = LineFile(str(path), report=lambda _: None)
    file.replace(fd)
    disk.room = 3
    file.append(b"first\nlost\n")
    disk.room = None
    file.append(b"next\n")
    assert path.read_bytes() == b"first\nnext\n"
    assert file.lines_lost == 1


def test_it_works_again_until_it_fails_again(file: LineFile, disk: Disk, said: list[str]) -> None:
    for _ in range(2):
        disk.room = 0
        file.append(b"lost\n")
        assert file.failing
        disk.room = None
        file.append(b"kept\n")
        assert not file.failing
    assert len(said) == 2
    assert (file.errors, file.lines_lost, file.last_error) == (2, 2, "no space left on device")


# --- with others ---


def test_a_shared_file_gets_an_end_instead_of_the_rest(
    file: LineFile, shared: LineFile, path: Path, disk: Disk
) -> None:
    """Whose line stands behind the half one would be torn by its rest."""
    disk.room = 3
    shared.append(b"first\nsecond\n")
    disk.room = None
    with path.open("ab") as other:
        other.write(b"\nother\n")
    shared.append(b"next\n")
    assert path.read_bytes() == b"fir\nother\nnext\n"
    assert shared.lines_lost == 2


def test_the_half_line_of_another_process_gets_an_end(shared: LineFile, path: Path) -> None:
    shared.append(b"ours\n")
    with path.open("ab") as other:
        other.write(b"hal")
    shared.append(b"ours\n")
    assert path.read_bytes() == b"ours\nhal\nours\n"


def test_two_logs_on_one_stream_tear_no_line_of_each_other(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As meshlet's own log and an access log on /dev/stderr, whose file nobody may read."""
    stream = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    monkeypatch.setitem(line_file.STANDARD_STREAMS, "/dev/stderr", stream)
    files = [LineFile("/dev/stderr", report=lambda _: None) for _ in range(2)]
    disk.room = 3
    for file in files:
        file.append(b"first\n")
    disk.room = None
    for file in files:
        file.append(b"next\n")
    assert [line for line in path.read_bytes().splitlines() if line] == [b"fir", b"next", b"next"]
    assert [file.lines_lost for file in files] == [1, 1]
    os.close(stream)


@pytest.mark.parametrize("ended_by_another", [True, False])
def test_a_shared_line_that_lacks_its_end_only_is_not_lost(
    shared: LineFile, path: Path, disk: Disk, ended_by_another: bool
) -> None:
    disk.room = 5
    shared.append(b"first\nsecond\n")
    disk.room = None
    if ended_by_another:
        with path.open("ab") as other:
            other.write(b"\nother\n")
    shared.append(b"next\n")
    assert path.read_bytes() == (b"first\nother\nnext\n" if ended_by_another else b"first\nnext\n")
    assert shared.lines_lost == 1


def test_whoever_comes_first_ends_the_line(path: Path, disk: Disk) -> None:
    files = [LineFile(str(path), shared=True, report=lambda _: None) for _ in range(4)]
    disk.room = 2
    for file in files:
        file.append(b"0123\n")
    disk.room = None
    for file in files:
        file.append(b"next\n")
    assert path.read_bytes() == b"01\n" + b"next\n" * 4
    assert [file.lines_lost for file in files] == [1] * 4


# --- any order of things ---


@given(st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 12), min_size=1, max_size=4)), max_size=12))
def test_no_line_is_torn_and_all_are_counted(rooms: list[tuple[int, list[int]]]) -> None:
    """A pipe stands for the disk: what is read from it is what has got out."""
    reader, writer = os.pipe()
    file = LineFile(os.devnull, report=lambda _: None)
    file.replace(writer)
    disk = Disk(os.write)
    offered = 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("meshlet.telemetry.line_file.os.write", disk.write)
        for room, lengths in rooms:
            lines = [f"{offered + index:04d}{'x' * length}.\n".encode() for index, length in enumerate(lengths)]
            offered += len(lines)
            disk.room = room
            file.append(b"".join(lines))
        disk.room = None
        file.close()
    with open(reader, "rb") as out:  # noqa: PTH123
        found = out.read().decode()
    lines_out = found.splitlines(keepends=True)
    assert all(line[:4].isdigit() and line.endswith(".\n") and line[4:-2].strip("x") == "" for line in lines_out)
    assert len({line[:4] for line in lines_out}) == len(lines_out) == offered - file.lines_lost


# --- pipes ---


def test_a_pipe_without_a_reader_costs_lines_and_no_more(said: list[str]) -> None:
    reader, writer = os.pipe()
    file = LineFile(os.devnull, report=said.append)
    file.replace(writer)
    os.close(reader)
    file.append(b"1\n2\n")
    file.append(b"3\n")
    assert (file.lines_lost, file.errors, len(said)) == (3, 2, 1)
    file.close()


def test_a_non_blocking_pipe_that_is_full_is_waited_for() -> None:
    """And where its reader leaves meanwhile, just what it did not get is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    file = LineFile(os.devnull, report=lambda _: None)
    file.replace(writer)
    batch = b"".join(b"%099d\n" % number for number in range(2000))  # three times what a pipe takes
    thread = threading.Thread(target=file.append, args=(batch,))
    thread.start()
    taken = 0
    while taken < 100_000:
        taken += len(os.read(reader, 10_000))
    # Without somebody who takes more, it waits; then that one leaves.
    until(lambda: not select.select([], [writer], [], 0)[1])
    os.close(reader)
    thread.join()
    out = taken + 65536
    assert abs((2000 - file.lines_lost) - out // 100) <= 50
    file.close()


def test_a_shared_pipe_gets_pieces_that_are_never_mixed() -> None:
    lines = [b"a" * n + b"\n" for n in (10, 4000, 100, 4095, 5000, 1, 2)]
    batch = b"".join(lines) + b"no end"
    found = list(pieces(batch))
    assert b"".join(found) == batch
    assert all(len(piece) <= select.PIPE_BUF or piece.count(b"\n") == 1 for piece in found)
    assert all(piece.endswith(b"\n") for piece in found[:-1])
    assert len(found) < len(lines)
