from __future__ import annotations

import socket

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.openloop import Client, request_bytes

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("cut", range(1, len(RESPONSE)))
def test_a_response_is_finished_with_its_last_byte(cut: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Client(ours)
        theirs.sendall(RESPONSE[:cut])
        assert not client.finished()
        theirs.sendall(RESPONSE[cut:])
        assert client.finished()
        theirs.sendall(RESPONSE)
        assert client.finished()


@pytest.mark.parametrize("answer", [b"", RESPONSE.replace(b"200", b"503"), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_anything_but_a_counted_200_ends_the_measurement(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(BenchmarkError):
            Client(ours).finished()


def test_request_on_the_wire() -> None:
    assert request_bytes(80, ("A: 1", "B: 2")) == b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nA: 1\r\nB: 2\r\n\r\n"
