"""Responses that meshlet makes itself: in text, JSON and gRPC."""

from __future__ import annotations

import json

from tests.conversations.world import DATE, GET, ID, World, conversation
from tests.support.wire import head, messages

_TEXT = "UF: connect to 10.0.1.1:8080: connection refused; cluster app, endpoint 10.0.1.1:8080, 1 attempt"


@conversation()
def test_text(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(GET)
    client.got(
        head(
            "HTTP/1.1 503 Service Unavailable",
            "server: meshlet",
            "x-meshlet-flag: UF",
            DATE,
            ID,
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(_TEXT) + 1}",
        ),
        _TEXT.encode() + b"\n",
    )
    assert client.state == "open"


@conversation()
def test_json(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Accept: application/json"))
    reply = messages(client.takes())[0]
    assert reply.complete
    assert reply.status == 503
    assert reply.field("content-type") == "application/json"
    assert reply.field("x-meshlet-flag") == "UF"
    assert json.loads(reply.body) == {
        "status": 503,
        "flag": "UF",
        "message": "connect to 10.0.1.1:8080: connection refused",
        "where": "cluster app, endpoint 10.0.1.1:8080, 1 attempt",
        "failures": [
            {"endpoint": "10.0.1.1:8080", "flag": "UF", "reason": "connect to 10.0.1.1:8080: connection refused"}
        ],
    }


@conversation()
def test_grpc_trailers_only(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(
        head(
            "POST /a.B/C HTTP/1.1",
            "Host: a",
            "Content-Type: application/grpc+proto",
            "TE: trailers",
            "Content-Length: 0",
        )
    )
    reply = messages(client.takes())[0]
    assert reply.complete
    assert (reply.status, reply.body) == (200, b"")
    assert reply.field("content-type") == "application/grpc"
    assert reply.field("grpc-status") == "14"
    assert reply.field("grpc-message") == _TEXT
    assert reply.field("x-meshlet-flag") == "UF"
    assert world.counts == {(503, "UF"): 1}


@conversation(drop=False)
def test_to_head_there_is_no_body(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("HEAD / HTTP/1.1", "Host: a"), head("HEAD / HTTP/1.1", "Host: a"))
    data = client.takes()
    assert data.count(b"HTTP/1.1 503 ") == 2
    assert data.endswith(b"\r\n\r\n")
    found = messages(data, bodyless=(0, 1))
    assert [message.field("content-length") for message in found] == [str(len(_TEXT) + 1)] * 2


@conversation()
def test_http_1_0(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    client.got_reply(503, "UF")
    assert client.state == "closed"
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a", "Connection: keep-alive"))
    assert b"\r\nconnection: keep-alive\r\n" in client.takes()
    assert client.state == "open"


@conversation()
def test_a_trusted_peers_request_id_comes_back(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Request-ID: mine"))
    assert b"\r\nx-request-id: mine\r\n" in client.takes()


@conversation(cluster={"endpoints": ["name.invalid:80"]})
def test_no_endpoint(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "UH", "no endpoint of cluster app", close=False)
    assert world.counts == {(503, "UH"): 1}


@conversation()
def test_a_reply_to_half_a_body_closes(world: World) -> None:
    world.refuse()
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 6"), b"abc")
    client.got_reply(503, "UF")
    client.sends(b"def", GET)
    assert client.state == "half-closed"
