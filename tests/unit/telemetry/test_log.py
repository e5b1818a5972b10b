from __future__ import annotations

import gc
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlet.telemetry import log

own = logging.getLogger("meshlet.test")


class Written:
    """What the log has written so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return self._path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root, meshlet = logging.getLogger(), logging.getLogger("meshlet")
    before = root.handlers[:], root.level, meshlet.level
    for hooks, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(hooks, name, getattr(hooks, name))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(log, "_handler", None)
    yield
    if log._handler is not None:
        log._handler.close()
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    meshlet.setLevel(before[2])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `configured` puts its log."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(level: str = "info", format: log.Format = "text", name: str = "log") -> Written:  # noqa: A002
    path = Path(name).absolute()
    log.configure(level, format, path=str(path))
    return Written(path)


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
    second = configured(name="second")
    own.info("once")
    assert not first.getvalue()
    assert second.getvalue().count("\n") == 1


def test_stderr_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure()
    own.info("hello")
    logging.getLogger().handlers[0].flush()
    assert "hello" in capfd.readouterr().err


def test_a_timestamp_is_utc_with_milliseconds() -> None:
    assert log.timestamp(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"


# --- what Python itself would print ---


def test_warnings_become_lines() -> None:
    written = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # catch_warnings has put back what was before
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert re.search(r" warning .*DeprecationWarning: old", written.getvalue())


def test_what_a_destructor_raises_becomes_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("in the end")

    written = configured()
    broken = Broken()
    del broken
    gc.collect()
    (line,) = written.getvalue().splitlines()
    assert re.search(" error [Ee]xception ignored", line)
    assert "ValueError: in the end" in line
    assert capfd.readouterr().err == ""


def test_what_ends_a_thread_becomes_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise ValueError("in a thread")

    written = configured()
    thread = threading.Thread(target=run, name="odd one")
    thread.start()
    thread.join()
    (line,) = written.getvalue().splitlines()
    assert "error thread odd one was ended by an exception" in line
    assert "ValueError: in a thread" in line
    assert capfd.readouterr().err == ""


def run_python(code: str, *, close: str = "") -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", f'exec "$@" {close}', "sh", sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def test_what_ends_the_process_becomes_a_line() -> None:
    done = run_python("from meshlet.telemetry.log import configure; configure(format='json'); 1 / 0")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["message"]) == ("critical", "ended by an exception")
    assert "ZeroDivisionError" in fields["exception"]


def test_the_last_lines_are_written_at_the_exit() -> None:
    done = run_python(
        "import logging; from meshlet.telemetry.log import configure; configure()\n"
        "for n in range(1000): logging.getLogger('meshlet').info('line %d' % n)"
    )
    assert [line.split()[-1] for line in done.stderr.splitlines()] == [str(n) for n in range(1000)]


def test_a_stderr_that_was_closed_gets_no_line_and_no_socket_its_number() -> None:
    code = (
        "import logging, os; from meshlet.telemetry.log import configure; configure()\n"
        "logging.getLogger('meshlet').error('lost')\n"
        "print(os.readlink('/proc/self/fd/2'))"
    )
    done = run_python(code, close="2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/null\n", "")


# --- what is wrong with a record ---


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class Untold(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_that_cannot_be_written_becomes_one_line(form: log.Format, capfd: pytest.CaptureFixture[str]) -> None:
    written = configured(format=form)
    own.info("two: %d %d", 1)
    own.info("not a number: %d", "x")
    own.info("odd: %s", Unspeakable())
    own.info(Unspeakable())
    own.info("extra", extra={"odd": Unspeakable()})
    own.error("failed", exc_info=Untold())
    lines = written.getvalue().splitlines()
    assert len(lines) == 6
    assert "two: %d %d [TypeError: its arguments cannot be written]" in lines[0]
    assert "not a number: %d [TypeError: its arguments cannot be written]" in lines[1]
    assert "odd: %s [ValueError: its arguments cannot be written]" in lines[2]
    for line in lines[3:5]:
        assert re.search(r"cannot log what meshlet\.test said in line \d+ of test_log\.py", line)
    assert "Untold" in lines[5]
    assert capfd.readouterr().err == ""


def test_a_traceback_that_cannot_be_made_is_told_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **settings: object) -> None:
        raise OSError(24, os.strerror(24))

    written = configured()
    monkeypatch.setattr("traceback.print_exception", fails)
    try:
        int("x")
    except ValueError:
        own.exception("failed")
    (line,) = written.getvalue().splitlines()
    assert re.search(r"exception=\S+/test_log\.py:\d+ in test_a_traceback_\S+; ValueError$", line)


def test_other_handlers_print_nothing_either(capfd: pytest.CaptureFixture[str]) -> None:
    configured()
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    own.error("two: %d %d", 1)
    logging.getLogger().removeHandler(handler)
    assert "Logging error" not in capfd.readouterr().err


def test_lines_that_are_lost_are_told_by_reason() -> None:
    assert log.lost_lines() == {}
    configured()
    assert log.lost_lines() == {"queue": 0, "failed": 0, "repeated": 0}
