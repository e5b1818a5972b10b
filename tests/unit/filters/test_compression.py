from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from meshlet.config.schema import Compression as CompressionConfig
from meshlet.config.units import Size
from meshlet.filters.compression import Compression, choose
from meshlet.filters.testing import AppResponse, ClientRequest, Played, play
from tests.unit.filters.world import World, request_head, response_head

if TYPE_CHECKING:
    from collections.abc import Callable

ALL: Any = ("br", "zstd", "gzip")
BODY = b"the same words, again and again; " * 100


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    whole = inflater.decompress(data)
    assert inflater.eof
    assert inflater.unused_data == b""
    return whole


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": _inflate, "br": brotli.decompress, "zstd": _unzstd}


def compression(*algorithms: Any, **more: Any) -> Compression:
    return Compression(CompressionConfig(algorithms=algorithms or ALL, **more))


async def fetch(
    accepted: str | None = "gzip",
    body: bytes | list[bytes] = BODY,
    method: str = "GET",
    status: int = 200,
    each: Compression | None = None,
    **fields: Any,
) -> Played:
    headers = {"content-type": "text/plain", **{name.replace("_", "-"): value for name, value in fields.items()}}
    request = ClientRequest(method, headers={} if accepted is None else {"accept-encoding": accepted})
    return await play(each or compression(), request, AppResponse(status, headers, body))


def header(played: Played, name: str) -> str | None:
    assert played.response is not None
    return played.response.headers.get(name)


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("size", [1, 1000, 3300])
async def test_a_body_comes_out_as_it_was(algorithm: str, size: int) -> None:
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    played = await fetch(algorithm, pieces)
    assert header(played, "content-encoding") == algorithm
    assert header(played, "content-length") is None
    assert header(played, "transfer-encoding") == "chunked"
    assert header(played, "vary") == "accept-encoding"
    assert DECOMPRESS[algorithm](played.response_body) == BODY
    if size > 1:
        assert len(played.response_body) < len(BODY) // 5


@pytest.mark.parametrize("algorithm", ALL)
def test_every_piece_can_be_read_when_it_came(algorithm: str) -> None:
    readers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": zlib.decompressobj(16 + zlib.MAX_WBITS).decompress,
        "br": brotli.Decompressor().process,
        "zstd": zstandard.ZstdDecompressor().decompressobj().decompress,
    }
    decompress = readers[algorithm]
    world = World(request_head(f"Accept-Encoding: {algorithm}", start="GET / HTTP/1.1"))
    run = world.start(compression(content_types=("text/event-stream",)))
    run.begin(b"", True)
    run.response_head(response_head("Content-Type: text/event-stream", "Transfer-Encoding: chunked"), b"", False)
    world.take()
    for number in range(5):
        event = b"data: %d\n\n" % number
        run.response_data(event)
        (piece,) = world.take()
        assert isinstance(piece, bytes)
        assert decompress(piece) == event
    run.response_end()


async def test_several_bodies_at_once_do_not_mix() -> None:
    each = compression()
    for algorithm in ALL:
        runs = []
        for number in range(2):
            world = World(request_head(f"Accept-Encoding: {algorithm}", start="GET / HTTP/1.1"))
            run = world.start(each)
            run.begin(b"", True)
            run.response_head(response_head("Content-Type: text/plain", "Transfer-Encoding: chunked"), b"", False)
            world.take()
            runs.append((world, run, b"%d" % number))
        for _ in range(3):
            for _, run, text in runs:
                run.response_data(text)
        for world, run, text in runs:
            run.response_end()
            data = b"".join(piece for piece in world.take() if isinstance(piece, bytes))
            assert DECOMPRESS[algorithm](data) == text * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"content_encoding": "br"},
        {"cache_control": "public, No-Transform"},
        {"content_type": "image/png"},
        {"content_type": "text/event-stream"},
        {"content_range": "bytes 0-1/2"},
        {"content_digest": "sha-256=:x:"},
    ],
)
async def test_what_is_left_alone(fields: dict[str, Any]) -> None:
    played = await fetch(**fields)
    assert played.response_body == BODY
    assert header(played, "content-length") == str(len(BODY))
    assert header(played, "vary") is None


async def test_a_response_without_a_type_is_left_alone() -> None:
    request = ClientRequest(headers={"accept-encoding": "gzip"})
    played = await play(compression(), request, AppResponse(body=BODY))
    assert played.response_body == BODY


@pytest.mark.parametrize("status", [204, 304, 206])
async def test_statuses_that_are_left_alone(status: int) -> None:
    played = await fetch(status=status, body=BODY if status == 206 else b"")
    assert header(played, "content-encoding") is None


async def test_head_is_left_alone() -> None:
    played = await fetch(method="HEAD", content_length="9000")
    assert header(played, "content-encoding") is None
    assert header(played, "content-length") == "9000"


@pytest.mark.parametrize(("length", "compressed"), [(1023, False), (1024, True)])
async def test_small_bodies_are_left_alone(length: int, compressed: bool) -> None:
    played = await fetch(body=b"x" * length)
    assert (header(played, "content-encoding") == "gzip") is compressed
    assert (header(played, "vary") is not None) is compressed


async def test_a_body_of_unknown_length_is_compressed() -> None:
    played = await fetch(body=b"x", transfer_encoding="chunked")
    assert _inflate(played.response_body) == b"x"


async def test_an_empty_body_of_unknown_length_is_a_whole_stream() -> None:
    world = World(request_head("Accept-Encoding: gzip", start="GET / HTTP/1.1"))
    run = world.start(compression())
    run.begin(b"", True)
    world.take()
    run.response_head(response_head("Content-Type: text/plain", "Transfer-Encoding: chunked"), b"", True)
    (event,) = world.take()
    assert isinstance(event, tuple)
    assert (event[0], event[2]) == ("response", True)
    assert _inflate(event[1]) == b""


async def test_an_empty_body_stays_empty_whatever_the_least_size() -> None:
    played = await fetch(body=b"", each=compression(min_bytes=Size(0)))
    assert played.response_body == b""
    assert header(played, "content-encoding") is None


async def test_the_type_is_compared_without_its_parameters() -> None:
    played = await fetch(content_type="Text/HTML; charset=utf-8")
    assert header(played, "content-encoding") == "gzip"


@pytest.mark.parametrize(("etag", "becomes"), [('"a"', 'W/"a"'), ('W/"a"', 'W/"a"')])
async def test_a_strong_etag_becomes_weak(etag: str, becomes: str) -> None:
    assert header(await fetch(etag=etag), "etag") == becomes
    assert header(await fetch(None, etag=etag), "etag") == etag


async def test_ranges_are_no_longer_offered() -> None:
    assert header(await fetch(accept_ranges="bytes"), "accept-ranges") is None


@pytest.mark.parametrize(
    ("vary", "becomes"),
    [("origin", ["origin", "accept-encoding"]), ("Origin, Accept-Encoding", ["Origin, Accept-Encoding"]), ("*", ["*"])],
)
async def test_vary_is_added_once(vary: str, becomes: list[str]) -> None:
    played = await fetch(vary=vary)
    assert played.response is not None
    assert played.response.headers.get_all("vary") == becomes


@pytest.mark.parametrize("accepted", [None, "identity", "gzip;q=0", "deflate"])
async def test_a_client_that_does_not_accept_it_still_gets_vary(accepted: str | None) -> None:
    played = await fetch(accepted)
    assert played.response_body == BODY
    assert header(played, "content-length") == str(len(BODY))
    assert header(played, "vary") == "accept-encoding"


async def test_the_second_of_two_compressors_leaves_it() -> None:
    request = ClientRequest(headers={"accept-encoding": "gzip"})
    response = AppResponse(200, {"content-type": "text/plain"}, BODY)
    played = await play([compression(), compression()], request, response)
    assert _inflate(played.response_body) == BODY


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1, br;q=0.9", "gzip"),
        ("gzip ; q=0.5 , br ; Q=0.4", "gzip"),
        ("br;q=0, zstd;q=0.1", "zstd"),
        ("*", "br"),
        ("br;q=0, *", "zstd"),
        ("*;q=0", None),
        ("gzip, *;q=0", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("identity;q=0", None),
        ("gzip;q=2", None),
        ("gzip;q=", None),
        ("gzip;q=x, br;q=0.1", "br"),
        ("gzip;foo=bar", None),
        ("", None),
        (",,", None),
    ],
)
def test_the_choice(accepted: str, chosen: str | None) -> None:
    assert choose(accepted, ALL) == chosen


@given(st.text())
def test_no_field_breaks_the_choice(accepted: str) -> None:
    assert choose(accepted, ALL) in (None, *ALL)


@pytest.mark.parametrize("algorithm", ALL)
async def test_what_does_not_compress_grows_by_little(algorithm: str) -> None:
    body = random.Random(3).randbytes(200_000)
    played = await fetch(algorithm, [body[at : at + 65536] for at in range(0, len(body), 65536)])
    assert DECOMPRESS[algorithm](played.response_body) == body
    assert len(played.response_body) < len(body) * 1.01
