"""Requests that somebody looks at: what the tap shows, and that neither side can tell."""

from __future__ import annotations

import inspect
import json
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.telemetry.tap import LEASE, TapFilter, TapRead, hub
from tests.conversations.world import (
    ANSWERED,
    DATE,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    SERVICE_TIME,
    Variant,
    World,
)
from tests.support.wire import chunk, chunked, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# --- neither side can tell ---

MODULES = (
    "bodies",
    "cors",
    "detect",
    "envoy_headers",
    "faults",
    "filters",
    "hedging",
    "interim",
    "keep_alive",
    "leaving",
    "limits",
    "mirror",
    "rate_limit",
    "replies",
    "retries",
    "timeouts",
    "tunnels",
)
#: of these, pieces and leaving as well
DEEP = ("bodies", "filters", "leaving", "replies", "tunnels")


def _conversations() -> Iterator[Any]:
    for name in MODULES:
        module = import_module(f"tests.conversations.test_{name}")
        for title, function in vars(module).items():
            if title.startswith("test_") and [*inspect.signature(function).parameters] == ["variant"]:
                known = next(mark.args[1] for mark in function.pytestmark if mark.name == "parametrize")
                for variant in (Variant.AS_WRITTEN, Variant.CLIENT_TRICKLES, Variant.CLIENT_RESETS, Variant.APP_CLOSES):
                    if variant in known and (name in DEEP or variant is Variant.AS_WRITTEN):
                        yield pytest.param(partial(function, variant), id=f"{name}.{title[5:]}[{variant.value}]")


@pytest.mark.parametrize("conversation", [*_conversations()])
def test_conversations_go_on_as_if_nobody_looked(
    conversation: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, end = World.__enter__, World.__exit__
    watched: list[World] = []
    read = TapRead("t", bodies=1000, max=1000)

    def enter(world: World) -> World:
        begin(world)
        assert world.taps.read(read) == []
        world._timers.cancel(world.taps)  # whatever time passes
        watched.append(world)
        return world

    def leave(world: World, *outcome: Any) -> None:
        entries = _read(world, read)
        if not any("dropped" in entry for entry in entries):
            # What cannot be read as a request is logged, but it is none.
            logged = [each for each in world.log.entries if each.protocol != "TCP" and each.target is not None]
            shown = [(entry["status"], entry["flag"], entry["sent"]) for entry in entries]
            assert shown == [(each.status, each.flag, each.sent) for each in logged]
        end(world, *outcome)
        # All that captures took is given back, where everything has come to an end.
        assert any(world.cuts.values()) or world.taps._room.left == hub._IN_FLIGHT

    def never(_: object, error: Exception) -> None:
        raise AssertionError from error

    monkeypatch.setattr(World, "__enter__", enter)
    monkeypatch.setattr(World, "__exit__", leave)
    monkeypatch.setattr(hub.Taps, "failed", never)
    conversation()
    assert watched


# --- what it shows ---


def _open(world: World, **wanted: Any) -> TapRead:
    bodies, most = wanted.pop("bodies", 0), wanted.pop("max", 100)
    read = TapRead("t", TapFilter(**wanted), bodies, most)
    assert world.taps.read(read) == []
    return read


def _read(world: World, read: TapRead) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in world.taps.read(read)]


def test_an_exchange_from_head_to_body() -> None:
    with World(route={"name": "all"}) as world:
        read = _open(world, bodies=100)
        client = world.client()
        client.sends(
            head(
                "POST /orders?id=7&token=abc HTTP/1.1",
                "Host: shop.example",
                "Authorization: Bearer abc",
                "Cookie: a=b",
                "X-Forwarded-For: 192.0.2.1",
                "Content-Type: application/json",
                "Content-Length: 8",
            ),
            b'{"a": 1}',
        )
        app = world.app()
        app.takes()
        world.passes(0.25)
        app.sends(head("HTTP/1.1 201 Created", "Set-Cookie: s=1", "Content-Type: text/plain", "Content-Length: 4"))
        app.sends(b"done")
        client.takes()
        (entry,) = _read(world, read)
        request, response = entry.pop("request"), entry.pop("response")
        tries = entry.pop("tries")
        for seconds in ("duration", "response_seconds", "service_seconds"):
            assert entry.pop(seconds) == pytest.approx(0.25, abs=0.01)
        assert entry == {
            "time": pytest.approx(1767225600 - 0.25, abs=0.01),
            "request_id": "made-by-meshlet",
            "trace_id": None,
            "listener": "main",
            "direction": "inbound",
            "client": "10.0.0.9:40000",
            "protocol": "HTTP/1.1",
            "scheme": "http",
            "method": "POST",
            "host": "shop.example",
            "target": "/orders?id=7&token=[redacted]",
            "route": "all",
            "cluster": "app",
            "endpoint": "10.0.1.1:8080",
            "attempts": 1,
            "acted": [],
            "status": 201,
            "flag": "",
            "error": "",
            "request_seconds": 0.0,
            "received": 8,
            "sent": 4,
            "tunnel": False,
            "aborted": False,
        }
        assert [(each["endpoint"], each["status"]) for each in tries] == [("10.0.1.1:8080", 201)]
        assert request == {
            "headers": [
                ["Host", "shop.example"],
                ["Authorization", "[redacted]"],
                ["Cookie", "[redacted]"],
                ["Content-Type", "application/json"],
                ["Content-Length", "8"],
                ["x-forwarded-for", "192.0.2.1"],
                ["x-request-id", "made-by-meshlet"],
            ],
            "trailers": [],
            "body": {"cut": False, "text": '{"a": 1}'},
        }
        assert response == {
            "reason": "Created",
            "headers": [
                ["Set-Cookie", "[redacted]"],
                ["Content-Type", "text/plain"],
                ["Content-Length", "4"],
                ["x-envoy-upstream-service-time", "250"],
                ["date", "Thu, 01 Jan 2026 00:00:00 GMT"],
            ],
            "trailers": [],
            "body": {"cut": False, "text": "done"},
        }


def test_secrets_in_bodies_never_leave_the_data_plane() -> None:
    with World() as world:
        read = _open(world, bodies=30)
        client = world.client()
        lines = ("POST / HTTP/1.1", "Host: a", "Content-Type: application/json", "Content-Length: 40")
        client.sends(head(*lines), b'{"a": 1, "pass', b'word": "s3cret-s3cret-abc"}')
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 200 OK", "Content-Type: text/json", "Content-Length: 16"), b'{"access": true}')
        client.takes()
        (entry,) = _read(world, read)
        assert entry["request"]["body"] == {"cut": True, "text": '{"a": 1, "password": "[redacted]"', "redacted": True}
        assert entry["response"]["body"] == {"cut": False, "text": '{"access": "[redacted]"}', "redacted": True}
        assert b"s3cret-s3cret-abc" in app.received  # hidden from those who look, and from nobody else


def test_bodies_in_pieces_are_cut_where_asked() -> None:
    with World() as world:
        read = _open(world, bodies=7)
        client = world.client()
        client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"abcde"))
        app = world.app()
        client.sends(chunked(b"fghij", trailers=("X-Sum: 1",)))
        app.takes()
        app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"12345"))
        app.sends(chunked(b"67", trailers=("Grpc-Status: 0",)))
        client.takes()
        (entry,) = _read(world, read)
        assert entry["received"] == 10
        assert entry["request"]["body"] == {"cut": True, "text": "abcdefg"}
        assert entry["request"]["trailers"] == [["X-Sum", "1"]]
        assert ["transfer-encoding", "chunked"] in entry["request"]["headers"]
        assert entry["response"]["body"] == {"cut": False, "text": "1234567"}
        assert entry["response"]["trailers"] == [["Grpc-Status", "0"]]


def test_no_bodies_unless_asked_for_and_no_more_than_the_config_allows() -> None:
    with World() as world:
        client = world.client()
        for bodies, allowed, expected in ((0, 100, None), (100, 0, None), (100, 1, {"cut": True, "text": "o"})):
            world.taps.configure((), allowed)
            read = TapRead(f"{bodies}/{allowed}", bodies=bodies)
            world.taps.read(read)
            client.sends(GET)
            app = world.apps[0]
            app.takes()
            app.sends(OK)
            client.takes()
            (entry,) = _read(world, read)
            assert entry["response"].get("body") == expected


def test_a_reply_of_our_own() -> None:
    with World() as world:
        world.refuse()
        read = _open(world, bodies=1000)
        client = world.client()
        client.sends(GET)
        reply = client.got_reply(503, "UF", close=False)
        (entry,) = _read(world, read)
        assert (entry["status"], entry["flag"], entry["attempts"]) == (503, "UF", 1)
        assert "refused" in entry["error"]
        assert entry["response"]["reason"] == "Service Unavailable"
        assert entry["response"]["body"] == {"cut": False, "text": reply.body.decode()}
        assert [tuple(field) for field in entry["response"]["headers"]] == [
            tuple(line.split(": ", 1)) for line in reply.head.decode().split("\r\n")[1:] if line
        ]


def test_a_direct_response_and_no_route_at_all() -> None:
    routes = [{"match": {"path": "/hi"}, "direct_response": {"status": 200, "body": "hello"}}]
    with World(routes=routes) as world:
        read = _open(world, bodies=1000)
        client = world.client()
        client.sends(head("GET /hi HTTP/1.1", "Host: a"), head("GET /no HTTP/1.1", "Host: a"))
        client.takes()
        found, lost = _read(world, read)
        assert found["response"]["body"]["text"] == "hello"
        assert (lost["status"], lost["flag"], lost["route"], lost["cluster"]) == (404, "NR", None, None)


def test_what_was_rewritten_is_shown_as_it_came() -> None:
    with World(route={"rewrite": {"prefix": "/new", "host": "b"}, "match": {"prefix": "/old"}}) as world:
        read = _open(world, path=("/old",), host=("a",))
        client = world.client()
        client.sends(head("GET /old/x HTTP/1.1", "Host: a"))
        app = world.app()
        assert app.takes().startswith(b"GET /new/x HTTP/1.1\r\nHost: b\r\n")
        app.sends(OK)
        client.takes()
        (entry,) = _read(world, read)
        assert (entry["target"], entry["host"]) == ("/old/x", "a")
        assert entry["request"]["headers"][0] == ["Host", "a"]


def test_a_client_that_leaves_and_a_response_that_breaks() -> None:
    with World() as world:
        read = _open(world, bodies=100)
        gone, stays = world.client(), world.client()
        gone.sends(GET)
        world.app().got(GOT_GET)
        gone.resets()
        stays.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 10"), b"12345")
        app.resets()
        stays.takes()
        left, broken = _read(world, read)
        assert (left["status"], left["flag"], left["response"]) == (0, "DC", None)
        assert (broken["status"], broken["flag"], broken["aborted"]) == (200, "UC", True)
        assert broken["response"]["body"] == {"cut": True, "text": "12345"}


def test_of_a_tunnel_only_the_heads() -> None:
    with World() as world:
        read = _open(world, bodies=100)
        client = world.client()
        client.sends(head("GET /chat HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"))
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"))
        client.takes()
        client.sends(b"secret")
        app.takes()
        app.closes()
        client.closes()
        (entry,) = _read(world, read)
        assert (entry["status"], entry["tunnel"], entry["received"]) == (101, True, 6)
        assert ["upgrade", "websocket"] in entry["request"]["headers"]
        assert ["Upgrade", "websocket"] in entry["response"]["headers"]
        assert "secret" not in json.dumps(entry)
        assert "body" not in entry["request"]


def test_what_does_not_match_is_not_shown() -> None:
    with World() as world:
        read = _open(world, method=("GET",), status=("4xx",))
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 0"))
        app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 0", *FORWARDED))
        answer = head("HTTP/1.1 404 Not Found", "Content-Length: 0", DATE.replace("date", "Date"))
        app.sends(answer)
        client.got(head("HTTP/1.1 404 Not Found", "Content-Length: 0", DATE.replace("date", "Date"), SERVICE_TIME))
        client.sends(GET)
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 404 Not Found", "Content-Length: 0"))
        client.got(head("HTTP/1.1 404 Not Found", "Content-Length: 0", *ANSWERED))
        (entry,) = _read(world, read)
        assert (entry["method"], entry["status"]) == ("GET", 404)


def test_nobody_reads_any_more() -> None:
    with World() as world:
        read = _open(world)
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        world.passes(LEASE + 0.1)
        assert not world.taps.active
        app.sends(OK)
        client.takes()
        assert _read(world, read) == []  # it is a new one


def test_what_fails_in_a_tap_is_no_business_of_the_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr("meshlet.telemetry.tap.entry.encode", broken)
    monkeypatch.setattr("meshlet.proxy.tapped.date_line", broken)
    with World() as world:
        read = _open(world)
        client = world.client()
        for _ in range(3):
            client.sends(GET)
            app = world.apps[0]
            app.got(GOT_GET)
            app.sends(OK)
            client.got(GOT_OK)
        assert _read(world, read) == []
        assert world.statuses == [200, 200, 200]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
