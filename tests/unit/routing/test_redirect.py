from __future__ import annotations

from typing import Any

import pytest

from meshlet.config.schema import Match, Redirect
from meshlet.http.head import HeadLimits
from meshlet.http.request import parse_request
from meshlet.routing.redirect import compile_redirect


def location(redirect: Redirect, target: str, host: str, *, scheme: bytes = b"http", **match: Any) -> str:
    head = parse_request(f"GET {target} HTTP/1.1\r\nx-a: 1\r\nHost: {host}".encode(), HeadLimits())
    return compile_redirect(redirect, Match(**match))(head, scheme).decode()


# What Envoy answers, but that a port is left out wherever the scheme implies it.
@pytest.mark.parametrize(
    ("keys", "host", "expected"),
    [
        ({}, "app", "http://app/a/x?q=1"),
        ({}, "APP:8080", "http://app:8080/a/x?q=1"),
        ({}, "app:80", "http://app/a/x?q=1"),
        ({}, "app:", "http://app/a/x?q=1"),
        ({}, "[::1]:8080", "http://[::1]:8080/a/x?q=1"),
        ({"host": "new.test"}, "app", "http://new.test/a/x?q=1"),
        ({"host": "new.test"}, "app:8080", "http://new.test/a/x?q=1"),
        ({"host": "::1"}, "app:8080", "http://[::1]/a/x?q=1"),
        ({"host": "new.test", "port": 99}, "app:8080", "http://new.test:99/a/x?q=1"),
        ({"port": 99}, "app", "http://app:99/a/x?q=1"),
        ({"port": 99}, "app:8080", "http://app:99/a/x?q=1"),
        ({"port": 80}, "app:8080", "http://app/a/x?q=1"),
        ({"scheme": "https"}, "app", "https://app/a/x?q=1"),
        ({"scheme": "https"}, "app:8080", "https://app:8080/a/x?q=1"),
        ({"scheme": "https"}, "app:80", "https://app/a/x?q=1"),
        ({"scheme": "https", "port": 443}, "app:8080", "https://app/a/x?q=1"),
        ({"scheme": "https", "port": 80}, "app:8080", "https://app:80/a/x?q=1"),
        ({"scheme": "https", "port": 8443}, "app:8080", "https://app:8443/a/x?q=1"),
        ({"scheme": "http"}, "app:443", "http://app:443/a/x?q=1"),
        ({"scheme": "https", "host": "new.test"}, "app:8080", "https://new.test/a/x?q=1"),
        ({"path": "/n"}, "app", "http://app/n?q=1"),
        ({"path": "/n", "strip_query": True}, "app", "http://app/n"),
        ({"strip_query": True}, "app", "http://app/a/x"),
    ],
)
def test_what_stays_and_what_goes(keys: dict[str, Any], host: str, expected: str) -> None:
    assert location(Redirect(**keys), "/a/x?q=1", host) == expected


def test_from_https() -> None:
    assert location(Redirect(path="/n"), "/a", "app:443", scheme=b"https") == "https://app/n"
    assert location(Redirect(scheme="http"), "/a", "app:443", scheme=b"https") == "http://app/a"
    assert location(Redirect(path="/n"), "/a", "app:80", scheme=b"https") == "https://app:80/n"


@pytest.mark.parametrize(
    ("match", "target", "expected"),
    [
        ({"prefix": "/a"}, "/a/x?q", "http://app/b/x?q"),
        ({"prefix": "/a"}, "/a", "http://app/b"),
        ({"prefix": "/a/"}, "/a/x", "http://app/b/x"),
        ({"path": "/a"}, "/a?q", "http://app/b?q"),
        ({"regex": "/a.*"}, "/a/x?q", "http://app/b?q"),
        ({}, "/a", "http://app/b/a"),
    ],
)
def test_prefix(match: dict[str, Any], target: str, expected: str) -> None:
    assert location(Redirect(prefix="/b"), target, "app", **match) == expected


def test_what_has_no_path() -> None:
    for line in ("OPTIONS *", "CONNECT app:8080"):
        head = parse_request(f"{line} HTTP/1.1\r\nHost: app:8080".encode(), HeadLimits())
        redirect = compile_redirect(Redirect(scheme="https", port=8443), Match())
        assert redirect(head, b"http") == b"https://app:8443/"


def test_a_client_that_gave_no_host() -> None:
    head = parse_request(b"GET //evil.example/x?q HTTP/1.0", HeadLimits())
    assert compile_redirect(Redirect(scheme="https"), Match())(head, b"http") == b"/evil.example/x?q"
    assert compile_redirect(Redirect(host="new.test"), Match())(head, b"http") == b"http://new.test//evil.example/x?q"
