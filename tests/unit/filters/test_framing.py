from __future__ import annotations

import pytest

from meshlet.filters.framing import chunk_request, chunk_response, drop_expectation, set_length
from meshlet.http.head import CHUNKED, UNTIL_CLOSE
from tests.unit.filters.world import request_head, response_head


def test_a_request_with_a_length_becomes_chunked() -> None:
    head = request_head("Content-Length: 3", "x-a: 1")
    chunk_request(head)
    assert head.length == CHUNKED
    assert head.lines[1:] == [b"Host: app", b"x-a: 1"]


@pytest.mark.parametrize("line", ["x-a: 1", "Content-Length: 0", "Transfer-Encoding: chunked"])
def test_other_requests_stay_as_they_are(line: str) -> None:
    head = request_head(line)
    lines, length = list(head.lines), head.length
    chunk_request(head)
    assert (head.lines, head.length) == (lines, length)


def test_chunks_need_http_1_1_and_that_a_host() -> None:
    head = request_head("Content-Length: 3", start="POST / HTTP/1.0", host=None)
    chunk_request(head)
    assert head.lines == [b"POST / HTTP/1.1", b"Host:"]


def test_a_response_with_a_length_becomes_chunked() -> None:
    head = response_head("Content-Length: 3", "x-a: 1")
    chunk_response(head, b"GET")
    assert (head.length, head.lines[1:]) == (CHUNKED, [b"x-a: 1"])


def test_a_response_that_ends_with_its_connection_does_so_still() -> None:
    head = response_head("x-a: 1")
    chunk_response(head, b"GET")
    assert head.length == UNTIL_CLOSE


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_the_length_of_a_body_that_is_not_sent_is_forgotten(method: bytes, status: int) -> None:
    head = response_head("Content-Length: 3", status=status, method=method)
    chunk_response(head, method)
    assert (head.length, head.lines[1:]) == (0, [])


def test_an_empty_body_keeps_its_length() -> None:
    head = response_head("Content-Length: 0")
    chunk_response(head, b"GET")
    assert head.lines[1:] == [b"Content-Length: 0"]


def test_a_known_length_is_written() -> None:
    head = response_head("Transfer-Encoding: chunked")
    set_length(head, 4)
    assert (head.length, head.framed, head.lines[1:]) == (4, True, [b"content-length: 4"])
    set_length(head, 4)
    assert head.lines[1:] == [b"content-length: 4"]
    set_length(head, 0)
    assert head.lines[1:] == [b"content-length: 0"]


def test_an_expectation_is_dropped() -> None:
    head = request_head("Expect: 100-continue", "Content-Length: 3")
    drop_expectation(head)
    assert not head.expects_continue
    assert head.lines[1:] == [b"Host: app", b"Content-Length: 3"]
