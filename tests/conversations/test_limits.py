"""Every limit, and the status or flag that a client meets at it."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    ANSWERED,
    DATE,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 6")
POST_CHUNKED = head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")


def _sent(data: bytes, pieces: int, **config: object) -> tuple[World, bytes]:
    with World(**config) as world:  # type: ignore[arg-type]
        client = world.client()
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            client.sends(data[start : start + size])
        answer = client.takes()
        for app in world.apps:
            app.takes()
        return world, answer


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("GET / HTTP/1.1", "Host: a", "X: " + "x" * 70000), 431),
        (head("GET / HTTP/1.1", "Host: a", *["X: " + "x" * 700] * 99), 431),
        (head("GET / HTTP/1.1", "Host: a", *["X: y"] * 100), 431),
        (head("GET /" + "x" * 16384 + " HTTP/1.1", "Host: a"), 414),
        (b"GET /" + b"x" * 70000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, 431),
        (head("X" * 65 + " / HTTP/1.1", "Host: a"), 400),
    ],
    ids=["long field", "many bytes", "many fields", "target", "endless target", "endless field", "method"],
)
def test_heads_that_are_too_large(data: bytes, status: int, pieces: int) -> None:
    world, answer = _sent(data, pieces)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"x-meshlet-flag: DPE\r\n" in answer
    assert world.dialled == []


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "data",
    [
        head("GET / HTTP/1.1", "Host: a", *["X: y"] * 99),
        head("GET /" + "x" * 16383 + " HTTP/1.1", "Host: a"),
        head("GET / HTTP/1.1", "Host: a", "X: " + "x" * 65000),
        head("X" * 64 + " / HTTP/1.1", "Host: a"),
    ],
    ids=["fields", "target", "bytes", "method"],
)
def test_heads_that_just_fit(data: bytes, pieces: int) -> None:
    world, answer = _sent(data, pieces)
    assert answer == b""
    assert len(world.dialled) == 1


@pytest.mark.parametrize(
    ("limits", "data", "status"),
    [
        ({"max_header_bytes": "1KiB"}, head("GET / HTTP/1.1", "Host: a", "X: " + "x" * 1100), 431),
        ({"max_headers": 2}, head("GET / HTTP/1.1", "Host: a", "X: 1", "Y: 1"), 431),
        ({"max_target_bytes": "10B"}, head("GET /1234567890 HTTP/1.1", "Host: a"), 414),
        ({"max_body": "5B"}, POST, 413),
    ],
)
def test_limits_can_be_said(limits: dict[str, object], data: bytes, status: int) -> None:
    for pieces in range(1, len(data), 7):
        world, answer = _sent(data, pieces, limits=limits)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert world.counts == {(status, "DPE"): 1}
        assert world.dialled == []


# --- time ---


@conversation(cut=False)
def test_a_head_that_does_not_end_in_time(world: World) -> None:
    client = world.client()
    client.sends(GET[:5])
    for _ in range(9):
        world.passes(1)
        client.sends(b"x")  # which does not prolong it
    client.got()
    world.passes(1.1)
    client.got_reply(408, "DT")
    assert client.state == "half-closed"
    assert world.counts == {(408, "DT"): 1}
    world.passes(2.1)
    assert client.closed


@conversation(cut=False)
def test_a_second_head_that_does_not_end_in_time(world: World) -> None:
    client = world.client()
    client.sends(GET, GET[:5])
    app = world.app()
    app.got(GOT_GET)
    world.passes(14)  # it is not the client's fault that the app takes long
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", "x-envoy-upstream-service-time: 14000", DATE), b"ok")
    world.passes(9.9)
    client.got()
    world.passes(0.2)
    client.got_reply(408, "DT")


@conversation(cut=False, limits={"head_timeout": "1s"})
def test_the_time_for_a_head_begins_with_its_first_byte(world: World) -> None:
    client = world.client()
    world.passes(100)
    client.sends(GET[:5])
    world.passes(0.9)
    client.sends(GET[5:])
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    world.passes(100)
    assert client.state == "open"


@conversation(cut=False)
def test_an_app_that_takes_too_long(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(14.9)
    client.got()
    world.passes(0.2)
    client.got_reply(504, "UT", "within 15 s", "cluster app, endpoint 10.0.1.1:8080, 1 attempt", close=False)
    assert app.state == "closed"
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.counts == {(504, "UT"): 1, (200, ""): 1}


@conversation(cut=False, route={"timeout": "100ms"})
def test_the_timeout_runs_from_the_requests_last_byte(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    world.passes(10)
    client.sends(b"de")
    world.passes(10)
    client.sends(b"f")
    world.passes(0.05)
    client.got()
    world.passes(0.1)
    client.got_reply(504, "UT", close=False)
    world.app().takes()


@conversation(cut=False, route={"timeout": "100ms"})
def test_the_timeout_ends_with_the_responses_head(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 6"), b"abc")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 6", *ANSWERED), b"abc")
    world.passes(10)
    app.sends(b"def")
    client.got(b"def")


@conversation(cut=False, drop=False, route={"timeout": "0s"})
def test_the_timeout_can_be_switched_off(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(3000)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", DATE), b"ok")
    client.takes()
    assert client.state == "open"


@conversation(cut=False, limits={"stream_idle_timeout": "10s"})
def test_a_request_body_that_stops(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abc")
    world.passes(9)
    client.sends(b"d")
    world.passes(9)
    client.got()
    world.passes(12)
    client.got_reply(408, "SI")
    app = world.app()
    app.takes()
    assert app.state == "closed"


@conversation(cut=False, limits={"stream_idle_timeout": "10s"})
def test_a_response_body_that_stops(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 6"), b"abc")
    world.passes(9)
    app.sends(b"d")
    world.passes(9)
    client.takes()
    assert client.state == "open"
    world.passes(12)
    assert client.state == "reset"
    assert app.state == "closed"
    assert world.flags == ["SI"]


@conversation(cut=False, limits={"stream_idle_timeout": "10s"})
def test_a_client_that_stops_reading(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    client.stalls()
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 1000000"), bytes(500000))
    world.passes(25)
    assert client.closed
    assert app.closed
    assert world.flags == ["SI"]


# --- body size ---


@conversation(limits={"max_body": "5B"})
def test_a_chunked_body_that_is_too_large(world: World) -> None:
    client = world.client()
    client.sends(POST_CHUNKED, chunk(b"abc"))
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"), chunk(b"abc"))
    client.sends(chunked(b"def"))
    client.got_reply(413, "DPE", "5 bytes")
    app.takes()
    assert not app.received.endswith(b"0\r\n\r\n")
    assert app.state == "closed"


@conversation(limits={"max_body": "5B"})
def test_a_body_that_is_too_large_for_one_who_waits_for_100(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 6"))
    client.got_reply(413, "DPE")
    assert world.dialled == []


@conversation(limits={"max_body": "5B"})
def test_a_body_that_just_fits(world: World) -> None:
    client = world.client()
    client.sends(
        head("POST / HTTP/1.1", "Host: a", "Content-Length: 5"), b"abcde", POST_CHUNKED, chunked(b"ab", b"cde")
    )
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 5", *FORWARDED), b"abcde")
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("POST / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"), chunked(b"abcde"))


@conversation(limits={"max_body": "5B"}, route={"max_body": "6B"})
def test_the_routes_limit_goes_before(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abcdef")
    app = world.app()
    app.takes()
    app.sends(OK)
    client.got(GOT_OK)
