from __future__ import annotations

from typing import Any

import pytest

from meshlet.config.schema import Match, ValueMatch
from meshlet.http.head import HeadLimits, RequestHead
from meshlet.http.request import parse_request
from meshlet.routing.conditions import all_hold, compile_conditions, compile_header_conditions


def parsed(*fields: str, target: str = "/", method: str = "GET") -> RequestHead:
    return parse_request("\r\n".join([f"{method} {target} HTTP/1.1", "Host: App:80", *fields]).encode(), HeadLimits())


def holds(name: str, value: str | ValueMatch, *fields: str) -> bool:
    (condition,) = conditions = compile_header_conditions({name: value})
    head = parsed(*fields)
    held = all_hold(conditions, head)
    assert held is condition.holds(head)
    assert held is (condition.why_not(head) is None)
    return held


def value_match(kind: str, value: Any, *, invert: bool) -> ValueMatch:
    return ValueMatch(**{kind: value}, invert=invert)


@pytest.mark.parametrize(
    ("kind", "value", "fields", "held"),
    [
        ("exact", "1", ["x-a: 1"], True),
        ("exact", "1", ["X-A:  1\t"], True),
        ("exact", "a", ["x-a: A"], False),
        ("exact", "", ["x-a:"], True),
        ("exact", "ü", ["x-a: ü"], True),
        ("exact", "2", ["x-a: 1", "x-a: 2"], True),
        ("exact", "1, 2", ["x-a: 1", "x-a: 2"], False),
        ("exact", "1", ["x-a: 1, 2"], False),
        ("prefix", "ab", ["x-a: abc"], True),
        ("prefix", "bc", ["x-a: abc"], False),
        ("prefix", "2", ["x-a: 1", "x-a: 2"], True),
        ("regex", "b", ["x-a: abc"], False),
        ("regex", "[a-c]+", ["x-a: abc"], True),
        ("regex", "(?i)ABC", ["x-a: abc"], True),
        ("regex", "a.c", ["x-a: a\xffc"], False),  # two bytes in UTF-8
        ("regex", "a..c", ["x-a: a\xffc"], True),
    ],
)
@pytest.mark.parametrize("invert", [False, True])
def test_values(kind: str, value: str, fields: list[str], held: bool, invert: bool) -> None:
    assert holds("x-a", value_match(kind, value, invert=invert), *fields) is (held is not invert)


@pytest.mark.parametrize("kind", ["exact", "prefix", "regex"])
@pytest.mark.parametrize("invert", [False, True])
def test_what_is_absent_has_no_value_to_hold(kind: str, invert: bool) -> None:
    assert not holds("x-a", value_match(kind, "", invert=invert), "x-ab: 1", "x: 1")


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("fields", [[], ["x-a:"], ["x-a: 1", "x-a: 2"]])
def test_presence(present: bool, invert: bool, fields: list[str]) -> None:
    match = ValueMatch(present=present, invert=invert)
    assert holds("x-a", match, *fields) is ((bool(fields) is present) is not invert)


def test_text_alone_is_exact() -> None:
    assert holds("X-A", "1", "x-a: 1")
    assert not holds("X-A", "1", "x-a: 11")


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("host", "App:80", "x: y"),
        ("x-forwarded-for", "1.2.3.4, ::1", "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: ::1"),
        ("x-forwarded-proto", "https", "X-Forwarded-Proto: HTTPS"),
        ("x-request-id", "abc", "X-Request-ID: abc"),
        ("upgrade", "websocket", "Connection: upgrade\r\nUpgrade: websocket"),
        ("transfer-encoding", "chunked", "Transfer-Encoding: Chunked"),
        ("x-envoy-max-retries", "3", "X-Envoy-Max-Retries: 3"),
        ("x-envoy-other", "3", "X-Envoy-Other: 3"),
    ],
)
def test_what_the_codec_keeps_apart_is_seen(name: str, value: str, field: str) -> None:
    assert holds(name, value, *field.split("\r\n"))
    assert not holds(name, ValueMatch(exact=value, invert=True), *field.split("\r\n"))
    if name != "host":
        assert not holds(name, value)


@pytest.mark.parametrize(
    ("name", "value", "target", "held"),
    [
        ("a", "1", "/?a=1", True),
        ("a", "1", "/", False),
        ("a", "1", "/?", False),
        ("a", "1", "/?b=2&a=1", True),
        ("a", "1", "/?a=1&a=2", True),
        ("a", "2", "/?a=1&a=2", False),
        ("a", "", "/?a", True),
        ("a", "", "/?a=", True),
        ("a", "", "/?b", False),
        ("a", "x y", "/?a=x%20y", True),
        ("a", "x+y", "/?a=x+y", True),
        ("a", "x y", "/?a=x+y", False),
        ("a", "1&b", "/?a=1%26b", True),
        ("a", "%zz", "/?a=%zz", True),
        ("a", "ü", "/?a=%C3%BC", True),
        ("a b", "1", "/?a%20b=1", True),
        ("A", "1", "/?a=1", False),
        ("a", "1=2", "/?a=1=2", True),
        ("b", "2", "/?a=1;b=2", False),
        ("a", "1?b=2", "/?a=1?b=2", True),
        ("b", "2", "/?&&b=2", True),
        ("a", ValueMatch(present=True), "/?a", True),
        ("a", ValueMatch(present=False), "/?b", True),
        ("a", ValueMatch(present=False), "/?a", False),
        ("a", ValueMatch(prefix="x "), "/?a=x%20y", True),
        ("a", ValueMatch(regex="x.*"), "/?a=x%0Ay", True),
        ("a", ValueMatch(regex="x"), "/?a=xy", False),
        ("a", ValueMatch(exact="1", invert=True), "/?a=2", True),
        ("a", ValueMatch(exact="1", invert=True), "/", False),
    ],
)
def test_query(name: str, value: str | ValueMatch, target: str, held: bool) -> None:
    assert all_hold(compile_conditions(Match(query={name: value})), parsed(target=target)) is held


def test_all_of_them_must_hold() -> None:
    conditions = compile_conditions(Match(headers={"x-a": "1", "x-b": "2"}, query={"c": "3"}))
    assert all_hold(conditions, parsed("x-a: 1", "x-b: 2", target="/?c=3"))
    assert not all_hold(conditions, parsed("x-a: 1", "x-b: 2"))
    assert not all_hold(conditions, parsed("x-a: 1", target="/?c=3"))
    assert all_hold((), parsed())
