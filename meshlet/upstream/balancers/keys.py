"""What a request sticks to an endpoint by, as a number that is the same in every process."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

from meshlet.http.fields import first_value
from meshlet.http.grammar import OWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshlet.config.schema import HashOn
    from meshlet.http.head import RequestHead

    KeyOf = Callable[[RequestHead], int | None]

_MASK = (1 << 64) - 1
# The golden ratio's odd neighbour (Knuth, TAOCP 6.4): it spreads the 32 bits of a CRC over 64.
_SPREAD = 0x9E3779B97F4A7C15


def hash_key(value: bytes) -> int:
    """Return 64 bits that depend on all of `value`.

    It is for spreading load, not against attackers: whoever picks a key may pick an endpoint by it with any hash.
    """
    return crc32(value) * _SPREAD & _MASK


def next_key(key: int) -> int:
    """Return another key, where the place of this one is taken."""
    return (key ^ key >> 29) * _SPREAD + 1 & _MASK


def points(name: str, count: int) -> Iterator[int]:
    """Yield `count` numbers of 64 bits for a name, good enough that no two names get alike ones."""
    for block in range(0, count, 8):
        digest = blake2b(f"{name}#{block}".encode(), digest_size=64).digest()
        for index in range(min(8, count - block)):
            yield int.from_bytes(digest[index * 8 : index * 8 + 8], "big")


def key_function(hash_on: HashOn) -> KeyOf | None:
    """Return what takes the key from a request head; None where the client's address is the key."""
    if hash_on.header is not None:
        return _header(hash_on.header.lower().encode())
    return _cookie(hash_on.cookie.encode()) if hash_on.cookie is not None else None


def _header(name: bytes) -> KeyOf:
    value_of = first_value(name)

    def key_of(head: RequestHead) -> int | None:
        value = value_of(head)
        return hash_key(value) if value is not None else None

    return key_of


def _cookie(name: bytes) -> KeyOf:
    prefix = name + b"="

    def key_of(head: RequestHead) -> int | None:
        for line in head.lines:
            if line[:7].lower() == b"cookie:":
                for pair in line[7:].split(b";"):
                    pair = pair.strip(OWS)  # noqa: PLW2901
                    if pair.startswith(prefix):
                        return hash_key(pair[len(prefix) :].strip(b'"'))
        return None

    return key_of
