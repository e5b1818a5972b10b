"""What the supervisor and its workers say to each other: calls of the data plane's methods, in msgpack."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw, Struct

T = TypeVar("T")

Method = Literal[
    "apply",
    "families",
    "clusters",
    "listeners",
    "traffic",
    "explain",
    "recent",
    "tap",
    "unreachable",
    "set_log_level",
    "reopen_logs",
    "announce_drain",
    "stop_accepting",
    "wait_idle",
    "abort",
]

NONE = Raw(msgspec.msgpack.encode(None))


class Request(Struct, frozen=True, array_like=True):
    """A call of one of the methods of `plane.Plane`, with its argument if it has one."""

    id: int
    method: Method
    argument: Raw


class Answer(Struct, frozen=True, array_like=True):
    """What became of the request with that id: its result, or why there is none.

    A frame without anything in it is no answer but a heartbeat.
    """

    id: int
    result: Raw
    error: str | None = None
    errno: int | None = None


def encode(value: object) -> bytes:
    """A message, or the argument or result in one."""
    return msgspec.msgpack.encode(value, enc_hook=_plain)


def decode(data: bytes | Raw, kind: type[T]) -> T:
    """What `encode` made of a value of that type. Raises msgspec.ValidationError."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_typed)


def _plain(value: object) -> object:
    # Durations, sizes and conditions are a float, an int and a str with another name, which msgspec does not see.
    match value:
        case float():
            return float(value)
        case int():
            return int(value)
        case str():
            return str(value)
    raise NotImplementedError(type(value))


def _typed(kind: type[Any], value: Any) -> Any:
    return kind(value)
