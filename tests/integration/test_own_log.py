"""What meshlet does with its own log when nobody reads it, the disk is full, or descriptors have run out."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.fleet import WORKERS, fleet_with
from tests.support.http1 import Client, dial
from tests.support.processes import Meshlet, config_of, meshlet, running, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPE_SIZE = 4096  # the least that the kernel gives
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info |warning|error) .*")
EXHAUSTED = "listener in: cannot accept: too many open files"

FILTERS = """
import logging
from meshlet.filters import Filter, Reply

logger = logging.getLogger("told")
count = 0


class Fails(Filter):
    def on_request_head(self, call):
        raise ValueError("out of order")


class Tells(Filter):
    def on_request_head(self, call):
        global count
        count += 1
        logger.warning(f"request {count} {'x' * 40_000}")
        return Reply(200)
"""


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with ExampleApp() as app:
        yield app.address


@pytest.fixture
def config(app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "talkative.py").write_text(FILTERS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}:{tmp_path}")
    routes = [
        {"match": {"prefix": "/fails"}, "cluster": "app", "filters": [{"python": "talkative:Fails"}]},
        {"match": {"prefix": "/tells"}, "cluster": "app", "filters": [{"python": "talkative:Tells"}]},
        {"cluster": "app"},
    ]
    return config_of(app, listener={"protocol": "http", "routes": routes}, reload={"watch": False})


class Piped(Meshlet):
    """meshlet with its stderr on a small pipe, which is read when a test says so, and first to the start-up line."""

    def __init__(self, arguments: list[str | Path], folder: Path) -> None:
        folder.mkdir()
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._received = b""
        self._reading = True
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "meshlet", "run", *arguments], stdin=subprocess.DEVNULL, stderr=writer
        )
        os.close(writer)
        os.set_blocking(self._reader, False)
        self.started(60)
        self._reading = False

    @property
    def stderr(self) -> str:
        """All that was read; what has come since, too, unless the reader stalls."""
        try:
            while self._reading and (data := os.read(self._reader, 1 << 20)):
                self._received += data
        except BlockingIOError:
            pass
        return self._received.decode("utf-8", "replace")

    def read_on(self) -> None:
        self._reading = True

    def close(self) -> None:
        os.close(self._reader)


@contextmanager
def piped(folder: Path, config: dict[str, Any], *arguments: str) -> Iterator[Piped]:
    process = Piped(["--config", write_config(folder / "meshlet.yaml", config), *arguments], folder / "piped")
    with running(process):
        yield process
    process.close()


EACH_WAY = pytest.mark.parametrize("workers", [1, 2])


# --- nobody reads it ---


def refused(process: Meshlet) -> None:
    with process.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.response().status == 400


@EACH_WAY
def test_a_stderr_that_nobody_reads_stops_no_port(tmp_path: Path, config: dict[str, Any], workers: int) -> None:
    config |= {"log": {"level": "debug"}, "health": {"address": "127.0.0.1:0"}}
    config["telemetry"] = {"metrics": {"address": "127.0.0.1:0"}}
    with piped(tmp_path, config, "--workers", str(workers)) as process:
        for _ in range(100):  # a line of 150 bytes each, of which the pipe takes 4 KiB
            refused(process)
        with process.client() as client:
            assert client.get().status == 200
        assert process.ready() == 200
        assert process.get("/ready").status == 200
        assert process.metric("meshlet_log_dropped_total") == 0  # all of it still waits
        process.read_on()
        until(lambda: process.stderr.count("refused what") == 100)
        assert all(LINE.fullmatch(line) for line in process.stderr.splitlines())


@pytest.mark.parametrize(("form", "workers"), [("text", 1), ("json", 1), ("text", 2)])
def test_what_finds_no_room_is_counted_and_told(
    tmp_path: Path, config: dict[str, Any], form: str, workers: int
) -> None:
    config["log"] = {"format": form}
    with piped(tmp_path, config, "--workers", str(workers)) as process:
        for _ in range(120):  # 40 KB each
            with process.client() as client:
                assert client.get("/tells").status == 200
        dropped = process.metric("meshlet_log_dropped_total", reason="queue")
        assert 120 - workers * 30 <= dropped <= 120 - 25
        process.read_on()
        told = r"(\d+) lines of this log were lost since the start"
        until(lambda: sum(map(int, re.findall(told, process.stderr))) == dropped)
        lines = process.stderr.splitlines()
        assert sum("xxx" in line for line in lines) == 120 - dropped
        if workers == 1:  # lines of more than PIPE_BUF may be mixed with those of other processes
            assert all(json.loads(line) if form == "json" else LINE.fullmatch(line) for line in lines)
            assert sum("x" * 40_000 in line for line in lines) == 120 - dropped


@EACH_WAY
def test_the_level_can_be_changed_meanwhile(tmp_path: Path, config: dict[str, Any], workers: int) -> None:
    with piped(tmp_path, config, "--workers", str(workers)) as process:
        for _ in range(5):
            with process.client() as client:
                client.get("/tells")
        assert process.get("/logging?level=debug", "POST").text == "level: debug\n"
        refused(process)
        assert process.get("/logging?level=error", "POST").text == "level: error\n"
        refused(process)
        process.read_on()
        until(lambda: "refused what" in process.stderr)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.stderr.count("refused what") == 1


@EACH_WAY
def test_it_ends_in_time_although_nobody_reads_it(tmp_path: Path, config: dict[str, Any], workers: int) -> None:
    with piped(tmp_path, config, "--workers", str(workers)) as process:
        for _ in range(5):
            with process.client() as client:
                client.get("/tells")
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 6


def test_a_second_signal_ends_it_at_once_although_nobody_reads_it(tmp_path: Path, config: dict[str, Any]) -> None:
    config["shutdown"] = {"grace": "20s", "timeout": "25s"}
    with piped(tmp_path, config) as process:
        for _ in range(5):
            with process.client() as client:
                client.get("/tells")
        process.signal(signal.SIGTERM)
        until(lambda: process.get("/server_info").json()["state"] == "draining")
        process.signal(signal.SIGTERM)
        assert process.wait(5) == 1


def test_the_last_lines_are_written(tmp_path: Path, config: dict[str, Any]) -> None:
    with piped(tmp_path, config, "--workers", "2") as process:
        for _ in range(2):
            with process.client() as client:
                client.get("/tells")
        process.read_on()
        process.signal(signal.SIGTERM)
        # Somebody has to read while it ends: the pipe takes less than what waits.
        until(lambda: (process.stderr, process.running)[1] is False, 20)
        assert process.stderr.count("request ") == 2
        assert process.stderr.splitlines()[-1].endswith("info  ended")


def test_a_filter_that_fails_with_every_request_is_told_of_now_and_then(tmp_path: Path, config: dict[str, Any]) -> None:
    with fleet_with(tmp_path, config) as process:
        for number in range(100):
            with process.client() as client:
                assert client.get(f"/fails/{number}").status == 500
        held = process.metric("meshlet_log_dropped_total", reason="repeated")
        assert held == 100 - process.stderr.count("ValueError: out of order")
        assert held >= 100 - 20 * WORKERS
        process.signal(signal.SIGTERM)
        process.wait()
    told = re.findall(r"held back (\d+) more within 10 s: filter Fails failed", process.stderr)
    assert sum(map(int, told)) == held
    assert all(LINE.fullmatch(line) for line in process.stderr.splitlines())


# --- a disk that is full ---


def processes_of(process: Meshlet) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
    return [process.pid, *map(int, children)]


def allow_bytes(process: Meshlet, size: int) -> None:
    """Let no file grow beyond that (RLIMIT_FSIZE, which cuts a write in two as a full disk does)."""
    for pid in processes_of(process):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


@EACH_WAY
def test_every_request_is_a_whole_line_or_counted(tmp_path: Path, config: dict[str, Any], workers: int) -> None:
    log = tmp_path / "access.log"
    config["telemetry"] = {"access_log": {"path": str(log), "format": "json"}}
    path = write_config(tmp_path / "meshlet.yaml", config)
    process = Meshlet(["--config", path, "--workers", str(workers)], tmp_path / "meshlet")
    asked = 0

    def ask(times: int) -> None:
        nonlocal asked
        asked += times
        for _ in range(times):
            with process.client() as client:
                assert client.get().status == 200

    def whole() -> int:
        lines = log.read_bytes().splitlines(keepends=True) or [b"\n"]
        # One process alone goes on with its half line; among several it is lost, unless it only lacks its end.
        last = lines[-1]
        waits = not last.endswith(b"\n") and (workers == 1 or is_whole(last + b"\n"))
        return sum(map(is_whole, lines)) + waits

    def all_accounted_for() -> bool:
        return whole() + process.metric("meshlet_access_log_dropped_total") == asked

    with running(process):
        process.started()
        ask(1)
        until(all_accounted_for)
        size = log.stat().st_size
        for room in (0, size // 3, size - 1, size, size + 1, 3 * size + size // 2):
            allow_bytes(process, log.stat().st_size + room)
            ask(7)
            until(all_accounted_for)
            allow_bytes(process, resource.RLIM_INFINITY)
            ask(1)
            until(all_accounted_for)
        dropped = process.metric("meshlet_access_log_dropped_total")
        assert 6 * 3 < dropped < 6 * 7
        lines = log.read_bytes().splitlines(keepends=True)
        halves = [line for line in lines if not is_whole(line)]
        # Several processes end each other's half lines with an end.
        assert len(halves) <= (0 if workers == 1 else 6)
        assert all(line.startswith(b"{") and line.endswith(b"\n") and line.count(b"{") == 1 for line in halves)


def test_a_full_disk_tears_no_line_of_the_own_log(tmp_path: Path, config: dict[str, Any]) -> None:
    with meshlet(tmp_path, config) as process:
        stderr = tmp_path / "meshlet" / "stderr"
        allow_bytes(process, stderr.stat().st_size + 100_000)
        for _ in range(10):  # 40 KB each
            with process.client() as client:
                assert client.get("/tells").status == 200
        until(lambda: process.metric("meshlet_log_dropped_total", reason="failed") == 8)
        assert not stderr.read_bytes().endswith(b"\n")
        allow_bytes(process, resource.RLIM_INFINITY)
        with process.client() as client:
            assert client.get("/tells").status == 200
        until(lambda: "could not be written" in process.stderr)
        lines = process.stderr.splitlines()
        assert all(LINE.fullmatch(line) for line in lines)
        told = [line for line in lines if "xxx" in line]
        assert [line.split(" ")[3] for line in told] == ["1", "2", "3", "11"]
        # Others may write to stderr too, so what was cut is ended, not completed.
        assert [line.endswith("x" * 40_000) for line in told] == [True, True, False, True]
        assert "8 lines of this log were lost since the start: 0 found no room, 8 could not be written" in lines[-1]
        assert "(file too large)" in lines[-1]


# --- without descriptors ---


def hurt(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give the config all kinds of things that fail."""
    endpoints = folder / "endpoints.yaml"
    endpoints.write_text("endpoints: [127.0.0.1:1]\n", encoding="utf-8")
    (folder / "logs").mkdir()
    often: dict[str, Any] = {"min_refresh": "1s", "resolvers": ["127.0.0.1:1"]}
    config["clusters"][0]["health_check"] = {"interval": "100ms", "timeout": "1s", "path": "/"}
    config["clusters"] += [
        {"name": "refused", "endpoints": ["127.0.0.1:1"], "outlier_detection": {"consecutive_5xx": 2}},
        {"name": "named", "endpoints": ["no-such-name.invalid:80"]},
        {"name": "dns", "discovery": {"dns": "no-such-name.invalid:80", **often}},
        {"name": "srv", "discovery": {"srv": "_http._tcp.no-such-name.invalid", **often}},
        {"name": "file", "discovery": {"file": str(endpoints)}},
    ]
    config["listeners"][0]["routes"][:0] = [
        {"match": {"prefix": f"/{name}"}, "cluster": name, "retry": {"on": ["connect-failure"], "attempts": 2}}
        for name in ("refused", "named", "dns", "srv", "file")
    ]
    config["telemetry"] = {
        "access_log": {"path": str(folder / "logs" / "access")},
        "metrics": {"address": "127.0.0.1:0"},
    }
    return config | {"health": {"address": "127.0.0.1:0", "require": ["refused"]}}


def fail_in_all_ways(process: Meshlet, clients: list[Client], folder: Path) -> None:
    """Have everything fail that can be reached by connections that are open."""
    for path in ("/fails", "/refused", "/named", "/dns", "/srv", "/file"):
        clients[0].send(f"GET {path}?\x7f\xe9 HTTP/1.1\r\nHost: a\r\n\r\n".replace("\x7f", "").encode("latin-1"))
        assert clients[0].response().status >= 500
    clients[1].send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\x01\r\n\r\n")
    assert clients[1].response().status == 400
    clients[2].send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert clients[2].response().status == 400
    (folder / "logs").rename(folder / "moved")
    process.signal(signal.SIGUSR1)
    config = folder / "meshlet.yaml"
    good = config.read_text("utf-8")
    config.write_text(good.replace("cluster: refused", "cluster: refusedd"), "utf-8")
    process.signal(signal.SIGHUP)
    # Without a descriptor the file cannot even be read, which is not the config's fault.
    until(lambda: "reload rejected" in process.stderr or "it is tried again" in process.stderr)
    config.write_text(good, "utf-8")
    (folder / "moved").rename(folder / "logs")


def told(process: Meshlet, what: str, times: int) -> bool:
    return process.stderr.count(what) == times


def recovered(process: Meshlet, times: int) -> bool:
    # A listener knows that it is over once it has accepted another connection.
    with process.client() as client:
        client.get()
    return told(process, "accepting again", times)


def assert_all_is_told_in_lines(stderr: str) -> None:
    lines = stderr.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert [line for line in lines if "Traceback" in line and "filter Fails failed" not in line] == []
    assert "Logging error" not in stderr
    assert "which is a bug" not in stderr
    assert "was never retrieved" not in stderr


@EACH_WAY
def test_without_descriptors_everything_that_fails_is_one_line(
    tmp_path: Path, config: dict[str, Any], workers: int
) -> None:
    path = write_config(tmp_path / "meshlet.yaml", hurt(config, tmp_path))
    process = Meshlet(["--config", path, "--workers", str(workers)], tmp_path / "meshlet", files=64)
    with running(process), ExitStack() as stack:
        process.started()
        clients = [stack.enter_context(process.client()) for _ in range(3)]
        for turn in (1, 2):  # the second time what serves the ports is loaded
            with ExitStack() as crowd:
                # The kernel takes them all; meshlet gets as many as it can.
                for _ in range(150 * workers):
                    crowd.enter_context(dial(process.address))
                until(partial(told, process, EXHAUSTED, turn * workers))
                if workers == 1:
                    for address in (process.admin, process.metrics, process.health):
                        crowd.enter_context(dial(address))
                    until(lambda: process.stderr.count("cannot serve the ") == 2)
                else:  # the supervisor has some
                    assert process.metric("meshlet_listener_accept_errors_total") >= 2
                    assert process.metric("meshlet_process_open_fds") > 0
                fail_in_all_ways(process, clients, tmp_path)
            until(partial(recovered, process, turn * workers))
            with process.client() as client:
                assert client.get("/").status == 200
                assert client.get("/fails").status == 500
            assert process.get("/ready").status == process.ready() == 503
            with Client(process.metrics) as client:
                assert client.get("/metrics").status == 200
            clients = [stack.enter_context(process.client()) for _ in range(3)]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert_all_is_told_in_lines(process.stderr)
    assert "ValueError: out of order" in process.stderr


@EACH_WAY
def test_what_fails_has_nothing_imported(
    tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Once descriptors have run out, it would be too late."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # each import is a line on stderr
    path = write_config(tmp_path / "meshlet.yaml", hurt(config, tmp_path))
    process = Meshlet(["--config", path, "--workers", str(workers)], tmp_path / "meshlet")
    with running(process), ExitStack() as stack:
        process.started()
        fail_in_all_ways(process, [stack.enter_context(process.client()) for _ in range(3)], tmp_path)
        with process.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            client.response()
        assert process.ready() == 503
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    _, _, after = process.stderr.partition("ready in")
    # A mistake in a config is told of without it, too, only without a hint.
    assert set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)", after, re.MULTILINE)) <= {"difflib"}
    assert "ValueError: out of order" in after
    assert "reload rejected" in after
