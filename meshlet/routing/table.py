"""The route table: the first route that matches wins, however many there are.

Routes are indexed by what can be looked up (exact host, exact path, path prefix), so a request
meets only the few that may take it, in the order they were written. A table of a thousand prefix
routes costs a look-up for each *distinct prefix length*, not for each route.
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

    def matches(self, host: bytes | None, path: bytes, method: bytes) -> bool:
        """Say whether a request matches, each condition for itself."""
        return (
            _host_matches(self.host, host)
            and (self.methods is None or method in self.methods)
            and (self.path is None or path == self.path)
            and (self.prefix is None or has_prefix(path, self.prefix))
            and (self.regex is None or self.regex.fullmatch(path) is not None)
        )


def _host_matches(pattern: bytes | None, host: bytes | None) -> bool:
    if pattern is None:
        return True
    if host is None:
        return False
    if pattern.startswith(b"*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


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
        self._by_path: dict[tuple[bytes | None, bytes], list[int]] = {}
        self._by_prefix: dict[tuple[bytes | None, bytes], list[int]] = {}
        self._lengths: dict[bytes | None, tuple[int, ...]] = {}
        self._others: list[int] = []
        for index, (matcher, _) in enumerate(self._routes):
            self._index(index, matcher)
        lengths: dict[bytes | None, set[int]] = {}
        for host, prefix in self._by_prefix:
            lengths.setdefault(host, set()).add(len(prefix))
        self._lengths = {host: tuple(sorted(found)) for host, found in lengths.items()}

    def _index(self, index: int, matcher: Matcher) -> None:
        wildcard = matcher.host is not None and matcher.host.startswith(b"*")
        if wildcard or matcher.regex is not None:
            self._others.append(index)
        elif matcher.path is not None:
            self._by_path.setdefault((matcher.host, matcher.path), []).append(index)
        else:
            # `/v2/` and `/v2` are looked up at the same border, the path up to but without a slash.
            prefix = (matcher.prefix or b"/").rstrip(b"/")
            self._by_prefix.setdefault((matcher.host, prefix), []).append(index)

    def match(self, head: RequestHead) -> T | None:
        """Return what the first matching route leads to, or None."""
        if self._only is not None:
            return self._only
        host, path, method = head.host, head.path, head.method
        best = len(self._routes)
        for key in (None,) if host is None else (host, None):
            best = self._first(self._by_path.get((key, path), ()), host, path, method, best)
            for length in self._lengths.get(key, ()):
                if length > len(path):
                    break
                if length == len(path) or path[length] == 0x2F or length == 0:
                    found = self._by_prefix.get((key, path[:length]))
                    if found is not None:
                        best = self._first(found, host, path, method, best)
        best = self._first(self._others, host, path, method, best)
        return self._routes[best][1] if best < len(self._routes) else None

    def _first(self, indexes: Iterable[int], host: bytes | None, path: bytes, method: bytes, best: int) -> int:
        for index in indexes:
            if index >= best:
                break
            if self._routes[index][0].matches(host, path, method):
                return index
        return best
