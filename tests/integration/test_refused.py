"""What is refused never reaches the app; what is served reaches it in one form only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Meshlet, config_of, meshlet
from tests.support.requests import ACCEPTED, REFUSED, Accepted, Refused
from tests.support.servers import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = {400: "DPE", 405: "NR", 414: "DPE", 431: "DPE", 505: "DPE"}
# Answered after everything before it, so what has not arrived at the origin by then never will.
LAST = b"GET /last HTTP/1.1\r\nHost: app\r\nx-request-id: 1\r\n\r\n"
LAST_FORWARDED = (
    b"GET /last HTTP/1.1\r\nHost: app\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n"
    b"x-request-id: 1\r\n\r\n"
)


@pytest.fixture(scope="module")
def origin() -> Iterator[Recorder]:
    with Recorder() as server:
        yield server


@pytest.fixture(scope="module", params=["http", "auto"])
def proxy(
    request: pytest.FixtureRequest, origin: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Meshlet]:
    config = config_of(origin.address, listener={"protocol": request.param})
    with meshlet(tmp_path_factory.mktemp(request.param), config) as process:
        yield process


def send_last(proxy: Meshlet) -> None:
    with proxy.client() as client:
        client.send(LAST)
        assert client.response().body == b"ok"


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(proxy: Meshlet, origin: Recorder, case: Refused) -> None:
    origin.forget()
    with proxy.client() as client:
        client.send(case.raw)
        response = client.response()
        assert (response.status, response.field("x-meshlet-flag")) == (case.status, FLAGS[case.status])
        assert response.field("server") == "meshlet"
        assert response.text.count("\n") == 1
        if case.status != 405:  # a fine request: the route says no
            assert response.closes
            assert client.rest() == b""
    send_last(proxy)
    assert origin.received == [LAST_FORWARDED]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted(proxy: Meshlet, origin: Recorder, case: Accepted) -> None:
    origin.forget()
    with proxy.client() as client:
        client.send(case.raw)
        response = client.response()
        assert (response.status, response.body) == (200, b"ok")
    assert origin.received == [case.forwarded]


def test_pipelined(proxy: Meshlet, origin: Recorder) -> None:
    """Many in one write: the app gets one after the other, with nothing between them."""
    origin.forget()
    cases = [case for case in ACCEPTED if not case.name.startswith("http-1.0")]  # those end the connection
    with proxy.client() as client:
        client.send(b"".join(case.raw for case in cases))
        for _ in cases:
            assert client.response().body == b"ok"
    assert b"".join(origin.received) == b"".join(case.forwarded for case in cases)


def test_refused_behind_a_good_one(proxy: Meshlet, origin: Recorder) -> None:
    """The good one is served, then the connection ends; nothing behind the refused one is looked at."""
    origin.forget()
    with proxy.client() as client:
        client.send(LAST + REFUSED[0].raw + LAST)
        assert client.response().body == b"ok"
        assert client.response().status == 400
        assert client.rest() == b""
    assert origin.received == [LAST_FORWARDED]


@pytest.mark.parametrize("body", [b"hello", b"5\r\nhello\r\n"], ids=["length", "chunked"])
def test_a_body_cut_short_never_looks_whole(proxy: Meshlet, origin: Recorder, body: bytes) -> None:
    """The app has the head already, so all that can be done is to end its connection before the body's end."""
    origin.forget()
    framing = b"Transfer-Encoding: chunked" if b"\r" in body else b"Content-Length: 100"
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: app\r\n" + framing + b"\r\n\r\n" + body)
        client.sock.shutdown(1)
        assert client.response().status == 400
    send_last(proxy)
    first, last = origin.received
    assert last == LAST_FORWARDED
    assert first.endswith(b"hello" if framing.startswith(b"Content") else b"hello\r\n")
