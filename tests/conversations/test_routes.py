"""What routes make of requests: answers of their own, shares, other paths, other headers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.conversations.world import (
    ANSWERED,
    FIRST,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    ID,
    OK,
    World,
    conversation,
)
from tests.support.wire import chunk, fields, head, messages

SECOND = "10.0.1.2:8080"
OWN = ("server: meshlet", "x-meshlet-flag: -", "date: Thu, 01 Jan 2026 00:00:00 GMT", ID)

# --- answers without an app ---


@conversation(routes=[{"direct_response": {"status": 200, "body": "hello"}}])
def test_a_direct_response(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    got = head("HTTP/1.1 200 OK", *OWN, "content-type: text/plain; charset=utf-8", "content-length: 5") + b"hello"
    client.got(got, got)
    assert world.statuses == [200, 200]
    assert world.dialled == []


@pytest.mark.parametrize(
    ("request_", "last"),
    [
        (head("HEAD / HTTP/1.1", "Host: a"), b""),
        (head("GET / HTTP/1.0", "Connection: keep-alive"), b"hello"),
        (head("GET / HTTP/1.0"), b"hello"),
    ],
)
def test_a_direct_response_for_others(request_: bytes, last: bytes) -> None:
    with World(routes=[{"direct_response": {"status": 200, "body": "hello"}}]) as world:
        client = world.client()
        client.sends(request_)
        top, _, body = client.takes().partition(b"\r\n\r\n")
        assert body == last
        assert fields(top, b"content-length") == [b"5"]
        persistent = b"HTTP/1.1" in request_ or b"keep-alive" in request_
        assert client.state == ("open" if persistent else "closed")


@pytest.mark.parametrize("status", [204, 304])
def test_a_direct_response_without_content(status: int) -> None:
    with World(routes=[{"direct_response": {"status": status}}]) as world:
        client = world.client()
        client.sends(GET, GET)
        for answer in messages(client.takes()):
            assert answer.status == status
            assert answer.field("content-length") is None


@conversation(routes=[{"direct_response": {"status": 403, "body": "no"}}], cut=False)
def test_a_direct_response_to_half_a_request(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"ab"))
    (answer,) = messages(client.takes())
    assert answer.status == 403
    assert answer.field("connection") == "close"
    client.sends(chunk(b"cd"))
    world.passes(3)
    assert client.state == "closed"


@conversation(routes=[{"direct_response": {"status": 200}}])
def test_no_tunnel_to_a_direct_response(world: World) -> None:
    client = world.client()
    client.sends(head("CONNECT a:80 HTTP/1.1", "Host: a:80"))
    client.got_reply(405, "NR", close=False)
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"))
    assert client.takes().startswith(b"HTTP/1.1 200 OK")


REDIRECTS: list[tuple[dict[str, Any], str, bytes, bytes]] = [
    ({"scheme": "https"}, "/x?y=1", b"301", b"https://a/x?y=1"),
    ({"scheme": "https", "status": 308}, "/", b"308", b"https://a/"),
    ({"host": "b.example"}, "/x", b"301", b"http://b.example/x"),
    ({"path": "/new", "strip_query": True}, "/x?y=1", b"301", b"http://a/new"),
]


@pytest.mark.parametrize(("redirect", "target", "status", "location"), REDIRECTS)
def test_redirects(redirect: dict[str, Any], target: str, status: bytes, location: bytes) -> None:
    with World(routes=[{"redirect": redirect}]) as world:
        client = world.client()
        client.sends(head(f"GET {target} HTTP/1.1", "Host: a"))
        top = client.takes()
        assert top.startswith(b"HTTP/1.1 " + status)
        assert fields(top, b"location") == [location]
        assert world.dialled == []
        assert world.flags == [""]


def test_a_redirect_keeps_a_trusted_scheme() -> None:
    for peer, scheme in (("10.0.0.9", b"https"), ("203.0.113.9", b"http")):
        with World(routes=[{"redirect": {"host": "b"}}]) as world:
            client = world.client(peer)
            client.sends(head("GET / HTTP/1.1", "Host: a", "X-Forwarded-Proto: https"))
            assert fields(client.takes(), b"location") == [scheme + b"://b/"]


# --- shares ---

SPLIT: dict[str, Any] = {
    "listener": {"trusted_peers": ["10.0.0.0/8"]},
    "routes": [{"split": [{"cluster": "app", "weight": 3}, {"cluster": "new", "weight": 1}]}],
    "clusters": [{"name": "new", "endpoints": [SECOND]}],
}


def test_shares() -> None:
    with World(**SPLIT) as world:
        seen: Counter[str] = Counter()
        for number in range(200):
            client = world.client()
            client.sends(head("GET / HTTP/1.1", "Host: a", f"X-Request-Id: id-{number}"))
            app = next(app for app in world.apps if app.takes())
            seen[app.address] += 1
            app.sends(OK)
            client.got(GOT_OK)
            client.closes()
        assert seen.total() == 200
        assert 25 <= seen[SECOND] <= 75
        assert world.stats("app").codes == {(200, ""): seen[FIRST]}
        assert world.stats("new").codes == {(200, ""): seen[SECOND]}
        assert {entry.cluster for entry in world.log.entries} == {"app", "new"}


def test_the_same_id_goes_the_same_way() -> None:
    with World(**SPLIT) as world:
        for number in range(20):
            went = set()
            for _ in range(3):
                client = world.client()
                client.sends(head("GET / HTTP/1.1", "Host: a", f"X-Request-Id: id-{number}"))
                app = next(app for app in world.apps if app.takes())
                went.add(app.address)
                app.sends(OK)
                client.got(GOT_OK)
            assert len(went) == 1


@conversation(**{**SPLIT, "routes": [{**SPLIT["routes"][0], "retry": {"on": ["503", "reset"]}}]})
def test_tries_stay_in_their_cluster(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.resets()
    again = world.app(app.address)
    again.got(GOT_GET)
    again.sends(OK)
    client.got(GOT_OK)


# --- rewrites and header rules ---


@conversation(
    routes=[
        {
            "name": "api",
            "match": {"prefix": "/api"},
            "cluster": "app",
            "rewrite": {"prefix": "/", "host": "b.example"},
            "request_headers": {
                "remove": ["x-secret"],
                "set": {"X-Client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
                "append": {"X-List": "2"},
                "add": {"X-Route": "%ROUTE_NAME%"},
            },
            "response_headers": {"remove": ["x-internal"], "set": {"X-Where": "%UPSTREAM_HOST%"}},
        }
    ]
)
def test_what_is_changed_on_the_way(world: World) -> None:
    client = world.client()
    client.sends(head("GET /api/x?q=1 HTTP/1.1", "Host: a", "X-Secret: 1", "X-List: 1", "X-Client: me"))
    app = world.app()
    (asked,) = messages(app.takes())
    assert asked.start == "GET /x?q=1 HTTP/1.1"
    assert asked.field("host") == "b.example"
    assert asked.field("x-client") == "10.0.0.9"
    assert fields(asked.head, b"x-list") in ([b"1,2"], [b"1, 2"])
    assert asked.field("x-secret") is None
    assert asked.field("x-route") == "api"
    app.sends(head("HTTP/1.1 200 OK", "X-Internal: 1", "X-Where: here", "Content-Length: 2"), b"ok")
    (answer,) = messages(client.takes())
    assert answer.field("x-internal") is None
    assert answer.field("x-where") == FIRST
    assert answer.body == b"ok"


@conversation(
    cluster={"endpoints": [FIRST, SECOND]},
    route={
        "retry": {"on": ["503", "reset"]},
        "attempt_count": True,
        "rewrite": {"prefix": "/v1"},
        "request_headers": {"add": {"X-At": "%UPSTREAM_HOST%", "X-Own": "1"}},
    },
)
def test_each_try_is_changed_once(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(head("GET /x HTTP/1.1", "Host: a", "X-Envoy-Attempt-Count: 7"))
    for number in ("1", "2"):
        app = world.app()
        (asked,) = messages(app.takes())
        assert asked.field("x-own") == "1"
        assert asked.field("x-at") == app.address
        assert asked.field("x-envoy-attempt-count") == number
        assert asked.start.count("/v1") == 1
        if number == "1":
            app.resets()
        else:
            app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", "x-envoy-attempt-count: 2", *ANSWERED), b"ok")


@conversation(route={"attempt_count": True})
def test_the_attempt_count(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "x-envoy-attempt-count: 1"))
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", "x-envoy-attempt-count: 1", *ANSWERED), b"ok")


def test_the_attempt_count_of_an_app_behind_another_proxy() -> None:
    """There is one such field, ours; as in Envoy."""
    with World(route={"attempt_count": True}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.takes()
        app.sends(head("HTTP/1.1 200 OK", "X-Envoy-Attempt-Count: 9", "Content-Length: 0"))
        assert fields(client.takes(), b"x-envoy-attempt-count") == [b"1"]


def test_routes_are_counted_by_cluster() -> None:
    routes: list[dict[str, Any]] = [
        {"match": {"prefix": "/r"}, "redirect": {"path": "/"}},
        {"match": {"prefix": "/a"}, "cluster": "app"},
    ]
    with World(routes=routes) as world:
        client = world.client()
        client.sends(head("GET /r HTTP/1.1", "Host: a"))
        client.takes()
        client.sends(head("GET /nobody HTTP/1.1", "Host: a"))
        client.got_reply(404, "NR", close=False)
        client.sends(head("GET /a HTTP/1.1", "Host: a"))
        app = world.app()
        app.takes()
        app.sends(OK)
        client.takes()
        assert world.stats("").codes == {(301, ""): 1, (404, "NR"): 1}
        assert world.stats("app").codes == {(200, ""): 1}
        assert GOT_OK


# --- what our own answers get, and what the log tells ---


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ({"direct_response": {"status": 200, "body": "hello"}}, 200),
        ({"redirect": {"path": "/b"}}, 301),
        ({"cluster": "app"}, 503),
    ],
)
def test_response_rules_are_for_our_own_answers_too(route: dict[str, Any], status: int) -> None:
    rules = {"set": {"x-status": "%RESPONSE_CODE%", "server": "none of yours"}, "add": {"x-safe": "1"}}
    with World(routes=[{**route, "response_headers": rules}]) as world:
        world.refuse()
        client = world.client()
        client.sends(GET, GET)
        for answer in messages(client.takes()):
            assert answer.complete
            assert answer.status == status
            assert answer.field("x-status") == str(status)
            assert answer.field("x-safe") == "1"
            assert answer.field("server") == "none of yours"


def test_the_log_tells_what_the_client_asked_for() -> None:
    with World(route={"rewrite": {"path": "/b", "host": "other"}}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(head("GET /b HTTP/1.1", "Host: other", *FORWARDED))
        app.sends(OK)
        client.got(GOT_OK)
        (entry,) = world.log.entries
        assert (entry.target, entry.host) == (b"/", b"a")


def test_rules_hold_for_names_that_only_look_alike() -> None:
    """A CGI-like environment reads them all as HTTP_X_USER."""
    rules = {"remove": ["X-User"], "set": {"x-client": "us"}}
    with World(route={"request_headers": rules, "attempt_count": True, "deadline_header": "x-deadline"}) as world:
        client = world.client()
        fakes = ("x_user: a", "X.User: b", "x_client: c", "X-Client: d", "x_deadline: 9", "x_envoy_attempt_count: 7")
        client.sends(head("GET / HTTP/1.1", "Host: a", *fakes))
        app = world.app()
        told = ("x-client: us", *FORWARDED, "x-envoy-attempt-count: 1", "x-deadline: 15000")
        app.got(head("GET / HTTP/1.1", "Host: a", *told))
        app.sends(OK)
        client.takes()


def test_a_path_with_too_many_places_to_rewrite() -> None:
    rewrite = {"regex": {"pattern": "_", "substitution": "-"}}
    with World(route={"rewrite": rewrite}) as world:
        client = world.client()
        client.sends(head("GET /" + "_" * 256 + " HTTP/1.1", "Host: a"))
        app = world.app()
        app.got(head("GET /" + "-" * 256 + " HTTP/1.1", "Host: a", *FORWARDED))
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(head("GET /" + "_" * 257 + " HTTP/1.1", "Host: a"))
        client.got_reply(414, "DPE", "256 places")


def test_a_path_that_is_rewritten_to_too_much() -> None:
    rewrite = {"regex": {"pattern": "a", "substitution": r"\0" * 300}}
    with World(route={"rewrite": rewrite}) as world:
        client = world.client()
        client.sends(head("GET /" + "a" * 250 + " HTTP/1.1", "Host: a"))
        client.got_reply(414, "DPE", "65536 bytes")


def test_the_log_counts_the_bytes_of_our_own_answers() -> None:
    with World(routes=[{"direct_response": {"status": 200, "body": "hello"}}]) as world:
        client = world.client()
        client.sends(GET)
        client.takes()
        assert world.log.entries[0].sent == 5
