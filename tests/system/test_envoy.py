"""The real Envoy: as the client's proxy in front of meshlet, and as a second opinion on what to refuse."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.envoy import envoy
from tests.support.http1 import Client
from tests.support.nginx import Nginx, nginx
from tests.support.processes import Meshlet, config_of, meshlet
from tests.support.requests import ACCEPTED, REFUSED
from tests.support.servers import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Where Envoy with its default settings answers otherwise: the status, by the reason.
_LENIENT = {
    "Envoy mends it and passes it on; mending is one half of a smuggling attack, so meshlet refuses": (
        "coding-in-http-1.0 folded folded-with-tab folded-coding bare-lf one-bare-lf bare-lf-before-the-end bare-cr "
        "cr-cr-lf http-2.0 version-space-after line-two-spaces line-tab line-user-in-target absolute-without-host"
    ),
    "Envoy passes it on as it is, and trusts the app to read it as HTTP does": (
        "coding-underscore length-underscore length-dot host-empty host-user host-port-too-high host-port-letters "
        "host-bracket"
    ),
    "Envoy joins both into one field, which no route by host matches": "two-hosts same-host-twice",
    "Envoy drops it or mends it before it frames the body anew": (
        "chunk-data-too-long chunk-data-ends-with-lf chunk-extension-without-name chunk-extension-with-nul "
        "chunk-extension-too-long chunk-trailer-length chunk-trailer-coding chunk-trailer-host chunk-trailer-folded"
    ),
    "Envoy bounds the whole head, not the target": "target-too-long",
}
_OTHER_REFUSAL = {
    "RFC 9112 section 6.1 allows both; the issue asks for 400": (
        501,
        "coding-gzip coding-gzip-chunked coding-chunked-gzip coding-chunked-twice coding-identity coding-unknown "
        "coding-parameter coding-quoted coding-empty coding-in-two-fields",
    ),
    "a method that the resource does not have is 405; Envoy takes it for a route that is not there": (
        404,
        "connect-not-allowed",
    ),
}
_STRICTER = {
    "Envoy refuses a Connection field that names Host or the like; meshlet keeps those fields": (
        400,
        "connection-cannot-name-framing-away",
    ),
    "the path of the target is empty, which prefix / does not match in Envoy": (404, "absolute-without-path asterisk"),
    "Envoy knows the registered methods only, RFC 9110 section 9.1 allows others": (400, "custom-method"),
    "browsers send it, so meshlet passes it on": (400, "target-beyond-ascii"),
    "Envoy asks for a Host in HTTP/1.0 too": (400, "http-1.0-without-host"),
}
ENVOY = {
    **{name: 200 for names in _LENIENT.values() for name in names.split()},
    **{name: status for status, names in (*_OTHER_REFUSAL.values(), *_STRICTER.values()) for name in names.split()},
}
# What meshlet answers.
EXPECTED = {
    **{case.name: (case.raw, case.status) for case in REFUSED},
    **{case.name: (case.raw, 200) for case in ACCEPTED},
}


@pytest.fixture(scope="module")
def origin() -> Iterator[Recorder]:
    with Recorder() as server:
        yield server


@pytest.fixture(scope="module")
def oracle(origin: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with envoy(tmp_path_factory.mktemp("oracle"), origin.address) as address:
        yield address


@pytest.fixture(scope="module")
def proxy(origin: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    with meshlet(tmp_path_factory.mktemp("meshlet"), config_of(origin.address)) as process:
        # Once an app is known to speak HTTP, what looks like a broken request is refused as one.
        assert status(process.address, b"GET /first HTTP/1.1\r\nHost: app\r\n\r\n") == 200
        yield process


def status(address: str, raw: bytes) -> int:
    with Client(address) as client:
        client.send(raw)
        return client.response(raw.strip().split(b" ")[0].decode("latin-1")).status


@pytest.mark.parametrize("name", EXPECTED)
def test_second_opinion(oracle: str, proxy: Meshlet, name: str) -> None:
    """meshlet and Envoy agree, but for the differences above; one that goes away fails here, and is taken out there."""
    raw, expected = EXPECTED[name]
    assert status(proxy.address, raw) == expected
    assert status(oracle, raw) == ENVOY.get(name, expected)


def test_every_difference_is_one() -> None:
    assert {name for name, found in ENVOY.items() if found == EXPECTED[name][1]} == set()


# --- in front of meshlet ---


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        (server.files / "large").write_bytes(os.urandom(1_000_000) * 20)
        yield server


@pytest.fixture(scope="module", params=["auto", "http"])
def behind(
    request: pytest.FixtureRequest, app: Nginx, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Meshlet]]:
    """The address of an Envoy that has meshlet behind it."""
    folder = tmp_path_factory.mktemp(request.param)
    config = config_of(app.tcp, listener={"protocol": request.param})
    with meshlet(folder, config) as process, envoy(folder, process.address) as address:
        yield address, process


@pytest.mark.system("nginx")
def test_get_behind_envoy(behind: tuple[str, Meshlet]) -> None:
    address, process = behind
    accepted = process.metric("meshlet_listener_connections_total")
    with Client(address) as client:
        for _ in range(20):
            response = client.get("/file")
            assert (response.status, response.text) == (200, "a file of nginx\n")
    # Envoy keeps its connection to us.
    assert process.metric("meshlet_listener_connections_total") <= accepted + 1


def test_what_envoy_adds_is_kept(tmp_path: Path) -> None:
    with Recorder() as origin, meshlet(tmp_path, config_of(origin.address)) as process:
        with envoy(tmp_path, process.address) as address, Client(address) as client:
            assert client.get("/", "x-request-id: 1").status == 200
        lines = origin.received[0].decode().lower().split("\r\n")
    assert len([line for line in lines if line.startswith("x-request-id: ")]) == 1
    assert any(line.startswith("x-forwarded-for: ") and line.endswith(", 127.0.0.1") for line in lines)
    assert "x-forwarded-proto: http" in lines


@pytest.mark.system("nginx")
def test_bodies_behind_envoy(behind: tuple[str, Meshlet], app: Nginx) -> None:
    address, _ = behind
    large = (app.files / "large").read_bytes()
    with Client(address) as client:
        assert hashlib.sha256(client.get("/large").body).digest() == hashlib.sha256(large).digest()
        assert client.ask("PUT", "/put/large", "Host: app", f"Content-Length: {len(large)}", body=large).status < 205
        assert (app.files / "put/large").read_bytes() == large
        body = b"5\r\nhello\r\n0\r\n\r\n"
        response = client.ask("POST", "/reflect", "Host: app", "Transfer-Encoding: chunked", body=body)
        assert response.field("x-body") == "hello"
        assert client.ask("HEAD", "/large", "Host: app").field("content-length") == str(len(large))
        assert client.get("/nothing").status == 204
        assert client.get("/file", "Range: bytes=2-5").text == "file"


def test_local_reply_behind_envoy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = f"127.0.0.1:{taken.getsockname()[1]}"
    with (
        meshlet(tmp_path, config_of(app)) as process,
        envoy(tmp_path, process.address) as address,
        Client(address) as client,
    ):
        for _ in range(3):
            response = client.get()
            assert (response.status, response.field("x-meshlet-flag")) == (503, "UF")
