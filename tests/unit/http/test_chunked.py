"""The chunked coding by itself; what is accepted and refused of it is tested with the messages that carry it."""

from __future__ import annotations

import tracemalloc

import pytest

from meshlet.http.chunked import (
    FORBIDDEN_TRAILERS,
    ChunkedDecoder,
    ChunkedError,
    encode_chunk,
    encode_chunks,
    encode_last_chunk,
)
from meshlet.http.head import HeadLimits


def decoded(*pieces: bytes) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder(HeadLimits())
    payload = b""
    for piece in pieces:
        payload += decoder.feed(piece)
        while decoder.unread and not decoder.done:
            payload += decoder.feed(piece, len(piece) - decoder.unread)
    return payload, decoder


@pytest.mark.parametrize("trailers", [(), (b"A: b",), (b"A: b", b"C:", b"A: b")])
@pytest.mark.parametrize("payloads", [[], [b"x"], [b"\r\n0\r\n\r\n", b"x" * 16, b"y" * 70000]])
def test_what_is_encoded_is_decoded(payloads: list[bytes], trailers: tuple[bytes, ...]) -> None:
    wire = b"".join(map(encode_chunk, payloads)) + encode_last_chunk(trailers)
    payload, decoder = decoded(wire + b"rest")
    assert payload == b"".join(payloads)
    assert (decoder.done, decoder.trailers, decoder.unread) == (True, trailers, len(b"rest"))


def test_sizes() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    for size in (b"1a", b"1A", b"000000000001a"):
        payload, _ = decoded(b"%b\r\n%b" % (size, b"x" * 26))
        assert payload == b"x" * 26


def test_what_is_there_of_a_body() -> None:
    assert encode_chunks(b"", complete=False) == b""
    assert encode_chunks(b"x", complete=False) == b"1\r\nx\r\n"
    assert encode_chunks(b"x", complete=True) == b"1\r\nx\r\n0\r\n\r\n"
    assert encode_chunks(b"", complete=True) == b"0\r\n\r\n"


def test_bytes_after_the_end_are_no_payload() -> None:
    payload, decoder = decoded(b"0\r\n\r\n", b"1\r\nx\r\n")
    assert payload == b""
    assert decoder.unread == len(b"1\r\nx\r\n")


def test_the_largest_size() -> None:
    payload, decoder = decoded(b"f" * 15 + b"\r\nabc")
    assert payload == b"abc"
    assert not decoder.done


def test_a_size_line_to_its_limit() -> None:
    line = b"1;a=" + b"x" * 1020
    for pieces in ([line + b"\r\ny"], [line, b"\r\ny"], [line + b"\r", b"\ny"], [line[:500], line[500:] + b"\r\ny"]):
        assert decoded(*pieces)[0] == b"y"
    line += b"x"
    for pieces in ([line + b"\r\ny"], [line, b"\r\ny"], [line + b"\r", b"\ny"], [line[:500], line[500:] + b"\r\ny"]):
        with pytest.raises(ChunkedError, match="1024"):
            decoded(*pieces)


def test_a_size_line_without_an_end_is_not_kept_for_ever() -> None:
    with pytest.raises(ChunkedError):
        decoded(*[b"1;a=" + b"x" * 100] + [b"x" * 100] * 10)


@pytest.mark.parametrize(
    "line",
    [
        b"1" + b";a" * 500 + b"=",
        b"1" + b" \t" * 500,
        b"1" + b" ;a" * 330 + b" ",
        b'1;a="' + b"\\\\" * 500,
        b'1;a="' + b"\\" * 1001,
        b"1;" + b"a" * 1000 + b"(",
    ],
)
def test_a_malformed_size_line_does_not_take_for_ever(line: bytes) -> None:
    with pytest.raises(ChunkedError):
        decoded(line + b"\r\n")


def test_payload_is_passed_on_and_not_kept() -> None:
    decoder = ChunkedDecoder(HeadLimits())
    piece = b"x" * 65536
    decoder.feed(b"fffffff\r\n")
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert len(decoder.feed(piece)) == len(piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(piece)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_forbidden_trailers(name: bytes) -> None:
    with pytest.raises(ChunkedError, match=name.decode()):
        decoded(b"0\r\n%b: x\r\n\r\n" % name)


def test_errors_say_what_is_wrong() -> None:
    for wire, reason in {
        b"x\r\n": "malformed chunk size",
        b"1\r\nxy": "longer than its size",
        b"1\n": "bare CR or LF in a chunk size line",
        b"0\r\nA\n": "bare LF in the trailers",
        b"0\r\nA\r\n\r\n": "malformed trailer",
    }.items():
        with pytest.raises(ChunkedError, match=reason):
            decoded(wire)
