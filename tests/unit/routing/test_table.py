from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.http.head import RequestHead
from meshlet.routing.table import Matcher, RouteTable, has_prefix


def request(target: bytes = b"/", host: bytes | None = b"app", method: bytes = b"GET") -> RequestHead:
    head = RequestHead(method, target, 1, [])
    head.host = host
    return head


def table(*matchers: Matcher) -> RouteTable[int]:
    return RouteTable((matcher, number) for number, matcher in enumerate(matchers))


@pytest.mark.parametrize(
    ("prefix", "path", "matches"),
    [
        (b"/", b"/", True),
        (b"/", b"/a", True),
        (b"/", b"*", True),
        (b"/", b"app:443", True),
        (b"/v2", b"/v2", True),
        (b"/v2", b"/v2/", True),
        (b"/v2", b"/v2/x", True),
        (b"/v2", b"/v20", False),
        (b"/v2", b"/v", False),
        (b"/v2", b"/V2", False),
        (b"/v2", b"*", False),
        (b"/v2/", b"/v2", False),
        (b"/v2/", b"/v2/", True),
        (b"/v2/", b"/v2/x", True),
        (b"/v2/", b"/v2//", True),
        (b"/v2//", b"/v2/x", False),
        (b"/v2//", b"/v2//x", True),
    ],
)
def test_prefixes_end_at_segments(prefix: bytes, path: bytes, matches: bool) -> None:
    assert has_prefix(path, prefix) is matches
    assert table(Matcher(prefix=prefix, host=b"app")).match(request(path)) == (0 if matches else None)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        (None, None, True),
        (None, b"app", True),
        (b"app", b"app", True),
        (b"app", b"app2", False),
        (b"app", None, False),
        (b"*.a.b", b"x.a.b", True),
        (b"*.a.b", b"x.y.a.b", True),
        (b"*.a.b", b"a.b", False),
        (b"*.a.b", b".a.b", False),
        (b"*.a.b", b"xa.b", False),
        (b"*.a.b", b"x.a.b.", False),
        (b"*.a.b", None, False),
        (b"*.b", b"x.a.b", True),
        (b"[::1]", b"[::1]", True),
    ],
)
def test_hosts(pattern: bytes | None, host: bytes | None, matches: bool) -> None:
    assert table(Matcher(host=pattern)).match(request(host=host)) == (0 if matches else None)


def test_the_first_match_wins_whatever_its_kind() -> None:
    matchers = [
        Matcher(path=b"/a/b"),
        Matcher(prefix=b"/a"),
        Matcher(regex=re.compile(rb"/a/.*")),
        Matcher(host=b"app"),
        Matcher(host=b"*.app"),
        Matcher(methods=frozenset({b"GET"})),
        Matcher(),
    ]
    for start in range(len(matchers)):
        for end in range(start + 1, len(matchers) + 1):
            routes = table(*matchers[start:end])
            found = routes.match(request(b"/a/b"))
            assert found == (0 if start != 4 else 1 if end > 5 else None)


def test_a_longer_prefix_does_not_win_over_an_earlier_one() -> None:
    assert table(Matcher(prefix=b"/a"), Matcher(prefix=b"/a/b")).match(request(b"/a/b")) == 0
    assert table(Matcher(prefix=b"/a/b"), Matcher(prefix=b"/a")).match(request(b"/a/b")) == 0
    assert table(Matcher(prefix=b"/a/b"), Matcher(prefix=b"/a")).match(request(b"/a/c")) == 1


def test_the_query_plays_no_part() -> None:
    assert table(Matcher(path=b"/a")).match(request(b"/a?b")) == 0
    assert table(Matcher(regex=re.compile(rb"/a"))).match(request(b"/a?/a")) == 0
    assert table(Matcher(prefix=b"/a")).match(request(b"/a?/b")) == 0


def test_regular_expressions_match_the_whole_path() -> None:
    routes = table(Matcher(regex=re.compile(rb"/a[0-9]+")))
    assert routes.match(request(b"/a12")) == 0
    assert routes.match(request(b"/a12/b")) is None
    assert routes.match(request(b"/x/a12")) is None


def test_methods() -> None:
    routes = table(Matcher(methods=frozenset({b"PUT", b"POST"})), Matcher(path=b"/a"))
    assert routes.match(request(b"/a", method=b"POST")) == 0
    assert routes.match(request(b"/a")) == 1
    assert routes.match(request(b"/b", method=b"post")) is None


def test_no_route() -> None:
    assert table().match(request()) is None


@pytest.mark.parametrize(
    ("matcher", "catches"),
    [
        (Matcher(), True),
        (Matcher(prefix=b"/"), True),
        (Matcher(prefix=b"/a"), False),
        (Matcher(path=b"/"), False),
        (Matcher(host=b"app"), False),
        (Matcher(methods=frozenset({b"GET"})), False),
        (Matcher(regex=re.compile(b".*")), False),
    ],
)
def test_what_catches_all(matcher: Matcher, catches: bool) -> None:
    assert matcher.catches_all is catches


@pytest.mark.parametrize("kind", ["prefix", "path", "host", "wildcard"])
def test_a_thousand_routes_are_not_looked_at_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    original = Matcher.matches

    def matches(self: Matcher, path: bytes, method: bytes) -> bool:
        nonlocal looked_at
        looked_at += 1
        return original(self, path, method)

    monkeypatch.setattr(Matcher, "matches", matches)
    of_kind = {
        "prefix": lambda n: Matcher(prefix=b"/p%d" % n),
        "path": lambda n: Matcher(path=b"/p%d/x" % n),
        "host": lambda n: Matcher(host=b"h%d.a" % n, prefix=b"/"),
        "wildcard": lambda n: Matcher(host=b"*.h%d.a" % n),
    }[kind]
    routes = table(*map(of_kind, range(1000)))
    hosts = {"host": b"h777.a", "wildcard": b"x.h777.a"}
    assert routes.match(request(b"/p777/x", hosts.get(kind, b"app"))) == 777
    assert looked_at == 1


# --- against a scan ---

SEGMENTS = st.lists(st.sampled_from([b"", b"a", b"b", b"aa", b"a.b"]), max_size=4)
PATHS = st.one_of(SEGMENTS.map(lambda parts: b"/" + b"/".join(parts)), st.sampled_from([b"*", b"a.b:443"]))
LABELS = st.lists(st.sampled_from([b"a", b"b", b"aa"]), min_size=1, max_size=4).map(b".".join)
METHODS = st.sampled_from([b"GET", b"POST", b"get"])
MATCHERS = st.builds(
    lambda host, kind, path, methods: Matcher(
        host=host,
        methods=methods,
        **({} if kind is None else {kind: re.compile(path) if kind == "regex" else path}),  # type: ignore[arg-type]
    ),
    st.one_of(st.none(), LABELS, LABELS.map(lambda host: b"*." + host)),
    st.sampled_from([None, "path", "prefix", "regex"]),
    SEGMENTS.map(lambda parts: b"/" + b"/".join(parts)),
    st.one_of(st.none(), st.frozensets(METHODS, min_size=1)),
)


def scan(matchers: list[Matcher], host: bytes | None, path: bytes, method: bytes) -> int | None:
    for number, matcher in enumerate(matchers):
        if matcher.host is not None:
            if host is None:
                continue
            if matcher.host.startswith(b"*."):
                labels = host.split(b".")
                if matcher.host[2:] not in {b".".join(labels[n:]) for n in range(1, len(labels))}:
                    continue
            elif host != matcher.host:
                continue
        if matcher.methods is not None and method not in matcher.methods:
            continue
        if matcher.path is not None and matcher.path != path:
            continue
        if matcher.regex is not None and not matcher.regex.fullmatch(path):
            continue
        if matcher.prefix is not None and not re.match(
            b".*" if matcher.prefix == b"/" else re.escape(matcher.prefix.removesuffix(b"/")) + b"(/|$)", path
        ):
            continue
        if matcher.prefix is not None and matcher.prefix.endswith(b"/") and path + b"/" == matcher.prefix:
            continue
        return number
    return None


@settings(deadline=None, max_examples=400)
@given(
    matchers=st.lists(MATCHERS, max_size=12),
    host=st.one_of(st.none(), LABELS),
    path=PATHS,
    method=METHODS,
    query=st.sampled_from([b"", b"?", b"?/a/b"]),
)
def test_the_table_finds_what_a_scan_finds(
    matchers: list[Matcher], host: bytes | None, path: bytes, method: bytes, query: bytes
) -> None:
    target = path + query if path.startswith(b"/") else path
    assert table(*matchers).match(request(target, host, method)) == scan(matchers, host, path, method)
