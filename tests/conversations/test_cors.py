"""Requests of browsers from other origins."""

from __future__ import annotations

from typing import Any

from tests.conversations.world import ANSWERED, FORWARDED, ID, OK, World, conversation
from tests.support.wire import fields, head, messages

CORS: dict[str, Any] = {
    "cors": {
        "allow_origins": ["https://app.example.com", "https://*.example.org"],
        "allow_methods": ["GET", "PUT"],
        "allow_headers": ["x-token"],
        "expose_headers": ["x-total"],
        "allow_credentials": True,
        "max_age": "10m",
    }
}
ORIGIN = "Origin: https://app.example.com"
ALLOWED = ("access-control-allow-origin: https://app.example.com", "access-control-allow-credentials: true")


@conversation(route=CORS)
def test_a_preflight_is_answered_here(world: World) -> None:
    client = world.client()
    client.sends(head("OPTIONS / HTTP/1.1", "Host: a", ORIGIN, "Access-Control-Request-Method: PUT"))
    client.got(
        head(
            "HTTP/1.1 200 OK",
            "server: meshlet",
            "x-meshlet-flag: -",
            "date: Thu, 01 Jan 2026 00:00:00 GMT",
            ID,
            *ALLOWED,
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-headers: x-token",
            "access-control-max-age: 600",
            "vary: origin",
            "content-length: 0",
        )
    )
    assert world.dialled == []
    assert world.counts == {(200, ""): 1}


@conversation(route=CORS)
def test_a_preflight_from_elsewhere_is_the_apps(world: World) -> None:
    client = world.client()
    asked = ("Host: a", "Origin: https://evil.example", "Access-Control-Request-Method: PUT")
    client.sends(head("OPTIONS / HTTP/1.1", *asked))
    app = world.app()
    app.got(head("OPTIONS / HTTP/1.1", *asked, *FORWARDED))
    app.sends(head("HTTP/1.1 204 No Content"))
    client.got(head("HTTP/1.1 204 No Content", "vary: origin", *ANSWERED))


@conversation(route=CORS)
def test_a_response_that_may_be_read(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", ORIGIN, *FORWARDED))
    app.sends(head("HTTP/1.1 200 OK", "Access-Control-Allow-Origin: *", "Content-Length: 2"), b"ok")
    (answer,) = messages(client.takes())
    assert answer.field("access-control-allow-origin") == "https://app.example.com"
    assert answer.field("access-control-allow-credentials") == "true"
    assert answer.field("access-control-expose-headers") == "x-total"
    assert answer.field("vary") == "origin"
    assert answer.body == b"ok"


@conversation(route={**CORS, "retry": {"on": ["503"]}})
def test_said_once_after_tries(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
    app.takes()
    app.sends(OK)
    assert fields(client.takes(), b"access-control-allow-origin") == [b"https://app.example.com"]


@conversation(route=CORS)
def test_local_replies_may_be_read_as_well(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    reply = client.got_reply(503, "UF", close=False)
    assert reply.field("access-control-allow-origin") == "https://app.example.com"


@conversation(route={**CORS, "rate_limit": {"requests": 1, "per": "1h"}})
def test_a_refusal_may_be_read_and_a_preflight_is_not_counted(world: World) -> None:
    client = world.client()
    for _ in range(2):
        client.sends(head("OPTIONS / HTTP/1.1", "Host: a", ORIGIN, "Access-Control-Request-Method: PUT"))
        assert client.takes().startswith(b"HTTP/1.1 200 OK")
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    app = world.app()
    app.takes()
    app.sends(OK)
    client.takes()
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    reply = client.got_reply(429, "RL", close=False)
    assert reply.field("access-control-allow-origin") == "https://app.example.com"


@conversation(
    route={
        **CORS,
        "filters": [{"python": "tests.conversations.own_filters:Answers", "config": {"hook": "request_head"}}],
    }
)
def test_a_filters_answer_may_be_read(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", ORIGIN))
    (answer,) = messages(client.takes())
    assert answer.status == 403
    assert answer.field("access-control-allow-origin") == "https://app.example.com"
