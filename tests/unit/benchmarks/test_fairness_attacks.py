"""The bytes of the attacks: valid HTTP, and as many as their titles say."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.fairness import attacks
from benchmarks.fairness.app import target
from benchmarks.fairness.attacks import ALL, BODY_RATE, BUFFER, BURST, app_scripts, request
from benchmarks.fairness.pump import TICK
from meshlet.http.head import HeadLimits
from tests.support.codec import Message, read_requests, read_response


def served(wire: bytes) -> tuple[Message, ...]:
    """What meshlet makes of it within its default limits; all but the last must be whole."""
    outcome = read_requests([wire])
    assert outcome.refusal is None
    assert all(message.complete for message in outcome.messages[:-1])
    return outcome.messages


def targets(wire: bytes) -> list[bytes]:
    """Of requests that are all whole."""
    messages = served(wire)
    assert messages[-1].complete
    return [message.head.split(b" ")[1] for message in messages]


def chunk_sizes(wire: bytes) -> list[int]:
    """Of a chunked body without an end; refuses anything else."""
    sizes, place = [], 0
    while place < len(wire):
        start = wire.index(b"\r\n", place) + 2
        size = int(wire[place : start - 2], 16)
        assert wire[start + size : start + size + 2] == b"\r\n"
        sizes.append(size)
        place = start + size + 2
    return sizes


def test_every_attack_that_the_run_is_about_is_there() -> None:
    assert list(ALL) == [
        "none",
        "upload-chunks",
        "upload-chunks-8",
        "upload-mixed",
        "response-chunks",
        "response-chunks-8",
        "hints",
        "pipelined-direct",
        "pipelined-limited",
        "pipelined-no-route",
        "pipelined-redirect",
        "pipelined-overflow",
        "pipelined-app",
        "burst",
        "empty-lines",
        "accept-silent",
        "accept-byte",
        "upload",
        "upload-8",
        "download",
        "download-8",
        "relay",
        "tunnel",
        "big-heads",
        "trailers",
        "slow-heads",
    ]


def test_no_attack_sends_nothing() -> None:
    assert (ALL["none"].connections, ALL["none"].script().prefix, ALL["none"].script().cycle) == (0, b"", b"")


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("pipelined")])
def test_pipelined_requests_are_whole_in_every_buffer(name: str) -> None:
    script = ALL[name].script()
    assert script.cycle.endswith(b"\r\n\r\n")
    assert len(set(targets(script.cycle))) == 1
    assert BUFFER * 0.99 < len(script.cycle) <= BUFFER
    assert script.bite is None


def test_the_opening_takes_what_the_pipelined_requests_then_lack() -> None:
    openings = {name: targets(attack.opening) for name, attack in ALL.items() if attack.opening}
    assert openings == {"pipelined-limited": [b"/limited"], "pipelined-overflow": [b"/full/hold"]}
    assert app_scripts("/full/hold").prefix == b""  # never answered, so it stays in flight


def test_the_burst_is_ten_thousand_requests_and_no_more() -> None:
    script = ALL["burst"].script()
    assert len(targets(script.prefix)) == BURST == 10_000
    assert script.cycle == b""


@pytest.mark.parametrize("name", ["upload-chunks", "upload-chunks-8"])
def test_uploads_of_one_byte_chunks(name: str) -> None:
    attack = ALL[name]
    script = attack.script()
    sizes = chunk_sizes(script.cycle)
    assert set(sizes) == {1}
    assert len(script.cycle) == 6 * len(sizes)
    assert BUFFER - 6 < len(script.cycle) <= BUFFER
    assert script.bite
    assert attack.connections * script.bite / TICK == pytest.approx(BODY_RATE)


def test_an_upload_of_chunks_of_all_sizes_up_to_sixteen() -> None:
    script = ALL["upload-mixed"].script()
    sizes = chunk_sizes(script.cycle)
    counted = Counter(sizes)
    assert set(counted) == set(range(1, 17))
    assert min(counted.values()) > 0.8 * len(sizes) / 16
    assert len(script.cycle) <= BUFFER
    assert attacks.mixed_chunks() == attacks.mixed_chunks()


@pytest.mark.parametrize("name", ["upload-chunks", "upload-chunks-8", "upload-mixed"])
def test_chunked_uploads_go_on_in_the_middle_of_a_body(name: str) -> None:
    script = ALL[name].script()
    (message,) = served(script.prefix + script.cycle)
    assert (message.chunked, message.complete) == (True, False)
    assert len(message.body) == sum(chunk_sizes(script.cycle))


@pytest.mark.parametrize("name", ["upload", "upload-8"])
def test_full_speed_uploads_never_end(name: str) -> None:
    script = ALL[name].script()
    (message,) = served(script.prefix + script.cycle)
    assert not message.complete
    assert len(message.body) == len(script.cycle) == BUFFER
    assert attacks.MOST_BYTES < 10**12


def test_big_heads_have_sixty_kilobytes_and_are_within_the_limits() -> None:
    script = ALL["big-heads"].script()
    head, _, _ = script.cycle.partition(b"\r\n\r\n")
    assert 60_000 < len(head) < HeadLimits().header_bytes
    assert set(targets(script.cycle)) == {b"/app"}


def test_trailers_and_extensions_are_as_long_as_they_may_be() -> None:
    wire = attacks.trailers()
    (message,) = served(wire)
    assert targets(wire) == [b"/app/upload"]
    assert len(message.body) == wire.count(b"\r\nx\r\n") == 16
    assert 60_000 < sum(map(len, message.trailers)) < HeadLimits().header_bytes
    assert wire.count(b"e" * 1000) == 16  # of the 16 KiB that a body's extensions may have
    assert set(targets(ALL["trailers"].script().cycle)) == {b"/app/upload"}


def test_heads_byte_by_byte() -> None:
    attack = ALL["slow-heads"]
    script = attack.script()
    assert (attack.connections, script.bite) == (200, 1)
    assert targets(script.cycle) == [b"/direct"]


def test_empty_lines_are_nothing_else() -> None:
    assert set(ALL["empty-lines"].script().cycle.split(b"\r\n")) == {b""}


def test_floods_send_nothing_or_one_byte() -> None:
    floods = {name: attack.script().prefix for name, attack in ALL.items() if attack.flood}
    assert floods == {"accept-silent": b"", "accept-byte": b"G"}
    assert round(attacks.FLOOD_PER_TICK / TICK) == 5000


def test_frames_are_whole() -> None:
    wire = attacks.frames()
    size = 8 + 60_000
    assert len(wire) % size == 0
    assert len(wire) <= BUFFER
    for start in range(0, len(wire), size):
        head = wire[start : start + 8]
        assert head[:2] == b"\x82\xfe"  # FIN and binary; masked, and its length in two bytes
        assert int.from_bytes(head[2:4], "big") == 60_000


def test_the_tunnel_waits_for_the_switch() -> None:
    script = ALL["tunnel"].script()
    assert script.after_answer
    assert targets(script.prefix) == [b"/sink/upgrade"]
    assert app_scripts("/sink/upgrade").prefix.startswith(b"HTTP/1.1 101 ")


def test_the_apps_answers_are_valid() -> None:
    chunks = app_scripts("/sink/chunks")
    assert set(chunk_sizes(chunks.cycle)) == {1}
    for path in ("/sink/chunks", "/sink/download"):
        script = app_scripts(path)
        outcome = read_response([script.prefix + script.cycle])
        assert outcome.refusal is None
        assert [(message.status, message.complete) for message in outcome.messages] == [(200, False)]
    hints = app_scripts("/sink/hints").cycle
    one = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    assert hints == one * (BUFFER // len(one))
    assert read_response([one * 2]).refusal is None


@pytest.mark.parametrize("path", ["/sink/upload", "/full/hold"])
def test_the_app_never_answers_what_never_ends(path: str) -> None:
    script = app_scripts(path)
    assert (script.prefix, script.cycle) == (b"", b"")


def test_the_app_finds_the_target() -> None:
    assert target(request("GET", "/sink/chunks")) == "/sink/chunks"
    assert target(b"") == target(b"junk\r\n\r\n") == ""
    assert app_scripts("").prefix == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
