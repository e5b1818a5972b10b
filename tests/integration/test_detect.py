"""`protocol: auto` before real apps: nothing goes past rules, and silence costs nobody anything."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.http1 import dial
from tests.support.nginx import nginx
from tests.support.processes import Meshlet, config_of, meshlet, until
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATHS = b" /x HTTP/1.1\r\nHost: a\r\n\r\nGET /file HTTP/1.1\r\nHost: a\r\n\r\n"
# Some 1,200 connections on both sides.
DESCRIPTORS = 4096


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    """nginx as the app; nobody may have `/file`."""
    routes = [{"match": {"prefix": "/file"}, "direct_response": {"status": 403}}, {"cluster": "app"}]
    with (
        nginx(tmp_path_factory.mktemp("nginx")) as app,
        meshlet(tmp_path_factory.mktemp("meshlet"), config_of(app.tcp, listener={"routes": routes})) as process,
    ):
        yield process


@pytest.mark.system("nginx")
@pytest.mark.parametrize(
    "first",
    [b"A" * 4097, b"\x0b", b" " * 100, b"\r\n" * 100, b"GET\r\nHost: a\r\n\r\n", b"\0", b"<1>", b"get /\n", b"\x80"],
    ids=lambda first: repr(first[:8]),
)
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_no_door_past_rules(guarded: Meshlet, first: bytes, pause: float) -> None:
    with dial(guarded.address) as sock:
        sock.sendall(first)
        time.sleep(pause)  # longer than `detect_timeout`: what is sent slowly is told no other way
        try:
            sock.sendall(PATHS)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused by then
        heard = read_all(sock)
    assert heard.startswith(b"HTTP/1.1 400 ")
    assert b"x-meshlet-flag: DPE" in heard
    assert heard.count(b"HTTP/1.1") == 1
    assert b"a file of nginx" not in heard


class OneWorker(Server):
    """Serves one connection after the other, one request each, as gunicorn does by default."""

    def _start(self, target: object, *arguments: object) -> None:
        if arguments:
            self._serve(*arguments)  # type: ignore[arg-type]
        else:
            super()._start(target)  # type: ignore[arg-type]


def one_request(sock: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return
        data += piece
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def test_a_silent_client_leaves_an_app_with_one_worker_to_others(tmp_path: Path) -> None:
    with (
        OneWorker(one_request) as app,
        meshlet(tmp_path, config_of(app.address)) as process,
        dial(process.address) as silent,
    ):
        until(lambda: process.metric("meshlet_endpoint_connections_total") == 1)  # it was asked who speaks first
        began = time.monotonic()
        for _ in range(3):
            with process.client() as client:
                assert client.get().body == b"ok"
        assert time.monotonic() - began < 1.0
        silent.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(silent).endswith(b"ok")
        assert process.metric("meshlet_endpoint_connections_total") == 5


def test_silent_clients_leave_room_for_others(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, DESCRIPTORS), hard), hard))

    def app_of(sock: socket.socket) -> None:
        while sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Server(app_of) as app, meshlet(tmp_path, config_of(app.address)) as process, ExitStack() as stack:
        silent = [stack.enter_context(dial(process.address)) for _ in range(1100)]
        until(lambda: process.metric("meshlet_endpoint_connections_total") == 1)
        with process.client() as client:
            assert client.get().status == 200
        silent[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(silent[0]).endswith(b"ok")
        assert process.metric("meshlet_endpoint_connections_total") <= 3
        assert process.metric("meshlet_listener_detected_total", protocol="http") == 2
