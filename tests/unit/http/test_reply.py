"""The responses that meshlet makes itself."""

from __future__ import annotations

import json
import re
import time

import pytest

from meshlet.errors import (
    BadRequest,
    ConnectFailure,
    HeadTimeout,
    NoRoute,
    Overflow,
    ProxyError,
    UpstreamTimeout,
)
from meshlet.http import reply
from meshlet.http.head import HeadLimits, RequestHead
from meshlet.http.reply import Report, date_line, local_reply
from meshlet.http.request import parse_request
from tests.support import strict


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return parse_request(b"\r\n".join([line, b"Host: app", *fields]), HeadLimits())


NOWHERE = Report()


def made(
    error: ProxyError, head: RequestHead | None = None, report: Report = NOWHERE, *, close: bool = False
) -> tuple[int, dict[str, str], bytes]:
    wire = local_reply(error, head, report, close=close)
    message = strict.read_response(wire, has_body=head is None or head.method != b"HEAD")
    fields = {name.decode(): value.decode() for name, value in message.fields}
    assert len(fields) == len(message.fields), "a field twice"
    return int(message.start[1]), fields, message.body


def test_plain_text_says_flag_cause_and_place() -> None:
    error = ConnectFailure("connection refused")
    status, fields, body = made(error, request(), Report("", "app", "127.0.0.1:1", 1))
    assert status == 503
    assert body == b"UF: connection refused; cluster app, endpoint 127.0.0.1:1, 1 attempt\n"
    assert fields["server"] == "meshlet"
    assert fields["x-meshlet-flag"] == "UF"
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert "connection" not in fields


def test_json_where_the_client_asks_for_it() -> None:
    head = request(b"accept: text/html, application/json;q=0.9")
    status, fields, body = made(UpstreamTimeout("no response within 1 s"), head, Report("", "app"))
    assert status == 504
    assert fields["content-type"] == "application/json"
    assert json.loads(body) == {
        "status": 504,
        "flag": "UT",
        "message": "no response within 1 s",
        "where": "cluster app, 0 attempts",
        "failures": [],
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoRoute("no route"), "12"),
        (Overflow("too many"), "14"),
        (UpstreamTimeout("late"), "14"),
        (BadRequest("bad"), "13"),
        (BadRequest("large", 413), "2"),
    ],
)
def test_grpc_gets_trailers_only(error: ProxyError, code: str) -> None:
    head = request(b"Content-Type: application/grpc+proto", line=b"POST /a.B/C HTTP/1.1")
    status, fields, body = made(error, head)
    assert (status, body) == (200, b"")
    assert fields["content-type"] == "application/grpc"
    assert fields["grpc-status"] == code
    assert fields["content-length"] == "0"


def test_a_message_of_grpc_is_percent_encoded() -> None:
    head = request(b"Content-Type: application/grpc")
    _, fields, _ = made(NoRoute("100 % of ü\r\nx: y"), head)
    assert fields["grpc-message"] == "NR: 100 %25 of %C3%BC%0D%0Ax: y"


def test_head_gets_the_head_only() -> None:
    head = request(line=b"HEAD / HTTP/1.1")
    _, fields, body = made(NoRoute("no route"), head)
    assert body == b""
    assert fields["content-length"] == str(len(b"NR: no route\n"))


@pytest.mark.parametrize(
    ("line", "close", "connection"),
    [
        (b"GET / HTTP/1.1", False, None),
        (b"GET / HTTP/1.1", True, "close"),
        (b"GET / HTTP/1.0", False, "keep-alive"),
        (b"GET / HTTP/1.0", True, "close"),
    ],
)
def test_what_becomes_of_the_connection(line: bytes, close: bool, connection: str | None) -> None:
    _, fields, _ = made(NoRoute("no route"), request(line=line), close=close)
    assert fields.get("connection") == connection


@pytest.mark.parametrize(("error", "status"), [(BadRequest("bad"), 400), (HeadTimeout("late"), 408)])
def test_a_request_that_could_not_be_read(error: ProxyError, status: int) -> None:
    found, fields, body = made(error, close=True)
    assert found == status
    assert fields["connection"] == "close"
    assert body == f"{error.flag}: {error}\n".encode()


def test_the_request_id_comes_back() -> None:
    head = request(b"x-request-id: 7")
    assert made(NoRoute("no route"), head)[1]["x-request-id"] == "7"
    assert "x-request-id" not in made(NoRoute("no route"), request())[1]


def test_405_says_what_is_allowed() -> None:
    assert "GET" in made(NoRoute("no CONNECT here", 405), request())[1]["allow"]
    assert "allow" not in made(NoRoute("no route"), request())[1]


def test_an_error_without_a_flag() -> None:
    status, fields, body = made(ProxyError("odd"))
    assert status == 500
    assert fields["x-meshlet-flag"] == "-"
    assert body == b"error: odd\n"


def test_the_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 784111777.9)
    assert date_line() == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"  # the example of RFC 9110 section 5.6.7
    assert date_line() is date_line()
    monkeypatch.setattr(time, "time", lambda: 784111778.0)
    assert date_line() == b"date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
    monkeypatch.setattr(reply, "_date_second", 0)
    assert re.fullmatch(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", date_line())
