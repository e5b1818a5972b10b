from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meshlet.config.schema import AccessLog as Config
from meshlet.config.schema import LogFilter
from meshlet.http.head import ResponseHead
from meshlet.telemetry import access_log
from meshlet.telemetry.access_log import AccessLog
from tests.support.records import TCP, Ended

if TYPE_CHECKING:
    from pathlib import Path

HTTP = Ended()
HOSTILE = b'/\n"} forged \\ \x00\x1b\x7f\x85\xff'


def read(path: Path) -> str:
    return path.read_bytes().decode("ascii")


def rotate(path: Path) -> Path:
    return path.rename(path.with_suffix(".1"))


async def written(path: Path, config: Config, *records: Ended) -> str:
    log = AccessLog(config)
    for record in records:
        log.record(record)
    await log.close()
    return read(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def config(path: Path) -> Config:
    return Config(path=str(path))


async def test_json_has_envoys_names(path: Path, config: Config) -> None:
    http, tcp = map(json.loads, (await written(path, config, HTTP, TCP)).splitlines())
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
        "user_agent": "curl/8",
        "x_forwarded_for": "10.0.0.7",
        "route_name": "the-route",
        "response_code_details": "via_upstream",
        "upstream_service_time": 9,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    assert {key: value for key, value in tcp.items() if value is not None} == {
        "start_time": "2023-11-14T22:13:20.000Z",
        "duration": 2500,
        "listener": "outbound",
        "protocol": "TCP",
        "response_code": 0,
        "response_flags": "UF",
        "bytes_received": 0,
        "bytes_sent": 0,
        "downstream_remote_address": "10.0.0.7:4711",
        "attempts": 0,
        "response_code_details": "connection refused",
    }


async def test_text_is_envoys_default(path: Path) -> None:
    http, tcp = (await written(path, Config(path=str(path), format="text"), HTTP, TCP)).splitlines()
    assert http == (
        '[2023-11-14T22:13:20.123Z] "GET /a?b=c HTTP/1.1" 200 - 5 1234 12 9 "10.0.0.7" "curl/8" "0193-id" '
        '"reviews:9080" "127.0.0.1:8080"'
    )
    assert tcp == '[2023-11-14T22:13:20.000Z] "- - TCP" 0 UF 0 0 2500 - "-" "-" "-" "-" "-"'


async def test_a_format_of_ones_own(path: Path) -> None:
    config = Config(path=str(path), format="100%% %LISTENER% %REQ(x-none)% %RESP(x-from)% %REQ(user-agent):4%\n")
    assert await written(path, config, HTTP, TCP) == "100% inbound - app curl\n100% outbound - - -\n"


async def test_a_format_without_operators(path: Path) -> None:
    assert await written(path, Config(path=str(path), format="50%% off"), HTTP, HTTP) == "50% off\n" * 2


async def test_fields_keep_the_type_of_a_sole_operator(path: Path) -> None:
    fields = {
        "status": "%RESPONSE_CODE%",
        "none": "%REQ(X-NONE)%",
        "both": "%RESPONSE_CODE%/%REQ(X-NONE)%",
        "constant": "50%% off",
        "class": "%RESP(X-FROM)%",
        "a key-1.x": "%REQ(user-agent)% at %START_TIME(%s)%",
    }
    line = await written(path, Config(path=str(path), fields=fields), HTTP)
    assert json.loads(line) == {
        "status": 200,
        "none": None,
        "both": "200/-",
        "constant": "50% off",
        "class": "app",
        "a key-1.x": "curl/8 at 1700000000",
    }
    assert list(json.loads(line)) == list(fields)


@pytest.mark.parametrize("form", ["json", "text", "%PATH% %ERROR%"])
async def test_a_client_cannot_forge_a_line_or_end_a_field(path: Path, form: str) -> None:
    hostile = replace(HTTP, target=HOSTILE, error=HOSTILE.decode("latin-1") + "\u2028\ud800")
    line = await written(path, Config(path=str(path), format=form), HTTP, hostile, HTTP)
    assert len(line.splitlines()) == 3
    assert "".join(line.splitlines()).isprintable()
    line = line.splitlines()[1]
    if form == "json":
        assert json.loads(line)["path"] == HOSTILE.decode("ascii", "backslashreplace")
    else:
        assert r"/\x0a\x22} forged \x5c \x00\x1b\x7f\x85\xff" in line


async def test_no_request_pays_for_what_cannot_be_written(
    path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(config)
    with monkeypatch.context() as broken:
        broken.setattr(log._format, "lines", lambda records: 1 / 0)
        for _ in range(300):
            log.record(HTTP)
        assert log.dropped == 256
    await log.close()
    assert len(read(path).splitlines()) == 44
    assert caplog.text.count("no lines could be made of 128 requests") == 1


async def test_records_are_kept_no_longer_than_a_batch(path: Path, config: Config) -> None:
    log = AccessLog(config)
    for number in range(1000):
        log.record(HTTP)
        assert len(log._waiting) == (number + 1) % 128
    await log.close()
    assert log._waiting == []


async def test_fields_are_found_in_whatever_case_and_the_first_one_counts(path: Path) -> None:
    head = ResponseHead(200, 1, [b"HTTP/1.1 200 OK", b"X-A:  1\t", b"x-a: 2", b"X-AB: 3", b"X-Last:4", b"X-Empty:"])
    config = Config(path=str(path), format="%RESP(x-a)% %RESP(X-ab)% %RESP(x-last)% [%RESP(x-empty)%] %RESP(a)%")
    assert await written(path, config, replace(HTTP, response_head=head)) == "1 3 4 [] -\n"


async def test_fields_of_both_messages_and_computed_ones(path: Path) -> None:
    config = Config(path=str(path), format="%REQ(user-agent)% %RESP(x-from)% %REQ(x-forwarded-for)% %REQ(:path)%")
    assert await written(path, config, HTTP) == "curl/8 app 10.0.0.7 /a?b=c\n"


async def test_lines_are_handed_over_in_time_or_once_there_are_enough(
    path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "_INTERVAL", 0.0)
    log = AccessLog(config)
    line = log._format.lines([HTTP])
    monkeypatch.setattr(access_log, "_ENOUGH", 200 * len(line))
    sizes: list[int] = []
    done = asyncio.get_running_loop().create_future()

    def spy(batch: bytes) -> None:
        sizes.append(batch.count(b"\n"))
        if sum(sizes) == 300:
            done.set_result(None)

    monkeypatch.setattr(log._writer, "write", spy)
    for _ in range(300):
        log.record(HTTP)
    assert sizes == [256]  # the second batch makes enough
    await done
    assert sizes == [256, 44]
    await log.close()


async def test_an_idle_log_has_no_timer(config: Config) -> None:
    log = AccessLog(config)
    timers = [log._timer]
    log.record(HTTP)
    timers.append(log._timer)
    log._on_time()
    timers.append(log._timer)
    assert [timer is not None for timer in timers] == [False, True, False]
    await log.close()


async def test_lines_for_a_reader_who_stalls_are_dropped_and_counted(path: Path, config: Config) -> None:
    log = AccessLog(config)
    log._writer._max_backlog = 0  # type: ignore[attr-defined]
    for _ in range(200):
        log.record(HTTP)
    await log.close()
    assert (log.dropped, log.errors) == (200, 0)
    assert read(path) == ""


async def test_reopen_puts_what_came_before_into_the_old_file(path: Path) -> None:
    log = AccessLog(Config(path=str(path), format="%PROTOCOL%"))
    log.record(HTTP)
    old = rotate(path)
    log.reopen()
    log.record(TCP)
    await log.close()
    assert (read(old), read(path)) == ("HTTP/1.1\n", "TCP\n")


async def test_a_log_that_is_closed_hands_on_what_ends_later(path: Path, tmp_path: Path) -> None:
    heir = AccessLog(Config(path=str(tmp_path / "heir.log"), format="%PROTOCOL%"))
    log = AccessLog(Config(path=str(path), format="%PROTOCOL%"))
    await log.close(heirs=[heir])
    log.record(TCP)
    assert log._waiting == []
    await heir.close()
    heir.record(HTTP)
    assert heir._waiting == [], "its descriptor may be another file's by now"
    assert (read(path), read(tmp_path / "heir.log")) == ("", "TCP\n")


async def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        AccessLog(Config(path=str(tmp_path)))


async def test_only_what_the_filters_take_is_logged(path: Path) -> None:
    config = Config(path=str(path), format="%PATH%", filters=(LogFilter(status=("5xx",)),))
    lines = await written(path, config, HTTP, replace(HTTP, status=503, target=b"/bad"))
    assert lines == "/bad\n"
