"""`meshlet run --workers N`: real processes, real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.callers import Callers
from tests.support.fleet import WORKERS, Fleet, alive, fleet_with
from tests.support.http1 import Client
from tests.support.processes import Meshlet, config_of, running, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with ExampleApp() as app:
        yield app.address


@pytest.fixture
def config(app: str) -> dict[str, Any]:
    # Reloads come when a test asks for them; `grace` is what most tests would only wait for.
    return config_of(app, reload={"watch": False}, shutdown={"grace": "0s", "timeout": "10s"})


@pytest.fixture
def fleet(tmp_path: Path, config: dict[str, Any]) -> Iterator[Fleet]:
    with fleet_with(tmp_path, config) as process:
        yield process


def extra_listener(address: str = "127.0.0.1:0") -> dict[str, Any]:
    return {"name": "extra", "address": address, "routes": [{"cluster": "app"}]}


def begin_slow_request(fleet: Fleet, client: Client, seconds: int) -> None:
    """Return once it is in flight."""
    fleet.get("/stats/prometheus")  # the first scrape loads libraries; the request might be over before it is answered
    client.send(f"GET /slow?seconds={seconds} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
    until(lambda: fleet.metric("meshlet_requests_active") == 1)


# --- sharing the work ---


def test_start_up_line_tells_how_many_workers(fleet: Fleet) -> None:
    assert f", {WORKERS} workers, " in fleet.stderr
    assert len(fleet.workers) == WORKERS


def test_connections_are_spread(fleet: Fleet) -> None:
    def open_files() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in sorted(fleet.workers)]

    before = open_files()
    with ExitStack() as stack:
        for _ in range(60):
            assert stack.enter_context(fleet.client()).get().status == 200
        held = [now - then for now, then in zip(open_files(), before, strict=True)]
        assert min(held) >= 10, held  # of 30; all on one side happens by chance once in a million runs
        assert fleet.metric("meshlet_listener_connections") == 60
        assert fleet.get("/listeners?format=json").json()[0]["connections"] == 60


def test_figures_are_the_sum_and_survive_a_worker(fleet: Fleet) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(fleet.client()).get()
    assert fleet.metric("meshlet_requests_total") == 40
    assert fleet.get("/clusters?format=json").json()[0]["endpoints"][0]["requests_total"] == 40
    before = fleet.counters()
    os.kill(min(fleet.workers), signal.SIGKILL)
    until(lambda: fleet.metric("meshlet_worker_restarts_total") == 1)
    after = fleet.counters()
    assert fleet.metric("meshlet_requests_total") == 40
    assert {name: (value, after.get(name)) for name, value in before.items() if after.get(name, -1.0) < value} == {}


def test_counters_never_go_backwards_while_workers_die_under_load(fleet: Fleet) -> None:
    seen: dict[str, float] = {}

    def look() -> None:
        now = fleet.counters()
        assert {name: (value, now.get(name)) for name, value in seen.items() if now.get(name, -1.0) < value} == {}
        seen.update(now)

    with Callers(fleet.address, keep_alive=True) as callers:
        for death in range(1, 4):
            callers.go_on(50)
            look()
            os.kill(min(fleet.workers), signal.SIGKILL)
            while fleet.metric("meshlet_worker_restarts_total") < death:
                look()
        look()


# --- a worker dies ---


def test_killed_worker_loses_only_what_was_in_flight_on_it(fleet: Fleet) -> None:
    with Callers(fleet.address, count=6, keep_alive=False) as callers:
        callers.go_on()
        victim = min(fleet.workers)
        os.kill(victim, signal.SIGKILL)
        until(lambda: not alive(victim))
        gone = time.monotonic()
        until(lambda: fleet.complete)
        callers.go_on()
    assert victim not in fleet.workers
    assert f"(pid {victim}) was ended by SIGKILL" in fleet.stderr
    assert len(callers.failures) <= 6
    assert [failure for failure in callers.failures if failure.begun > gone] == []
    assert [failure for failure in callers.failures if isinstance(failure.what, ConnectionRefusedError)] == []


def test_backlog_of_a_killed_worker_is_served_by_the_next(fleet: Fleet) -> None:
    victim = min(fleet.workers)
    os.kill(victim, signal.SIGSTOP)
    with ExitStack() as stack:
        clients = [stack.enter_context(fleet.client()) for _ in range(40)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        os.kill(victim, signal.SIGKILL)
        assert [client.response().status for client in clients] == [200] * 40


def test_all_workers_die_and_nobody_is_turned_away(fleet: Fleet) -> None:
    for pid in fleet.workers:
        os.kill(pid, signal.SIGKILL)
    with fleet.client() as client:
        assert client.get().status == 200


def test_unix_socket_is_shared(tmp_path: Path, config: dict[str, Any]) -> None:
    config["listeners"].append(extra_listener(f"unix:{tmp_path}/in"))
    with fleet_with(tmp_path, config) as fleet:
        for _ in range(2):
            with ExitStack() as stack:
                for _ in range(10):
                    client = stack.enter_context(Client(f"unix:{tmp_path}/in"))
                    assert client.get().status == 200
            os.kill(min(fleet.workers), signal.SIGKILL)


# --- reloads ---


def test_reload_under_load_fails_no_request(fleet: Fleet, config: dict[str, Any]) -> None:
    more = config | {"listeners": [*config["listeners"], extra_listener()]}
    with Callers(fleet.address, 2, keep_alive=True) as kept, Callers(fleet.address, 2, keep_alive=False) as fresh:
        for _ in range(3):
            fleet.reload(more)
            with Client(fleet.listening()["extra"]) as client:
                assert client.get().status == 200
            kept.go_on(20)
            fresh.go_on(20)
            fleet.reload(config)
            assert set(fleet.listening()) == {"in"}
    assert kept.failures == fresh.failures == []
    assert fleet.listening()["in"] == fleet.address


def test_rejected_reload_changes_nothing(fleet: Fleet, config: dict[str, Any], tmp_path: Path) -> None:
    address = fleet.listening()["in"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fleet.reload(
            config | {"listeners": [extra_listener(), extra_listener(f"127.0.0.1:{port}") | {"name": "b"}]}, "rejected"
        )
    assert f"cannot listen on 127.0.0.1:{port}" in fleet.stderr
    nowhere = {"access_log": {"path": str(tmp_path / "missing" / "log")}}
    fleet.reload(config | {"listeners": [*config["listeners"], extra_listener()], "telemetry": nowhere}, "rejected")
    assert fleet.listening() == {"in": address}
    assert fleet.complete
    assert fleet.metric("meshlet_worker_restarts_total") == 0
    with fleet.client() as client:
        assert client.get().status == 200


def test_restarted_worker_runs_the_current_config(fleet: Fleet, config: dict[str, Any]) -> None:
    fleet.reload(config | {"listeners": [*config["listeners"], extra_listener()], "log": {"level": "debug"}})
    listening = fleet.listening()
    for pid in fleet.workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: fleet.metric("meshlet_worker_restarts_total") == WORKERS)
    assert fleet.listening() == listening
    with Client(listening["extra"]) as client:
        assert client.get().status == 200


def test_access_log_is_shared_and_opened_anew(tmp_path: Path, config: dict[str, Any]) -> None:
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"

    def ask(fleet: Fleet) -> None:
        for _ in range(30):
            with fleet.client() as client:
                client.get()
        until(lambda: log.read_bytes().count(b"\n") == 30)
        assert {json.loads(line)["response_code"] for line in log.read_bytes().splitlines()} == {200}

    with fleet_with(tmp_path, config | {"telemetry": {"access_log": {"path": str(log)}}}) as fleet:
        ask(fleet)
        log.rename(rotated)
        fleet.signal(signal.SIGUSR1)
        until(log.exists)
        fleet.get("/listeners")  # asked after the signal, so answered by workers that have followed it
        ask(fleet)
        assert rotated.read_bytes().count(b"\n") == 30


# --- the end ---


@pytest.mark.parametrize("keep_alive", [True, False])
def test_sigterm_drains_without_a_failed_request(tmp_path: Path, config: dict[str, Any], keep_alive: bool) -> None:
    config["shutdown"] = {"grace": "1s", "timeout": "10s"}
    with fleet_with(tmp_path, config) as fleet, fleet.client() as slow:
        with Callers(fleet.address, keep_alive=keep_alive, obedient=keep_alive) as callers:
            callers.go_on()
            slow.send(b"GET /slow?seconds=2 HTTP/1.1\r\nHost: app\r\n\r\n")
            fleet.signal(signal.SIGTERM)
            callers.wait() if keep_alive else callers.go_on(20)
        assert slow.response().status == 200
        assert fleet.wait() == 0
        assert callers.failures == []


def test_worker_that_dies_while_draining_is_replaced_by_one_that_drains(tmp_path: Path, config: dict[str, Any]) -> None:
    config["shutdown"] = {"grace": "4s", "timeout": "10s"}
    with fleet_with(tmp_path, config) as fleet:
        fleet.signal(signal.SIGTERM)
        until(lambda: "SIGTERM: draining" in fleet.stderr)
        for pid in fleet.workers:
            os.kill(pid, signal.SIGKILL)
        with fleet.client() as client:
            assert client.get().closes
        assert fleet.wait() == 0


def test_second_sigterm_ends_at_once(fleet: Fleet) -> None:
    workers = fleet.workers
    with fleet.client() as client:
        begin_slow_request(fleet, client, 6)
        fleet.signal(signal.SIGTERM)
        until(lambda: "SIGTERM: draining" in fleet.stderr)
        fleet.signal(signal.SIGTERM)
        assert fleet.wait(4) == 1
        until(lambda: not any(map(alive, workers)), 3)


def test_signals_to_the_whole_process_group_are_left_to_the_supervisor(fleet: Fleet) -> None:
    with fleet.client() as client:
        begin_slow_request(fleet, client, 2)
        for pid in (*fleet.workers, fleet.pid):
            os.kill(pid, signal.SIGINT)
        assert client.response().status == 200
    assert fleet.wait() == 0
    assert "was ended by" not in fleet.stderr


def test_workers_end_with_a_supervisor_that_was_killed(fleet: Fleet) -> None:
    workers = fleet.workers
    fleet.signal(signal.SIGKILL)
    fleet.wait()
    until(lambda: not any(map(alive, workers)), 5)


def test_taken_port_is_noticed_though_its_owner_would_share_it(tmp_path: Path, config: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        config["listeners"][0]["address"] = f"127.0.0.1:{taken.getsockname()[1]}"
        path = write_config(tmp_path / "meshlet.yaml", config)
        process = Meshlet(["--config", path, "--workers", "2"], tmp_path / "meshlet")
        with running(process):
            assert process.wait(20) == 1
        assert "cannot listen on" in process.stderr
