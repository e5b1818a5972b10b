"""Which requests a tap takes: every condition that is given must hold, and of its values at least one."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, structs

from meshlet.config import values
from meshlet.config.units import Duration
from meshlet.http.fields import all_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias, TypeVar

    from meshlet.http.head import RequestHead
    from meshlet.telemetry.record import Record

    Early: TypeAlias = Callable[["Came"], bool]
    Late: TypeAlias = Callable[[Record], bool]
    T = TypeVar("T")

# Values beyond this are a mistake, and would cost every request of the tap.
_MOST_VALUES = 64
_FLAG = re.compile(r"any|[A-Z]{2,4}|FE:\w+")
_WITH_COMMAS = frozenset({"method", "status", "flag"})


class Came(NamedTuple):
    """What is known of a request when it comes."""

    head: RequestHead  # as the client sent it
    peer: str  # the client's IP address
    listener: str  # its name


class TapFilter(Struct, frozen=True):
    """The conditions as they were written. An empty one takes everything."""

    method: tuple[str, ...] = ()
    path: tuple[str, ...] = ()  # begins so, on segment borders; with `*`, which stands for anything: the whole path
    host: tuple[str, ...] = ()  # without port, `*` likewise
    status: tuple[str, ...] = ()  # `404`, `5xx`, `400-499`; `0` where the client got no response
    peer: tuple[str, ...] = ()  # the client's IP address, or a network
    flag: tuple[str, ...] = ()  # a response flag, or `any`
    header: tuple[str, ...] = ()  # of the request: `name`, or `name=value`
    listener: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    min_duration: float = 0.0  # seconds


def parse_filter(pairs: Iterable[tuple[str, str]]) -> TapFilter:
    """Read a filter from the parameters of a query; `method`, `status` and `flag` take lists with commas as well.

    Raises ValueError, with one line that names the parameter, what was found and what was expected.
    """
    given: dict[str, tuple[str, ...]] = {}
    min_duration = 0.0
    for name, text in pairs:
        if name == "min_duration":
            try:
                min_duration = float(Duration.parse(text))
            except ValueError as error:
                raise ValueError(_found(name, text, str(error))) from error
        elif name in TapFilter.__struct_fields__:
            more = text.split(",") if name in _WITH_COMMAS else [text]
            given[name] = (*given.get(name, ()), *more)
            if len(given[name]) > _MOST_VALUES:
                raise ValueError(f"{name}: expected at most {_MOST_VALUES} values")
        else:
            raise ValueError(f"found {name!r}, expected one of {', '.join(TapFilter.__struct_fields__)}")
    parsed = structs.replace(TapFilter(min_duration=min_duration), **given)
    Matcher(parsed)
    return parsed


class Matcher:
    """A compiled filter. Raises ValueError where a condition cannot be read; see `parse_filter`."""

    __slots__ = ("_early", "_late")

    def __init__(self, wanted: TapFilter) -> None:
        self._early = _early(wanted)
        self._late = _late(wanted)

    def may_match(self, came: Came) -> bool:
        """Whether the request as it came can match."""
        return all(test(came) for test in self._early)

    def matches(self, record: Record) -> bool:
        """Whether a request that may match does, now that it has ended."""
        return all(test(record) for test in self._late)


def _early(wanted: TapFilter) -> list[Early]:
    """Make the tests of what is known when the request comes."""
    tests: list[Early] = []
    if methods := _read("method", wanted.method, _method):
        tests.append(lambda came: came.head.method in methods)
    if listeners := _read("listener", wanted.listener, _name):
        tests.append(lambda came: came.listener in listeners)
    if paths := _read("path", wanted.path, _path):
        tests.append(lambda came: any(test(came.head.path) for test in paths))
    if hosts := _read("host", wanted.host, _host):
        tests.append(lambda came: any(test(came.head.host or b"") for test in hosts))
    if peers := _read("peer", wanted.peer, _peer):
        tests.append(lambda came: any(test(came.peer) for test in peers))
    if headers := _read("header", wanted.header, _header):
        tests.append(lambda came: any(test(came.head) for test in headers))
    return tests


def _late(wanted: TapFilter) -> list[Late]:
    """Make the tests of what is known when it has ended."""
    tests: list[Late] = []
    if statuses := _read("status", wanted.status, values.parse_status_range):
        tests.append(lambda record: any(record.status in each for each in statuses))
    if flags := frozenset(_read("flag", wanted.flag, _flag)):
        tests.append(
            lambda record: bool(record.flag) and ("any" in flags or not flags.isdisjoint(record.flag.split(",")))
        )
    if clusters := _read("cluster", wanted.cluster, _name):
        tests.append(lambda record: record.cluster_name in clusters)
    if least := wanted.min_duration:
        tests.append(lambda record: record.duration >= least)
    return tests


def _read(name: str, texts: tuple[str, ...], parse: Callable[[str], T]) -> list[T]:
    found = []
    for text in texts:
        try:
            found.append(parse(text))
        except ValueError as error:
            raise ValueError(_found(name, text, str(error))) from error
    return found


def _found(name: str, text: str, expected: str) -> str:
    return f"{name}: found {text[:100]!r}, expected {expected}"


# --- values: from text to what a request is compared with ---


def glob(pattern: bytes) -> Callable[[bytes], bool]:
    """Make the test for a pattern with `*`, in time proportional to the text's length times the stars."""
    first, *parts = pattern.split(b"*")
    if not parts:
        return lambda text: text == pattern
    last = parts.pop()

    def test(text: bytes) -> bool:
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last) or end < len(first):
            return False
        place = len(first)
        for part in parts:
            place = text.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True

    return test


def _path(text: str) -> Callable[[bytes], bool]:
    if not text.startswith(("/", "*")):
        raise ValueError("a path such as /api, or with * as in /api/*/items")
    wanted = text.encode("utf-8", "surrogateescape")
    if b"*" in wanted:
        return glob(wanted)
    below = wanted if wanted.endswith(b"/") else wanted + b"/"
    return lambda path: path == wanted or path.startswith(below)


def _host(text: str) -> Callable[[bytes], bool]:
    if not text or ":" in text.rpartition("]")[2]:
        raise ValueError("a host without a port, such as reviews.default or *.example.com")
    return glob(text.lower().encode("utf-8", "surrogateescape"))


def _method(text: str) -> bytes:
    values.method(text)
    return text.encode()


def _peer(text: str) -> Callable[[str], bool]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError("an IP address or a network such as 10.0.0.0/8") from error

    def test(host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:  # the client of a Unix socket has none
            return False
        mapped = address.ipv4_mapped if address.version == 6 else None
        return (mapped or address) in network

    return test


def _flag(text: str) -> str:
    if not _FLAG.fullmatch(text):
        raise ValueError("a response flag such as UF, or any")
    return text


def _header(text: str) -> Callable[[RequestHead], bool]:
    name, equals, value = text.partition("=")
    values.field_name(name)
    fields = all_values(name.lower().encode())
    wanted = value.strip().encode("utf-8", "surrogateescape")
    if not equals:
        return lambda head: bool(fields(head))
    return lambda head: wanted in fields(head)


def _name(text: str) -> str:
    if not text:
        raise ValueError("a name")
    return text
