"""curl as the client, nginx as the app, meshlet between them."""

from __future__ import annotations

import filecmp
import json
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import tools
from tests.support.http1 import Client
from tests.support.nginx import Nginx, nginx
from tests.support.processes import Meshlet, meshlet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system("curl", "nginx")

MB = 1_000_000
LISTENERS = ["auto", "http", "ipv6", "unix"]
UPSTREAMS = ["tcp", "ipv6", "unix", "name"]


class Answer(NamedTuple):
    """What curl says about its last transfer."""

    status: int
    body: bytes
    log: str
    connects: int


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        for name, size in {"1mb": MB, "100mb": 100 * MB}.items():
            (server.files / name).write_bytes(os.urandom(MB) * (size // MB))
        yield server


@pytest.fixture(scope="module")
def proxy(app: Nginx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    """Any listener leads to any upstream; the Host field says to which."""
    folder = tmp_path_factory.mktemp("meshlet")
    # Without Host no route by name takes a request: one more listener sends everything to one place.
    addresses = {
        "auto": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "ipv6": "[::1]:0",
        "unix": f"unix:{folder}/listener",
        "fallback": "127.0.0.1:0",
    }
    endpoints = {"tcp": app.tcp, "ipv6": app.ipv6, "unix": app.unix, "name": f"localhost:{app.port}"}
    routes = [{"match": {"host": name}, "cluster": name} for name in endpoints]
    config = {
        "listeners": [
            {
                "name": name,
                "address": address,
                "protocol": "auto" if name == "auto" else "http",
                "routes": [{"cluster": "tcp"}] if name == "fallback" else routes,
                "cluster": "tcp",
            }
            for name, address in addresses.items()
        ],
        "clusters": [{"name": name, "endpoints": [endpoint]} for name, endpoint in endpoints.items()],
        "shutdown": {"grace": "0s"},
    }
    with meshlet(folder, config) as process:
        yield process


class Curl:
    """curl, asking one listener for one upstream."""

    def __init__(self, address: str, upstream: str, folder: Path) -> None:
        self._folder = folder
        self._unix = ["--unix-socket", address.removeprefix("unix:")] if address.startswith("unix:") else []
        self._url = "http://local" if self._unix else f"http://{address}"
        self._upstream = upstream

    def __call__(self, path: str, *arguments: str | Path) -> Answer:
        body, log = self._folder / "body", self._folder / "log"
        body.unlink(missing_ok=True)
        facts = tools.run(
            "curl",
            *("--silent", "--show-error", "--verbose", "--globoff", "--max-time", "60", "--stderr", log),
            *("--header", f"Host: {self._upstream}", "--write-out", "%{json}\n", "--output", body),
            *self._unix,
            *arguments,
            f"{self._url}{path}",
        )
        fact = json.loads(facts.splitlines()[-1])
        content = body.read_bytes() if body.exists() else b""
        return Answer(fact["http_code"], content, log.read_text(errors="replace"), fact["num_connects"])


@pytest.fixture(params=LISTENERS)
def curl(request: pytest.FixtureRequest, proxy: Meshlet, tmp_path: Path) -> Curl:
    return Curl(proxy.listeners[request.param], "tcp", tmp_path)


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_get(proxy: Meshlet, tmp_path: Path, listener: str, upstream: str) -> None:
    answer = Curl(proxy.listeners[listener], upstream, tmp_path)("/file")
    assert (answer.status, answer.body) == (200, b"a file of nginx\n")
    assert "< Server: nginx" in answer.log
    assert "< x-envoy-upstream-service-time: " in answer.log


def test_head(curl: Curl) -> None:
    answer = curl("/1mb", "--head")
    assert answer.status == 200
    assert f"< Content-Length: {MB}" in answer.log


def test_no_content(curl: Curl) -> None:
    assert curl("/nothing")[:2] == (204, b"")


def test_not_modified(curl: Curl, app: Nginx) -> None:
    assert curl("/file", "--time-cond", app.files / "file")[:2] == (304, b"")


def test_follow_a_redirect(curl: Curl) -> None:
    # nginx writes the Host that it was asked with into Location, which only curl can make an address of.
    answer = curl("/moved")
    assert answer.status == 302
    assert "< Location: http://tcp/file" in answer.log or "< Location: http://tcp:" in answer.log


def test_post(curl: Curl) -> None:
    answer = curl("/reflect", "--data", "hello=world")
    assert (answer.status, answer.body) == (200, b"taken\n")
    assert "< x-body: hello=world" in answer.log


def test_chunked_upload(curl: Curl) -> None:
    answer = curl("/reflect", "--data", "hello", "--header", "Transfer-Encoding: chunked")
    assert "> Transfer-Encoding: chunked" in answer.log
    assert "< x-body: hello" in answer.log


def test_range(curl: Curl) -> None:
    answer = curl("/file", "--range", "2-5")
    assert (answer.status, answer.body) == (206, b"file")
    assert "< Content-Range: bytes 2-5/16" in answer.log


def test_continue(curl: Curl, app: Nginx) -> None:
    """The word to go on comes from nginx, not from meshlet."""
    answer = curl(
        "/put/continued",
        "--upload-file",
        app.files / "1mb",
        "--header",
        "Expect: 100-continue",
        "--expect100-timeout",
        "50",
    )
    assert answer.status in {201, 204}
    assert "< HTTP/1.1 100 Continue" in answer.log
    assert filecmp.cmp(app.files / "1mb", app.files / "put/continued", shallow=False)


def test_expectation_that_fails(curl: Curl, app: Nginx) -> None:
    """nginx says no at once; curl then has not sent the body."""
    answer = curl(
        "/file", "--upload-file", app.files / "1mb", "--header", "Expect: 100-continue", "--expect100-timeout", "50"
    )
    assert answer.status == 405
    assert "100 Continue" not in answer.log


@pytest.mark.parametrize("name", ["1mb", "100mb"])
def test_download(curl: Curl, app: Nginx, tmp_path: Path, name: str) -> None:
    assert curl(f"/{name}").status == 200
    assert filecmp.cmp(tmp_path / "body", app.files / name, shallow=False)


@pytest.mark.parametrize("coding", ["Transfer-Encoding: chunked", "X-A: by length"], ids=["chunked", "length"])
@pytest.mark.parametrize("name", ["1mb", "100mb"])
def test_upload(curl: Curl, app: Nginx, name: str, coding: str) -> None:
    assert curl("/put/uploaded", "--upload-file", app.files / name, "--header", coding).status in {201, 204}
    assert filecmp.cmp(app.files / "put/uploaded", app.files / name, shallow=False)


def test_keep_alive(curl: Curl) -> None:
    url = f"{curl._url}/file"
    answer = curl("/file", url, url, "--output", "/dev/null", "--output", "/dev/null")
    assert answer.connects == 0
    assert "Re-using existing connection" in answer.log


@pytest.mark.parametrize("keep", [[], ["--header", "Connection: keep-alive"]], ids=["close", "keep-alive"])
def test_http_1_0(curl: Curl, keep: list[str]) -> None:
    answer = curl("/reflect", "--http1.0", "--data", "x", *keep)
    assert (answer.status, answer.body) == (200, b"taken\n")
    assert "chunked" not in answer.log
    assert f"< connection: {'keep-alive' if keep else 'close'}" in answer.log


def test_connection_close(curl: Curl) -> None:
    answer = curl("/file", "--header", "Connection: close")
    assert answer.status == 200
    assert "< connection: close" in answer.log


@pytest.mark.parametrize("listener", LISTENERS)
def test_pipelining(proxy: Meshlet, listener: str) -> None:
    paths = ["/file", "/nothing", "/missing", "/1mb", "/moved"] * 10
    with Client(proxy.listeners[listener]) as client:
        client.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: tcp\r\n\r\n".encode() for path in paths))
        assert [client.response().status for _ in paths] == [200, 204, 404, 200, 302] * 10


@pytest.mark.parametrize("listener", LISTENERS)
def test_half_closed_after_its_request(proxy: Meshlet, listener: str) -> None:
    with Client(proxy.listeners[listener]) as client:
        client.send(b"GET /1mb HTTP/1.1\r\nHost: tcp\r\n\r\n")
        client.sock.shutdown(1)
        assert len(client.response().body) == MB


def test_http_1_0_without_host(proxy: Meshlet) -> None:
    """It is a valid request; what nginx gets must be one too, though HTTP/1.1 asks for a Host."""
    with Client(proxy.listeners["fallback"]) as client:
        client.send(b"GET /file HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
