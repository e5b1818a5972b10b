"""Message heads: what the codec hands out, and what the rest of meshlet decides by.

Field lines stay the bytes that were received, in order, so that what meshlet has no business with
is passed on untouched: case, order, duplicates and inner white space included.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshlet.http.grammar import OWS

#: body lengths that are not a number of bytes
CHUNKED = -1
UNTIL_CLOSE = -2


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How large a head may be; `headers` and `header_bytes` bound trailers as well."""

    header_bytes: int = 65536
    headers: int = 100
    target_bytes: int = 16384


def field_value(lines: list[bytes], name: bytes) -> bytes | None:
    """Return the value of the first field called `name` (lower case) of a head's lines, or None."""
    for line in lines[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip(OWS)
    return None


class RequestHead:
    """A request head, validated; `lines` is what will be forwarded, request line first.

    `lines` no longer holds what concerns one hop only, nor what meshlet writes itself
    (`transfer-encoding`, `upgrade`, `x-forwarded-for`, `x-forwarded-proto`, `x-request-id`), nor what
    is said to meshlet alone (`x-envoy-max-retries` and its like): their values are the attributes below.
    """

    __slots__ = (
        "authority",
        "close",
        "envoy",
        "expects_continue",
        "forwarded_for",
        "forwarded_proto",
        "framed",
        "host",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "named",
        "request_id",
        "target",
        "trace",
        "upgrade",
        "wants_upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, lines: list[bytes]) -> None:
        self.method = method
        self.target = target  # origin-form, `*`, or authority-form for CONNECT
        self.minor = minor  # 1 for HTTP/1.1, 0 for HTTP/1.0
        self.lines = lines
        self.authority: bytes | None = None  # the Host field as it came
        self.host: bytes | None = None  # the same in lower case, without port
        self.length = 0  # of the body: bytes, or CHUNKED
        self.framed = False  # a field said so
        self.close = False  # the client asked for its connection to be closed
        self.keep_alive = False  # the client (1.0) asked for it to be kept
        self.expects_continue = False
        self.upgrade: bytes | None = None  # protocols the client offers to switch to
        self.wants_upgrade = False  # and `Connection: upgrade` said so
        self.named: frozenset[bytes] | None = None  # further fields of this hop only
        self.forwarded_for: bytes | None = None
        self.forwarded_proto: bytes | None = None
        self.request_id: bytes | None = None
        self.trace: list[bytes] | None = None  # those of the lines that carry trace context, in their order
        self.envoy: dict[bytes, bytes] | None = None  # x-envoy-* fields about retries and timeouts, lower case

    @property
    def persistent(self) -> bool:
        """Whether the client's connection may carry another request (RFC 9112 section 9.3)."""
        return not self.close and (self.minor == 1 or self.keep_alive)

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


class ResponseHead:
    """A response head, validated; `lines` is what will be forwarded, status line first."""

    __slots__ = (
        "close",
        "framed",
        "has_date",
        "keep_alive",
        "length",
        "lines",
        "minor",
        "named",
        "status",
        "timeout",
        "upgrade",
    )

    def __init__(self, status: int, minor: int, lines: list[bytes]) -> None:
        self.status = status
        self.minor = minor
        self.lines = lines
        self.length = UNTIL_CLOSE  # of the body: bytes, CHUNKED or UNTIL_CLOSE
        self.framed = False  # a field said so
        self.close = False
        self.keep_alive = False
        self.upgrade: bytes | None = None
        self.named: frozenset[bytes] | None = None
        self.timeout: float | None = None  # seconds, of `Keep-Alive: timeout=`
        self.has_date = False

    @property
    def persistent(self) -> bool:
        """Whether the app's connection may carry another request."""
        return not self.close and (self.minor == 1 or self.keep_alive)
