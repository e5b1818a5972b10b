"""What the attackers do: each attack as the bytes of its connections. Pure; the buffers are made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fairness.pump import TICK, Script

# Bytes of a buffer that is sent over and over, about: large enough that a send costs little.
BUFFER = 1 << 19
# Bytes per second of the paced bodies, over all connections of the attack.
BODY_RATE = 8_000_000


@dataclass(frozen=True)
class Attack:
    """One way to take a proxy's time."""

    name: str
    title: str
    script: Callable[[], Script]
    """What each of its connections sends."""
    connections: int = 1
    status: bytes = b""
    """Of the first answer, where one comes while the attack lasts."""


def request(method: str, path: str, *fields: str) -> bytes:
    """A request head on the wire."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: fairness", *fields, "\r\n")).encode("ascii")


def one_byte_chunks(size: int) -> bytes:
    """The beginning of a chunked body, at most so many bytes of it: every chunk has one byte."""
    return b"1\r\nx\r\n" * (size // 6)


def _chunked_upload(cycle: bytes, connections: int) -> Script:
    head = request("POST", "/sink/upload", "Transfer-Encoding: chunked")
    return Script(head, cycle, bite=round(BODY_RATE * TICK / connections))


_ATTACKS = (
    Attack("none", "no attack", Script, connections=0),
    Attack(
        "upload-chunks",
        "request body of one-byte chunks, 8 MB/s, one connection",
        lambda: _chunked_upload(one_byte_chunks(BUFFER), 1),
    ),
)
ALL = {attack.name: attack for attack in _ATTACKS}
