from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from click.testing import CliRunner, Result

from meshlet.cli.tap import command, printable
from tests.support.processes import Process, running, until
from tests.support.servers import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

ENTRY: dict[str, Any] = {
    "time": 1767225600.25,
    "request_id": "r1",
    "trace_id": None,
    "listener": "in",
    "direction": "inbound",
    "client": "10.0.0.9:4000",
    "protocol": "HTTP/1.1",
    "scheme": "http",
    "method": "POST",
    "host": "shop",
    "target": "/orders?id=7",
    "route": "all",
    "cluster": "app",
    "endpoint": "10.0.1.1:80",
    "attempts": 1,
    "tries": [],
    "acted": [],
    "status": 201,
    "flag": "",
    "error": "",
    "duration": 0.0123,
    "request_seconds": 0.001,
    "response_seconds": 0.01,
    "service_seconds": 0.009,
    "received": 8,
    "sent": 4,
    "tunnel": False,
    "aborted": False,
    "request": {
        "headers": [["Host", "shop"], ["Authorization", "[redacted]"]],
        "trailers": [],
        "body": {"cut": True, "text": "a\nb"},
    },
    "response": {
        "reason": "Created",
        "headers": [["X-A", "1"]],
        "trailers": [],
        "body": {"cut": False, "base64": "YWJj"},
    },
}


class Admin:
    """An admin port that sends these lines to whoever taps it, and then ends, or holds on."""

    def __init__(self, *lines: dict[str, Any], hold: bool = False, answer: bytes | None = None) -> None:
        self.asked = ""
        self._lines = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self._hold = hold
        self._answer = answer

    def serve(self, sock: socket.socket) -> None:
        self.asked = sock.recv(65536).decode().split(" ")[1]
        if self._answer is not None:
            sock.sendall(self._answer)
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nServer: meshlet\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in (b"\n", self._lines):
            if data:
                sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        if self._hold:
            while sock.recv(1):
                pass
        else:
            sock.sendall(b"0\r\n\r\n")

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.asked.partition("?")[2])


@contextmanager
def listening(admin: Admin) -> Iterator[str]:
    with Server(admin.serve) as server:
        yield server.address


def run(admin: Admin, *arguments: str) -> Result:
    with listening(admin) as address:
        return CliRunner().invoke(command, ["--admin", address, *arguments])


def test_a_line_for_each_request() -> None:
    failed = {
        "status": 503,
        "flag": "URX,UF",
        "error": "connection refused",
        "attempts": 3,
        "method": "GET",
        "received": 0,
    }
    lost = {"status": 0, "flag": "NR", "endpoint": None, "cluster": None, "response": None, "host": None}
    result = run(Admin(ENTRY, ENTRY | failed, ENTRY | lost))
    assert result.exit_code == 0, result.output
    lines = [re.sub(r"^\d\d:\d\d:\d\d\.250", "TIME", line) for line in result.stdout.splitlines()]
    assert lines == [
        "TIME 10.0.0.9:4000 → POST shop/orders?id=7 → 10.0.1.1:80  201 -  12.3 ms  8 B in, 4 B out",
        "TIME 10.0.0.9:4000 → GET shop/orders?id=7 → 10.0.1.1:80 (3 attempts)  503 URX,UF  12.3 ms  0 B in, 4 B out"
        "  connection refused",
        "TIME 10.0.0.9:4000 → POST -/orders?id=7 → -  - NR  12.3 ms  8 B in, 4 B out",
    ]
    assert "waiting for requests" in result.stderr
    assert "ended" in result.stderr


def test_headers_and_bodies() -> None:
    result = run(Admin(ENTRY), "--headers")
    assert result.stdout.splitlines()[1:] == [
        "    > Host: shop",
        "    > Authorization: [redacted]",
        "    >   a",
        "    >   b",
        "    >   … (cut)",
        "    < X-A: 1",
        "    <   3 bytes that are not text",
    ]


@pytest.mark.parametrize(("base64", "size"), [("YWI=", 2), ("YQ==", 1)])
def test_the_size_of_what_is_not_text(base64: str, size: int) -> None:
    entry = ENTRY | {"response": ENTRY["response"] | {"body": {"cut": False, "base64": base64}}}
    assert f"<   {size} bytes that are not text" in run(Admin(entry), "--headers").stdout


def test_what_peers_send_does_not_reach_the_terminal() -> None:
    entry = ENTRY | {"target": "/\x1b[2J\x9b1m\u202e", "error": "a\r\nb"}
    entry["response"] = ENTRY["response"] | {"headers": [["X-A", "\x07"]]}
    output = run(Admin(entry), "--headers").stdout
    assert output.replace("\n", "").isprintable()
    assert "/\\u001b[2J\\u009b1m\\u202e" in output
    assert "\\u000d\\u000ab" in output
    line = run(Admin(entry), "--output", "json").stdout
    assert line.removesuffix("\n").isprintable()
    assert json.loads(line) == entry
    assert printable("grün €\t") == "grün €\t"


def test_json_is_what_came() -> None:
    result = run(Admin(ENTRY, ENTRY | {"status": 404}), "--output", "json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [ENTRY, ENTRY | {"status": 404}]


def test_options_become_parameters() -> None:
    admin = Admin()
    options = "-X GET,PUT --path /a --path /b --host *.x --status 5xx --flag any --peer 10.0.0.0/8 --header x-user=al"
    more = ["--listener", "in", "--cluster", "app", "--min-duration", "250ms", "--bodies", "4KiB"]
    run(admin, *options.split(), *more)
    assert admin.query == [
        ("method", "GET,PUT"),
        ("path", "/a"),
        ("path", "/b"),
        ("host", "*.x"),
        ("status", "5xx"),
        ("peer", "10.0.0.0/8"),
        ("flag", "any"),
        ("header", "x-user=al"),
        ("listener", "in"),
        ("cluster", "app"),
        ("min_duration", "250ms"),
        ("limit", "1000"),
        ("bodies", "4096"),
    ]


def test_it_ends_after_so_many_or_after_so_long() -> None:
    result = run(Admin(ENTRY, ENTRY, ENTRY, hold=True), "--count", "2")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert run(Admin(hold=True), "--for", "0s").exit_code == 0


def test_what_is_missing_is_said() -> None:
    result = run(Admin({"dropped": 7}, ENTRY, {"paused": 6.0}))
    assert len(result.stdout.splitlines()) == 1
    assert "7 more requests are not shown" in result.stderr
    assert "nothing was captured for 6 s" in result.stderr


def test_refusals_and_nobody_there(tmp_path: Path) -> None:
    text = b"status: found '6xx', expected a status\n"
    answer = b"HTTP/1.1 400 Bad Request\r\nServer: meshlet\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    path = tmp_path / "a.har"
    path.write_text("before")
    result = run(Admin(answer=answer), "--status", "6xx", "--har", str(path))
    assert result.exit_code == 1
    assert result.stderr == "Error: status: found '6xx', expected a status\n"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    result = CliRunner().invoke(command, ["--admin", f"unix:{tmp_path}/none"])
    assert result.exit_code == 1
    assert "no meshlet answers" in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--bodies", "1MB"), "found '1MB', expected a size in bytes such as 512, 64KiB or 10MiB"),
        (("--for", "3"), "found '3', expected a duration such as 250ms, 2s, 5m or 1h"),
        (("--har", "/no/such/folder/a.har"), "/no/such/folder/a.har: no such file or directory"),
    ],
)
def test_wrong_options(option: tuple[str, str], message: str) -> None:
    result = run(Admin(), *option)
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_a_har_file_beside_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.har"
    result = run(Admin(ENTRY, {"dropped": 1}, ENTRY), "--har", str(path))
    assert len(result.stdout.splitlines()) == 2
    assert f"{path}: 2 requests\n" in result.stderr
    assert [each["request"]["url"] for each in json.loads(path.read_bytes())["log"]["entries"]] == [
        "http://shop/orders?id=7"
    ] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_har_file_is_whole(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "a.har"
    with listening(Admin(ENTRY, hold=True)) as address:
        arguments = [sys.executable, "-m", "meshlet", "tap", "--admin", address, "--har", str(path)]
        process = Process(arguments, tmp_path / "tap")
        with running(process):
            until(lambda: "POST shop/orders" in process.stdout)
            process.signal(number)
            assert process.wait() == 0, process.stderr
    assert len(json.loads(path.read_bytes())["log"]["entries"]) == 1
    assert f"{path}: 1 request\n" in process.stderr
    assert "Traceback" not in process.stderr
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_reader_that_closes_its_end(tmp_path: Path) -> None:
    with listening(Admin(*[ENTRY] * 2000, hold=True)) as address:
        arguments = [sys.executable, "-m", "meshlet", "tap", "--admin", address, "--har", str(tmp_path / "a.har")]
        out, into = os.pipe()
        process = subprocess.Popen(arguments, stdout=into, stderr=subprocess.PIPE)
        os.close(into)
        os.read(out, 100)
        os.close(out)
        _, errors = process.communicate(timeout=20)
    assert b"Traceback" not in errors
    assert json.loads((tmp_path / "a.har").read_bytes())["log"]["entries"]


@pytest.mark.parametrize("line", [b"hello", b"[" * 100_000, b"\xff"], ids=["text", "deep", "no UTF-8"])
def test_lines_that_are_no_json(line: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b\n" % (len(line) + 1, line)
    result = run(Admin(answer=answer))
    assert result.exit_code == 1
    assert "answered /tap with something else than JSON: is this the admin port of a meshlet?" in result.stderr
