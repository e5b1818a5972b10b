"""What a value of the config must satisfy beyond its type.

The structs of `schema` name these checks in `Meta(extra={"check": …})`. Each takes the value and
returns nothing, or raises ValueError with what was expected, the way `units` does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

from meshlet.config.units import HOST_NAME, Address, Duration, Size

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What a request target's path can hold once its query is cut off; a fragment is never sent (RFC 9112 section 3.2).
_PATH = re.compile(r"/[!\"$->@-~]*")


def name(value: str) -> None:
    """A name that is safe in a metric label, a log line and a file name."""
    if not _NAME.fullmatch(value):
        raise ValueError("a name of at most 128 letters, digits, `.`, `_` and `-`, with a letter or digit at both ends")


def host_pattern(value: str) -> None:
    """A host name, or `*.` and the host name whose subdomains are meant."""
    host = value.removeprefix("*.")
    if not HOST_NAME.fullmatch(host) or host.endswith("."):
        raise ValueError("a host name without a port, or *. and a host name; without the key every host matches")


def path(value: str) -> None:
    """A path as it can stand in a request target."""
    if not _PATH.fullmatch(value):
        raise ValueError(
            "a path that starts with / and holds neither ? nor #, nor white space; other characters percent-encoded"
        )


def file_path(value: str) -> None:
    """The path of a file."""
    if not value or not value.isprintable():
        raise ValueError("the path of a file, in printable characters")


def regex(value: str) -> None:
    """A regular expression of module `re`."""
    if not value.isascii():
        raise ValueError("a regular expression in ASCII, because a path holds other characters percent-encoded")
    try:
        with warnings.catch_warnings():
            # A pattern that Python warns about means something else in its next version.
            warnings.simplefilter("error")
            re.compile(value)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"a regular expression ({error})") from error


def method(value: str) -> None:
    """A request method."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("a method, which is a token of RFC 9110 such as GET")


def upgrade(value: str) -> None:
    """A protocol name that clients may ask for with `Upgrade`."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("a protocol name, which is a token of RFC 9110 such as websocket")
    if value.lower() == "h2c":
        raise ValueError("another protocol: requests inside an h2c tunnel would pass by every route and limit")


def network(value: str) -> None:
    """A network in CIDR notation."""
    import ipaddress

    expected = "a network in CIDR notation such as 10.0.0.0/8 or fc00::/7"
    address, _, bits = value.partition("/")
    if not (bits.isascii() and bits.isdigit()):
        raise ValueError(expected)
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(expected) from error
    if meant.network_address != ipaddress.ip_address(address):
        raise ValueError(f"a network, which has no bits set after its prefix: {meant}")


def listen_address(value: Address) -> None:
    """An address that can be bound without asking a name server."""
    if not (value.path or value.host == "localhost" or is_ip(value.host)):
        raise ValueError("an IP address, localhost or unix:/PATH to listen on")


def loopback_address(value: Address) -> None:
    """An address that only this machine, or this Pod, can reach."""
    if not (value.path or value.host in ("localhost", "::1") or (is_ip(value.host) and value.host.startswith("127."))):
        raise ValueError("a loopback address such as 127.0.0.1:15000, because the port has no authentication")


def endpoint_address(value: Address) -> None:
    """An address that can be connected to."""
    if not value.path and value.port == 0:
        raise ValueError("a port between 1 and 65535")


def above_zero(value: Duration) -> None:
    """A duration that some time passes in."""
    if value <= 0:
        raise ValueError("a duration above 0")


def at_least(least: Size) -> Callable[[Size], None]:
    """Make the check that a size is not below `least`."""

    def check(value: Size) -> None:
        if value < least:
            raise ValueError(f"a size of at least {least.written}")

    return check


def is_ip(host: str) -> bool:
    """Tell an IP address from a host name; `Address.parse` has made sure that it is one of the two."""
    return ":" in host or host.replace(".", "").isdigit()
