"""The route table: the first route that matches wins, however many there are.

Routes are indexed by what can be looked up (host, exact path, path prefix), so a request meets
only the few that may take it, in the order they were written. A table of a thousand prefix routes
costs a look-up for each *distinct prefix length*, not for each route; only the regular expressions
of a host are tried one by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.http.head import RequestHead

T = TypeVar("T")


class Matcher(NamedTuple):
    """The conditions of a route; None stands for any. Hosts are in lower case, `*.suffix` for all names below."""

    host: bytes | None = None
    path: bytes | None = None
    prefix: bytes | None = None
    regex: re.Pattern[bytes] | None = None
    methods: frozenset[bytes] | None = None

    @property
    def catches_all(self) -> bool:
        """Whether every request matches."""
        return self.host is None and self._any_path and self.methods is None

    @property
    def _any_path(self) -> bool:
        return self.path is None and self.regex is None and self.prefix in (None, b"/")

    def matches(self, path: bytes, method: bytes) -> bool:
        """Say whether a request to a host that matches matches in all else."""
        return (
            (self.methods is None or method in self.methods)
            and (self.path is None or path == self.path)
            and (self.prefix is None or has_prefix(path, self.prefix))
            and (self.regex is None or self.regex.fullmatch(path) is not None)
        )


def has_prefix(path: bytes, prefix: bytes) -> bool:
    """Say whether `path` lies at or below `prefix`, on segment borders: `/v2` takes `/v2/x`, not `/v20`."""
    if not path.startswith(prefix):
        # `OPTIONS *` and the authority of CONNECT are no paths; they go where everything goes.
        return prefix == b"/" and not path.startswith(b"/")
    return len(path) == len(prefix) or prefix.endswith(b"/") or path[len(prefix)] == 0x2F


class RouteTable(Generic[T]):
    """Finds the first of `routes` that matches a request."""

    def __init__(self, routes: Iterable[tuple[Matcher, T]]) -> None:
        self._routes = tuple(routes)
        #: where the first route takes everything there is nothing to look up
        self._only = self._routes[0][1] if self._routes and self._routes[0][0].catches_all else None
        indexes: dict[bytes | None, list[tuple[int, Matcher]]] = {}
        for number, (matcher, _) in enumerate(self._routes):
            indexes.setdefault(matcher.host, []).append((number, matcher))
        self._by_host = {host: _PathIndex(numbered) for host, numbered in indexes.items()}
        self._wildcards = any(host is not None and host.startswith(b"*.") for host in self._by_host)

    def match(self, head: RequestHead) -> T | None:
        """Return what the first matching route leads to, or None."""
        if self._only is not None:
            return self._only
        path, method = head.path, head.method
        none = len(self._routes)
        best = none
        for pattern in self._patterns(head.host):
            index = self._by_host.get(pattern)
            if index is not None:
                best = index.first(path, method, best)
        return self._routes[best][1] if best < none else None

    def _patterns(self, host: bytes | None) -> Iterable[bytes | None]:
        """Return all host patterns that `host` matches: itself, `*.` and each domain above it, any."""
        if host is None:
            return (None,)
        if not self._wildcards:
            return (host, None)
        dots = (at for at, byte in enumerate(host) if byte == 0x2E and at > 0)
        return (host, *(b"*" + host[at:] for at in dots), None)


class _PathIndex:
    """The routes of one host pattern, by their numbers in the table: the least number wins."""

    __slots__ = ("_by_path", "_by_prefix", "_lengths", "_regexes")

    def __init__(self, routes: Iterable[tuple[int, Matcher]]) -> None:
        self._by_path: dict[bytes, list[tuple[int, Matcher]]] = {}
        self._by_prefix: dict[bytes, list[tuple[int, Matcher]]] = {}
        self._regexes: list[tuple[int, Matcher]] = []
        for route in routes:
            matcher = route[1]
            if matcher.regex is not None:
                self._regexes.append(route)
            elif matcher.path is not None:
                self._by_path.setdefault(matcher.path, []).append(route)
            else:
                # `/v2/` and `/v2` are looked up at the same border, the path up to but without a slash.
                self._by_prefix.setdefault((matcher.prefix or b"/").rstrip(b"/"), []).append(route)
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})

    def first(self, path: bytes, method: bytes, best: int) -> int:
        """Return the number of the first route that matches, or `best` where that comes first."""
        best = _first(self._by_path.get(path, ()), path, method, best)
        for length in self._lengths:
            if length > len(path):
                break
            if length == len(path) or path[length] == 0x2F or length == 0:
                best = _first(self._by_prefix.get(path[:length], ()), path, method, best)
        return _first(self._regexes, path, method, best)


def _first(routes: Iterable[tuple[int, Matcher]], path: bytes, method: bytes, best: int) -> int:
    for number, matcher in routes:
        if number >= best:
            break
        if matcher.matches(path, method):
            return number
    return best
