from __future__ import annotations

from typing import Any

import pytest

from meshlet.runtime.messages import decode, encode
from meshlet.telemetry.tap import LEASE, MOST_ENTRIES, TapFilter, TapRead, Taps, hub
from meshlet.timers import Timers
from tests.support.fakes import FakeLoop
from tests.unit.telemetry.tap.records import came, entries, play, record


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def taps(loop: FakeLoop) -> Taps:
    return Taps(Timers(loop.time, loop.call_later), loop.time)


def test_the_first_read_opens_a_tap_and_each_further_one_returns_what_came(taps: Taps) -> None:
    read = TapRead("t")
    assert not is_active(taps)
    assert taps.read(read) == []
    assert is_active(taps)
    play(taps, "GET /1 HTTP/1.1\r\nHost: a")
    play(taps, "GET /2 HTTP/1.1\r\nHost: a")
    assert [entry["target"] for entry in entries(taps, read)] == ["/1", "/2"]
    assert taps.read(read) == []


def test_a_read_travels_between_processes() -> None:
    read = TapRead("t", TapFilter(method=("GET",), min_duration=0.5), bodies=100, max=7, last=True)
    assert decode(encode(read), TapRead) == read


def test_a_tap_that_is_not_read_is_closed(taps: Taps, loop: FakeLoop) -> None:
    for name in "ab":
        taps.read(TapRead(name))
    loop.advance(LEASE - 0.5)
    taps.read(TapRead("a"))
    loop.advance(1)
    assert list(taps._taps) == ["a"]
    loop.advance(LEASE)
    assert not taps.active
    assert not play(taps)


def is_active(taps: Taps) -> bool:
    return taps.active


def test_a_reader_can_close_its_tap(taps: Taps, loop: FakeLoop) -> None:
    taps.read(TapRead("t"))
    play(taps)
    assert len(taps.read(TapRead("t", last=True))) == 1
    assert not is_active(taps)
    assert taps.read(TapRead("t", last=True)) == []  # and does not open it again
    assert not is_active(taps)
    assert taps.wake == float("inf")
    taps.read(TapRead("t"))
    loop.advance(LEASE - 0.1)
    assert is_active(taps)


def test_a_request_that_ends_after_the_tap(taps: Taps) -> None:
    taps.read(TapRead("t"))
    capture = taps.begin(came())
    assert capture is not None
    taps.read(TapRead("t", last=True))
    taps.end(capture, record())
    assert taps.read(TapRead("t")) == []


def test_there_are_only_so_many_taps(taps: Taps) -> None:
    for number in range(8):
        assert taps.read(TapRead(str(number))) == []
    assert entries(taps, TapRead("more")) == [{"refused": "8 taps are open already"}]
    taps.read(TapRead("0", last=True))
    assert entries(taps, TapRead("more")) == []


def test_each_tap_has_its_own_filter_and_bodies(taps: Taps) -> None:
    all_of_it, heads = TapRead("all", bodies=10), TapRead("heads", TapFilter(status=("5xx",)))
    for read in (all_of_it, heads):
        taps.read(read)
    play(taps, body=b"abc")
    play(taps, body=b"abc", status=503)
    first, second = entries(taps, all_of_it)
    assert first["request"]["body"]["text"] == second["request"]["body"]["text"] == "abc"
    (only,) = entries(taps, heads)
    assert only["status"] == 503
    assert "body" not in only["request"]


@pytest.mark.parametrize(("asked", "kept"), [(3, 3), (0, 1), (10**9, MOST_ENTRIES)])
def test_what_finds_no_room_is_counted(taps: Taps, asked: int, kept: int) -> None:
    read = TapRead("t", max=asked)
    taps.read(read)
    for _ in range(kept + 2):
        play(taps)
    found = entries(taps, read)
    assert len(found) == kept + 1
    assert found[-1] == {"dropped": 2}
    play(taps)
    assert len(entries(taps, read)) == 1
    assert taps.dropped == 2


def test_a_queue_is_bounded_in_bytes(taps: Taps) -> None:
    read = TapRead("t", bodies=65536)
    taps.read(read)
    for _ in range(100):
        play(taps, body=b"x" * 60000)
    raw = taps.read(read)
    assert sum(map(len, raw)) <= hub._QUEUE + 100
    assert raw[-1] == b'{"dropped":%d}' % (101 - len(raw))


def test_what_is_in_flight_is_bounded_in_bytes(taps: Taps) -> None:
    read = TapRead("t", bodies=65536)
    taps.read(read)
    captures = []
    for _ in range(400):
        capture = taps.begin(came())
        if capture is not None:
            capture.request.add(b"x" * 65536)
            captures.append(capture)
    held = sum(len(capture.request.body) for capture in captures)
    assert hub._IN_FLIGHT * 0.9 < held <= hub._IN_FLIGHT
    dropped = 400 - len(captures)
    assert dropped  # not even their heads find room
    for capture in captures:
        capture.end()
        capture.end()  # gives back once
    assert taps._room.left == hub._IN_FLIGHT
    assert entries(taps, read) == [{"dropped": dropped}]
    assert taps.dropped == dropped


def test_the_config_bounds_bodies_and_names_more_secrets(taps: Taps) -> None:
    read = TapRead("t", bodies=100)
    taps.read(read)
    taps.configure(["X-Mine"], 2)
    play(taps, "POST / HTTP/1.1\r\nHost: a\r\nX-Mine: 1", b"abc")
    (entry,) = entries(taps, read)
    assert entry["request"]["body"] == {"cut": True, "text": "ab"}
    assert ["X-Mine", "[redacted]"] in entry["request"]["headers"]


def test_only_the_first_failure_is_logged(taps: Taps, caplog: pytest.LogCaptureFixture) -> None:
    taps.read(TapRead("t"))
    for _ in range(3):
        taps.failed(RuntimeError("broken"))
    assert len(caplog.records) == 1


def test_what_a_failure_held_is_given_back(taps: Taps, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("broken")

    taps.read(TapRead("t"))
    monkeypatch.setattr("meshlet.telemetry.tap.entry.encode", broken)
    with pytest.raises(RuntimeError):
        play(taps)
    assert taps._room.left == hub._IN_FLIGHT


BODIES: list[tuple[str, bytes, dict[str, Any]]] = [
    ("application/json", b'{"a": "\xc3\xbc"}', {"text": '{"a": "ü"}'}),
    ("application/problem+json; charset=UTF-8", b"{}", {"text": "{}"}),
    ("text/plain; charset=iso-8859-1", b"\xfc", {"base64": "/A=="}),
    ("text/plain", b"\xfc", {"base64": "/A=="}),
    ("text/plain", b"\x1b[2J", {"base64": "G1sySg=="}),
    ("image/png", b"PNG", {"base64": "UE5H"}),
    ("application/octet-stream", b"abc", {"base64": "YWJj"}),
    ("", b"abc", {"text": "abc"}),
    (
        "application/x-www-form-urlencoded",
        b"user=a&password=b",
        {"text": "user=a&password=[redacted]", "redacted": True},
    ),
]


@pytest.mark.parametrize(("content_type", "body", "expected"), BODIES)
def test_bodies_are_text_where_they_can_be_shown(
    taps: Taps, content_type: str, body: bytes, expected: dict[str, Any]
) -> None:
    read = TapRead("t", bodies=100)
    taps.read(read)
    play(taps, answer=(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}" if content_type else "HTTP/1.1 200 OK", body))
    (entry,) = entries(taps, read)
    assert entry["response"]["body"] == {"cut": False, **expected}


def test_a_compressed_body_is_not_text(taps: Taps) -> None:
    read = TapRead("t", bodies=100)
    taps.read(read)
    play(taps, answer=("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip", b"abc"))
    assert entries(taps, read)[0]["response"]["body"] == {"cut": False, "base64": "YWJj"}


@pytest.mark.parametrize("cut", range(7))
def test_a_cut_within_a_character(taps: Taps, cut: int) -> None:
    text = "aü€"  # 1, 2 and 3 bytes
    read = TapRead("t", bodies=max(cut, 1))
    taps.read(read)
    play(taps, answer=("HTTP/1.1 200 OK\r\nContent-Type: text/plain", text.encode()))
    body = entries(taps, read)[0]["response"]["body"]
    assert text.startswith(body["text"])
    assert body["cut"] is (cut < 6)


def test_nothing_is_redacted_for_nobody(taps: Taps, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    monkeypatch.setattr("meshlet.telemetry.redact.is_secret", judged.append)
    secret = "GET /a?token=b HTTP/1.1\r\nHost: a\r\nX-Auth: c"
    play(taps, secret, b'{"password": 1}')
    others = TapRead("t", TapFilter(status=("5xx",)), bodies=100)
    taps.read(others)
    play(taps, secret, b'{"password": 1}')
    assert judged == []
    play(taps, secret, b'{"password": 1}', status=500)
    assert {"X-Auth", "token", "password"} <= set(judged)


def test_listening_costs_nothing_while_it_is_off(taps: Taps) -> None:
    assert taps.begin(came()) is None
    assert taps._room.left == hub._IN_FLIGHT
