from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.http.head import HeadLimits, RequestHead, ResponseHead
from meshlet.http.request import parse_request
from meshlet.http.response import parse_response
from meshlet.http.template import Template, parse

REQUEST = b"""\
GET /a/x?q=1 HTTP/1.1
Host: App:80
X-User: alice
X-Twice: 1
X-Twice: 2
X-Empty:
X-Request-ID: id-7
X-Forwarded-For: 192.0.2.9
X-Forwarded-For: 192.0.2.8
X-Forwarded-Proto: HTTPS"""
RESPONSE = b"""\
HTTP/1.1 418 Teapot
Server: app
X-Twice: 3
X-Twice: 4"""


def head_of(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


@dataclass
class Known:
    head: RequestHead = field(default_factory=lambda: parse_request(head_of(REQUEST), HeadLimits()))
    response_head: ResponseHead | None = field(
        default_factory=lambda: parse_response(head_of(RESPONSE), HeadLimits(), b"GET")
    )
    remote: str = "192.0.2.7:4711"
    local: str = "[2001:db8::1]:80"
    upstream_host: str | None = "192.0.2.3:8080"
    cluster_name: str | None = "reviews"
    route_name: str | None = "r1"
    attempts: int = 2
    started_wall: float = 1767323045.0999


def render(text: str, facts: Known | None = None) -> str:
    return parse(text).render(facts or Known()).decode()


# The values of request fields are what Envoy makes of the same request.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("100%%", "100%"),
        ("%%REQ(x-user)%%", "%REQ(x-user)%"),
        ("%REQ(x-user)%", "alice"),
        ("%REQ(X-USER)%", "alice"),
        ("<%REQ(x-user)%%REQ(x-user)%>", "<alicealice>"),
        ("%REQ(x-none)%", ""),
        ("a%REQ(x-none)%b", "ab"),
        ("%REQ(x-none?x-user)%", "alice"),
        ("%REQ(x-user?x-twice)%", "alice"),
        ("%REQ(x-empty?x-user)%", ""),
        ("%REQ(x-none?x-none)%", ""),
        ("%REQ(x-user):3%", "ali"),
        ("%REQ(x-user):0%", ""),
        ("%REQ(x-user):99999999999999999999%", "alice"),
        ("%REQ(x-none):3%", ""),
        ("%REQ(x-none?x-user):2%", "al"),
        ("%REQ(x-twice)%", "1"),
        ("%REQ(:path)%", "/a/x?q=1"),
        ("%REQ(:PATH):4%", "/a/x"),
        ("%REQ(:method)%", "GET"),
        ("%REQ(:authority)%", "App:80"),
        ("%REQ(x-envoy-original-path?:path)%", "/a/x?q=1"),
        ("%REQ(host)%", "App:80"),
        ("%REQ(x-request-id)%", "id-7"),
        ("%REQ(x-forwarded-for)%", "192.0.2.9, 192.0.2.8"),
        ("%REQ(x-forwarded-proto)%", "https"),
        ("%RESP(server)%", "app"),
        ("%RESP(Server):2%", "ap"),
        ("%RESP(x-none?x-twice)%", "3"),
        ("%RESP(x-none)%", ""),
        ("%RESP(:status)%", "418"),
        ("%RESPONSE_CODE%", "418"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "192.0.2.7:4711"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "192.0.2.7"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "[2001:db8::1]:80"),
        ("%UPSTREAM_HOST%", "192.0.2.3:8080"),
        ("%UPSTREAM_REMOTE_ADDRESS%", "192.0.2.3:8080"),
        ("%UPSTREAM_CLUSTER%", "reviews"),
        ("%ROUTE_NAME%", "r1"),
        ("%PROTOCOL%", "HTTP/1.1"),
        ("%START_TIME%", "2026-01-02T03:04:05.099Z"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2"),
        ("%HOSTNAME%", os.uname().nodename),
    ],
)
def test_values(text: str, value: str) -> None:
    assert render(text) == value


@pytest.mark.parametrize(
    ("remote", "host"), [("[2001:db8::2]:4711", "2001:db8::2"), ("unix:", "unix:"), ("127.0.0.1:1", "127.0.0.1")]
)
def test_the_client_without_its_port(remote: str, host: str) -> None:
    assert render("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", Known(remote=remote)) == host


def test_what_is_not_known_yet_is_empty() -> None:
    nothing = Known(response_head=None, upstream_host=None, cluster_name=None, route_name=None, attempts=0)
    text = "%UPSTREAM_HOST%%UPSTREAM_CLUSTER%%ROUTE_NAME%%RESPONSE_CODE%%UPSTREAM_REQUEST_ATTEMPT_COUNT%%RESP(server)%"
    assert render(text, nothing) == ""


def test_the_version_that_the_client_spoke() -> None:
    assert render("%PROTOCOL%", Known(head=RequestHead(b"GET", b"/", 0, [b"GET / HTTP/1.0"]))) == "HTTP/1.0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%NOSUCH%", "one of the placeholders REQ(…), RESP(…), DOWNSTREAM_REMOTE_ADDRESS,"),
        ("%NOSUCH%", "not %NOSUCH%"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "not %DOWNSTREAM_PEER_URI_SAN%"),
        ("50% off", "%% for a percent sign, not '% off'"),
        ("%", "%% for a percent sign, not '%'"),
        ("%req(x)%", "not '%req(x)%'"),
        ("%REQ(x-user%", "not '%REQ(x-user%'"),
        ("%REQ(x):%", "not '%REQ(x):%'"),
        ("%REQ(x):-1%", "not '%REQ(x):-1%'"),
        ("%START_TIME(%Y)%", "not '%START_TIME(%Y)%'"),
        ("%REQ%", "%REQ(NAME)% or %REQ(NAME?ALTERNATIVE)%"),
        ("%REQ()%", "not REQ()"),
        ("%REQ(a?b?c)%", "not REQ(a?b?c)"),
        ("%REQ(a b)%", "not REQ(a b)"),
        ("%REQ(:scheme)%", ":authority, :method, :path"),
        ("%RESP(:path)%", "names of fields or :status"),
        ("%PROTOCOL()%", "%PROTOCOL% with neither an argument nor a length"),
        ("%PROTOCOL:3%", "%PROTOCOL% with neither an argument nor a length"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)


def test_what_is_constant_is_so() -> None:
    assert parse("a b").constant == b"a b"
    assert parse("5 %%").constant == b"5 %"
    assert parse("").constant == b""
    assert parse("on %HOSTNAME%").constant == f"on {os.uname().nodename}".encode()
    assert parse("%PROTOCOL%").constant is None


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("a", False),
        ("%REQ(x)% %RESP(x)% %PROTOCOL%", False),
        ("%PROTOCOL% %UPSTREAM_HOST%", True),
        ("%UPSTREAM_REMOTE_ADDRESS% a", True),
        ("%UPSTREAM_CLUSTER%", True),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", True),
    ],
)
def test_what_is_known_only_with_an_endpoint(text: str, needs: bool) -> None:
    assert parse(text).needs_upstream is needs


@given(st.text(st.sampled_from("%()?:ABREQSP_x-1 "), max_size=20))
def test_any_text_is_a_template_or_a_mistake(text: str) -> None:
    try:
        template: Template | None = parse(text)
    except ValueError:
        template = None
    if template is not None:
        assert b"\n" not in template.render(Known())


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_text_without_placeholders_stays(text: str) -> None:
    assert parse(text.replace("%", "%%")).constant == text.encode()
