"""The route table: the first route that matches wins, however many there are.

Routes are indexed by what can be looked up (host, exact path, path prefix), so a request meets
only the few that may take it, in the order they were written. A table of a thousand prefix routes
costs a look-up for each *distinct prefix length*, not for each route; only the regular expressions
of a host, and routes of one host and path that differ in other conditions, are tried one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from meshlet.config.regex import compile_regex
from meshlet.routing.conditions import all_hold, compile_conditions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.config.regex import Regex
    from meshlet.config.schema import Match
    from meshlet.http.head import RequestHead
    from meshlet.routing.conditions import Condition

T = TypeVar("T")


class Matcher(NamedTuple):
    """The conditions of a route; None stands for any. Hosts are in lower case, `*.suffix` for all names below."""

    hosts: tuple[bytes, ...] | None = None
    path: bytes | None = None
    prefix: bytes | None = None
    regex: Regex | None = None
    methods: frozenset[bytes] | None = None
    conditions: tuple[Condition, ...] = ()
    written: str = ""  # the regex, for people

    @property
    def catches_all(self) -> bool:
        """Whether every request matches."""
        return self.hosts is None and self._any_path and self.methods is None and not self.conditions

    @property
    def _any_path(self) -> bool:
        return self.path is None and self.regex is None and self.prefix in (None, b"/")

    def matches(self, head: RequestHead, path: bytes) -> bool:
        """Say whether a request to a host that matches matches in all else; `path` is that of the head."""
        return (
            (self.methods is None or head.method in self.methods)
            and (self.path is None or path == self.path)
            and (self.prefix is None or has_prefix(path, self.prefix))
            and (self.regex is None or self.regex.fullmatch(path) is not None)
            and (not self.conditions or all_hold(self.conditions, head))
        )

    def why_not(self, head: RequestHead) -> str | None:
        """Return the first reason why the request does not match, or None where it does."""
        path = head.path
        if self.hosts is not None and not any(host in self.hosts for host in host_patterns(head.host)):
            return f"host is {_shown(head.host)}, not {_alternatives(self.hosts)}"
        if self.path is not None and path != self.path:
            return f"path is {_shown(path)}, not {_shown(self.path)}"
        if self.prefix is not None and not has_prefix(path, self.prefix):
            return f"path is {_shown(path)}, not at or below {_shown(self.prefix)}"
        if self.regex is not None and self.regex.fullmatch(path) is None:
            return f"path is {_shown(path)}, not what {self.written} matches"
        if self.methods is not None and head.method not in self.methods:
            return f"method is {_shown(head.method)}, not {_alternatives(sorted(self.methods))}"
        for condition in self.conditions:
            reason = condition.why_not(head)
            if reason is not None:
                return reason
        return None


def compile_match(match: Match) -> Matcher:
    """Compile the conditions of a route."""
    hosts = (match.host,) if isinstance(match.host, str) else match.host
    methods = (match.method,) if isinstance(match.method, str) else match.method
    return Matcher(
        hosts=tuple(dict.fromkeys(host.lower().encode() for host in hosts)) if hosts is not None else None,
        path=match.path.encode() if match.path is not None else None,
        prefix=match.prefix.encode() if match.prefix is not None else None,
        regex=compile_regex(match.regex) if match.regex is not None else None,
        methods=frozenset(method.encode() for method in methods) if methods is not None else None,
        conditions=compile_conditions(match),
        written=match.regex or "",
    )


def has_prefix(path: bytes, prefix: bytes) -> bool:
    """Say whether `path` lies at or below `prefix`, on segment borders: `/v2` takes `/v2/x`, not `/v20`."""
    if not path.startswith(prefix):
        # `OPTIONS *` and the authority of CONNECT are no paths; they go where everything goes.
        return prefix == b"/" and not path.startswith(b"/")
    return len(path) == len(prefix) or prefix.endswith(b"/") or path[len(prefix)] == 0x2F


def host_patterns(host: bytes | None, *, wildcards: bool = True) -> tuple[bytes | None, ...]:
    """Return all host patterns that `host` matches: itself, `*.` and each domain above it, any."""
    if host is None:
        return (None,)
    if not wildcards:
        return (host, None)
    dots = (at for at, byte in enumerate(host) if byte == 0x2E and at > 0)
    return (host, *(b"*" + host[at:] for at in dots), None)


class RouteTable(Generic[T]):
    """Finds the first of `routes` that matches a request."""

    def __init__(self, routes: Iterable[tuple[Matcher, T]]) -> None:
        self._routes = tuple(routes)
        #: where the first route takes everything there is nothing to look up
        self._only = self._routes[0][1] if self._routes and self._routes[0][0].catches_all else None
        indexes: dict[bytes | None, list[tuple[int, Matcher]]] = {}
        for number, (matcher, _) in enumerate(self._routes):
            for host in matcher.hosts or (None,):
                indexes.setdefault(host, []).append((number, matcher))
        self._by_host = {host: _PathIndex(numbered) for host, numbered in indexes.items()}
        self._wildcards = any(host is not None and host.startswith(b"*.") for host in self._by_host)

    def __len__(self) -> int:
        return len(self._routes)

    def match(self, head: RequestHead) -> T | None:
        """Return what the first matching route leads to, or None."""
        if self._only is not None:
            return self._only
        path = head.path
        none = len(self._routes)
        best = none
        for pattern in host_patterns(head.host, wildcards=self._wildcards):
            index = self._by_host.get(pattern)
            if index is not None:
                best = index.first(head, path, best)
        return self._routes[best][1] if best < none else None

    def explain(self, head: RequestHead) -> list[tuple[int, str | None]]:
        """Return why each route, by its number, does not take a request; the one that does has None, and is the last.

        It tries one route after the other, so it is for people who ask, not for traffic.
        """
        reasons: list[tuple[int, str | None]] = []
        for number, (matcher, _) in enumerate(self._routes):
            reason = matcher.why_not(head)
            reasons.append((number, reason))
            if reason is None:
                break
        return reasons


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

    def first(self, head: RequestHead, path: bytes, best: int) -> int:
        """Return the number of the first route that matches, or `best` where that comes first."""
        best = _first(self._by_path.get(path, ()), head, path, best)
        for length in self._lengths:
            if length > len(path):
                break
            if length == len(path) or path[length] == 0x2F or length == 0:
                best = _first(self._by_prefix.get(path[:length], ()), head, path, best)
        return _first(self._regexes, head, path, best)


def _first(routes: Iterable[tuple[int, Matcher]], head: RequestHead, path: bytes, best: int) -> int:
    for number, matcher in routes:
        if number >= best:
            break
        if matcher.matches(head, path):
            return number
    return best


def _shown(value: bytes | None) -> str:
    return value.decode("utf-8", "backslashreplace") if value is not None else "not given"


def _alternatives(values: Iterable[bytes]) -> str:
    return " or ".join(map(_shown, values))
