"""Random UUIDs (version 4, RFC 9562) as request ids, made many at a time: a system call for each would show."""

from __future__ import annotations

import os

_BATCH = 128
_VARIANT = "89ab"


class RequestIds:
    """Call it for the next id."""

    __slots__ = ("_at", "_hex")

    def __init__(self) -> None:
        self._hex = ""
        self._at = 0

    def __call__(self) -> bytes:
        """Return an id, 36 ASCII characters."""
        at = self._at
        if at >= len(self._hex):
            self._hex = os.urandom(16 * _BATCH).hex()
            at = 0
        self._at = at + 32
        h = self._hex[at : at + 32]
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}".encode()
