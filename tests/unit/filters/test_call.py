from __future__ import annotations

import pytest

from meshlet.filters import Call, Reply
from meshlet.filters.call import Response
from tests.unit.filters.world import World, request_head, response_head


def test_what_a_call_tells() -> None:
    world = World(request_head("x-request-id: abc", start="PUT /a%20b?c=d?e HTTP/1.1", host="App:80"))
    call = Call(world)
    assert (call.peer, call.request_id, call.listener, call.route, call.cluster, call.elapsed) == (
        "192.0.2.7",
        "abc",
        "inbound",
        "orders",
        "app",
        1.5,
    )
    request = call.request
    assert (request.method, request.target, request.path, request.query, request.host) == (
        "PUT",
        "/a%20b?c=d?e",
        "/a%20b",
        "c=d?e",
        "app",
    )
    assert request.headers is request.headers
    assert call.response is None
    call.response = Response(response_head("x-a: 1", status=404))
    assert (call.response.status, call.response.headers.get("x-a")) == (404, "1")


def test_state_is_kept() -> None:
    call = Call(World())
    call.state["a"] = 1
    assert call.state == {"a": 1}


def test_the_path_and_the_query_can_be_set() -> None:
    head = request_head(start="GET /a?b=c HTTP/1.1")
    request = Call(World(head)).request
    request.path = "/x/y"
    assert (head.target, head.lines[0]) == (b"/x/y?b=c", b"GET /x/y?b=c HTTP/1.1")
    request.query = ""
    assert head.target == b"/x/y"
    request.query = "n=1"
    assert head.lines[0] == b"GET /x/y?n=1 HTTP/1.1"
    assert request.path == "/x/y"


def test_the_version_of_the_request_line_stays() -> None:
    head = request_head(start="GET /a HTTP/1.0", host=None)
    Call(World(head)).request.path = "/b"
    assert head.lines[0] == b"GET /b HTTP/1.0"


@pytest.mark.parametrize("path", ["", "x", "/a b", "/a?b", "/a#b", "/a\r\nx: y", "/\u20ac"])
def test_what_is_no_path(path: str) -> None:
    head = request_head(start="GET /a HTTP/1.1")
    with pytest.raises(ValueError, match=r"path|latin-1"):
        Call(World(head)).request.path = path
    assert head.target == b"/a"


def test_a_query_cannot_hold_everything() -> None:
    with pytest.raises(ValueError, match="control"):
        Call(World()).request.query = "a b"


def test_an_asterisk_has_no_path() -> None:
    with pytest.raises(ValueError, match="has no path"):
        Call(World(request_head(start="OPTIONS * HTTP/1.1"))).request.path = "/a"


def test_a_reply_becomes_an_answer() -> None:
    reply = Reply(429, "slow down\n", {"Retry-After": "1"})
    assert repr(reply) == "<Reply 429 10 bytes>"
    answer = reply.answer()
    assert (answer.status, answer.body, answer.flag) == (429, b"slow down\n", "")
    assert answer.fields == (b"Retry-After: 1", b"content-type: text/plain; charset=utf-8")


def test_a_reply_may_repeat_a_field_and_say_its_type() -> None:
    reply = Reply(200, "{}", [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("Content-Type", "application/json")])
    assert reply.fields == (b"set-cookie: a=1", b"set-cookie: b=2", b"Content-Type: application/json")
    assert Reply(200, b"bytes").fields == ()


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (100, "", {}),
        (600, "", {}),
        (204, "x", {}),
        (304, b"x", {}),
        (200, "", {"content-length": "1"}),
        (200, "", {"x": "a\r\nb"}),
        (200, "", {"x y": "a"}),
    ],
)
def test_a_reply_that_no_response_can_be(status: int, body: str | bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"status|meshlet alone|control character|header name"):
        Reply(status, body, headers)
