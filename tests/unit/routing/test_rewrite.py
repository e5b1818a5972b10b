from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import Match, RegexRewrite, Rewrite
from meshlet.http.head import HeadLimits, RequestHead
from meshlet.http.request import parse_request
from meshlet.routing.rewrite import compile_rewrite
from meshlet.routing.table import has_prefix


def parsed(target: str, method: str = "GET", *, fields: tuple[str, ...] = ("X-A: 1", "Host: app")) -> RequestHead:
    return parse_request("\r\n".join([f"{method} {target} HTTP/1.1", *fields]).encode(), HeadLimits())


def rewritten(target: str, rewrite: Rewrite, **match: Any) -> str:
    head = parsed(target)
    compile_rewrite(rewrite, Match(**match))(head)
    assert head.lines == [b"GET %b HTTP/1.1" % head.target, b"X-A: 1", b"Host: app"]
    return head.target.decode()


# The first nine are the table of the Kubernetes Gateway API (ReplacePrefixMatch).
@pytest.mark.parametrize(
    ("old", "new", "target", "expected"),
    [
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "/", "/foo/bar", "/bar"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/foo", "/xyz/", "/foo", "/xyz/"),
        ("/foo/", "/", "/foo/bar", "/bar"),
        ("/foo/", "/", "/foo/", "/"),
        ("/", "/xyz", "/", "/xyz"),
        ("/", "/xyz", "/bar", "/xyz/bar"),
        ("/", "/xyz/", "/bar", "/xyz/bar"),
        ("/", "/", "/bar", "/bar"),
        ("/foo", "/xyz", "/foo//bar", "/xyz//bar"),
        ("/foo", "/", "/foo//evil.example/x", "/evil.example/x"),
        ("/foo", "/xyz", "/foo?a=/foo", "/xyz?a=/foo"),
        ("/foo", "/xyz", "/foo/bar?", "/xyz/bar?"),
    ],
)
def test_prefix(old: str, new: str, target: str, expected: str) -> None:
    assert rewritten(target, Rewrite(prefix=new), prefix=old) == expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"path": "/a/b"}, "/new?q"),
        ({"regex": "/a/.*"}, "/new?q"),
        ({}, "/new/a/b?q"),
        ({"host": "app"}, "/new/a/b?q"),
    ],
)
def test_prefix_where_the_route_has_none(match: dict[str, Any], expected: str) -> None:
    assert rewritten("/a/b?q", Rewrite(prefix="/new"), **match) == expected


@pytest.mark.parametrize("match", [{}, {"prefix": "/a"}, {"path": "/a/b"}, {"regex": "/a/.*"}])
def test_path(match: dict[str, Any]) -> None:
    assert rewritten("/a/b?q=1", Rewrite(path="/new"), **match) == "/new?q=1"


# Envoy's results, but for those marked.
@pytest.mark.parametrize(
    ("pattern", "substitution", "target", "expected"),
    [
        ("x", "y", "/a/xx/x?x", "/a/yy/y?x"),
        ("^/a/(.*)$", r"/b/\1", "/a/xx/x?x", "/b/xx/x?x"),
        ("^/(a)/(x)?", r"/\2\1", "/a/y", "/ay"),
        ("x", r"<\0>", "/a/x", "/a/<x>"),
        ("x", r"\\1", "/a/x", r"/a/\1"),
        ("(x)", r"\11", "/a/x", "/a/x1"),
        ("(?:/z)*", "/-", "/a/z/z", "/-//-a/-"),
        (".*", "/b", "/a/x", "/b"),
        ("nothing", "/b", "/a/x", "/a/x"),
        (".*", "", "/a/x", "/"),  # Envoy takes an empty result for none
        ("^/a/", "", "/a/x", "/x"),  # Envoy sends `GET x`
        ("^/a", "", "/a//x", "/x"),  # Envoy sends `GET //x`, which is a host to some
        ("x", "y", "//x", "//y"),
    ],
)
def test_regex(pattern: str, substitution: str, target: str, expected: str) -> None:
    rule = RegexRewrite(pattern=pattern, substitution=substitution)
    assert rewritten(target, Rewrite(regex=rule)) == expected


def test_bytes_beyond_ascii_pass() -> None:
    head = RequestHead(b"GET", b"/a/\xff\xfe", 1, [b"GET /a/\xff\xfe HTTP/1.1"])
    compile_rewrite(Rewrite(regex=RegexRewrite(pattern="/a(.*)", substitution=r"/b\1")), Match())(head)
    assert head.target == b"/b/\xff\xfe"


@pytest.mark.parametrize(
    ("host", "name"), [("New.test:81", b"new.test"), ("new.test", b"new.test"), ("[::1]:80", b"[::1]")]
)
def test_host(host: str, name: bytes) -> None:
    head = parsed("/a")
    compile_rewrite(Rewrite(host=host), Match())(head)
    assert head.lines == [b"GET /a HTTP/1.1", b"X-A: 1", b"Host: " + host.encode()]
    assert head.host == name


def test_host_for_a_client_that_gave_none() -> None:
    head = parse_request(b"GET /a HTTP/1.0\r\nX-A: 1", HeadLimits())
    compile_rewrite(Rewrite(path="/b"), Match())(head)
    assert head.lines == [b"GET /b HTTP/1.0", b"X-A: 1"]
    compile_rewrite(Rewrite(host="app"), Match())(head)
    assert head.lines == [b"GET /b HTTP/1.1", b"Host: app", b"X-A: 1"]


def test_what_has_no_path() -> None:
    everything = Rewrite(prefix="/b", host="new")
    asterisk = parsed("*", "OPTIONS")
    compile_rewrite(everything, Match())(asterisk)
    assert asterisk.lines == [b"OPTIONS * HTTP/1.1", b"X-A: 1", b"Host: new"]
    tunnel = parsed("app:443", "CONNECT")
    before = list(tunnel.lines)
    compile_rewrite(everything, Match())(tunnel)
    assert (tunnel.target, tunnel.lines) == (b"app:443", before)


SEGMENTS = st.lists(st.sampled_from(["", "a", "b", "%20", ":x"]), max_size=4).map("/".join).map("/{}".format)


@settings(deadline=None)
@given(
    target=SEGMENTS,
    query=st.sampled_from(["", "?", "?a=/b"]),
    old=SEGMENTS,
    new=SEGMENTS,
    substitution=st.sampled_from(["", "/", "a", r"\0\0", r"/\0"]),
    pattern=st.sampled_from(["/", "a", "", "/?a", ".*", "(?:^/)?"]),
)
def test_a_target_stays_one(target: str, query: str, old: str, new: str, substitution: str, pattern: str) -> None:
    rewrites = [Rewrite(regex=RegexRewrite(pattern=pattern, substitution=substitution)), Rewrite(path=new)]
    if has_prefix(target.encode(), old.encode()):
        rewrites.append(Rewrite(prefix=new))
    for rewrite in rewrites:
        made = rewritten(target + query, rewrite, prefix=old)
        again = parsed(made)
        assert again.target.decode() == made
        assert made.startswith("/")
        assert made.partition("?")[1:] == (target + query).partition("?")[1:]
        assert not made.startswith("//") or target.startswith("//") or new.startswith("//")
