from __future__ import annotations

import pytest

from meshlet.filters import Headers
from tests.unit.filters.world import request_head, response_head


def test_names_are_case_insensitive_and_order_is_kept() -> None:
    headers = Headers(request_head("X-A: 1", "x-b:2 ", "x-a:  3", host="app:80"))
    assert headers.get("x-A") == "1"
    assert headers.get_all("X-a") == ["1", "3"]
    assert headers.get("x") is None
    assert headers.get("x", "none") == "none"
    assert "X-B" in headers
    assert "x-c" not in headers
    assert list(headers.items()) == [("host", "app:80"), ("x-a", "1"), ("x-b", "2"), ("x-a", "3")]
    assert repr(headers) == "Headers([('host', 'app:80'), ('x-a', '1'), ('x-b', '2'), ('x-a', '3')])"


def test_set_takes_the_place_of_the_first_and_removes_the_others() -> None:
    head = request_head("x-a: 1", "X-B: 2", "X-A: 3", "x-ab: 4")
    headers = Headers(head)
    headers.set("X-a", " new ")
    headers.set("x-c", "5")
    headers.add("x-b", "6")
    assert head.lines[2:] == [b"X-a: new", b"X-B: 2", b"x-ab: 4", b"x-c: 5", b"x-b: 6"]
    headers.remove("x-B")
    headers.remove("x-none")
    assert head.lines[2:] == [b"X-a: new", b"x-ab: 4", b"x-c: 5"]


def test_text_is_latin_1() -> None:
    head = request_head("x-a: caf\xe9")
    headers = Headers(head)
    assert headers.get("x-a") == "caf\xe9"
    headers.set("x-a", "\xfc")
    assert head.lines[2] == b"x-a: \xfc"
    with pytest.raises(ValueError, match="latin-1"):
        headers.set("x-a", "\u20ac")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\x7f"])
def test_a_value_cannot_begin_another_line(value: str) -> None:
    head = request_head()
    headers = Headers(head)
    before = list(head.lines)
    for change in (headers.set, headers.add):
        with pytest.raises(ValueError, match="control character"):
            change("x-a", value)
    assert head.lines == before


@pytest.mark.parametrize("name", ["", "x a", "x:a", "x\r\n", ":path", "x\xe9"])
def test_names_are_tokens(name: str) -> None:
    headers = Headers(request_head())
    for change in (headers.set, headers.add):
        with pytest.raises(ValueError, match="is not a header name"):
            change(name, "v")


OF_BOTH = ["Content-Length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade", "content_length"]


@pytest.mark.parametrize(
    "name", [*OF_BOTH, "Host", "expect", "x-forwarded-for", "X_Forwarded_For", "x-request-id", "x-envoy-max-retries"]
)
def test_what_a_request_filter_must_not_touch(name: str) -> None:
    headers = Headers(request_head("Content-Length: 2"))
    with pytest.raises(ValueError, match="by meshlet alone"):
        headers.set(name, "1")
    with pytest.raises(ValueError, match="by meshlet alone"):
        headers.add(name, "1")
    with pytest.raises(ValueError, match="by meshlet alone"):
        headers.remove(name)


@pytest.mark.parametrize("name", [*OF_BOTH, "Date", "x-envoy-upstream-service-time"])
def test_what_a_response_filter_must_not_touch(name: str) -> None:
    headers = Headers(response_head("Content-Length: 2"))
    with pytest.raises(ValueError, match="by meshlet alone"):
        headers.set(name, "1")


def test_a_response_may_have_what_a_request_may_not() -> None:
    head = response_head()
    Headers(head).set("host", "x")
    assert head.lines[1:] == [b"host: x"]


def test_fields_that_are_kept_apart_can_be_read() -> None:
    head = request_head(
        "X-Forwarded-For: 1.1.1.1",
        "X-Forwarded-Proto: https",
        "X-Request-Id: abc",
        "Transfer-Encoding: chunked",
        "X-Envoy-Max-Retries: 3",
    )
    headers = Headers(head)
    expected = {
        "x-forwarded-for": "1.1.1.1",
        "x-forwarded-proto": "https",
        "x-request-id": "abc",
        "transfer-encoding": "chunked",
        "x-envoy-max-retries": "3",
    }
    for name, value in expected.items():
        assert headers.get(name) == value
        assert headers.get_all(name) == [value]
    assert dict(headers.items()) == {"host": "app", **expected}


def test_the_framing_of_a_response_can_be_read() -> None:
    assert Headers(response_head("Transfer-Encoding: chunked")).get("transfer-encoding") == "chunked"
    assert Headers(response_head("Content-Length: 3")).get("content-length") == "3"
    assert list(Headers(response_head("Upgrade: h2c", status=426)).items()) == [("upgrade", "h2c")]
