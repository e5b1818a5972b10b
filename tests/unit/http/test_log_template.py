from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.http.attempt import Attempt
from meshlet.http.head import HeadLimits, RequestHead, ResponseHead, field_value
from meshlet.http.log_operators import find
from meshlet.http.log_template import Attribute, Computed, LogTemplate, RequestField, Source, parse
from meshlet.http.log_time import compile_format, iso_milliseconds
from meshlet.http.request import parse_request
from meshlet.http.response import parse_response

if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = b"""\
GET /new/x?q=1%202&empty=&q=5 HTTP/1.1
Host: new.test
X-User: alice
X-Twice: 1
X-Twice: 2
X-Empty:
X-Request-ID: id-7
X-Forwarded-For: 192.0.2.9
X-Envoy-Max-Retries: 3"""
RESPONSE = b"""\
HTTP/1.1 418 Teapot
X-From: app
X-User: not the request's"""


def _crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


@dataclass(frozen=True)
class Trace:
    trace_id: bytes = b"0af7651916cd43dd8448eb211c80319c"
    span_id: bytes = b"b7ad6b7169203331"


@dataclass(frozen=True)
class Ended:
    """A request that was rewritten, and sent twice."""

    head: RequestHead | None = field(default_factory=lambda: parse_request(_crlf(REQUEST), HeadLimits()))
    response_head: ResponseHead | None = field(
        default_factory=lambda: parse_response(_crlf(RESPONSE), HeadLimits(), b"GET")
    )
    listener_name: str = "in"
    direction: str = "inbound"
    protocol: str = "HTTP/1.1"
    route_name: str | None = None
    route_label: str | None = "prefix /old"
    cluster_name: str | None = "app"
    upstream_host: str | None = "[2001:db8::1]:8080"
    remote: str = "10.0.0.7:4711"
    remote_host: str = "10.0.0.7"
    local: str = "10.0.0.1:80"
    method: bytes | None = b"GET"
    target: bytes | None = b"/old/x?q=1%202&empty=&q=5"
    host: bytes | None = b"old.test"
    scheme: bytes = b"https"
    request_id: bytes | None = b"id-7"
    status: int = 418
    received: int = 5
    sent: int = 7
    flag: str = ""
    error: str = ""
    attempts: int = 2
    tries: Sequence[Attempt] = (Attempt("a:1", "UC"), Attempt("b:2", status=418))
    acted: Sequence[str] = ()
    started_wall: float = 1767323045.0999
    duration: float = 0.0359
    request_seconds: float | None = 0.0019
    response_seconds: float | None = 0.0209
    service_seconds: float | None = 0.0129
    trace: Trace | None = None


ENDED = Ended()
TCP = Ended(
    head=None, response_head=None, protocol="TCP", method=None, target=None, host=None, request_id=None, status=0,
    request_seconds=None, response_seconds=None, service_seconds=None, upstream_host=None, attempts=0, tries=(),
)  # fmt: skip


def taken(source: Source, ended: Ended) -> Any:
    if isinstance(source, Attribute):
        return getattr(ended, source.name)
    if isinstance(source, Computed):
        return source.function(ended)
    head = ended.head if isinstance(source, RequestField) else ended.response_head
    return field_value(head.lines, source.name) if head is not None else None


def value(text: str, ended: Ended = ENDED) -> Any:
    """The value of a sole operator, as JSON has it."""
    operator = parse(text).sole
    assert operator is not None
    return operator.typed([[taken(source, ended)] for source in operator.sources])[0]


def line(text: str, ended: Ended = ENDED) -> str:
    template = parse(text)
    columns = [
        operator.written([[taken(source, ended)] for source in operator.sources]) for operator in template.operators
    ]
    return template.pattern % tuple(column[0] for column in columns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%START_TIME%", "2026-01-02T03:04:05.099Z"),
        ("%START_TIME(%H:%M)%", "03:04"),
        ("%BYTES_RECEIVED%", 5),
        ("%BYTES_SENT%", 7),
        ("%DURATION%", 35),
        ("%REQUEST_DURATION%", 1),
        ("%RESPONSE_DURATION%", 20),
        ("%RESPONSE_TX_DURATION%", 15),
        ("%RESPONSE_CODE%", 418),
        ("%RESPONSE_CODE_DETAILS%", "via_upstream"),
        ("%RESPONSE_FLAGS%", "-"),
        ("%RESPONSE_FLAGS_LONG%", "-"),
        ("%PROTOCOL%", "HTTP/1.1"),
        ("%REQ(:METHOD)%", "GET"),
        ("%REQ(:PATH)%", "/new/x?q=1%202&empty=&q=5"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH)%", "/old/x?q=1%202&empty=&q=5"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):4%", "/old"),
        ("%REQ(:AUTHORITY)%", "new.test"),
        ("%REQ(host)%", "new.test"),
        ("%REQ(X-ENVOY-ORIGINAL-HOST)%", "old.test"),
        ("%REQ(X-ENVOY-ORIGINAL-HOST?:AUTHORITY)%", "old.test"),
        ("%REQ(:SCHEME)%", "https"),
        ("%REQ(X-FORWARDED-PROTO)%", "https"),
        ("%REQ(X-FORWARDED-FOR)%", "192.0.2.9, 10.0.0.7"),
        ("%REQ(X-REQUEST-ID)%", "id-7"),
        ("%REQ(X-ENVOY-MAX-RETRIES)%", "3"),
        ("%REQ(X-USER)%", "alice"),
        ("%REQ(X-USER):3%", "ali"),
        ("%REQ(X-USER):0%", ""),
        ("%REQ(X-TWICE)%", "1"),
        ("%REQ(X-EMPTY)%", ""),
        ("%REQ(X-NONE)%", None),
        ("%REQ(X-NONE):3%", None),
        ("%REQ(X-NONE?X-USER)%", "alice"),
        ("%REQ(X-EMPTY?X-USER)%", ""),
        ("%REQ(X-NONE?:METHOD)%", "GET"),
        ("%RESP(X-FROM)%", "app"),
        ("%RESP(X-USER)%", "not the request's"),
        ("%RESP(:STATUS)%", "418"),
        ("%RESP(X-NONE?:STATUS):2%", "41"),
        ("%RESP(:STATUS?X-FROM)%", "418"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "12"),
        ("%RESP(X-NONE)%", None),
        ("%UPSTREAM_SERVICE_TIME%", 12),
        ("%UPSTREAM_HOST%", "[2001:db8::1]:8080"),
        ("%UPSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:8080"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "2001:db8::1"),
        ("%UPSTREAM_REMOTE_PORT%", 8080),
        ("%UPSTREAM_CLUSTER%", "app"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", 2),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", None),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.7:4711"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.7"),
        ("%DOWNSTREAM_REMOTE_PORT%", 4711),
        ("%DOWNSTREAM_DIRECT_REMOTE_PORT%", 4711),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.1:80"),
        ("%DOWNSTREAM_LOCAL_PORT%", 80),
        ("%ROUTE_NAME%", None),
        ("%ROUTE%", "prefix /old"),
        ("%TRACE_ID%", None),
        ("%SPAN_ID%", None),
        ("%STREAM_ID%", "id-7"),
        ("%PATH%", "/old/x?q=1%202&empty=&q=5"),
        ("%PATH()%", "/old/x?q=1%202&empty=&q=5"),
        ("%PATH(NQ)%", "/old/x"),
        ("%PATH(WQ:PATH):6%", "/new/x"),
        ("%PATH(NQ:PATH)%", "/new/x"),
        ("%PATH(NQ:ORIG)%", "/old/x"),
        ("%QUERY_PARAM(q)%", "1 2"),
        ("%QUERY_PARAM(q):1%", "1"),
        ("%QUERY_PARAM(empty)%", ""),
        ("%QUERY_PARAM(none)%", None),
        ("%CONNECTION_TERMINATION_DETAILS%", None),
        ("%LISTENER%", "in"),
        ("%DIRECTION%", "inbound"),
        ("%ATTEMPTS%", 2),
        ("%TRIES%", "a:1=UC,b:2=418"),
        ("%ERROR%", None),
        ("%ACTED%", None),
    ],
)
def test_values_keep_their_type(text: str, expected: object) -> None:
    found = value(text)
    assert (found, type(found)) == (expected, type(expected))
    assert line(f"<{text}>") == f"<{'-' if expected is None else expected}>"


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("%RESPONSE_FLAGS%", {"flag": "UC,URX"}, "UC,URX"),
        ("%RESPONSE_FLAGS_LONG%", {"flag": "UC,URX"}, "UpstreamConnectionTermination,UpstreamRetryLimitExceeded"),
        ("%RESPONSE_FLAGS_LONG%", {"flag": "FE:MyFilter"}, "FilterError:MyFilter"),
        ("%RESPONSE_FLAGS_LONG%", {"flag": "XX"}, "XX"),
        ("%RESPONSE_CODE_DETAILS%", {"error": "no free connection"}, "no_free_connection"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", {"error": "no free connection"}, "no free connection"),
        ("%RESPONSE_CODE_DETAILS%", {"upstream_host": None}, "direct_response"),
        ("%RESPONSE_CODE_DETAILS%", {"upstream_host": None, "status": 0}, None),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", {"flag": "UF", "error": "it is refused"}, "it_is_refused"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", {"flag": "UT", "error": "it is late"}, None),
        ("%UPSTREAM_HOST%", {"flag": "UF"}, "[2001:db8::1]:8080"),
        ("%UPSTREAM_REMOTE_ADDRESS%", {"flag": "UF"}, None),
        ("%UPSTREAM_REMOTE_PORT%", {"flag": "UF"}, None),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", {"remote": "unix:"}, "unix:"),
        ("%DOWNSTREAM_REMOTE_PORT%", {"remote": "unix:"}, None),
        ("%DOWNSTREAM_LOCAL_PORT%", {"local": "unix:/run/a:80"}, None),
        ("%TRACE_ID%", {"trace": Trace()}, "0af7651916cd43dd8448eb211c80319c"),
        ("%SPAN_ID%", {"trace": Trace()}, "b7ad6b7169203331"),
        ("%ERROR%", {"error": "it broke"}, "it broke"),
        ("%ACTED%", {"acted": ("MyFilter", "rate limit")}, "MyFilter,rate limit"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH)%", {"target": b"/new/x?q=1%202&empty=&q=5"}, None),
        ("%REQ(X-ENVOY-ORIGINAL-HOST)%", {"host": b"new.test"}, None),
        ("%RESP(:STATUS)%", {"status": 0}, None),
        ("%RESP(X-FROM)%", {"response_head": None}, None),
        ("%RESPONSE_TX_DURATION%", {"response_seconds": None}, None),
        ("%QUERY_PARAM(q)%", {"head": RequestHead(b"GET", b"/?%71=a+b", 1, [])}, "a+b"),
    ],
)
def test_values_of_other_requests(text: str, changes: dict[str, Any], expected: object) -> None:
    assert value(text, replace(ENDED, **changes)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "%REQ(:METHOD)%", "%REQ(:PATH)%", "%REQ(:AUTHORITY)%", "%REQ(:SCHEME)%", "%REQ(X-FORWARDED-FOR)%", "%PATH%",
        "%REQ(X-REQUEST-ID)%", "%REQ(X-ENVOY-MAX-RETRIES)%", "%REQ(X-USER)%", "%RESP(X-FROM)%", "%QUERY_PARAM(q)%",
        "%REQ(X-ENVOY-ORIGINAL-PATH)%", "%REQ(X-ENVOY-ORIGINAL-HOST)%", "%PATH(NQ:PATH)%", "%RESPONSE_DURATION%",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "%TRIES%",
    ],
)  # fmt: skip
def test_a_tcp_connection_has_none(text: str) -> None:
    assert value(text, TCP) is None


def test_what_ended_a_tcp_connection() -> None:
    assert value("%CONNECTION_TERMINATION_DETAILS%", replace(TCP, error="it was reset")) == "it_was_reset"


def test_what_is_constant_is_put_in_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "north-1")
    monkeypatch.delenv("NONE_SUCH", raising=False)
    text = "a%%b %HOSTNAME% %ENVIRONMENT(REGION)% %ENVIRONMENT(REGION):5% %ENVIRONMENT(NONE_SUCH)%"
    assert parse(text).parts == (f"a%b {os.uname().nodename} north-1 north -",)
    assert line(text) == f"a%b {os.uname().nodename} north-1 north -"


def test_a_variable_cannot_end_the_line_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "a\nb")
    assert line("%ENVIRONMENT(REGION)%") == r"a\x0ab"


HOSTILE = b'a"b\\c\r\n\t\x00\x1b[31m\x7f\x85\xe2\x80\xa8'


@pytest.mark.parametrize("text", ["%PATH%", "%ERROR%", "%RESPONSE_FLAGS%"])
def test_what_others_write_cannot_end_a_field_or_a_line(text: str) -> None:
    ended = replace(ENDED, target=HOSTILE, error=HOSTILE.decode("latin-1"), flag=HOSTILE.decode("latin-1"))
    assert line(text, ended) == r"a\x22b\x5cc\x0d\x0a\x09\x00\x1b[31m\x7f\x85\xe2\x80\xa8"


@given(st.lists(st.binary(max_size=6) | st.none(), min_size=1, max_size=4))
def test_a_column_is_written_as_its_values_are_one_by_one(values: list[bytes | None]) -> None:
    operator = find("PATH", None, None)
    assert not isinstance(operator, str)
    written = list(operator.written([values]))
    assert written == [operator.written([[value]])[0] for value in values]
    assert all(text.isascii() and text.isprintable() and '"' not in text for text in written)


def test_json_is_given_ascii() -> None:
    assert value("%PATH%", replace(ENDED, target=b"/\xc3\xa4")) == r"/\xc3\xa4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%NOSUCH%", "one of the placeholders REQ(…), RESP(…), PATH(…),"),
        ("%NOSUCH%", "not %NOSUCH%"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "not %DOWNSTREAM_PEER_URI_SAN%"),
        ("50% off", "%% for a percent sign, not '% off'"),
        ("%req(x)%", "not '%req(x)%'"),
        ("%REQ(x%", "not '%REQ(x%'"),
        ("%REQ%", "%REQ(NAME)% or %REQ(NAME?ALTERNATIVE)%"),
        ("%REQ(a?b?c)%", "not REQ(a?b?c)"),
        ("%REQ(:status)%", ":authority, :method, :path, :scheme"),
        ("%RESP(:path)%", "names of fields or :status"),
        ("%PROTOCOL(x)%", "%PROTOCOL% with neither an argument nor a length"),
        ("%PROTOCOL:3%", "%PROTOCOL% without a length"),
        ("%START_TIME:3%", "%START_TIME% without a length"),
        ("%START_TIME(%Q)%", "not '%Q'"),
        ("%START_TIME(%n)%", "not '%n'"),
        ("%START_TIME(%)%", "START_TIME"),
        ("%PATH(XX)%", "WQ or NQ"),
        ("%PATH(NQ:XX)%", "not PATH(NQ:XX)"),
        ("%QUERY_PARAM()%", "%QUERY_PARAM(NAME)%"),
        ("%ENVIRONMENT%", "%ENVIRONMENT(NAME)%"),
        ("%RESPONSE_CODE_DETAILS(X)%", "not RESPONSE_CODE_DETAILS(X)"),
        ("a\nb", "one line, without control characters"),
        ("\x1b%PROTOCOL%", "one line, without control characters"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)


def test_one_line_end_is_taken_away() -> None:
    assert parse("%PROTOCOL%\n").parts == parse("%PROTOCOL%").parts


@given(st.text(st.sampled_from("%()?:ABREQSP_x-1 \n"), max_size=20))
def test_any_text_is_a_template_or_a_mistake(text: str) -> None:
    try:
        template: LogTemplate | None = parse(text)
    except ValueError:
        template = None
    if template is not None:
        assert template.pattern.count("%s") == len(template.operators)


# --- times ---


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%Y/%m/%dT%H:%M:%S%z", "2026/01/02T03:04:05+0000"),
        ("%s.%3f", "1767323045.099"),
        ("%s.%6f|%9f|%f|%1f", "1767323045.099870|099870000|099870000|0"),
        ("%E3S %E6S", "05.099 05.099870"),
        ("%E*S", "05.09987"),
        ("%E0S", "05"),
        ("%E4Y %Ez %Z", "2026 +00:00 UTC"),
        ("%b %e %a %j %T %D %F %y %I %p", "Jan  2 Fri 002 03:04:05 01/02/26 2026-01-02 26 03 AM"),
        ("100%% %%s", "100% %s"),
        ("no directive", "no directive"),
    ],
)
def test_times(form: str, expected: str) -> None:
    assert compile_format(form)([1767323045.09987]) == [expected]


def test_a_second_without_a_fraction_is_written_so() -> None:
    assert compile_format("%E*S")([1767323045.0]) == ["05"]


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=4))
def test_times_of_one_second_and_of_others(times: list[float]) -> None:
    expected = [
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(moment * 1000) // 1000))
        + f".{int(moment * 1000) % 1000:03}Z"
        for moment in times
    ]
    assert iso_milliseconds(times) == expected
    alike = compile_format("%Y-%m-%dT%H:%M:%E3SZ")(times)
    assert [text[:19] for text in alike] == [text[:19] for text in expected] or any(
        int(moment * 1000) // 1000 != int(moment * 1_000_000) // 1_000_000 for moment in times
    )
