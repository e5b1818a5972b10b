"""meshlet with several workers."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import Meshlet, running, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORKERS = 2


class Fleet(Meshlet):
    """A supervisor and its workers."""

    config_file: Path
    size = WORKERS

    @property
    def workers(self) -> set[int]:
        """Their process ids."""
        return {int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()}

    @property
    def complete(self) -> bool:
        """Whether all work, those that were started last too."""
        return self.metric("meshlet_workers") == self.size

    def counters(self) -> dict[str, float]:
        """All samples that may only grow."""
        found = {}
        for line in self.get("/stats/prometheus").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum")) and line[0] != "#":
                found[series] = float(value)
        return found

    def reload(self, config: Mapping[str, Any], result: str = "accepted") -> None:
        """Write the config, tell meshlet, and wait until it says what became of it."""
        before = self.metric("meshlet_config_reloads_total", result=result)
        write_config(self.config_file, config)
        self.signal(signal.SIGHUP)
        until(lambda: self.metric("meshlet_config_reloads_total", result=result) > before, 30)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def fleet_with(folder: Path, config: Mapping[str, Any], size: int = WORKERS) -> Iterator[Fleet]:
    path = write_config(folder / "meshlet.yaml", config)
    process = Fleet(["--config", path, "--workers", str(size)], folder / "meshlet")
    process.config_file, process.size = path, size
    with running(process):
        process.started()
        workers = process.workers
        yield process
    until(lambda: not any(map(alive, workers)))
