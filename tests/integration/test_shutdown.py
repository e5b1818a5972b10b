"""How meshlet ends: by signals, by the admin port, under load."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.callers import Callers
from tests.support.http1 import Response, dial
from tests.support.processes import Meshlet, config_of, meshlet, until, write_config
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GRACE = 0.5


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


def config(app: ExampleApp, **shutdown: str) -> dict[str, Any]:
    return config_of(
        app.address, health={"address": "127.0.0.1:0"}, shutdown={"grace": f"{GRACE}s", "timeout": "10s"} | shutdown
    )


@pytest.fixture
def proxy(app: ExampleApp, tmp_path: Path) -> Iterator[Meshlet]:
    with meshlet(tmp_path, config(app)) as process:
        assert process.ready() == 200
        yield process


@contextmanager
def in_flight(process: Meshlet, seconds: float) -> Iterator[Callable[[], Response]]:
    """A request that the app takes so long for; it has reached the app when the block begins."""
    process.get(
        "/stats/prometheus"
    )  # the first scrape loads libraries; the request might be over before it is answered
    with process.client(timeout=20) as client:
        client.send(f"GET /slow?seconds={seconds} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
        until(lambda: process.metric("meshlet_endpoint_requests_active") >= 1)
        yield client.response


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def refuses(address: str) -> bool:
    try:
        dial(address).close()
    except ConnectionRefusedError:
        return True
    return False


def read_all(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as file:
        return file.read()


def end_by_signal(process: Meshlet) -> None:
    process.signal(signal.SIGTERM)


def end_by_ctrl_c(process: Meshlet) -> None:
    process.signal(signal.SIGINT)


def end_by_admin(process: Meshlet) -> None:
    assert process.get("/quitquitquit", "POST").status == 200


@pytest.mark.parametrize("end", [end_by_signal, end_by_ctrl_c, end_by_admin])
def test_under_load(proxy: Meshlet, end: Callable[[Meshlet], None]) -> None:
    """Clients that leave when told to have no failed request; readiness goes first; what is in flight is finished."""
    with in_flight(proxy, 1.5) as slow, Callers(proxy.address, 4, keep_alive=True, obedient=True) as callers:
        callers.go_on(100)
        began = time.monotonic()
        end(proxy)
        until(lambda: proxy.ready() == 503, GRACE)
        response = proxy.get("/ready")
        assert (response.status, response.text) == (503, "not ready: draining\n")
        # Whoever has not heard of it is still served, and told.
        with proxy.client() as late:
            response = late.get()
            assert (response.status, response.closes) == (200, True)
        assert time.monotonic() - began < GRACE
        callers.wait(5)
        until(lambda: refuses(proxy.address))
        assert proxy.running
        response = slow()
        assert (response.status, response.closes) == (200, True)
    assert callers.failures == []
    assert proxy.wait(5) == 0
    assert "Traceback" not in proxy.stderr
    assert proxy.stderr.splitlines()[-1].endswith("ended")


def test_idle_connections_do_not_hold_it_up(proxy: Meshlet) -> None:
    with proxy.client() as used, proxy.client() as unused:
        assert used.get().status == 200
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(GRACE + 3) == 0
        assert (used.rest(), unused.rest()) == (b"", b"")


def test_body_in_flight_arrives_whole(proxy: Meshlet) -> None:
    with proxy.client() as client:
        client.send(b"GET /stream?lines=10&interval=0.1 HTTP/1.1\r\nHost: app\r\n\r\n")
        assert client.head().startswith("HTTP/1.1 200 ")
        proxy.signal(signal.SIGTERM)
        rest = client.rest()
    assert rest.count(b"line ") == 10
    assert rest.endswith(b"0\r\n\r\n")
    assert proxy.wait(5) == 0


def test_upload_in_flight_arrives_whole(proxy: Meshlet) -> None:
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nhello")
        until(lambda: proxy.metric("meshlet_requests_active") == 1)
        proxy.signal(signal.SIGTERM)
        until(lambda: refuses(proxy.address))
        client.send(b"world")
        response = client.response()
        assert (response.status, response.closes) == (200, True)
    assert proxy.wait(5) == 0


def test_tcp_in_flight_arrives_whole(tmp_path: Path) -> None:
    with Server(lambda sock: sock.sendall(sock.recv(100) + sock.recv(100))) as app:
        settings = config_of(app.address, listener={"protocol": "tcp"})
        with meshlet(tmp_path, settings) as process:
            with dial(process.address) as sock:
                sock.sendall(b"before ")
                until(lambda: process.metric("meshlet_endpoint_connections") == 1)
                process.signal(signal.SIGTERM)
                until(lambda: refuses(process.address))
                sock.sendall(b"after")
                assert read_all(sock) == b"before after"
            assert process.wait(5) == 0


def test_deadline(app: ExampleApp, tmp_path: Path) -> None:
    """Whatever is still in flight at the deadline is cut off, and the client can tell that it was."""
    with meshlet(tmp_path, config(app, timeout="1s")) as process, in_flight(process, 3) as slow:
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert 0.9 < time.monotonic() - began < 3
        with pytest.raises((EOFError, ConnectionResetError)):
            slow()
    assert "the time to drain is up" in process.stderr
    assert "closed 1 connections that were still open" in process.stderr


def test_second_signal(proxy: Meshlet) -> None:
    with in_flight(proxy, 2):
        proxy.signal(signal.SIGTERM)
        until(lambda: refuses(proxy.address))
        began = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(5) == 1
        assert time.monotonic() - began < 1
        assert "SIGTERM again: ending at once" in proxy.stderr


def test_signal_after_quitquitquit(proxy: Meshlet) -> None:
    with in_flight(proxy, 2):
        assert proxy.get("/quitquitquit", "POST").status == 200
        until(lambda: refuses(proxy.address))
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(5) == 1


def test_quit_needs_post(proxy: Meshlet) -> None:
    for path in ("/quitquitquit", "/drain_listeners"):
        assert proxy.get(path).status == 405
    with proxy.client() as client:
        assert client.get().status == 200


def test_drain_listeners(proxy: Meshlet) -> None:
    """No more connections, and nothing that is not ready says it is; meshlet itself goes on until it is ended."""
    with in_flight(proxy, 1) as slow, Callers(proxy.address, 4, keep_alive=True, obedient=True) as callers:
        callers.go_on(50)
        assert proxy.get("/drain_listeners", "POST").status == 200
        until(lambda: refuses(proxy.address))
        callers.wait(5)
        assert slow().status == 200
    assert callers.failures == []
    assert proxy.get("/live").status == 200
    assert proxy.ready() == 503
    assert proxy.get("/ready").status == 503
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(5) == 0


def test_reload_while_draining(app: ExampleApp, tmp_path: Path) -> None:
    """A listener that is gone does not come back."""
    settings = config(app)
    settings["listeners"][0]["address"] = free_address()
    with meshlet(tmp_path, settings) as process, in_flight(process, 2) as slow:
        process.signal(signal.SIGTERM)
        until(lambda: refuses(process.address))
        write_config(tmp_path / "meshlet.yaml", settings | {"log": {"level": "debug"}})
        process.signal(signal.SIGHUP)
        assert slow().status == 200
        assert refuses(process.address)
        assert process.wait(5) == 0
        assert "Traceback" not in process.stderr
        assert "reloaded" not in process.stderr


@pytest.mark.parametrize("hup", [False, True])
def test_a_config_file_that_is_a_pipe_holds_nothing_up(app: ExampleApp, tmp_path: Path, hup: bool) -> None:
    settings = config(app, timeout="3s") | {"reload": {"watch": not hup, "interval": "20ms"}}
    with meshlet(tmp_path, settings) as process, in_flight(process, 1.5) as slow:
        path = tmp_path / "meshlet.yaml"
        path.unlink()
        os.mkfifo(path)
        if hup:
            process.signal(signal.SIGHUP)
        until(lambda: process.metric("meshlet_config_reloads_total", result="rejected") == 1)
        assert "expected a config file: a regular file" in process.stderr
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert slow().status == 200
        assert process.wait(10) == 0
        assert time.monotonic() - began < 3 + 1
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize("stage", ["read", "host names"])
def test_a_reload_under_way_is_given_up(app: ExampleApp, tmp_path: Path, stage: str) -> None:
    """Whether it hangs in the thread that reads the file, or in what the data plane waits for."""
    settings = config(app, grace="0s", timeout="3s")
    address = free_address()
    more = {"name": "more", "address": address, "routes": [{"cluster": "app"}]}
    if stage == "read":
        more["filters"] = [{"python": "tests.support.blocking_filter:BlocksWhenMade"}]
    else:
        settings["clusters"].append(
            {"name": "slow", "discovery": {"dns": "slow.test:80", "resolvers": ["192.0.2.1:53"]}}
        )
    changed = settings | {"listeners": [*settings["listeners"], more]}
    settings = settings | {"clusters": settings["clusters"][:1]}
    with meshlet(tmp_path, settings) as process:
        write_config(tmp_path / "meshlet.yaml", changed)
        process.signal(signal.SIGHUP)
        if stage == "read":
            until(lambda: "made" in process.stdout)
        else:
            until(lambda: not refuses(address))  # bound, but nobody accepts yet
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 1.5
        assert refuses(address)
        assert "reloaded" not in process.stderr


def test_signal_right_after_the_start(app: ExampleApp, tmp_path: Path) -> None:
    """Before it is ready a signal may simply end it; it never hangs, and never leaves a traceback."""
    path = write_config(tmp_path / "meshlet.yaml", config_of(app.address))
    for number in range(6):
        process = Meshlet(["--config", path], tmp_path / str(number))
        timer = threading.Timer(number * 0.08, process.signal, [signal.SIGTERM])
        timer.start()
        assert process.wait(10) in {0, -signal.SIGTERM}
        timer.join()
        assert "Traceback" not in process.stderr


def test_traffic_is_kept_away_by_hand(proxy: Meshlet) -> None:
    assert proxy.get("/healthcheck/fail", "POST").status == 200
    answer = proxy.get("/ready")
    assert (answer.status, answer.body) == (503, b"not ready: told so by POST /healthcheck/fail\n")
    with proxy.client() as client:
        assert client.get().status == 200  # whoever is there already, is served
    assert proxy.get("/healthcheck/ok", "POST").status == 200
    assert proxy.get("/ready").status == 200
