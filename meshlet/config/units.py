"""The scalar types of the config that YAML has no word for: durations, sizes, addresses.

Each type subclasses the plain Python value it stands for, so the rest of meshlet computes with
it as it is; each raises ValueError with what was expected when it cannot read its input.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import ClassVar, NamedTuple

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,400})?)(ms|s|m|h)")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MAX_DURATION = 1e9
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)?")
_SIZE_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_MAX_SIZE = 1 << 60
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)


class Duration(float):
    """A time span in seconds, written `250ms`, `2s`, `1.5m` or `1h`; a bare 0 is allowed."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Duration:
        if text == 0 and not isinstance(text, bool):
            return cls(0.0)
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError("a duration such as 250ms, 2s, 5m or 1h")
        seconds = float(match[1]) * _DURATION_UNITS[match[2]]
        if seconds > _MAX_DURATION:
            raise ValueError(f"a duration of at most {_MAX_DURATION:.0f}s")
        return cls(seconds)

    @property
    def written(self) -> str:
        """The text that `parse` reads as exactly this duration, in the largest unit that makes it a whole number."""
        for unit, factor in _DURATION_UNITS.items():
            number = round(self / factor)
            if number and number * factor == self:
                return f"{number}{unit}"
        # A float's repr may have an exponent, which no config has; Decimal spells the same value out.
        return f"{Decimal(repr(float(self))):f}".removesuffix(".0") + "s"


class Size(int):
    """A number of bytes, written `512`, `64KiB`, `10MiB` or `1GiB`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Size:
        if isinstance(text, int) and not isinstance(text, bool):
            size = text
        else:
            match = _SIZE.fullmatch(text) if isinstance(text, str) else None
            size = int(match[1]) * _SIZE_UNITS[match[2] or "B"] if match else -1
        if not 0 <= size <= _MAX_SIZE:
            raise ValueError("a size in bytes such as 512, 64KiB or 10MiB")
        return cls(size)

    @property
    def written(self) -> str:
        """The text that `parse` reads as this size, in the largest unit that divides it."""
        unit, factor = next((item for item in _SIZE_UNITS.items() if self and self % item[1] == 0), ("B", 1))
        return f"{self // factor}{unit}"


class RetryOn(str):
    """A condition that a request is sent again on: a name of the table below, or a status such as `503`."""

    __slots__ = ()

    #: Envoy's names beside ours
    ALIASES: ClassVar[dict[str, str]] = {"refused-stream": "refused", "reset-before-request": "refused"}
    NAMES: ClassVar[tuple[str, ...]] = (
        "connect-failure",
        "refused",
        "reset",
        "reset-before-response",
        "5xx",
        "gateway-error",
        "retriable-4xx",
    )

    @classmethod
    def parse(cls, text: object) -> RetryOn:
        """Read a name, or a status with or without quotes."""
        if isinstance(text, int) and not isinstance(text, bool):
            text = str(text)
        if isinstance(text, str):
            name = cls.ALIASES.get(text, text)
            if name in cls.NAMES or (len(name) == 3 and name.isascii() and name.isdigit() and "400" <= name <= "599"):
                return cls(name)
        raise ValueError(f"{', '.join(cls.NAMES)} or a status from 400 to 599")


class Address(NamedTuple):
    """Where to listen or to connect: host and port, or the path of a Unix socket.

    `host` is an IPv4 or IPv6 address without brackets, or a host name; for a Unix socket `host`
    is empty and `path` is set.
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: object) -> Address:
        expected = "an address HOST:PORT, [IPV6]:PORT or unix:/PATH"
        if not isinstance(text, str):
            raise ValueError(expected)
        if text.startswith("unix:"):
            # sun_path holds 108 bytes with its final NUL (unix(7)); a line feed would break lines of the log.
            if not text[5:] or not text.isprintable() or len(text[5:].encode()) > 107:
                raise ValueError(f"{expected}, the path of at most 107 bytes, all printable")
            return cls("", 0, text[5:])
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ValueError(expected)
        if len(port) > 5 or int(port) > 65535:
            raise ValueError("a port between 0 and 65535")
        if host.startswith("[") and host.endswith("]"):
            host = _ip(host[1:-1], version=6, expected=expected)
        elif host.replace(".", "").isdigit():
            host = _ip(host, version=4, expected=expected)
        elif not HOST_NAME.fullmatch(host):
            raise ValueError(expected)
        return cls(host, int(port))


def _ip(text: str, *, version: int, expected: str) -> str:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, text)
    except (OSError, ValueError) as error:  # a NUL in the text is a ValueError in words of its own
        raise ValueError(expected) from error
    return text
