from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from meshlet.telemetry import log

own = logging.getLogger("meshlet.test")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root, meshlet = logging.getLogger(), logging.getLogger("meshlet")
    before = root.handlers[:], root.level, meshlet.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    meshlet.setLevel(before[2])


def configured(level: str = "info", format: log.Format = "text") -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    log.configure(level, format, stream)
    return stream


def test_a_line_of_text_has_time_level_message_and_extras() -> None:
    stream = configured()
    own.info("listener %s is up", "inbound", extra={"port": 15006, "peer": b"\xff\n"})
    line = stream.getvalue()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info  listener inbound is up port=15006 peer=ÿ\\n\n", line
    )


def test_a_json_line_has_the_extras_as_fields() -> None:
    stream = configured(format="json")
    own.warning("no route", extra={"status": 404, "share": 0.5, "path": "/x", "level": None, "address": ("::1", 1)})
    fields = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-.*Z", fields.pop("time"))
    assert fields == {
        "level": "warning",
        "logger": "meshlet.test",
        "message": "no route",
        "status": 404,
        "share": 0.5,
        "path": "/x",
        "level_": None,
        "address": "('::1', 1)",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_client_cannot_forge_a_line(form: log.Format) -> None:
    stream = configured(format=form)
    forged = "GET /\r\n2026-11-22T10:00:00.000Z error forged\x1b[2J\x85\u2028\ud800"
    own.info("refused %s", forged, extra={"target": forged})
    try:
        int(forged)
    except ValueError:
        own.exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert not log._UNSAFE.search("".join(lines))
    assert "Traceback" in lines[1]


def test_the_level_can_be_changed_while_running() -> None:
    stream = configured("warning")
    own.info("one")
    log.set_level("debug")
    own.debug("two")
    assert log.get_level() == "debug"
    log.set_level("error")
    own.warning("three")
    assert [line.split(" ", 2)[1:] for line in stream.getvalue().splitlines()] == [["debug", "two"]]


def test_libraries_write_warnings_only() -> None:
    stream = configured("debug")
    logging.getLogger("asyncio").info("noise")
    logging.getLogger("asyncio").warning("trouble")
    assert "noise" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_an_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of debug, info, warning, error, not loud"):
        log.set_level("loud")


def test_configuring_again_replaces() -> None:
    first = configured()
    second = configured()
    own.info("once")
    assert not first.getvalue()
    assert second.getvalue().count("\n") == 1


def test_stderr_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    own.info("hello")
    assert "hello" in capsys.readouterr().err


def test_a_timestamp_is_utc_with_milliseconds() -> None:
    assert log.timestamp(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"
