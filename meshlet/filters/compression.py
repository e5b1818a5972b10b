"""The filter that compresses responses for clients that accept it (RFC 9110 sections 8.4 and 12.5.3).

Each piece of a body leaves as soon as it came, so a slow stream stays as live as it was. What a compressor keeps is
bounded: some 256 KiB for gzip and br, about 1 MiB for zstd.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Protocol, cast

from meshlet.filters.base import SKIP_BODY, Filter
from meshlet.filters.load_error import FilterLoadError
from meshlet.http.grammar import Memo

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import Compression as CompressionConfig
    from meshlet.filters.base import HeadResult
    from meshlet.filters.call import Call, Response

# Speed before size: what comes next in each costs about twice the time for a few per cent.
_GZIP_LEVEL = 5
_BROTLI_QUALITY = 4
_ZSTD_LEVEL = 3
# Browsers bear windows of 8 MiB (RFC 9659); these are for our own memory, which every response takes.
_BROTLI_WINDOW = 18  # the exponent: 256 KiB
_ZSTD_WINDOW = 18

_STATE = "meshlet.compression"
# What says something about the body's bytes as they are, or must not be applied to another form of it.
_BOUND_TO_BYTES = ("content-encoding", "content-range", "content-digest", "content-md5", "digest")


class Compressor(Protocol):
    """Compresses one body."""

    def compress(self, data: bytes, end: bool) -> bytes:
        """Return all that can be known of the compressed body so far."""
        ...


class Compression(Filter):
    """Compresses where client, content type and length say that it pays."""

    def __init__(self, config: CompressionConfig) -> None:
        """Raises FilterLoadError where an algorithm's package is not installed."""
        self._makers: dict[str, Callable[[], Compressor]] = {name: _MAKERS[name]() for name in config.algorithms}
        self._min_bytes = int(config.min_bytes)
        self._types = frozenset(each.lower() for each in config.content_types)
        self._chosen: Memo[str | None] = Memo(lambda accepted: choose(accepted.decode("latin-1"), config.algorithms))

    def on_response_head(self, call: Call) -> HeadResult:
        response = call.response
        assert response is not None
        if call.request.method == "HEAD" or not self._fits(response):
            return SKIP_BODY
        _vary(response)
        accepted = call.request.headers.get_all("accept-encoding")
        algorithm = self._chosen[", ".join(accepted).encode("latin-1")] if accepted else None
        if algorithm is None:
            return SKIP_BODY
        headers = response.headers
        headers.set("content-encoding", algorithm)
        headers.remove("accept-ranges")  # ranges would be those of the body as it was
        etag = headers.get("etag")
        if etag is not None and not etag.startswith("W/"):
            headers.set("etag", "W/" + etag)
        call.state[_STATE] = self._makers[algorithm]()
        return None

    def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return cast("Compressor", call.state[_STATE]).compress(data, end)

    def _fits(self, response: Response) -> bool:
        """Say whether the response may and should be compressed for a client that accepts it."""
        headers = response.headers
        content_type = headers.get("content-type")
        if content_type is None or content_type.partition(";")[0].strip().lower() not in self._types:
            return False
        length = headers.get("content-length")
        if length is not None and (int(length) < self._min_bytes or int(length) == 0):
            return False
        if response.status in (204, 206, 304) or any(name in headers for name in _BOUND_TO_BYTES):
            return False
        return not any("no-transform" in value.lower() for value in headers.get_all("cache-control"))


def _vary(response: Response) -> None:
    """Tell caches that the response depends on Accept-Encoding, whether this one is compressed or not."""
    named = {name.strip().lower() for value in response.headers.get_all("vary") for name in value.split(",")}
    if not named & {"*", "accept-encoding"}:
        response.headers.add("vary", "accept-encoding")


# A coding, or an asterisk, with or without a weight.
_CODING = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
_ALIASES = {"x-gzip": "gzip"}


def choose(accepted: str, algorithms: tuple[str, ...]) -> str | None:
    """Return the algorithm that the client likes best, the first one where it likes several alike; None for none.

    `accepted` is the Accept-Encoding field. What is malformed in it is passed over.
    """
    weights: dict[str, float] = {}
    for item in accepted.split(","):
        match = _CODING.fullmatch(item.strip())
        if match is not None:
            name = match[1].lower()
            weights[_ALIASES.get(name, name)] = float(match[2] or 1)
    others = weights.get("*", 0.0)
    best = max(algorithms, key=lambda name: weights.get(name, others))  # the first of those that are alike
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


# --- algorithms ---


class _Gzip:
    __slots__ = ("_compressor",)

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: gzip, not zlib

    def compress(self, data: bytes, end: bool) -> bytes:
        compressor = self._compressor
        return compressor.compress(data) + compressor.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)


def _gzip() -> Callable[[], Compressor]:
    return _Gzip


def _brotli() -> Callable[[], Compressor]:
    try:
        import brotli
    except ImportError as error:
        raise _missing("br", "brotli") from error

    class Brotli:
        __slots__ = ("_compressor",)

        def __init__(self) -> None:
            self._compressor = brotli.Compressor(quality=_BROTLI_QUALITY, lgwin=_BROTLI_WINDOW)

        def compress(self, data: bytes, end: bool) -> bytes:
            compressor = self._compressor
            begun: bytes = compressor.process(data)
            rest: bytes = compressor.finish() if end else compressor.flush()
            return begun + rest

    return Brotli


def _zstd() -> Callable[[], Compressor]:
    try:
        import zstandard
    except ImportError as error:
        raise _missing("zstd", "zstandard") from error
    parameters = zstandard.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, window_log=_ZSTD_WINDOW)

    class Zstd:
        __slots__ = ("_compressor",)

        def __init__(self) -> None:
            # Its context serves one body at a time, so each body has its own.
            self._compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

        def compress(self, data: bytes, end: bool) -> bytes:
            compressor = self._compressor
            begun = compressor.compress(data)
            return begun + compressor.flush(
                zstandard.COMPRESSOBJ_FLUSH_FINISH if end else zstandard.COMPRESSOBJ_FLUSH_BLOCK
            )

    return Zstd


def _missing(algorithm: str, package: str) -> FilterLoadError:
    return FilterLoadError(f"the algorithm {algorithm} needs the package {package}: pip install 'meshlet[compression]'")


#: by algorithm, what loads its package and returns what makes a compressor
_MAKERS: dict[str, Callable[[], Callable[[], Compressor]]] = {"gzip": _gzip, "br": _brotli, "zstd": _zstd}
