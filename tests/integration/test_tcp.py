"""What is not HTTP goes to the app as it is: through `auto`, which finds that out, and through `tcp`."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Certificates
from tests.support.http1 import dial
from tests.support.processes import Meshlet, config_of, meshlet, until
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MB = 1_000_000
BLOCK = os.urandom(MB)


@pytest.fixture(params=["auto", "tcp"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Server], Meshlet]]:
    """Starts meshlet in front of a server."""
    started = []

    def start(app: Server) -> Meshlet:
        process = meshlet(tmp_path, config_of(app.address, listener={"protocol": request.param}))
        started.append(process)
        return process.__enter__()

    yield start
    for process in started:
        process.__exit__(None, None, None)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def smtp(sock: socket.socket) -> None:
    """Speaks first, as SMTP, MySQL and others do."""
    sock.sendall(b"220 mail.example.com ready\r\n")
    while line := sock.makefile("rb").readline():
        sock.sendall(b"221 bye\r\n" if line == b"QUIT\r\n" else b"250 ok\r\n")


def test_server_speaks_first(relay: Callable[[Server], Meshlet]) -> None:
    with Server(smtp) as app:
        process = relay(app)
        began = time.monotonic()
        with dial(process.address) as sock:
            file = sock.makefile("rb")
            assert file.readline() == b"220 mail.example.com ready\r\n"
            assert time.monotonic() - began < 1
            for command, answer in [(b"HELO me\r\n", b"250 ok\r\n"), (b"QUIT\r\n", b"221 bye\r\n")]:
                sock.sendall(command)
                assert file.readline() == answer


def test_client_speaks_first(relay: Callable[[Server], Meshlet]) -> None:
    with Server(lambda sock: sock.sendall(b"you said: " + sock.recv(100))) as app, dial(relay(app).address) as sock:
        sock.sendall(b"\x00\x01\x02binary")
        assert read_all(sock) == b"you said: \x00\x01\x02binary"


def test_http_through_a_silent_while(tmp_path: Path) -> None:
    """A client that thinks longer than `detect_timeout` and then speaks HTTP is still routed."""

    def http_app(sock: socket.socket) -> None:
        while sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with (
        Server(http_app) as app,
        meshlet(tmp_path, config_of(app.address, listener={"limits": {"detect_timeout": "50ms"}})) as process,
        process.client() as client,
    ):
        # The app has been dialled by now, and waits as the client does.
        until(lambda: process.metric("meshlet_endpoint_connections_total") == 1)
        response = client.get()
        assert response.body == b"ok"
        assert response.field("x-envoy-upstream-service-time") is not None
        assert process.metric("meshlet_listener_detected_total", protocol="http") == 1


def test_tls_passes_through(relay: Callable[[Server], Meshlet]) -> None:
    certificates = Certificates()

    def tls_app(sock: socket.socket) -> None:
        with certificates.server().wrap_socket(sock.dup(), server_side=True) as tls:
            tls.sendall(b"you said: " + tls.recv(100))

    with Server(tls_app) as app:
        process = relay(app)
        with certificates.client().wrap_socket(dial(process.address), server_hostname="localhost") as tls:
            tls.sendall(b"a secret")
            assert read_all(tls) == b"you said: a secret"
        if "auto" in process.get("/listeners").text:
            assert process.metric("meshlet_listener_detected_total", protocol="tls") == 1


def test_http2_passes_through(tmp_path: Path) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with (
        Server(lambda sock: sock.sendall(sock.recv(1000))) as app,
        meshlet(tmp_path, config_of(app.address)) as process,
        dial(process.address) as sock,
    ):
        sock.sendall(preface)
        assert read_all(sock) == preface
        assert process.metric("meshlet_listener_detected_total", protocol="http2") == 1


def test_half_close_by_the_client(relay: Callable[[Server], Meshlet]) -> None:
    """The app answers after the client's last byte; nothing of the answer is lost."""
    with (
        Server(lambda sock: sock.sendall(hashlib.sha256(read_all(sock)).hexdigest().encode() * 10_000)) as app,
        dial(relay(app).address) as sock,
    ):
        sock.sendall(BLOCK)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == hashlib.sha256(BLOCK).hexdigest().encode() * 10_000


def test_half_close_by_the_app(relay: Callable[[Server], Meshlet]) -> None:
    heard: list[bytes] = []

    def says_goodbye_first(sock: socket.socket) -> None:
        sock.sendall(b"goodbye")
        sock.shutdown(socket.SHUT_WR)
        heard.append(read_all(sock))

    with Server(says_goodbye_first) as app, dial(relay(app).address) as sock:
        assert read_all(sock) == b"goodbye"
        sock.sendall(BLOCK)
        sock.shutdown(socket.SHUT_WR)
        assert until(lambda: heard) == [BLOCK]


def test_both_ways_at_once(relay: Callable[[Server], Meshlet]) -> None:
    """50 MB each way, as fast as both sides can, arrive whole and in order."""
    blocks = 50
    received: list[str] = []

    def sink(sock: socket.socket, into: list[str]) -> None:
        digest = hashlib.sha256()
        while piece := sock.recv(1 << 18):
            digest.update(piece)
        into.append(digest.hexdigest())

    def both(sock: socket.socket, into: list[str]) -> None:
        reader = threading.Thread(target=sink, args=(sock, into))
        reader.start()
        for _ in range(blocks):
            sock.sendall(BLOCK)
        sock.shutdown(socket.SHUT_WR)
        reader.join()

    with Server(lambda sock: both(sock, received)) as app, dial(relay(app).address, timeout=30) as sock:
        both(sock, received)
        until(lambda: len(received) == 2)
    assert set(received) == {hashlib.sha256(BLOCK * blocks).hexdigest()}


@pytest.mark.parametrize("breaks", ["client", "app"])
def test_reset_is_passed_on(relay: Callable[[Server], Meshlet], breaks: str) -> None:
    """One side breaks off; the other must not take what it has for the whole."""
    ends: list[str] = []

    def watch(sock: socket.socket) -> None:
        try:
            ends.append("end" if not read_all(sock) else "end after data")
        except ConnectionResetError:
            ends.append("reset")

    def break_off(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def handle(sock: socket.socket) -> None:
        sock.sendall(sock.recv(1))
        if breaks == "app":
            break_off(sock)
        else:
            watch(sock)

    with Server(handle) as app:
        sock = dial(relay(app).address)
        sock.sendall(b"\x00")
        assert sock.recv(1) == b"\x00"  # the two are joined
        if breaks == "app":
            watch(sock)
            sock.close()
        else:
            break_off(sock)
        assert until(lambda: ends) == ["reset"]


def test_app_is_not_there(relay: Callable[[Server], Meshlet]) -> None:
    with Server(lambda sock: None) as app:
        pass
    process = relay(app)
    with dial(process.address) as sock:
        sock.sendall(b"\x00")
        with pytest.raises(ConnectionResetError):
            read_all(sock)
    assert until(lambda: process.metric("meshlet_tcp_connections_closed_total", response_flags="UF")) == 1


def test_bytes_are_counted(relay: Callable[[Server], Meshlet]) -> None:
    with Server(lambda sock: sock.sendall(b"x" * len(read_all(sock)) * 2)) as app:
        process = relay(app)
        with dial(process.address) as sock:
            sock.sendall(b"\x00" * 1000)
            sock.shutdown(socket.SHUT_WR)
            assert len(read_all(sock)) == 2000
        until(lambda: process.metric("meshlet_tcp_connections_closed_total") == 1)
        assert process.metric("meshlet_tcp_received_bytes_total") == 1000
        assert process.metric("meshlet_tcp_sent_bytes_total") == 2000
