from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import Match, ValueMatch
from meshlet.http.head import HeadLimits, RequestHead
from meshlet.http.request import parse_request
from meshlet.routing.conditions import compile_header_conditions
from meshlet.routing.table import Matcher, RouteTable, compile_match, has_prefix


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
    assert table(Matcher(prefix=prefix, hosts=(b"app",))).match(request(path)) == (0 if matches else None)


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
    assert table(Matcher(hosts=None if pattern is None else (pattern,))).match(request(host=host)) == (
        0 if matches else None
    )


def test_the_first_match_wins_whatever_its_kind() -> None:
    matchers = [
        Matcher(path=b"/a/b"),
        Matcher(prefix=b"/a"),
        Matcher(regex=re.compile(rb"/a/.*")),
        Matcher(hosts=(b"app",)),
        Matcher(hosts=(b"*.app",)),
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
        (Matcher(hosts=(b"app",)), False),
        (Matcher(methods=frozenset({b"GET"})), False),
        (Matcher(regex=re.compile(b".*")), False),
        (Matcher(conditions=compile_header_conditions({"x-a": "1"})), False),
    ],
)
def test_what_catches_all(matcher: Matcher, catches: bool) -> None:
    assert matcher.catches_all is catches


@pytest.mark.parametrize("kind", ["prefix", "path", "host", "wildcard"])
def test_a_thousand_routes_are_not_looked_at_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    original = Matcher.matches

    def matches(self: Matcher, head: RequestHead, path: bytes) -> bool:
        nonlocal looked_at
        looked_at += 1
        return original(self, head, path)

    monkeypatch.setattr(Matcher, "matches", matches)
    of_kind = {
        "prefix": lambda n: Matcher(prefix=b"/p%d" % n),
        "path": lambda n: Matcher(path=b"/p%d/x" % n),
        "host": lambda n: Matcher(hosts=(b"h%d.a" % n, b"i%d.a" % n), prefix=b"/"),
        "wildcard": lambda n: Matcher(hosts=(b"*.h%d.a" % n,)),
    }[kind]
    routes = table(*map(of_kind, range(1000)))
    hosts = {"host": b"h777.a", "wildcard": b"x.h777.a"}
    assert routes.match(request(b"/p777/x", hosts.get(kind, b"app"))) == 777
    assert looked_at == 1


# --- what a config says ---


def compiled(**keys: Any) -> RouteTable[str]:
    return RouteTable([(compile_match(Match(**keys)), "it"), (compile_match(Match()), "rest")])


def parsed(target: str, *fields: str, method: str = "GET") -> RequestHead:
    return parse_request("\r\n".join([f"{method} {target} HTTP/1.1", "Host: App:80", *fields]).encode(), HeadLimits())


@pytest.mark.parametrize(
    ("keys", "takes"),
    [
        ({}, True),
        ({"host": "APP"}, True),
        ({"host": ("other", "app", "app")}, True),
        ({"host": ("other", "*.app")}, False),
        ({"path": "/a/b"}, True),
        ({"prefix": "/a"}, True),
        ({"regex": "/a/[a-c]"}, True),
        ({"regex": "/a"}, False),
        ({"method": "GET"}, True),
        ({"method": ("PUT", "POST")}, False),
        ({"headers": {"x-user": "alice"}}, True),
        ({"headers": {"x-user": "bob"}}, False),
        ({"query": {"page": "2"}}, True),
        ({"headers": {"x-user": "alice"}, "query": {"page": "3"}}, False),
        ({"host": "app", "prefix": "/a", "method": "GET", "headers": {"X-User": "alice"}}, True),
    ],
)
def test_compile_match(keys: dict[str, Any], takes: bool) -> None:
    head = parsed("/a/b?page=2", "X-User: alice")
    assert compiled(**keys).match(head) == ("it" if takes else "rest")
    assert (compiled(**keys).explain(head)[-1] == (0, None)) is takes


def test_no_byte_of_a_path_gets_past_an_expression_for_all() -> None:
    head = request(b"/\xff\xfe\x80", b"app")
    assert compiled(regex="/.*").match(head) == "it"


def test_only_expressions_need_re2() -> None:
    script = (
        "import sys; from meshlet.config.schema import Match; from meshlet.routing.table import compile_match\n"
        "compile_match(Match(prefix='/', headers={'x-a': '1'})); print('re2' in sys.modules)\n"
        "compile_match(Match(regex='/a')); print('re2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout == b"False\nTrue\n"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"host": "b.example"}, "host is app, not b.example"),
        ({"host": ("b.example", "*.c")}, "host is app, not b.example or *.c"),
        ({"path": "/a"}, "path is /a/b, not /a"),
        ({"prefix": "/a/b/c"}, "path is /a/b, not at or below /a/b/c"),
        ({"regex": "/[xy]"}, "path is /a/b, not what /[xy] matches"),
        ({"method": ("PUT", "POST")}, "method is GET, not POST or PUT"),
        ({"headers": {"x-none": "1"}}, "header x-none is absent"),
        ({"headers": {"X-User": "bob"}}, 'header x-user is "alice", not "bob"'),
        ({"headers": {"x-user": ValueMatch(present=False)}}, "header x-user is present"),
        (
            {"headers": {"x-user": ValueMatch(prefix="al", invert=True)}},
            'header x-user is "alice", beginning with "al"',
        ),
        ({"headers": {"x-two": ValueMatch(regex="c|d")}}, 'header x-two is "a", "b", not what c|d matches'),
        ({"query": {"page": "3"}}, 'query parameter page is "2", not "3"'),
        ({"query": {"size": ValueMatch(present=True)}}, "query parameter size is absent"),
    ],
)
def test_explain(keys: dict[str, Any], reason: str) -> None:
    head = parsed("/a/b?page=2", "X-User: alice", "x-two: a", "x-two: b")
    assert compiled(**keys).explain(head) == [(0, reason), (1, None)]


def test_explain_without_a_host() -> None:
    assert compiled(host="app").explain(request(b"/", None))[0] == (0, "host is not given, not app")


def test_explain_where_no_route_matches() -> None:
    assert [number for number, _ in table(Matcher(path=b"/a"), Matcher(path=b"/b")).explain(request())] == [0, 1]


# --- against a scan ---

SEGMENTS = st.lists(st.sampled_from(["", "a", "b", "aa", "a.b"]), max_size=4).map("/".join).map("/{}".format)
LABELS = st.lists(st.sampled_from(["a", "b", "aa"]), min_size=1, max_size=4).map(".".join)
HOSTS = st.one_of(LABELS, LABELS.map("*.{}".format))
METHODS = st.sampled_from(["GET", "POST", "get"])
WORDS = st.sampled_from(["", "1", "2", "12"])
VALUES = st.one_of(
    WORDS,
    st.builds(lambda word, invert: ValueMatch(exact=word, invert=invert), WORDS, st.booleans()),
    st.builds(lambda word, invert: ValueMatch(prefix=word, invert=invert), WORDS, st.booleans()),
    st.builds(lambda word, invert: ValueMatch(regex=word + "2?", invert=invert), WORDS, st.booleans()),
    st.builds(lambda present, invert: ValueMatch(present=present, invert=invert), st.booleans(), st.booleans()),
)
CONDITIONS = st.dictionaries(st.sampled_from(["x-a", "X-B", "x-request-id"]), VALUES, max_size=2)
MATCHES = st.builds(
    lambda host, kind, path, method, headers, query: Match(
        host=host, method=method, headers=headers, query=query, **({} if kind is None else {kind: path})
    ),
    st.one_of(st.none(), HOSTS, st.lists(HOSTS, min_size=1, max_size=3).map(tuple)),
    st.sampled_from([None, "path", "prefix", "regex"]),
    SEGMENTS,
    st.one_of(st.none(), METHODS, st.lists(METHODS, min_size=1).map(tuple)),
    CONDITIONS,
    st.dictionaries(st.sampled_from(["a", "b c"]), VALUES, max_size=1),
)
FIELDS = st.lists(st.tuples(st.sampled_from(["X-a", "x-b", "x-request-id"]), WORDS), max_size=4)
PARAMETERS = st.lists(st.sampled_from(["a", "a=1", "a=%31", "%61=12", "b%20c=2", "b+c=1", "=", ""]), max_size=3)


def scan(matches: list[Match], head: RequestHead, fields: list[tuple[str, str]], query: str) -> int | None:
    """Look at one route after the other, in strings and as simply as can be."""
    path, host = head.path.decode(), head.host.decode() if head.host is not None else None
    ids = [value for name, value in fields if name == "x-request-id" and value][:1]
    for number, match in enumerate(matches):
        hosts = (match.host,) if isinstance(match.host, str) else match.host
        methods = (match.method,) if isinstance(match.method, str) else match.method
        found = [
            ([value for name, value in fields if name.lower() == key.lower()] if key != "x-request-id" else ids, value)
            for key, value in match.headers.items()
        ] + [
            ([value for name, value in parse_qsl(query.replace("+", "%2B"), True) if name == key][:1], value)
            for key, value in match.query.items()
        ]
        if (
            (hosts is None or (host is not None and any(of_host(host, pattern) for pattern in hosts)))
            and (methods is None or head.method.decode() in methods)
            and (match.path is None or match.path == path)
            and (match.regex is None or re.fullmatch(match.regex, path))
            and (match.prefix is None or below(path, match.prefix))
            and all(fits(values, value) for values, value in found)
        ):
            return number
    return None


def of_host(host: str, pattern: str) -> bool:
    labels = host.split(".")
    return pattern == host or pattern[2:] in {".".join(labels[n:]) for n in range(1, len(labels)) if pattern[0] == "*"}


def below(path: str, prefix: str) -> bool:
    if prefix == "/":
        return True
    if prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + "/")


def fits(values: list[str], wanted: str | ValueMatch) -> bool:
    match = ValueMatch(exact=wanted) if isinstance(wanted, str) else wanted
    if match.present is not None:
        return (bool(values) == match.present) != match.invert
    return bool(values) and match.invert != any(
        value == match.exact
        or (match.prefix is not None and value.startswith(match.prefix))
        or (match.regex is not None and re.fullmatch(match.regex, value) is not None)
        for value in values
    )


@settings(deadline=None, max_examples=400)
@given(
    matches=st.lists(MATCHES, max_size=8),
    host=st.one_of(st.none(), LABELS),
    path=st.one_of(SEGMENTS, st.sampled_from(["*", "a.b:443"])),
    method=METHODS,
    fields=FIELDS,
    parameters=PARAMETERS,
)
def test_the_table_finds_what_a_scan_finds(
    matches: list[Match],
    host: str | None,
    path: str,
    method: str,
    fields: list[tuple[str, str]],
    parameters: list[str],
) -> None:
    query = "&".join(parameters) if path.startswith("/") else ""
    kept = [f"{name}: {value}".encode() for name, value in fields if name != "x-request-id"]
    head = RequestHead(method.encode(), f"{path}?{query}".encode() if query else path.encode(), 1, [b"", *kept])
    head.host = host.encode() if host is not None else None
    head.request_id = next((value.encode() for name, value in fields if name == "x-request-id" and value), None)
    routes = RouteTable((compile_match(match), number) for number, match in enumerate(matches))
    expected = scan(matches, head, fields, query)
    assert routes.match(head) == expected
    explained = routes.explain(head)
    assert [number for number, reason in explained if reason is None] == ([] if expected is None else [expected])
    assert len(explained) == (len(matches) if expected is None else expected + 1)
