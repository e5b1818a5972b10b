from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from meshlet.example_app import ExampleApp


@pytest.fixture
def app() -> Iterator[ExampleApp]:
    with ExampleApp() as app:
        yield app


@pytest.fixture
def client(app: ExampleApp) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(app.address, timeout=5)
    yield connection
    connection.close()


def get(
    client: http.client.HTTPConnection, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    client.request(method, path, body=body)
    response = client.getresponse()
    return response.status, response.read()


def connect(app: ExampleApp) -> socket.socket:
    host, _, port = app.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def exchange(app: ExampleApp, request: bytes) -> bytes:
    """Send the bytes, read up to the end of the connection."""
    with connect(app) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return stream.read()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, b"Hello from the example app"),
        ("/slow?seconds=0", 200, b"slept 0 s\n"),
        ("/slow?seconds=-1", 200, b"slept 0 s\n"),
        ("/slow?seconds=soon", 400, b"could not convert"),
        ("/status/503", 503, b"Service Unavailable\n"),
        ("/status/205", 205, b""),
        ("/status/100", 400, b""),
        ("/status/teapot", 400, b"invalid literal"),
        ("/status/204", 204, b""),
        ("/stream?lines=3&interval=0", 200, b"line 1\nline 2\nline 3\n"),
        ("/elsewhere", 404, b"no such path: /elsewhere\n"),
    ],
)
def test_paths(client: http.client.HTTPConnection, path: str, status: int, body: bytes) -> None:
    answer = get(client, path)
    assert (answer[0], answer[1][: len(body)]) == (status, body)


def test_headers_as_they_came_and_repeated_ones_as_a_list(app: ExampleApp) -> None:
    answer = exchange(app, b"GET /headers HTTP/1.1\r\nHost: x\r\na: 1\r\nA: 2\r\nConnection: close\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"Host": "x", "a": "1", "A": "2", "Connection": "close"}
    answer = exchange(app, b"GET /headers HTTP/1.1\r\nHost: x\r\na: 1\r\na: 2\r\nConnection: close\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["a"] == ["1", "2"]


def test_a_connection_serves_many_requests_with_and_without_bodies(client: http.client.HTTPConnection) -> None:
    assert get(client, "/status/200", "POST", b"x" * 100_000)[0] == 200
    first = client.sock
    client.request("PUT", "/status/201", body=iter([b"abc", b"defg"]), encode_chunked=True)
    response = client.getresponse()
    assert (response.status, response.read()) == (201, b"Created\n")
    assert get(client, "/", "HEAD") == (200, b"")
    assert get(client, "/stream?lines=2&interval=0", "HEAD") == (200, b"")
    assert get(client, "/")[0] == 200
    assert client.sock is first


def test_a_body_is_asked_for(app: ExampleApp) -> None:
    with connect(app) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"ok")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection(app: ExampleApp) -> None:
    answer = exchange(app, b"GET /stream?lines=2&interval=0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"line 1\nline 2\n"


def test_a_body_that_cannot_be_read_ends_the_connection(app: ExampleApp) -> None:
    answer = exchange(app, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in answer


def test_a_client_that_leaves_does_not_end_the_app(app: ExampleApp, client: http.client.HTTPConnection) -> None:
    with connect(app) as connection:
        connection.sendall(b"GET /stream?lines=1000&interval=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert get(client, "/")[0] == 200


def test_requests_at_work_are_answered_after_stop(app: ExampleApp, client: http.client.HTTPConnection) -> None:
    answers = []
    request = threading.Thread(target=lambda: answers.append(get(client, "/slow?seconds=0.3")))
    request.start()
    while app._requests == 0:
        time.sleep(0.001)
    app.stop()
    request.join()
    assert answers == [(200, b"slept 0.3 s\n")]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_program(host: str, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "meshlet.example_app", "--listen", f"{host}:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line.startswith(f"example app on http://{host}:")
        connection = http.client.HTTPConnection(line.split("//")[1].strip(), timeout=5)
        assert get(connection, "/")[0] == 200
        program.send_signal(number)
        assert program.wait(timeout=5) == 0
        connection.close()
