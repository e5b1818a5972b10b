"""The machine: its cores, how fast it is just now, and what it is."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import BenchmarkError

# 2,000 idle clients and as many connections to the backend, with room to spare.
OPEN_FILES = 8192


class Cores(NamedTuple):
    """One core for the proxies; another for load, backend and the harness itself."""

    proxy: int
    load: int


def choose_cores() -> Cores:
    """The first and the second core this process may use."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise BenchmarkError("two CPU cores are needed: one for the proxy, one for load and backend")
    return Cores(available[0], available[1])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on one core; what is started meanwhile inherits it, with no helper process in front of its exec."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files() -> None:
    """Allow as many open files as the idle scenario needs, here and in every process started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        raise BenchmarkError(f"the limit of open files is {hard}, {OPEN_FILES} are needed: see `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, OPEN_FILES), hard))


def fixed_loop(core: int) -> float:
    """Milliseconds that the same bit of Python takes on a core now; it grows where others use the core or its cache."""
    with pinned(core):
        start = time.perf_counter()
        total = 0
        for number in range(500_000):
            total += number
        return (time.perf_counter() - start) * 1000


def describe() -> dict[str, str | int]:
    """What a reader needs to place the figures."""
    cpu_info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in cpu_info.splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
