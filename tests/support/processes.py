"""Programs that a test starts: output in files, waited for by bounded polling, ended by their id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tests.support.http1 import Client, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

_TICK = os.sysconf("SC_CLK_TCK")
_START_LINE = re.compile(r"meshlet \S+ ready in [^\"\n]*")
_LISTENER = re.compile(r"listener (\S+) on ([^\s,]+)")
_OTHER = re.compile(r"(admin|health|metrics) on ([^\s,]+)")


def until(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """Poll until `condition()` is true and return what it gave; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {condition}"
        time.sleep(0.01)
    return value


class Process:
    """A program that runs. `files` is its hard limit of open files."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, *, files: int | None = None, cwd: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        if files is not None:
            # By a shell that becomes the program: preexec_fn is not safe in a process with threads.
            command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def stdout(self) -> str:
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        """Return the exit status; what does not end in time is killed, and the test fails."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise AssertionError(f"still running after {timeout:g} s:\n{self.stderr[-4000:]}") from None

    def stop(self) -> None:
        """End it, kindly at first; one that has ended already is fine."""
        if self.running:
            self._popen.terminate()
            try:
                self._popen.wait(5)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def rss(self, what: str = "VmRSS") -> int:
        """Resident memory in bytes; with VmHWM the most that it ever was."""
        match = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8"))
        assert match is not None
        return int(match[1]) * 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")


class Meshlet(Process):
    """meshlet itself, from its start-up line on."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, *, files: int | None = None) -> None:
        super().__init__([sys.executable, "-m", "meshlet", "run", *arguments], folder, files=files)
        self.listeners: dict[str, str] = {}
        self.admin = ""
        self.health = ""
        self.metrics = ""  # where scrapers ask

    def started(self, timeout: float = 20.0) -> Meshlet:
        """Wait for the start-up line and take the addresses from it."""
        match = until(lambda: _START_LINE.search(self.stderr) or not self.running, timeout)
        assert isinstance(match, re.Match), f"it has ended with {self.wait()}:\n{self.stderr}"
        line = match[0]
        self.listeners = dict(_LISTENER.findall(line))
        others = dict(_OTHER.findall(line))
        self.admin, self.health, self.metrics = (others.get(name, "") for name in ("admin", "health", "metrics"))
        return self

    @property
    def address(self) -> str:
        """Of the listener `in`, which most tests have."""
        return self.listeners["in"]

    def client(self, timeout: float = 10.0) -> Client:
        return Client(self.address, timeout)

    def get(self, path: str, method: str = "GET") -> Response:
        """Ask the admin port."""
        with Client(self.admin) as client:
            return client.ask(method, path, "Host: localhost", "Connection: close")

    def listening(self) -> dict[str, str]:
        """The addresses of the listeners that accept at this moment."""
        listeners = self.get("/listeners?format=json").json()
        return {entry["name"]: entry["address"] for entry in listeners if entry["state"] == "accepting"}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        total = 0.0
        for line in self.get("/stats/prometheus").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total += float(value)
        return total

    def ready(self) -> int:
        """The status that the health port answers with."""
        with Client(self.health) as client:
            return client.ask("GET", "/healthz/ready", "Host: h").status


@contextmanager
def running(process: Process) -> Iterator[None]:
    """End the process with the block, however that ends."""
    try:
        yield
    finally:
        process.stop()


def config_of(app: str, *, listener: Mapping[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    """A config with the listener `in` before the cluster `app`, to be varied."""
    return {
        "listeners": [{"name": "in", "address": "127.0.0.1:0", "routes": [{"cluster": "app"}], **(listener or {})}],
        "clusters": [{"name": "app", "endpoints": [app]}],
        "admin": {"address": "127.0.0.1:0"},
        "shutdown": {"grace": "0s"},
        **parts,
    }


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Write it whole or not at all, as a ConfigMap is."""
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    return draft.replace(path)


@contextmanager
def meshlet(folder: Path, config: Mapping[str, Any], *, files: int | None = None) -> Iterator[Meshlet]:
    """meshlet with a config, ready, for as long as the block lasts."""
    path = write_config(folder / "meshlet.yaml", config)
    process = Meshlet(["--config", path], folder / "meshlet", files=files)
    with running(process):
        yield process.started()
