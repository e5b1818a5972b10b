"""What is kept of a request while it is in flight, for the taps that may want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.fields import ATTRIBUTES

if TYPE_CHECKING:
    from meshlet.http.head import RequestHead
    from meshlet.telemetry.tap.hub import OpenTap


class Room:
    """The memory that all captures of a process share."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size  # bytes

    def take(self, wanted: int) -> int:
        """Take so many bytes, or what is left, and return how many these are."""
        got = min(wanted, self.left)
        self.left -= got
        return got


class Message:
    """A request or a response: its head, trailers, and the beginning of its body."""

    __slots__ = ("_limit", "_room", "_taken", "body", "lines", "trailers", "whole")

    def __init__(self, room: Room, limit: int) -> None:
        self.lines: list[bytes] | None = None  # start line first
        self.body = bytearray()
        self.trailers: tuple[bytes, ...] = ()
        self.whole = False  # it has come to its end
        self._limit = limit  # bytes of body
        self._room = room
        self._taken = 0

    def take_lines(self, lines: list[bytes]) -> bool:
        """Keep a head if there is room for it; say whether."""
        if not self._take(lines):
            return False
        self.lines = lines
        return True

    def end(self, trailers: tuple[bytes, ...]) -> None:
        """It is whole; keep its trailers if there is room for them."""
        self.whole = True
        if trailers and self._take(trailers):
            self.trailers = trailers

    def _take(self, lines: list[bytes] | tuple[bytes, ...]) -> bool:
        size = sum(map(len, lines))
        if size > self._room.left:
            return False
        self._taken += self._room.take(size)
        return True

    def add(self, data: bytes) -> None:
        """Keep of a piece of the body what is below the limit."""
        wanted = min(len(data), self._limit - len(self.body))
        if wanted > 0:
            got = self._room.take(wanted)
            self._taken += got
            self.body += data[:got]

    def give_back(self) -> None:
        """Leave the room to others."""
        self._room.left += self._taken
        self._taken = 0


class Capture:
    """One request and its response. `taps` are those that may want it, `limit` bounds each body."""

    __slots__ = ("aborted", "head", "method", "request", "response", "taps", "target", "tunnel")

    def __init__(self, head: RequestHead, taps: list[OpenTap], room: Room, limit: int) -> None:
        self.taps = taps
        self.head = head
        # as they came; a route may rewrite the head
        self.method = head.method
        self.target = head.target
        self.request = Message(room, limit)
        self.response = Message(room, limit)
        self.tunnel = False
        self.aborted = False  # the client was shown that its response is not whole

    def end(self) -> None:
        """Give back what it took."""
        self.request.give_back()
        self.response.give_back()


def request_lines(head: RequestHead) -> list[bytes]:
    """Return the head's lines together with the fields that the codec keeps apart."""
    lines = list(head.lines)
    for name, attribute in ATTRIBUTES.items():
        value = attribute(head)
        if value is not None:
            lines.append(b"%b: %b" % (name, value))
    if head.envoy is not None:
        lines += [b"%b: %b" % field for field in head.envoy.items()]
    return lines
