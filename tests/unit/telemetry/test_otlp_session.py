from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from meshlet.telemetry.otlp_session import bounded_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"


@pytest.fixture
def collector() -> Iterator[Callable[[bytes, bool], str]]:
    """Answers one request with these bytes, and then without an end if asked to; the URL is what it returns."""
    threads: list[threading.Thread] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer(answer: bytes, endless: bool) -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                try:
                    while endless:
                        connection.sendall(b"x" * 65536)
                except OSError:
                    pass  # the client has had enough

        def start(response: bytes, endless: bool) -> str:
            thread = threading.Thread(target=answer, args=(response, endless))
            thread.start()
            threads.append(thread)
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        yield start
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_short_answer_is_read(collector: Callable[[bytes, bool], str]) -> None:
    url = collector(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nwhy", False)
    session = bounded_session({})
    assert session is not None
    with session:
        response = session.post(url, data=b"spans", timeout=10)
    assert (response.status_code, response.text) == (400, "why")


@pytest.mark.parametrize("head", [ENDLESS, ENDLESS.replace(b"\r\n\r\n", b"\r\ncontent-length: 999999999\r\n\r\n")])
def test_an_answer_without_an_end_is_not(collector: Callable[[bytes, bool], str], head: bytes) -> None:
    url = collector(head, True)
    session = bounded_session({})
    assert session is not None
    with session:
        response = session.post(url, data=b"spans", timeout=10)
    assert (response.status_code, response.content) == (200, b"")


def test_whoever_has_credentials_makes_the_session() -> None:
    assert bounded_session({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "gcp"}) is None
    assert bounded_session({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER": "gcp"}) is None
    assert bounded_session({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": ""}) is not None
