"""Workers that stand still: who waits for them, what becomes of their connections, and what the end does without them.

SIGSTOP makes one, as a filter does that holds its event loop up.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.fleet import Fleet, alive, fleet_with
from tests.support.http1 import Client, Response, dial
from tests.support.processes import Process, config_of, running, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3
TIMEOUT = 3.0  # seconds to drain
LATE = 1.0  # seconds that the end may take beyond that
SLACK = 1.5  # seconds that a busy machine may take in addition

Config = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with ExampleApp() as app:
        yield app.address


@pytest.fixture
def config(app: str) -> Config:
    return config_of(
        app,
        listener={"protocol": "http"},
        health={"address": "127.0.0.1:0"},
        reload={"watch": False},
        shutdown={"grace": "0s", "timeout": f"{TIMEOUT:g}s"},
        workers={"hang_timeout": "3s"},
    )


@pytest.fixture
def patient(config: Config) -> Config:
    """None is replaced as long as a test runs."""
    return config | {"workers": {"hang_timeout": "1h"}}


def extended(config: Config) -> Config:
    extra = {"name": "extra", "address": "127.0.0.1:0", "routes": [{"cluster": "app"}]}
    return config | {"listeners": [*config["listeners"], extra]}


def version(fleet: Fleet) -> str:
    return str(fleet.get("/config_dump").json()["version"])


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGCONT)


def refuses(address: str) -> bool:
    try:
        dial(address).close()
    except ConnectionRefusedError:
        return True
    return False


def health(fleet: Fleet) -> Response:
    with Client(fleet.health) as client:
        return client.ask("GET", "/healthz/ready", "Host: h")


def silent(fleet: Fleet) -> float:
    return fleet.metric("meshlet_workers_silent")


@contextmanager
def slow_requests(fleet: Fleet, count: int, seconds: float) -> Iterator[list[Client]]:
    """So many requests that the app takes so long for; all have reached it."""
    fleet.get("/stats/prometheus")  # the first one loads libraries
    with ExitStack() as stack:
        clients = [stack.enter_context(fleet.client(30)) for _ in range(count)]
        for client in clients:
            client.send(f"GET /slow?seconds={seconds:g} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
        until(lambda: fleet.metric("meshlet_endpoint_requests_active") == count)
        yield clients


def answered(clients: list[Client]) -> int:
    """How many get what they have asked for, and not the end of their connection."""
    count = 0
    for client in clients:
        with suppress(EOFError, ConnectionResetError):
            count += client.response().status == 200
    return count


# --- while it hangs ---


@pytest.mark.parametrize("how", ["stopped", "blocked"])
def test_it_is_replaced_and_its_connections_go_on_to_its_successor(tmp_path: Path, config: Config, how: str) -> None:
    config["listeners"][0]["filters"] = [{"python": "tests.support.blocking_filter:Blocks"}]
    config["workers"]["hang_timeout"] = "5s"
    with fleet_with(tmp_path, config, SIZE) as fleet, ExitStack() as stack:
        if how == "stopped":
            os.kill(min(fleet.workers), signal.SIGSTOP)
        else:
            blocker = stack.enter_context(fleet.client())
            blocker.send(b"GET /block HTTP/1.1\r\nHost: app\r\n\r\n")
        until(lambda: health(fleet).text.endswith(" does not answer\n"))
        assert health(fleet).status == 503
        clients = [stack.enter_context(fleet.client(30)) for _ in range(90)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        assert answered(clients) == 90
        until(lambda: fleet.ready() == 200, 30)
        assert fleet.metric("meshlet_worker_restarts_total") == 1
        assert fleet.complete
        assert silent(fleet) == 0
        assert "has not answered for 5 s: it is killed" in fleet.stderr


def test_nobody_waits_for_it_twice(tmp_path: Path, patient: Config) -> None:
    paths = ["/explain", "/explain?id=x", "/stats", "/clusters", "/listeners", "/config_dump", "/traffic", "/ready"]
    with fleet_with(tmp_path, patient, SIZE) as fleet:
        for path in paths:
            fleet.get(path)
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(fleet.client()).get()
        assert fleet.metric("meshlet_requests_total") == 20
        victim = min(fleet.workers)
        with stopped(victim):
            took = []
            for path in [*paths, *paths]:
                begun = time.monotonic()
                assert fleet.get(path).status == (503 if path == "/ready" else 404 if "id=x" in path else 200)
                took.append(time.monotonic() - begun)
            assert max(took[1:]) < 1, took
            begun = time.monotonic()
            assert fleet.get("/logging?level=debug", "POST").status == 200
            assert time.monotonic() - begun < 1
            assert fleet.metric("meshlet_requests_total") == 20  # its last figures count
            assert "does not answer" in fleet.stderr
        until(lambda: fleet.ready() == 200)
        assert "answers again" in fleet.stderr
        assert fleet.metric("meshlet_worker_restarts_total") == 0


def shows(tap: Process, count: int) -> bool:
    return tap.stdout.count("\n") >= count


def test_a_tap_goes_on_without_it(tmp_path: Path, patient: Config) -> None:
    with fleet_with(tmp_path, patient, SIZE) as fleet, stopped(min(fleet.workers)), ExitStack() as stack:
        until(lambda: silent(fleet) == 1)
        # Connections of the others: those that get an answer.
        clients: list[Client] = []
        while len(clients) < 5:
            client = stack.enter_context(fleet.client(0.3))
            try:
                assert client.get().status == 200
            except TimeoutError:
                continue
            clients.append(client)
        tap = Process(
            [sys.executable, "-m", "meshlet", "tap", "--admin", fleet.admin, "--output", "json", "--path", "/"],
            tmp_path / "tap",
        )
        with running(tap):
            until(lambda: "waiting for requests" in tap.stderr, 20)
            # More than a tap keeps, if nobody fetched them for two seconds.
            for number in range(400):
                assert clients[number % 5].get(f"/?n={number}").status == 200
                if number % 50 == 0:
                    until(partial(shows, tap, number + 1))
            until(partial(shows, tap, 400))
            entries = [json.loads(line) for line in tap.stdout.splitlines()]
        assert {entry["target"] for entry in entries} == {f"/?n={number}" for number in range(400)}
        assert fleet.metric("meshlet_tap_entries_dropped_total") == 0


# --- reloads ---


def test_a_config_is_taken_while_one_hangs_and_its_successor_has_the_newest(tmp_path: Path, config: Config) -> None:
    with fleet_with(tmp_path, config, SIZE) as fleet:
        os.kill(min(fleet.workers), signal.SIGSTOP)
        fleet.reload(config | {"zone": "first"})
        fleet.reload(extended(config))
        newest = version(fleet)
        until(lambda: fleet.metric("meshlet_worker_restarts_total") == 1, 30)
        assert version(fleet) == newest
        assert set(fleet.listening()) == {"in", "extra"}
        extra = fleet.listening()["extra"]
        with ExitStack() as stack:
            # So many reach each of the workers.
            assert {stack.enter_context(Client(extra)).get().status for _ in range(40)} == {200}
        assert fleet.metric("meshlet_config_reloads_total", result="rejected") == 0


def test_one_that_answers_again_takes_the_newest_config(tmp_path: Path, patient: Config) -> None:
    with fleet_with(tmp_path, patient, SIZE) as fleet:
        workers = fleet.workers
        with stopped(min(workers)):
            fleet.reload(patient | {"zone": "first"})
            fleet.reload(extended(patient))
        extra = fleet.listening()["extra"]
        with ExitStack() as stack:
            assert {stack.enter_context(Client(extra)).get().status for _ in range(40)} == {200}
        until(lambda: silent(fleet) == 0)
        assert fleet.workers == workers
        until(lambda: fleet.ready() == 200)


def test_a_config_that_nobody_could_take_is_tried_again(tmp_path: Path, patient: Config) -> None:
    with fleet_with(tmp_path, patient, SIZE) as fleet:
        with stopped(*fleet.workers):
            until(lambda: fleet.get("/ready").text == "not ready: no worker answers\n")
            fleet.reload(patient | {"zone": "first"}, "failed")
            assert fleet.get("/config_dump").json()["last_reload"]["result"] == "failed"
            write_config(fleet.config_file, extended(patient))  # which nobody is told of
        until(lambda: fleet.metric("meshlet_config_reloads_total", result="accepted") == 1, 30)
        assert set(fleet.listening()) == {"in", "extra"}
        assert fleet.metric("meshlet_config_reloads_total", result="rejected") == 0
        assert "reload rejected" not in fleet.stderr
        assert fleet.get("/config_dump").json()["config"]["zone"] is None


# --- the end ---


@pytest.mark.parametrize("known", [False, True])
def test_sigterm_drains_the_others(tmp_path: Path, patient: Config, known: bool) -> None:
    with fleet_with(tmp_path, patient, SIZE) as fleet, slow_requests(fleet, 12, 1.5) as clients:
        victim = min(fleet.workers)
        os.kill(victim, signal.SIGSTOP)
        if known:
            until(lambda: silent(fleet) == 1)
        others = fleet.workers - {victim}
        begun = time.monotonic()
        fleet.signal(signal.SIGTERM)
        # Its own requests end with it. By chance it may have many, but hardly all.
        assert answered(clients) >= 1
        assert fleet.wait(20) == 1
        assert time.monotonic() - begun < TIMEOUT + LATE + SLACK
        assert "workers that hung were killed, with whatever they had: 1" in fleet.stderr
        assert not any(map(alive, [victim, *others]))


def test_sigterm_with_all_of_them_hanging(tmp_path: Path, patient: Config) -> None:
    with fleet_with(tmp_path, patient, SIZE) as fleet:
        for pid in fleet.workers:
            os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        fleet.signal(signal.SIGTERM)
        assert fleet.wait(20) == 1
        assert time.monotonic() - begun < TIMEOUT + LATE + SLACK


@pytest.mark.parametrize("in_the_way", ["hung workers", "a pipe"])
def test_sigterm_does_not_wait_for_a_reload(tmp_path: Path, patient: Config, in_the_way: str) -> None:
    patient["shutdown"]["grace"] = "500ms"
    with fleet_with(tmp_path, patient, SIZE) as fleet:
        write_config(fleet.config_file, extended(patient))
        if in_the_way == "a pipe":
            fleet.config_file.unlink()
            os.mkfifo(fleet.config_file)
        else:
            for pid in fleet.workers:
                os.kill(pid, signal.SIGSTOP)
        fleet.signal(signal.SIGHUP)
        fleet.signal(signal.SIGTERM)
        begun = time.monotonic()
        until(lambda: "SIGTERM: draining" in fleet.stderr)
        assert fleet.wait(20) == (0 if in_the_way == "a pipe" else 1)
        assert time.monotonic() - begun < TIMEOUT + LATE + SLACK
        assert "reloaded" not in fleet.stderr


def test_one_that_hangs_while_it_drains_is_killed_in_time(tmp_path: Path, config: Config) -> None:
    """Before the time to drain is up, where that is long."""
    config["shutdown"]["timeout"] = "60s"
    with fleet_with(tmp_path, config, SIZE) as fleet:
        os.kill(min(fleet.workers), signal.SIGSTOP)
        fleet.signal(signal.SIGTERM)
        assert fleet.wait(30) == 1
        assert "has not answered for 3 s: it is killed" in fleet.stderr


# --- the supervisor dies ---


def test_workers_finish_what_is_under_way_without_a_supervisor(tmp_path: Path, config: Config) -> None:
    with fleet_with(tmp_path, config, SIZE) as fleet, slow_requests(fleet, 12, 1.5) as clients:
        workers = fleet.workers
        with fleet.client() as idle:
            assert idle.get().status == 200
            fleet.signal(signal.SIGKILL)
            fleet.wait()
            until(lambda: refuses(fleet.address), 2)
            assert idle.rest() == b""
        assert answered(clients) == 12
        until(lambda: not any(map(alive, workers)), 3)
        # And the address is free for the next one.
        socket.create_server(("127.0.0.1", int(fleet.address.rpartition(":")[2]))).close()


@pytest.mark.parametrize("hanging", [False, True])
def test_no_worker_outlives_the_time_to_drain(tmp_path: Path, patient: Config, hanging: bool) -> None:
    """Also not one that was stopped, which cannot even read that its channel is closed."""
    with fleet_with(tmp_path, patient, SIZE) as fleet, slow_requests(fleet, 6, 8) as clients:
        workers = fleet.workers
        if hanging:
            os.kill(min(workers), signal.SIGSTOP)
        fleet.signal(signal.SIGKILL)
        fleet.wait()
        begun = time.monotonic()
        assert answered(clients) == 0
        assert time.monotonic() - begun > TIMEOUT - 0.5
        until(lambda: not any(map(alive, workers)), TIMEOUT + LATE + SLACK)
        assert time.monotonic() - begun < TIMEOUT + LATE + SLACK


def test_not_even_one_whose_loop_is_blocked(tmp_path: Path, patient: Config) -> None:
    """It never learns from its loop that it is alone."""
    patient["listeners"][0]["filters"] = [{"python": "tests.support.blocking_filter:Blocks"}]
    with fleet_with(tmp_path, patient, SIZE) as fleet, fleet.client() as client:
        workers = fleet.workers
        client.send(b"GET /block HTTP/1.1\r\nHost: app\r\n\r\n")
        until(lambda: silent(fleet) == 1)
        fleet.signal(signal.SIGKILL)
        fleet.wait()
        until(lambda: not any(map(alive, workers)), TIMEOUT + 2 * LATE + SLACK)


def test_a_worker_without_a_supervisor_can_be_ended_by_hand(tmp_path: Path, config: Config) -> None:
    config["shutdown"]["timeout"] = "60s"
    with fleet_with(tmp_path, config, SIZE) as fleet, slow_requests(fleet, 6, 8):
        workers = fleet.workers
        fleet.signal(signal.SIGKILL)
        fleet.wait()
        until(lambda: fleet.stderr.count("the supervisor is gone: draining, for 60 s at most") == SIZE)
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not any(map(alive, workers)), 3)
