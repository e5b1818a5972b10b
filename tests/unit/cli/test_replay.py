from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from meshlet.cli.replay import command
from tests.support.servers import Recorder, Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path


def entry(
    method: str = "GET",
    url: str = "http://shop/a",
    *,
    at: str = "2026-01-01T00:00:00.000000Z",
    status: int = 200,
    headers: dict[str, str] | None = None,
    **request: Any,
) -> dict[str, Any]:
    fields = [{"name": name, "value": value} for name, value in (headers or {"Host": "shop"}).items()]
    return {
        "startedDateTime": at,
        "request": {"method": method, "url": url, "headers": fields, **request},
        "response": {"status": status},
    }


@pytest.fixture
def origin() -> Iterator[Recorder]:
    with Recorder() as origin:
        yield origin


class Replay:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "a.har"

    def __call__(self, server: Server, *arguments: str | dict[str, Any], speed: str = "0") -> Result:
        entries = [each for each in arguments if isinstance(each, dict)]
        self._path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}), encoding="utf-8")
        options = [each for each in arguments if isinstance(each, str)]
        return CliRunner().invoke(
            command, [str(self._path), "--to", f"http://{server.address}", "--speed", speed, *options]
        )


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    return Replay(tmp_path)


def test_requests_are_sent_as_they_were(replay: Replay, origin: Recorder) -> None:
    headers = {
        "Host": "shop:8080",
        "Accept": "*/*",
        "X-Forwarded-For": "192.0.2.1",
        "Connection": "close",
        "Transfer-Encoding": "chunked",
        "x-request-id": "r1",
        "traceparent": "00-1",
        "X-B3-TraceId": "1",
        ":authority": "shop",
        "X-Name": "grün",
    }
    result = replay(origin, entry(url="http://shop:8080/a/ü?b=%20&c", headers=headers), "--concurrency", "1")
    assert result.exit_code == 0, result.output
    assert origin.received == [
        "GET /a/%C3%BC?b=%20&c HTTP/1.1\r\nHost: shop:8080\r\nAccept: */*\r\nX-Forwarded-For: 192.0.2.1\r\n"
        "X-Name: grün\r\n\r\n".encode()
    ]
    assert result.stdout == "sent 1: 1 with the recorded status, 0 with another one, 0 without a response\n"


def test_safe_requests_share_connections(replay: Replay, origin: Recorder) -> None:
    replay(origin, *[entry(url=f"http://shop/{number}") for number in range(5)], "--concurrency", "1")
    (received,) = origin.received
    assert [line for line in received.decode().split("\r\n") if line.startswith("GET")] == [
        f"GET /{number} HTTP/1.1" for number in range(5)
    ]


def test_nothing_that_may_change_something_unless_asked_for(replay: Replay, origin: Recorder) -> None:
    entries = [entry(), entry("POST", postData={"text": "ab"}), entry("DELETE")]
    result = replay(origin, *entries)
    assert result.exit_code == 0
    assert b"".join(origin.received).count(b"HTTP/1.1") == 1
    assert "not sent 1: POST may change something; --unsafe sends it" in result.stdout
    assert "not sent 1: DELETE may change something; --unsafe sends it" in result.stdout
    origin.forget()
    result = replay(origin, *entries, "--unsafe", "--concurrency", "1")
    assert "sent 3: 3 with the recorded status" in result.stdout
    assert len(origin.received) == 3  # each of these on a connection of its own
    assert any(each.endswith(b"Content-Length: 2\r\n\r\nab") for each in origin.received)
    assert any(each.endswith(b"Content-Length: 0\r\n\r\n") for each in origin.received)


def test_binary_bodies(replay: Replay, origin: Recorder) -> None:
    data = bytes(range(256))
    body = {"text": base64.b64encode(data).decode(), "_encoding": "base64", "_cut": False}
    replay(origin, entry("PUT", postData=body), "--unsafe")
    assert origin.received[0].endswith(b"\r\n\r\n" + data)


@pytest.mark.parametrize(
    "request_part",
    [
        {"postData": {"text": "ab", "_cut": True}, "bodySize": 4},
        {"postData": {"text": "password=[redacted]", "_cut": False, "_redacted": True}, "bodySize": 4},
        {"bodySize": 4},
    ],
)
def test_bodies_that_are_not_whole(replay: Replay, origin: Recorder, request_part: dict[str, Any]) -> None:
    recorded = entry("POST", **request_part)
    result = replay(origin, recorded, "--unsafe")
    assert result.exit_code == 1
    assert origin.received == []
    assert "not sent 1: its body was" in result.stdout
    result = replay(origin, recorded, "--unsafe", "--allow-cut")
    assert result.exit_code == 0
    assert len(origin.received) == 1


def test_hidden_values_are_left_out_and_that_is_said(replay: Replay, origin: Recorder) -> None:
    headers = {"Host": "shop", "Authorization": "[redacted]", "Referer": "/x?token=[redacted]", "X-A": "1"}
    target = "a;jsessionid=[redacted]/b?b=1&token=[redacted]&c=2&next=/d?pin=[redacted]&sig=[redacted]"
    result = replay(origin, entry(url=f"http://shop/{target}", headers=headers))
    assert origin.received == [b"GET /a/b?b=1&c=2 HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n\r\n"]
    assert "hides their values: " in result.stdout
    for name in (
        "authorization (1)",
        "referer (1)",
        "jsessionid in the URL (1)",
        "token in the URL (1)",
        "next in the URL (1)",
        "sig in the URL (1)",
    ):
        assert name in result.stdout


def test_tunnels_are_not_sent(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry("CONNECT", "http://b:443"), entry(status=101))
    assert result.exit_code == 0
    assert "not sent 2: it began a tunnel" in result.stdout
    assert origin.received == []


def test_statuses_are_compared(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry(), entry(url="http://shop/was-bad", status=503), entry(status=0))
    assert result.exit_code == 0
    assert "2: GET shop/was-bad: 503 → 200\n" in result.stdout
    assert "3: GET shop/a: no response → 200\n" in result.stdout
    assert "sent 3: 1 with the recorded status, 2 with another one" in result.stdout


def test_secrets_of_a_browsers_file_are_sent_and_not_printed(replay: Replay, origin: Recorder) -> None:
    recorded = entry(url="http://shop/a?session=s3cret&b=1", status=404)
    for result in (replay(origin, recorded), replay(origin, recorded, "--output", "json")):
        assert "/a?session=[redacted]&b=1" in result.stdout
        assert "s3cret" not in result.output
    assert all(b"GET /a?session=s3cret&b=1 " in each for each in origin.received)


def test_a_report_for_programs(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry(), entry(status=404), entry("POST"), "--output", "json")
    report = json.loads(result.stdout)
    assert (report["sent"], report["same"], report["failed"], report["left_out"]) == (2, 1, [], {})
    (different,) = report["different"]
    assert (different["number"], different["recorded"], different["status"]) == (2, 404, 200)
    assert report["not_sent"] == {"POST may change something; --unsafe sends it": 1}


def test_nobody_there(replay: Replay) -> None:
    with Recorder() as gone:
        pass
    result = replay(gone, entry(), entry())
    assert result.exit_code == 1
    assert "1: GET shop/a: 200 → no response: " in result.stdout
    assert "2 without a response" in result.stdout


def test_a_response_that_breaks(replay: Replay) -> None:
    def broken(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    with Server(broken) as server:
        result = replay(server, entry("POST"), "--unsafe")
        assert result.exit_code == 1
        assert "no response: the response ended 7 bytes too early" in result.stdout


def test_a_kept_connection_that_was_closed_is_made_anew_for_safe_requests(replay: Replay) -> None:
    asked: list[bytes] = []

    def once(sock: socket.socket) -> None:
        asked.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Server(once) as server:
        result = replay(server, *[entry() for _ in range(4)], "--concurrency", "1")
        assert result.exit_code == 0, result.output
        assert len(asked) == 4


def test_as_many_at_once_as_allowed(replay: Replay) -> None:
    barrier = threading.Barrier(3, timeout=10)

    def together(sock: socket.socket) -> None:
        sock.recv(65536)
        barrier.wait()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with Server(together) as server:
        result = replay(server, *[entry() for _ in range(3)], "--concurrency", "3")
        assert result.exit_code == 0, result.output


def test_the_recorded_pace(replay: Replay, origin: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 3))
        now += seconds

    slept: list[float] = []
    monkeypatch.setattr("meshlet.cli.replay._monotonic", lambda: now)
    monkeypatch.setattr("meshlet.cli.replay._sleep", sleep)
    late, soon = entry(at="2026-01-01T00:00:03Z"), entry(at="2026-01-01T01:00:01+01:00")
    result = replay(origin, late, entry(), soon, speed="2")
    assert result.exit_code == 0
    assert slept == [0.0, 0.5, 1.0]


def test_a_pace_that_no_sleep_can_keep(replay: Replay, origin: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("meshlet.cli.replay._sleep", slept.append)
    assert replay(origin, entry(), entry(at="9999-12-31T00:00:00Z"), speed="0.001").exit_code == 0
    assert slept[1] <= threading.TIMEOUT_MAX


def test_a_method_cannot_command_the_terminal(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry("A\x1b[2J"))
    assert "not sent 1: its method is none" in result.stdout
    assert result.stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"log": {"entries": [{}]}}', '{"log": {"entries": 7}}', "\ud800", "[" * 100_000],
    ids=["empty", "no log", "no time", "no list", "no UTF-8", "deep"],
)
def test_files_that_are_no_har(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.har"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    result = CliRunner().invoke(command, [str(path), "--to", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "not a HAR file: expected JSON with log.entries" in result.stderr


def test_an_entry_without_a_request_is_named(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry(), {"startedDateTime": "2026-01-01T00:00:00Z", "request": {}})
    assert result.exit_code == 2
    assert "log.entries[1]: not a request" in result.stderr
    assert origin.received == []


def test_a_status_beyond_all_numbers(replay: Replay, origin: Recorder) -> None:
    result = replay(origin, entry() | {"response": {"status": float("inf")}})
    assert result.exit_code == 2
    assert "log.entries[0]: not a request" in result.stderr


@pytest.mark.parametrize("to", ["127.0.0.1:80", "https://a:1", "http://a:1/x", "http://", "http://a:0", "http://u@a:1"])
def test_where_it_cannot_go(tmp_path: Path, to: str) -> None:
    (tmp_path / "a.har").write_text("{}")
    result = CliRunner().invoke(command, [str(tmp_path / "a.har"), "--to", to])
    assert result.exit_code == 2
    assert "expected http:// and HOST:PORT, without a path" in result.stderr
