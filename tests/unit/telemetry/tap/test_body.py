from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from meshlet.telemetry.redact import Redactor
from meshlet.telemetry.tap import body
from meshlet.telemetry.tap.capture import Message, Room

JSON = '{"user": "a", "password": "s3cr3t"}'
HIDDEN = '{"user": "a", "password": "[redacted]"}'
OPEN = '{"user": "a"}'


def shown(
    data: str | bytes, content_type: str | None = "application/json", coding: str = "", limit: int = 65536
) -> dict[str, Any]:
    raw = data.encode() if isinstance(data, str) else data
    message = Message(Room(1 << 20), limit)
    lines = [b"HTTP/1.1 200 OK"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}".encode())
    if coding:
        lines.append(f"Content-Encoding: {coding}".encode())
    message.take_lines(lines)
    message.add(raw)
    message.end(())
    return body.shown(message, len(raw), limit, Redactor(["X-Mine"]))


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "text/json",
        "application/problem+json",
        "application/vnd.api+json; charset=iso-8859-1",
        "application/x-ndjson",
        "application/jsonl",
        "application/json-seq",
        "text/plain;charset=UTF-8",  # what a browser's fetch() says of a string
        "application/x-www-form-urlencoded",  # what curl says of whatever it sends
        "application/octet-stream",
        "text/event-stream",
        "application/javascript",
        None,
        "",
    ],
)
def test_json_whatever_it_is_called(content_type: str | None) -> None:
    found = shown(JSON, content_type)
    text = found["text"] if "text" in found else base64.b64decode(found["base64"]).decode()
    assert (text, found["redacted"], found["cut"]) == (HIDDEN, True, False)
    assert "redacted" not in shown(OPEN, content_type)


@pytest.mark.parametrize("limit", range(1, len(JSON) + 1))
def test_a_cut_shows_nothing_of_a_secret(limit: int) -> None:
    found = shown(JSON, limit=limit)
    assert "s3" not in found["text"]
    assert found["cut"] is (limit < len(JSON))
    assert found.get("redacted", False) is (limit > JSON.index("s3cr3t") - 1)


def test_names_of_the_config_count_in_every_spelling() -> None:
    assert shown('{"xMine": 1, "x_mine": 2, "mine": 3}')["text"] == (
        '{"xMine": "[redacted]", "x_mine": "[redacted]", "mine": 3}'
    )
    assert shown("x-mine=1&mine=3", "application/x-www-form-urlencoded")["text"] == "x-mine=[redacted]&mine=3"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("user=a&passcode=b", "user=a&passcode=[redacted]"),
        ("password=a;b&c=1", "password=[redacted]&c=1"),
        ("payload=%7B%22token%22%3A%22x%22%7D&c=1", "payload=[redacted]&c=1"),
        ("payload=%7B%22a%22%3A%22x%22%7D", "payload=%7B%22a%22%3A%22x%22%7D"),
        ('{"a":"b=c&d","password":"x&y"}', '{"a":"b=c&d","password":"[redacted]"}'),
        ("{a}=1&pin=2", "{a}=1&pin=[redacted]"),
    ],
)
def test_forms(form: str, expected: str) -> None:
    assert shown(form, "application/x-www-form-urlencoded")["text"] == expected


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json"])
def test_what_looks_like_a_form(content_type: str | None) -> None:
    assert shown("user=a&passcode=b", content_type)["text"] == "user=a&passcode=[redacted]"
    assert "redacted" not in shown("user = a, passcode = b", content_type)


def test_parts_of_a_form() -> None:
    form = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n--b--\r\n'
    for name, value, expected in (("pin", "1", "[redacted]"), ("a", "1", "1"), ("payload_json", JSON, HIDDEN)):
        found = shown(form.format(name, value), "multipart/form-data; boundary=b")
        assert base64.b64decode(found["base64"]).decode() == form.format(name, expected)
        assert found.get("redacted", False) is (value != expected)


# --- compressed ---


def packed(text: str, coding: str) -> bytes:
    return zlib.compress(text.encode()) if coding == "deflate" else gzip.compress(text.encode())


@pytest.mark.parametrize("coding", ["gzip", "X-Gzip", "deflate"])
def test_a_compressed_body_with_a_secret_is_shown_without_both(coding: str) -> None:
    assert shown(packed(JSON, coding), coding=coding) == {"cut": False, "text": HIDDEN, "redacted": True}
    assert shown(packed(JSON, coding), "text/plain", coding) == {"cut": False, "text": HIDDEN, "redacted": True}


def test_a_compressed_body_without_a_secret_is_shown_as_it_came() -> None:
    data = packed(OPEN, "gzip")
    assert shown(data, coding="gzip") == {"cut": False, "base64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("lost", range(1, 30))
def test_a_compressed_body_that_is_cut(lost: int) -> None:
    data = packed(JSON, "gzip")
    found = shown(data, coding="gzip", limit=len(data) - lost)
    assert "s3" not in found.get("text", "")
    assert "s3cr3t" not in zlib.decompressobj(47).decompress(base64.b64decode(found.get("base64", ""))).decode()
    assert found["cut"] is True


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (packed(JSON, "gzip"), "br"),
        (packed(JSON, "gzip"), "zstd"),
        (gzip.compress(packed(JSON, "gzip")), "gzip, gzip"),
        (gzip.compress(packed(JSON, "gzip")), "gzip"),
        (JSON.encode(), "gzip"),
        (zlib.compress(JSON.encode(), wbits=-15), "deflate"),
    ],
    ids=["br", "zstd", "twice", "twice, said once", "not at all", "raw"],
)
def test_what_cannot_be_looked_into_is_not_shown(data: bytes, coding: str) -> None:
    assert shown(data, coding=coding) == {"cut": False, "text": "[redacted]", "redacted": True}


def test_more_than_was_asked_for_is_not_inflated() -> None:
    rows = json.dumps([{"a": number} for number in range(100_000)])
    found = shown(packed(rows, "gzip"), coding="gzip", limit=400_000)
    assert (found["cut"], found["redacted"], found["text"]) == (True, True, rows[:400_000])
    two = packed(OPEN, "gzip") + packed(JSON, "gzip")  # both are the body (RFC 1952 section 2.2)
    assert shown(two, coding="gzip") == {"cut": True, "text": OPEN, "redacted": True}


def test_other_compressed_bodies_are_shown_as_they_came() -> None:
    assert shown(b"PNG", "image/png", "gzip") == {"cut": False, "base64": "UE5H"}
    assert shown(b"", coding="gzip") == {"cut": False, "base64": ""}
    assert shown(JSON, coding="identity")["text"] == HIDDEN


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", JSON.encode("utf-16")),
        ("application/json; charset=utf-16le", JSON.encode("utf-16-le")),
        ("application/json; charset=utf-7", JSON.encode("utf-7")),
        ("application/x-www-form-urlencoded; charset=ibm037", b"pin=1"),
        ("application/problem+json", JSON.encode("utf-32-be")),
    ],
)
def test_nor_is_what_is_written_in_another_way(content_type: str, data: bytes) -> None:
    assert shown(data, content_type) == {"cut": False, "text": "[redacted]", "redacted": True}
