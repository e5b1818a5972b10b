from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshlet.telemetry import access_log
from meshlet.telemetry.access_log import AccessLog, Entry

HTTP: Entry = (
    1_700_000_000.1239, 0.0129, "inbound", "app", "HTTP/1.1", b"GET", b"/a?b=c", b"reviews:9080", 200, "", 5, 1234,
    "10.0.0.7:4711", "127.0.0.1:8080", b"0193-id", 1,
)  # fmt: skip
TCP: Entry = (
    1_700_000_000.0, 2.5, "outbound", None, "TCP", None, None, None, 0, "UF", 0, 0, "10.0.0.7:4711", None, None, 0,
)  # fmt: skip
HOSTILE = b'/\r\n"} forged \\ \x00\x1b\x7f\x85\xff'


def with_target(target: bytes) -> Entry:
    return (*HTTP[:6], target, *HTTP[7:])


def read(path: Path) -> bytes:
    return path.read_bytes()


def rotate(path: Path) -> Path:
    return path.rename(path.with_suffix(".1"))


async def written(path: Path, form: Any, *entries: Entry) -> bytes:
    log = AccessLog(str(path), form)
    for entry in entries:
        log.record(entry)
    await log.close()
    return read(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


async def test_json_has_the_names_of_the_field(path: Path) -> None:
    http, tcp = map(json.loads, (await written(path, "json", HTTP, TCP)).splitlines())
    assert http == {
        "start_time": "2023-11-14T22:13:20.123Z",
        "duration": 12,
        "listener": "inbound",
        "upstream_cluster": "app",
        "protocol": "HTTP/1.1",
        "method": "GET",
        "path": "/a?b=c",
        "authority": "reviews:9080",
        "response_code": 200,
        "response_flags": "-",
        "bytes_received": 5,
        "bytes_sent": 1234,
        "downstream_remote_address": "10.0.0.7:4711",
        "upstream_host": "127.0.0.1:8080",
        "request_id": "0193-id",
        "attempts": 1,
    }
    assert (tcp["protocol"], tcp["method"], tcp["response_code"], tcp["response_flags"]) == ("TCP", None, 0, "UF")


async def test_text(path: Path) -> None:
    http, tcp = (await written(path, "text", HTTP, TCP)).decode().splitlines()
    assert http == (
        '[2023-11-14T22:13:20.123Z] "GET /a?b=c HTTP/1.1" 200 - 5 1234 12 "10.0.0.7:4711" "0193-id" "reviews:9080" '
        '"127.0.0.1:8080" inbound app 1'
    )
    assert tcp == '[2023-11-14T22:13:20.000Z] "- - TCP" 0 UF 0 0 2500 "10.0.0.7:4711" "-" "-" "-" outbound - 0'


@pytest.mark.parametrize("form", ["json", "text"])
async def test_a_client_cannot_forge_a_line_or_end_a_field(path: Path, form: str) -> None:
    line = (await written(path, form, with_target(HOSTILE))).decode("ascii")
    assert len(line.splitlines()) == 1
    if form == "json":
        assert json.loads(line)["path"] == HOSTILE.decode("ascii", "backslashreplace")
    else:
        assert r'"GET /\x0d\x0a\x22} forged \x5c \x00\x1b\x7f\x85\xff HTTP/1.1" 200' in line


async def test_a_flush_comes_by_itself_and_in_bounded_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_INTERVAL", 0.0)
    log = AccessLog(str(path))
    sizes: list[int] = []
    done = log._loop.create_future()

    def spy(batch: bytes) -> None:
        sizes.append(batch.count(b"\n"))
        if sum(sizes) == 300:
            done.set_result(None)

    monkeypatch.setattr(log._writer, "write", spy)
    for _ in range(300):
        log.record(HTTP)
    assert not sizes
    await done
    assert sizes == [128, 128, 44]
    await log.close()


async def test_an_idle_log_has_no_timer(path: Path) -> None:
    log = AccessLog(str(path))
    assert log._timer is None
    log.record(HTTP)
    log._flush()
    assert log._timer is None
    await log.close()


async def test_entries_without_room_are_dropped_and_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_CAPACITY", 3)
    log = AccessLog(str(path))
    for _ in range(5):
        log.record(HTTP)
    await log.close()
    assert log.dropped == 2
    assert read(path).count(b"\n") == 3


async def test_entries_for_a_reader_who_stalls_are_dropped_and_counted(path: Path) -> None:
    log = AccessLog(str(path))
    log._writer._max_backlog = 0
    log.record(HTTP)
    log.record(HTTP)
    await log.close()
    assert (log.dropped, log.errors) == (2, 0)
    assert read(path) == b""


async def test_reopen_puts_what_came_before_into_the_old_file(path: Path) -> None:
    log = AccessLog(str(path), "text")
    log.record(HTTP)
    old = rotate(path)
    log.reopen()
    log.record(TCP)
    await log.close()
    assert "HTTP/1.1" in read(old).decode()
    assert "TCP" in read(path).decode()


async def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        AccessLog(str(tmp_path))


def test_bytes_are_quoted_alike_on_the_short_way_and_the_long() -> None:
    for code in range(256):
        quoted = access_log._quote(bytes([code]))
        assert quoted == (chr(code) if 0x20 <= code < 0x7F and chr(code) not in '"\\' else f"\\x{code:02x}")
