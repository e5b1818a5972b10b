"""The configs in config/ as they are, but for addresses and ports, and the access log that they ask for."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from meshlet.example_app import ExampleApp
from tests.support import tools
from tests.support.http1 import Client
from tests.support.processes import Meshlet, config_of, meshlet, until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGS = Path(__file__).parents[2] / "config"


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


def read(name: str, endpoints: dict[str, str]) -> dict[str, Any]:
    """A config, with ports that the kernel chooses and with these endpoints for its clusters."""
    # PyYAML speaks YAML 1.1, to which a key `on` is true.
    text = re.sub(r"\bon:", "'on':", (CONFIGS / name).read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(text)
    metrics = config.get("telemetry", {}).get("metrics")
    for part in (*config["listeners"], config.get("admin"), config.get("health"), metrics):
        if part is not None:
            part["address"] = "127.0.0.1:0"
    for cluster in config["clusters"]:
        cluster.pop("discovery", None)
        cluster["endpoints"] = [endpoints[cluster["name"]]]
    return config


@pytest.mark.system("curl")
def test_minimal(app: ExampleApp, tmp_path: Path) -> None:
    config = read("minimal.yaml", {"app": app.address}) | {"shutdown": {"grace": "0s"}}
    with meshlet(tmp_path, config) as process:
        url = f"http://{process.listeners['inbound']}/"
        assert tools.run("curl", "--silent", "--fail", url).startswith("Hello from the example app")
        assert (process.admin, process.health) == ("", "")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_every_config_is_run_here() -> None:
    assert sorted(path.name for path in CONFIGS.glob("*.yaml")) == [
        "minimal.yaml",
        "resilience.yaml",
        "routing.yaml",
        "sidecar.yaml",
    ]


@pytest.fixture
def sidecar(app: ExampleApp, tmp_path: Path) -> Iterator[Meshlet]:
    endpoints = {"app": app.address, "reviews": app.address.replace("127.0.0.1", "localhost"), "ratings": "127.0.0.1:1"}
    config = read("sidecar.yaml", endpoints)
    config["shutdown"]["grace"] = "0s"
    config["reload"]["interval"] = "20ms"
    with meshlet(tmp_path, config) as process:
        yield process


def test_sidecar(sidecar: Meshlet) -> None:
    until(lambda: sidecar.ready() == 200)
    with Client(sidecar.listeners["inbound"]) as client:
        assert client.get().status == 200
        response = client.ask("POST", "/", "Host: app", f"Content-Length: {100 << 20}")
        assert response.status == 413
    with Client(sidecar.listeners["outbound"]) as client:
        # As an app uses an HTTP proxy: the whole URL as target.
        for target, host, status in [
            ("http://reviews/v2/x", "reviews", 404),  # the app's own
            ("http://reviews/", "reviews", 200),
            ("/headers", "reviews", 200),
            ("/", "a.ratings.example.com", 503),
        ]:
            assert client.ask("GET", target, f"Host: {host}").status == status
        assert client.ask("GET", "/", "Host: unknown").field("x-meshlet-flag") == "NR"
        assert client.ask("PUT", "/", "Host: a.ratings.example.com").field("x-meshlet-flag") == "NR"
    for path in ("/", "/stats", "/stats/prometheus", "/config_dump", "/clusters", "/listeners", "/server_info"):
        assert sidecar.get(path).status == 200


def test_routing(app: ExampleApp, tmp_path: Path) -> None:
    names = ["reviews-v1", "reviews-v2", "reviews-v3", "users", "shop"]
    config = read("routing.yaml", dict.fromkeys(names, app.address)) | {"shutdown": {"grace": "0s"}}
    with meshlet(tmp_path, config) as process, Client(process.listeners["inbound"]) as client:
        response = client.get("/healthz")
        assert (response.status, response.text) == (200, "ok\n")
        response = client.ask("GET", "/cart?id=3", "Host: a.old-shop.example.com")
        assert (response.status, response.field("location")) == (301, "https://shop.example.com/cart?id=3")
        response = client.get("/api/users/7", "x-debug: 1")
        assert (response.status, response.field("x-served-by")) == (404, app.address)  # the app has no users
        origin = "https://eu.partner.example.com"
        preflight = [f"Origin: {origin}", "Access-Control-Request-Method: DELETE"]
        response = client.ask("OPTIONS", "/cart", "Host: shop.example.com", *preflight)
        assert (response.status, response.field("access-control-allow-origin")) == (200, origin)
        assert client.get("/", "cookie: session=a").status == 200
        for fields in (["x-user: alice@example.com"], []):
            client.get("/reviews/7?preview=true", *fields)
        assert process.metric("meshlet_requests_total", cluster="reviews-v2") == 2
        for _ in range(20):
            client.get("/reviews/7")
        assert process.metric("meshlet_requests_total", cluster="reviews-v1") > 0


def test_resilience(app: ExampleApp, tmp_path: Path) -> None:
    names = ["app", "reviews", "orders", "ratings"]
    config = read("resilience.yaml", dict.fromkeys(names, app.address)) | {"shutdown": {"grace": "0s"}}
    with meshlet(tmp_path, config) as process:
        until(lambda: process.ready() == 200)
        with Client(process.listeners["inbound"]) as client:
            assert client.get().status == 200
            asked = [client.get("/reports/1", "x-api-key: a") for _ in range(11)]
            assert [response.status for response in asked] == [404] * 10 + [429]
            assert asked[0].field("x-ratelimit-remaining") == "9"
            assert client.get("/reports/1", "x-api-key: b").status == 404
        with Client(process.listeners["outbound"]) as client:
            for host in ("reviews", "orders", "ratings"):
                assert client.ask("GET", f"http://{host}/", f"Host: {host}").status == 200
        assert process.metric("meshlet_cluster_overflows_total") == 0


def test_access_log_of_the_sidecar(sidecar: Meshlet) -> None:
    """JSON on stdout, one line for each request; meshlet's own log is JSON on stderr."""
    with Client(sidecar.listeners["inbound"]) as client:
        assert client.get("/status/418", "x-request-id: the-id").status == 418
    line = json.loads(until(lambda: sidecar.stdout))
    assert (line["method"], line["path"], line["response_code"], line["response_flags"]) == (
        "GET",
        "/status/418",
        418,
        "-",
    )
    assert (line["listener"], line["upstream_cluster"], line["request_id"]) == ("inbound", "app", "the-id")
    for record in sidecar.stderr.splitlines():
        assert json.loads(record)["level"] in {"info", "warning"}


# --- the access log in all its forms ---

TEXT = re.compile(
    r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET /status/204\?a=\\x22b HTTP/1\.1" 204 - 0 0 \d+ \d+ '
    r'"127\.0\.0\.1" "-" "the-id" "app" "127\.0\.0\.1:\d+"\n'
)


@pytest.fixture(params=["file", "stdout"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "access.log") if request.param == "file" else "/dev/stdout"


def content(process: Meshlet, where: str) -> str:
    return process.stdout if where == "/dev/stdout" else Path(where).read_text(encoding="utf-8")


@pytest.mark.parametrize("format_", ["json", "text"])
def test_access_log(app: ExampleApp, tmp_path: Path, where: str, format_: str) -> None:
    log = {"access_log": {"path": where, "format": format_}}
    with meshlet(tmp_path, config_of(app.address, telemetry=log)) as process:
        with process.client() as client:
            for _ in range(3):
                assert client.get('/status/204?a="b', "x-request-id: the-id").status == 204
        until(lambda: content(process, where).count("\n") == 3)
        lines = content(process, where).splitlines(keepends=True)
    for line in lines:
        if format_ == "text":
            assert TEXT.fullmatch(line), line
        else:
            fields = json.loads(line)
            assert (fields["path"], fields["authority"], fields["attempts"]) == ('/status/204?a="b', "app", 1)
            assert fields["upstream_host"] == app.address


def test_what_was_refused_is_logged_too(app: ExampleApp, tmp_path: Path) -> None:
    log = {"access_log": {"path": "/dev/stdout"}}
    with meshlet(tmp_path, config_of(app.address, telemetry=log)) as process:
        with process.client() as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.response().status == 400
        fields = json.loads(until(lambda: process.stdout))
    assert (fields["response_code"], fields["response_flags"]) == (400, "DPE")


def test_the_last_lines_are_written_at_the_end(app: ExampleApp, tmp_path: Path, where: str) -> None:
    log = {"access_log": {"path": where}}
    with meshlet(tmp_path, config_of(app.address, telemetry=log)) as process:
        with process.client() as client:
            for _ in range(200):
                assert client.get().status == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert content(process, where).count("\n") == 200


def test_rotation(app: ExampleApp, tmp_path: Path) -> None:
    """Moved away and SIGUSR1: the lines go into a new file, and none is lost."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    config = config_of(app.address, telemetry={"access_log": {"path": str(path)}})
    with meshlet(tmp_path, config) as process, process.client() as client:
        assert client.get("/headers").status == 200
        until(lambda: path.read_text().count("\n") == 1)
        path.rename(old)
        assert client.get("/headers").status == 200
        until(lambda: old.read_text().count("\n") == 2)
        process.signal(signal.SIGUSR1)
        until(path.exists)
        assert client.get("/headers").status == 200
        until(lambda: path.read_text().count("\n") == 1)
    assert old.read_text().count("\n") == 2


def test_a_reader_who_does_not_read_holds_nobody_up(app: ExampleApp, tmp_path: Path) -> None:
    """A FIFO without a reader: lines are dropped and counted, requests go on."""

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    log = {"access_log": {"path": str(fifo)}}
    with meshlet(tmp_path, config_of(app.address, telemetry=log)) as process:
        with process.client() as client:
            for _ in range(500):
                assert client.get("/" + "a" * 1000).status == 404
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "nobody reads it" in process.stderr
