"""The metrics port."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.admin import scrape_app
from meshlet.admin.scrape import ScrapeServer
from meshlet.telemetry.metrics import Family, Sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ACCEPT = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


async def families() -> list[Family]:
    return [Family("meshlet_requests_total", "counter", "Requests.", [Sample((("cluster", "app"),), 7)])]


class Answer:
    """What came back, until the connection was closed."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}


async def ask(address: Any, line: str = "GET /metrics", *fields: str) -> Answer:
    reader, writer = await asyncio.open_connection(*address[:2])
    writer.write("".join(f"{each}\r\n" for each in (f"{line} HTTP/1.1", "Host: pod", *fields, "")).encode())
    try:
        return Answer(await reader.read())
    finally:
        writer.close()


@asynccontextmanager
async def serving(app: str | None = None, **settings: Any) -> AsyncIterator[tuple[ScrapeServer, Any]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = ScrapeServer(sock, settings.pop("families", families), app, **settings)
        server.start()
        try:
            yield server, sock.getsockname()
        finally:
            await server.close()


@asynccontextmanager
async def app_that(answer: Callable[[str], bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """An app that answers a request's head so; its URL, and the heads that came."""
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        writer.write(answer(head))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics", heads


def response(
    body: bytes, content_type: str = "text/plain; version=0.0.4", status: str = "200 OK", more: str = ""
) -> bytes:
    field = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status}\r\n{field}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("path", ["/metrics", "/stats/prometheus", "/metrics?x=y"])
async def test_a_scrape(path: str) -> None:
    async with serving() as (_, address):
        answer = await ask(address, f"GET {path}")
    assert answer.status == 200
    assert answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (answer.fields["connection"], answer.fields["server"]) == ("close", "meshlet")
    assert b'meshlet_requests_total{cluster="app"} 7\n' in answer.body


async def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    async with serving() as (_, address):
        answer = await ask(address, "GET /metrics", ACCEPT)
    assert answer.fields["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.body.endswith(b"# EOF\n")


async def test_compression() -> None:
    async with serving() as (_, address):
        answer = await ask(address, "GET /metrics", "Accept-Encoding: gzip")
    assert answer.fields["content-encoding"] == "gzip"
    assert b"meshlet_requests_total" in gzip.decompress(answer.body)


async def test_head_has_no_body() -> None:
    async with serving() as (_, address):
        answer = await ask(address, "HEAD /metrics")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /metrics", 405),
        ("DELETE /stats/prometheus", 405),
        ("GET /", 404),
        ("GET /stats", 404),
        ("POST /quitquitquit", 404),
        ("GET /metrics/../config_dump", 404),
        ("GET /config_dump", 404),
        ("OPTIONS *", 404),
        ("CONNECT app:80", 404),
        ("what", 400),
    ],
)
async def test_there_is_nothing_else_here(line: str, status: int) -> None:
    async with serving() as (_, address):
        assert (await ask(address, line)).status == status
        assert (await ask(address)).status == 200


async def test_connections_that_make_room_or_are_refused_do_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scrape_app, "_MAX_CONNECTIONS", 2)
    release, both = asyncio.Event(), asyncio.Semaphore(0)

    async def slow() -> list[Family]:
        both.release()
        await release.wait()
        return await families()

    async with serving(families=slow) as (_, address), asyncio.timeout(20):
        idle = [await asyncio.open_connection(*address) for _ in range(5)]
        scrapes = [asyncio.create_task(ask(address)) for _ in range(2)]
        for reader, writer in idle:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        await both.acquire()
        await both.acquire()
        with suppress(ConnectionError):
            assert (await ask(address)).status == 0
        release.set()
        assert [(await scrape).status for scrape in scrapes] == [200, 200]
    gc.collect()  # a task that has failed tells of it when it goes
    assert not caplog.records


async def test_malformed_requests_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, address):
        for line in ("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b", "GET /\x1b[31m HTTP/1.1", "GET / HTTP/9.9.9"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(f"{line}\r\n\r\n".encode())
            async with asyncio.timeout(10):
                assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape_app, "_LIFETIME", 0.05)
    async with serving() as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /metr")
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_scrapes_at_once_are_bounded() -> None:
    running = most = 0
    turn = asyncio.Event()

    async def slow() -> list[Family]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == scrape_app._AT_ONCE:
            turn.set()
        await turn.wait()
        running -= 1
        return []

    async with serving(families=slow) as (_, address):
        answers = await asyncio.gather(*(ask(address) for _ in range(10)))
    assert [answer.status for answer in answers] == [200] * 10
    assert most == scrape_app._AT_ONCE


# --- the app's metrics ---


async def test_the_apps_metrics_stand_behind_ours() -> None:
    async with (
        app_that(lambda _: response(b"app_orders_total 3\n")) as (url, heads),
        serving(url) as (server, address),
    ):
        answer = await ask(address, "GET /metrics", "X-Prometheus-Scrape-Timeout-Seconds: 4", "Authorization: secret")
    assert answer.body.endswith(b'meshlet_requests_total{cluster="app"} 7\napp_orders_total 3\n')
    [head] = heads
    assert "Accept: text/plain;version=0.0.4,*/*;q=0.1\r\n" in head
    assert "X-Prometheus-Scrape-Timeout-Seconds: 3\r\n" in head
    assert "secret" not in head
    assert (server.app_scrapes_total, server.app_failures_total) == (1, 0)


async def test_the_app_is_asked_for_the_same_format() -> None:
    openmetrics = response(b"# TYPE app_x gauge\napp_x 3\n# EOF\n", "application/openmetrics-text; version=1.0.0")
    async with (
        app_that(lambda head: openmetrics if "Accept: application/openmetrics" in head else b"") as (url, _),
        serving(url) as (_, address),
    ):
        answer = await ask(address, "GET /metrics", ACCEPT)
    assert answer.fields["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"app_x 3\n# EOF\n")
    assert answer.body.count(b"# EOF") == 1


async def test_where_it_has_another_both_are_text() -> None:
    async with app_that(lambda _: response(b"app_x 3")) as (url, _), serving(url) as (_, address):
        answer = await ask(address, "GET /metrics", ACCEPT)
    assert answer.fields["content-type"].startswith("text/plain")
    assert answer.body.endswith(b"app_x 3\n")


async def test_an_app_that_does_not_say_what_it_answers_means_text() -> None:
    async with app_that(lambda _: response(b"app_x 3\n", "")) as (url, _), serving(url) as (_, address):
        assert (await ask(address)).body.endswith(b"app_x 3\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"no", status="500 Oops"), "it answered 500"),
        (response(b"", status="302 Found", more="Location: http://169.254.169.254/\r\n"), "it answered 302"),
        (response(b"<html>", "text/html"), "it answered with text/html"),
        (response(b"\x1f\x8b", more="Content-Encoding: gzip\r\n"), "compressed"),
        (response(b'app_x{a="\xff"} 1\n'), "utf-8"),
        (response(b"app_x 1\n" * 2_100_000), "more than 16777216 bytes"),
        (response(b"app_x 1\nthis is { not metrics\n"), "line 2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", ""),
        (b"SSH-2.0-OpenSSH\r\n", ""),
        (b"", ""),
    ],
    ids=["500", "redirect", "html", "compressed", "bytes", "endless", "malformed", "cut", "not http", "nothing"],
)
async def test_an_app_that_fails_leaves_ours(answer: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with app_that(lambda _: answer) as (url, heads), serving(url) as (server, address):
        got = await ask(address)
    assert got.status == 200
    assert got.body.endswith(b'meshlet_requests_total{cluster="app"} 7\n')
    assert heads
    assert (server.app_scrapes_total, server.app_failures_total) == (1, 1)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"cannot get the app's metrics from {url}: ")
    assert reason in line


async def test_an_app_that_is_not_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    async with serving(url) as (server, address):
        assert b"meshlet_requests_total" in (await ask(address)).body
        assert server.app_failures_total == 1


async def test_an_app_that_does_not_answer_has_part_of_the_scrapers_time(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with serving(f"http://127.0.0.1:{silent.getsockname()[1]}/") as (_, address):
            answer = await ask(address, "GET /metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.01")
    assert b"meshlet_requests_total" in answer.body
    assert "no answer in time" in caplog.text


@pytest.mark.parametrize(
    ("field", "seconds"),
    [(None, 5.0), ("10", 5.0), ("4", 3.0), ("0.1", 0.5), ("-1", 0.5), ("nan", 5.0), ("inf", 5.0), ("soon", 5.0)],
)
def test_how_long_the_app_is_waited_for(field: str | None, seconds: float) -> None:
    assert scrape_app._timeout(field) == seconds


async def test_failures_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter((1000.0, 1030.0, 1059.0, 1060.0, 1061.0))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = ScrapeServer(sock, families, "http://app/", clock=lambda: next(times))
        for _ in range(5):
            server.note_app("it answered 500")
        server.note_app(None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    found = {family.name: family.samples[0].value for family in server.families()}
    assert found == {"meshlet_app_scrapes_total": 6, "meshlet_app_scrape_failures_total": 5}


async def test_the_app_may_change() -> None:
    async with app_that(lambda _: response(b"app_x 3\n")) as (url, _), serving() as (server, address):
        assert b"app_x" not in (await ask(address)).body
        server.app = url
        assert b"app_x" in (await ask(address)).body


def test_aiohttp_is_loaded_by_the_first_connection_only() -> None:
    code = "import sys, meshlet.admin.scrape; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
