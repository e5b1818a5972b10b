"""Requests through a running meshlet, watched by `meshlet tap`, and sent again by `meshlet replay`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import Meshlet, Process, config_of, meshlet, running, until, write_config
from tests.support.servers import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def origin() -> Iterator[Recorder]:
    with Recorder() as origin:
        yield origin


def tap(process: Meshlet, folder: Path, *options: str) -> Process:
    arguments = [sys.executable, "-m", "meshlet", "tap", "--admin", process.admin, "--output", "json", *options]
    watching = Process(arguments, folder)
    until(lambda: "waiting for requests" in watching.stderr or not watching.running)
    return watching


def shown(watching: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in watching.stdout.splitlines(keepends=True) if line.endswith("\n")]


def ask(process: Meshlet, path: str, *fields: str, method: str = "GET", body: bytes = b"") -> None:
    with process.client() as client:
        length = (f"Content-Length: {len(body)}",) if body else ()
        client.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: app", *fields, *length, "", ""]).encode() + body)
        assert client.response().status == 200


def test_watched_written_down_and_sent_again(origin: Recorder, tmp_path: Path) -> None:
    har = tmp_path / "traffic.har"
    with meshlet(tmp_path, config_of(origin.address, listener={"protocol": "http"})) as process:
        ask(process, "/before")
        watching = tap(process, tmp_path / "tap", "--path", "/a", "--bodies", "1KiB", "--har", str(har))
        with running(watching):
            ask(process, "/a/1?token=abc", "Authorization: Bearer abc", "X-A: 1")
            ask(process, "/other")
            ask(process, "/a/2", method="POST", body=b"hello")
            until(lambda: len(shown(watching)) == 2)
            watching.signal(signal.SIGINT)
            assert watching.wait() == 0
        first, second = shown(watching)
        assert (first["target"], first["status"], first["endpoint"]) == ("/a/1?token=[redacted]", 200, origin.address)
        assert second["request"]["body"] == {"cut": False, "text": "hello"}
        assert second["response"]["body"] == {"cut": False, "text": "ok"}
        assert "abc" not in watching.stdout + har.read_text()
        origin.forget()
        command = [sys.executable, "-m", "meshlet", "replay", str(har), "--to", f"http://{process.address}"]
        done = subprocess.run(
            [*command, "--unsafe", "--speed", "0", "--concurrency", "1"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sent 2: 2 with the recorded status" in done.stdout
        assert "authorization (1)" in done.stdout
        received = b"".join(origin.received)
        assert b"GET /a/1 HTTP/1.1\r\nHost: app\r\nX-A: 1\r\n" in received
        assert received.endswith(b"\r\n\r\nhello")


def test_all_workers_are_watched_and_the_end_is_orderly(origin: Recorder, tmp_path: Path) -> None:
    config = config_of(origin.address, listener={"protocol": "http"})
    path = write_config(tmp_path / "meshlet.yaml", config)
    process = Meshlet(["--config", path, "--workers", "2"], tmp_path / "meshlet")
    with running(process):
        process.started()
        watching = tap(process, tmp_path / "tap")
        with running(watching):
            for number in range(20):
                ask(process, f"/{number}")
            until(lambda: len(shown(watching)) == 20)
            assert {entry["target"] for entry in shown(watching)} == {f"/{number}" for number in range(20)}
            process.signal(signal.SIGTERM)
            assert watching.wait() == 0, watching.stderr
        assert "meshlet has ended the stream" in watching.stderr
        assert process.wait() == 0
        assert "Traceback" not in process.stderr
