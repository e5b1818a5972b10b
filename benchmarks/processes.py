"""Processes: started on one core, watched through /proc with all their children, ended by their id."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.host import pinned

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_END_TIMEOUT = 3.0


def parse_cpu_ticks(stat: str) -> int:
    """User and system ticks of a /proc/PID/stat line, with those of children that have ended.

    The second field is the command in parentheses and may hold anything, so fields are counted from its end.
    """
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime


class Process:
    """A running program and whatever it started."""

    def __init__(self, command: Sequence[str], core: int, log: Path) -> None:
        self._log = log
        with pinned(core), log.open("wb") as output:
            # In a session of its own: Ctrl-C reaches the harness alone, which then ends everything in order.
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def tree(self) -> list[int]:
        """The ids of the process and all its living descendants."""
        pids = [self._popen.pid]
        for pid in pids:  # grows while it is walked
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    pids.extend(int(child) for child in children.read_text(encoding="ascii").split())
        return pids

    def cpu_seconds(self) -> float:
        """User and system time of the tree since its start."""
        return sum(parse_cpu_ticks(_read(pid, "stat")) for pid in self.tree()) / _TICK

    def rss_bytes(self) -> int:
        """Resident memory, summed over the tree: pages shared between its processes count in each."""
        return sum(int(_read(pid, "statm").split()[1]) for pid in self.tree()) * _PAGE

    def pss_bytes(self) -> int | None:
        """Resident memory with shared pages divided among their users, or None where the kernel does not tell."""
        total = 0
        for pid in self.tree():
            try:
                lines = _read(pid, "smaps_rollup").splitlines()
            except BenchmarkError:
                return None
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        return total

    def check_alive(self) -> None:
        """Raise with the end of the program's log if it has ended."""
        status = self._popen.poll()
        if status is not None:
            tail = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise BenchmarkError(f"it ended with status {status}: " + " | ".join(tail))

    def end(self) -> None:
        """Ask the tree to end, then make it."""
        pids = self.tree()  # before anything dies: orphans cannot be found any more
        self._popen.terminate()
        try:
            self._popen.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.wait()


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BenchmarkError(f"process {pid} is gone or cannot be read: {error}") from error


@contextmanager
def running(command: Sequence[str], core: int, log: Path) -> Iterator[Process]:
    """A process for as long as the block lasts."""
    process = Process(command, core, log)
    try:
        yield process
    finally:
        process.end()


def free_port() -> int:
    """A loopback port nobody uses.

    It lies below the range from which the kernel takes the ports of outgoing connections: the load makes thousands of
    those, and one of them could otherwise take the port before its server does.
    """
    for _ in range(200):
        port = random.randrange(15_100, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchmarkError("no free port between 15100 and 32000")
