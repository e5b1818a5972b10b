"""The lexical rules of HTTP that both directions share (RFC 9110 section 5, RFC 9112).

Validation is by table: `bytes.translate` with a table of allowed bytes runs in C over a whole
head. What recurs (field names, Host values) is classified once and remembered in a bounded cache.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

#: token characters (RFC 9110 section 5.6.2)
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: what a field line may hold: HTAB, SP, VCHAR and obs-text; every control character is refused (RFC 9110 section 5.5)
FIELD = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
#: what a request target may hold. RFC 3986 allows less, but browsers send `|`, `{`, `"` and raw UTF-8; only what could
#: end or split the request line, and the fragment that a client must not send, are refused.
TARGET = bytes(set(range(0x21, 0x100)) - {0x7F, ord("#")})

OWS = b" \t"

_HOST = re.compile(
    rb"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2}){1,255})(?::(?P<port>[0-9]{0,5}))?"
)

V = TypeVar("V")

_LONGEST_KEY = 128


def remember(cache: dict[bytes, V], key: bytes, value: V, entries: int = 2048) -> V:
    """Put a value into a bounded cache and return it.

    A flood of distinct keys empties the cache now and then, which costs the flooder's own requests
    a little time and never memory. Long keys are not kept.
    """
    if len(key) <= _LONGEST_KEY:
        if len(cache) >= entries:
            cache.clear()
        cache[key] = value
    return value


class Memo(dict[bytes, V], Generic[V]):
    """A bounded cache in front of a pure function of bytes; `memo[key]` computes what is missing."""

    def __init__(self, function: Callable[[bytes], V], entries: int = 2048) -> None:
        super().__init__()
        self._function = function
        self._entries = entries

    def __missing__(self, key: bytes) -> V:
        return remember(self, key, self._function(key), self._entries)


def is_token(name: bytes) -> bool:
    """Say whether `name` is a token: a method, a field name, a protocol."""
    return bool(name) and not name.translate(None, TOKEN)


def parse_authority(value: bytes) -> bytes | None:
    """Return the host of `host[:port]` in lower case without its port, or None where it is not valid.

    An empty host is not valid in an http URI (RFC 9110 section 4.2.1).
    """
    match = _HOST.fullmatch(value)
    if match is None or int(match["port"] or b"0") > 65535:
        return None
    host: bytes = match["host"].lower()
    if host.startswith(b"["):
        try:
            IPv6Address(host[1:-1].decode())
        except ValueError:
            return None
    return host


# What CGI-like environments make of a field name, written with `-`.
_CGI = bytes(c if c < 0x80 and chr(c).isalnum() else 0x2D for c in range(256))


def looks_like(name: bytes, fields: frozenset[bytes]) -> bool:
    """Say whether some servers would read the field name as one of `fields` (lower case), though HTTP does not.

    CGI-like environments map every character but letters and digits to `_`, so `Transfer_Encoding`
    or `Content.Length` would frame a message there that meshlet had framed otherwise.
    """
    lower = name.lower()
    return lower not in fields and lower.translate(_CGI) in fields


#: a whole head as CGI-like environments read its names: lines stay lines, and names keep their colon
_CGI_HEAD = bytes(c if c in b"\n:" else _CGI[ord(chr(c).lower())] if c < 0x80 else 0x2D for c in range(256))


def cgi_names(lines: bytes) -> bytes:
    """Return field lines with their names as CGI-like environments read them: in lower case, with `-` for `_` and `.`.

    What stands behind the colons is of no use afterwards.
    """
    return lines.translate(_CGI_HEAD)


class ConnectionOptions:
    """What a `Connection` field says (RFC 9110 section 7.6.1)."""

    __slots__ = ("close", "keep_alive", "named", "upgrade")

    def __init__(self, value: bytes) -> None:
        options = {option.strip(OWS) for option in value.lower().split(b",")}
        self.close = b"close" in options
        self.keep_alive = b"keep-alive" in options
        self.upgrade = b"upgrade" in options
        #: field names that are for this hop only
        self.named = frozenset(options - {b"", b"close", b"keep-alive", b"upgrade"})


connection_options: Memo[ConnectionOptions] = Memo(ConnectionOptions, entries=256)


def without_named(lines: list[bytes], named: frozenset[bytes]) -> list[bytes]:
    """Return the field lines (the start line first) without those that a `Connection` field names."""
    return lines[:1] + [line for line in lines[1:] if line.partition(b":")[0].lower() not in named]
