from __future__ import annotations

from meshlet.http.head import RequestHead, field_value


def test_the_value_of_a_field() -> None:
    lines = [b"a: / HTTP/1.1", b"A:  1\t", b"a: 2", b"B:"]
    assert field_value(lines, b"a") == b"1"
    assert field_value(lines, b"b") == b""
    assert field_value(lines, b"c") is None


def test_the_path() -> None:
    assert RequestHead(b"GET", b"/a?b?c", 1, []).path == b"/a"
    assert RequestHead(b"OPTIONS", b"*", 1, []).path == b"*"
