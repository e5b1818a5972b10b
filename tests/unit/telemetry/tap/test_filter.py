from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.http.head import HeadLimits
from meshlet.http.request import parse_request
from meshlet.runtime.messages import decode, encode
from meshlet.telemetry.tap.filter import Came, Matcher, TapFilter, glob, parse_filter

if TYPE_CHECKING:
    from meshlet.telemetry.record import Record


def came(line: str = "GET / HTTP/1.1", *fields: str, peer: str = "10.0.0.9", listener: str = "in") -> Came:
    raw = "\r\n".join([line, *(fields or ("Host: a",))]).encode()
    return Came(parse_request(raw, HeadLimits()), peer, listener)


def record(status: int = 200, flag: str = "", cluster: str | None = "app", duration: float = 0.1) -> Record:
    return cast("Record", SimpleNamespace(status=status, flag=flag, cluster_name=cluster, duration=duration))


def early(query: dict[str, str], request: Came) -> bool:
    return Matcher(parse_filter(query.items())).may_match(request)


def late(query: dict[str, str], ended: Record) -> bool:
    return Matcher(parse_filter(query.items())).matches(ended)


def test_no_condition_takes_everything() -> None:
    assert parse_filter([]) == TapFilter()
    assert early({}, came())
    assert late({}, record(0, "DC", None))


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        ("/api", "/api", True),
        ("/api", "/api/v1?x=1", True),
        ("/api", "/apis", False),
        ("/api/", "/api", False),
        ("/", "/anything", True),
        ("/api/*/items", "/api/7/items", True),
        ("/api/*/items", "/api/7/items/8", False),
        ("*.png", "/a/b.png?x=*.gif", True),
        ("*.png", "/a/b.gif?x.png", False),
    ],
)
def test_path(path: str, target: str, expected: bool) -> None:
    assert early({"path": path}, came(f"GET {target} HTTP/1.1")) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"method": "POST"}, True),
        ({"method": "GET,POST"}, True),
        ({"method": "GET"}, False),
        ({"method": "post"}, False),  # methods are case-sensitive (RFC 9110 section 9.1)
        ({"host": "shop.example"}, True),
        ({"host": "*.EXAMPLE"}, True),
        ({"host": "example"}, False),
        ({"peer": "10.0.0.9"}, True),
        ({"peer": "10.0.0.0/8"}, True),
        ({"peer": "10.0.0.8/31"}, True),
        ({"peer": "::1"}, False),
        ({"peer": "192.168.0.0/16"}, False),
        ({"header": "X-User"}, True),
        ({"header": "x-user=alice"}, True),
        ({"header": "x-user=bob"}, False),
        ({"header": "x-request-id=r1"}, True),  # which is not among the head's lines
        ({"header": "x-other"}, False),
        ({"listener": "in"}, True),
        ({"listener": "out"}, False),
        ({"method": "POST", "host": "other"}, False),
    ],
)
def test_what_is_known_when_a_request_comes(query: dict[str, str], expected: bool) -> None:
    request = came("POST / HTTP/1.1", "Host: Shop.example:8080", "X-User: alice", "X-Request-Id: r1")
    assert early(query, request) is expected


def test_a_peer_without_an_address_and_one_in_ipv6_clothes() -> None:
    assert not early({"peer": "0.0.0.0/0"}, came(peer="unknown"))
    assert early({"peer": "10.0.0.0/8"}, came(peer="::ffff:10.1.2.3"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "5xx"}, True),
        ({"status": "404,503"}, True),
        ({"status": "400-499"}, False),
        ({"flag": "UF"}, True),
        ({"flag": "any"}, True),
        ({"flag": "NR"}, False),
        ({"flag": "NR,URX"}, True),
        ({"cluster": "app"}, True),
        ({"cluster": "other"}, False),
        ({"min_duration": "100ms"}, True),
        ({"min_duration": "101ms"}, False),
    ],
)
def test_what_is_known_at_its_end(query: dict[str, str], expected: bool) -> None:
    assert late(query, record(503, "URX,UF")) is expected


def test_no_flag_is_not_any_flag() -> None:
    assert not late({"flag": "any"}, record())
    assert late({"status": "0"}, record(0, "DC"))


def test_several_values_are_alternatives() -> None:
    wanted = parse_filter([("path", "/a"), ("path", "/b"), ("status", "404"), ("status", "5xx")])
    assert wanted.path == ("/a", "/b")
    matcher = Matcher(wanted)
    assert matcher.may_match(came("GET /b HTTP/1.1"))
    assert not matcher.may_match(came("GET /c HTTP/1.1"))
    assert matcher.matches(record(404))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("status", "6xx", "status: found '6xx', expected a status such as 404"),
        ("status", "", "status: found ''"),
        ("method", "GE T", "method: found 'GE T', expected"),
        ("path", "api", "path: found 'api', expected a path such as /api"),
        ("host", "a:80", "host: found 'a:80', expected a host without a port"),
        ("peer", "localhost", "peer: found 'localhost', expected an IP address or a network"),
        ("flag", "uf", "flag: found 'uf', expected a response flag such as UF, or any"),
        ("header", "a b=c", "header: found 'a b=c', expected"),
        ("listener", "", "listener: found '', expected a name"),
        ("min_duration", "3", "min_duration: found '3', expected a duration such as 250ms"),
        ("stauts", "200", "found 'stauts', expected one of method, path"),
    ],
)
def test_mistakes_say_what_was_expected(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        parse_filter([(name, value)])


def test_no_end_of_values() -> None:
    with pytest.raises(ValueError, match=r"^path: expected at most 64 values"):
        parse_filter([("path", "/a")] * 65)


def test_a_filter_travels_between_processes() -> None:
    wanted = parse_filter([("status", "5xx"), ("path", "/a"), ("min_duration", "2s")])
    assert decode(encode(wanted), TapFilter) == wanted


TEXT = st.text("ab*", max_size=12).map(str.encode)


@given(TEXT, st.text("ab", max_size=16).map(str.encode))
def test_a_glob_is_what_the_expression_would_be(pattern: bytes, text: bytes) -> None:
    expression = b".*".join(map(re.escape, pattern.split(b"*")))
    assert glob(pattern)(text) is (re.fullmatch(expression, text) is not None)
