"""What goes wrong around meshlet: descriptors, ports, files, an app that is not there, clients that dawdle."""

from __future__ import annotations

import json
import selectors
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.example_app import ExampleApp
from tests.support.http1 import Client, Response, dial
from tests.support.processes import Meshlet, config_of, meshlet, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXHAUSTED = "listener in: cannot accept: too many open files"
AGAIN = "listener in: accepting again"


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


@pytest.fixture
def free() -> str:
    """An address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def run_to_its_end(arguments: list[str | Path], folder: Path) -> tuple[int, list[str]]:
    """Start what must not come up; return its status and what it said."""
    process = Meshlet(arguments, folder)
    status = process.wait(20)
    return status, process.stderr.splitlines()


# --- descriptors ---


def test_descriptors_run_out(app: ExampleApp, tmp_path: Path) -> None:
    """Said once, at no cost, and over as soon as some are free again."""
    with meshlet(tmp_path, config_of(app.address), files=64) as process:
        with ExitStack() as stack:
            # The kernel takes them all; meshlet gets as many as it can.
            for _ in range(150):
                stack.enter_context(dial(process.address))
            until(lambda: EXHAUSTED in process.stderr)
            before, began = process.cpu_seconds(), time.monotonic()
            until(lambda: time.monotonic() - began > 1.5)
            assert process.cpu_seconds() - before < 0.3
            assert process.running
        with process.client() as client:
            assert client.get().status == 200
        until(lambda: AGAIN in process.stderr)
        assert process.stderr.count(EXHAUSTED) == process.stderr.count(AGAIN) == 1
        assert "Traceback" not in process.stderr
        assert process.metric("meshlet_listener_accept_errors_total") >= 1
        until(lambda: process.metric("meshlet_listener_connections") == 0)


def test_requests_while_descriptors_are_short(app: ExampleApp, tmp_path: Path) -> None:
    """Those without a connection to the app get a clear answer, or wait in the backlog; none is lost."""
    with meshlet(tmp_path, config_of(app.address, listener={"protocol": "http"}), files=40) as process:
        with ExitStack() as stack:
            clients = [stack.enter_context(process.client()) for _ in range(60)]
            for client in clients:
                client.send(b"GET /slow?seconds=0.2 HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            responses = [client.response() for client in clients]
        assert {response.status for response in responses} <= {200, 503}
        for response in responses:
            if response.status == 503:
                assert response.field("x-meshlet-flag") == "UF"
                assert "too many open files" in response.text
        with process.client() as client:
            assert client.get().status == 200
        assert "Traceback" not in process.stderr


# --- the start ---


@pytest.mark.parametrize("part", ["listener", "admin", "health"])
def test_port_is_taken(app: ExampleApp, tmp_path: Path, part: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = config_of(app.address, health={"address": "127.0.0.1:0"})
        (config["listeners"][0] if part == "listener" else config[part])["address"] = address
        status, lines = run_to_its_end(["--config", write_config(tmp_path / "c.yaml", config)], tmp_path)
    assert status == 1
    assert len(lines) == 1
    assert f"cannot listen on {address}: address already in use" in lines[0]


def test_unix_socket_is_taken(app: ExampleApp, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        config = config_of(app.address, listener={"address": f"unix:{path}"})
        status, lines = run_to_its_end(["--config", write_config(tmp_path / "c.yaml", config)], tmp_path)
        assert (status, len(lines)) == (1, 1)
        assert f"cannot listen on unix:{path}: address already in use" in lines[0]
    # Nobody listens there any more: what is left behind is in nobody's way.
    with meshlet(tmp_path, config) as process, process.client() as client:
        assert client.get().status == 200


def test_access_log_cannot_be_opened(app: ExampleApp, tmp_path: Path) -> None:
    config = config_of(app.address, telemetry={"access_log": {"path": str(tmp_path / "no/such/folder")}})
    status, lines = run_to_its_end(["--config", write_config(tmp_path / "c.yaml", config)], tmp_path)
    assert (status, len(lines)) == (1, 1)
    assert "no/such/folder" in lines[0]


def test_config_with_mistakes(tmp_path: Path) -> None:
    """All of them, one a line, each with its place."""
    config = tmp_path / "bad.yaml"
    config.write_text(
        "listeners:\n"
        "  - {name: in, address: 127.0.0.1:80000, routes: [{cluster: ap}], limitz: {}}\n"
        "clusters:\n"
        "  - {name: app, endpoints: [127.0.0.1:80], connect_timeout: soon}\n"
        "  - {name: app, endpoints: []}\n"
    )
    status, lines = run_to_its_end(["--config", config], tmp_path)
    assert status == 2
    places = [line.partition(": found")[0].removeprefix(f"{config}:") for line in lines]
    assert places == [
        "2: listeners[0].limitz",
        "2: listeners[0].address",
        "2: listeners[0].routes[0].cluster",
        "4: clusters[0].connect_timeout",
        "5: clusters[1].name",
        "5: clusters[1].endpoints",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1", "--app", "127.0.0.1:80"],
        ["--listen", "127.0.0.1:0", "--app", "127.0.0.1:80", "--admin", "0.0.0.0:0"],
        ["--listen", "example.com:0", "--app", "127.0.0.1:80"],
        ["--listen", "127.0.0.1:0", "--app", "127.0.0.1:0"],
        ["--config", "x.yaml", "--app", "127.0.0.1:80"],
        ["--config", "no/such/file.yaml"],
        ["--workers", "0", "--config", "x.yaml"],
    ],
)
def test_flags_with_mistakes(tmp_path: Path, arguments: list[str]) -> None:
    status, lines = run_to_its_end([*arguments], tmp_path)
    assert status == 2
    assert lines[-1].startswith("Error: ") or str(arguments[1]) in lines[-1]
    assert "Traceback" not in "".join(lines)


# --- an app that is not there ---


def ask(process: Meshlet, *fields: str) -> Response:
    with process.client() as client:
        return client.get("/", *fields)


def test_app_is_not_there(free: str, tmp_path: Path) -> None:
    with meshlet(tmp_path, config_of(free)) as process:
        response = ask(process)
        assert (response.status, response.field("x-meshlet-flag")) == (503, "UF")
        assert response.text == f"UF: connect to {free}: connection refused; cluster app, endpoint {free}, 1 attempt\n"
        body: dict[str, Any] = ask(process, "Accept: application/json").json()
        assert (body["status"], body["flag"]) == (503, "UF")
        grpc = ask(process, "Content-Type: application/grpc")
        assert (grpc.status, grpc.field("grpc-status"), grpc.body) == (200, "14", b"")
        assert process.metric("meshlet_endpoint_connect_failures_total") == 3
        # It comes, and all is well.
        host, _, port = free.rpartition(":")
        with ExampleApp(host, int(port)):
            assert ask(process).status == 200


def test_name_that_nobody_knows(app: ExampleApp, tmp_path: Path) -> None:
    """It holds up neither the start nor the other clusters."""
    config = config_of(app.address)
    config["clusters"].append({"name": "unknown", "endpoints": ["unknown.invalid:80"]})
    config["listeners"][0]["routes"].insert(0, {"match": {"host": "unknown"}, "cluster": "unknown"})
    with meshlet(tmp_path, config) as process, process.client() as client:
        response = client.ask("GET", "/", "Host: unknown")
        assert (response.status, response.field("x-meshlet-flag")) == (503, "UH")
        assert "unknown.invalid" in response.text
        assert client.get().status == 200


def test_ready_when_the_app_is(free: str, tmp_path: Path) -> None:
    config = config_of(free, health={"address": "127.0.0.1:0", "require": ["app"]})
    host, _, port = free.rpartition(":")
    with meshlet(tmp_path, config) as process:
        assert process.ready() == 503
        response = process.get("/ready")
        assert response.status == 503
        assert f"connect to {free}: connection refused" in response.text
        assert process.metric("meshlet_ready") == 0
        assert process.get("/live").status == 200
        with ExampleApp(host, int(port)):
            until(lambda: process.ready() == 200, 5)
            assert process.get("/ready").status == 200
        until(lambda: process.ready() == 503, 5)


def test_ready_needs_nobody_unless_told(free: str, tmp_path: Path) -> None:
    with meshlet(tmp_path, config_of(free, health={"address": "127.0.0.1:0"})) as process:
        assert process.ready() == 200


# --- clients that dawdle ---

DAWDLERS = 500
HEAD = b"GET / HTTP/1.1\r\nHost: app\r\n" + b"X-Long: a\r\n" * 1000


def test_heads_byte_by_byte(app: ExampleApp, tmp_path: Path) -> None:
    """500 clients that never come to the end of their heads get 408 in time, and are in nobody's way until then."""
    limits = {"head_timeout": "1500ms", "max_header_bytes": "1MiB"}
    config = config_of(app.address, listener={"protocol": "http", "limits": limits})
    with meshlet(tmp_path, config) as process, ExitStack() as stack, selectors.DefaultSelector() as selector:
        dawdlers = {stack.enter_context(dial(process.address)): b"" for _ in range(DAWDLERS)}
        for sock in dawdlers:
            selector.register(sock, selectors.EVENT_READ)
        client = stack.enter_context(process.client())
        began, position, slowest, open_ = time.monotonic(), 0, 0.0, set(dawdlers)
        while open_:
            assert time.monotonic() - began < 15
            for sock in open_:
                if not dawdlers[sock]:
                    sock.send(HEAD[position : position + 1])
            position += 1
            asked = time.monotonic()
            assert client.get().status == 200
            slowest = max(slowest, time.monotonic() - asked)
            for key, _ in selector.select(0.01):
                sock = key.fileobj  # type: ignore[assignment]
                data = sock.recv(65536)
                dawdlers[sock] += data
                if not data:
                    selector.unregister(sock)
                    open_.discard(sock)
        assert time.monotonic() - began > 1.4
        assert slowest < 0.5
        for said in dawdlers.values():
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b"x-meshlet-flag: DT" in said
        assert process.metric("meshlet_requests_total", response_code="408") == DAWDLERS
        until(lambda: process.metric("meshlet_listener_connections") == 1)


def test_more_connections_than_allowed(app: ExampleApp, tmp_path: Path) -> None:
    limits = {"max_connections": 3}
    with meshlet(tmp_path, config_of(app.address, listener={"limits": limits, "protocol": "http"})) as process:
        with ExitStack() as stack:
            clients = []
            for _ in range(3):
                clients.append(stack.enter_context(process.client()))
                assert clients[-1].get().status == 200
            assert process.metric("meshlet_listener_connections") == 3
            with Client(process.address) as one_too_many:
                assert one_too_many.rest() == b""
            assert [client.get().status for client in clients] == [200] * 3
        assert process.metric("meshlet_listener_connections_shed_total") == 1
        until(lambda: process.metric("meshlet_listener_connections") == 0)
        assert ask(process).status == 200


def test_log_is_json_where_asked_for(free: str, tmp_path: Path) -> None:
    with meshlet(tmp_path, config_of(free, log={"format": "json"})) as process:
        record = json.loads(process.stderr.splitlines()[0])
        assert (record["level"], record["logger"]) == ("info", "meshlet")
