"""What happens to header fields on their way."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    ANSWERED,
    DATE,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    ID,
    OK,
    SERVICE_TIME,
    World,
    conversation,
)
from tests.support.wire import chunked, head


@conversation()
def test_order_case_and_duplicates_are_kept(world: World) -> None:
    fields = ("x-B: 1", "Accept: */*", "X-a:2", "COOKIE:  a=b ", "x-b: 3\t", "X-Empty:", "X-Obs: \xe9")
    client = world.client()
    client.sends(head("GET /a//b/../c?d=%2F&e HTTP/1.1", "hOST: a", *fields))
    app = world.app()
    app.got(head("GET /a//b/../c?d=%2F&e HTTP/1.1", "hOST: a", *fields, *FORWARDED))
    answer = ("Set-Cookie: a", "x-B: 1", "Set-Cookie: b", "X-Obs: \xe9", "Content-Length: 0", "Vary:  x ")
    app.sends(head("HTTP/1.1 299 What a  Reason\xe9", *answer))
    client.got(head("HTTP/1.1 299 What a  Reason\xe9", *answer, *ANSWERED))


@conversation()
def test_hop_by_hop_fields_end_here(world: World) -> None:
    client = world.client()
    client.sends(
        head(
            "GET / HTTP/1.1",
            "Host: a",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "x-hop: 2",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "X-End: 1",
            "connection: x-other",
            "X-Other: 3",
        )
    )
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", "X-End: 1", *FORWARDED))
    app.sends(
        head(
            "HTTP/1.1 200 OK",
            "Connection: keep-alive, X-Hop",
            "Keep-Alive: timeout=50, max=10",
            "X-Hop: 1",
            "Proxy-Connection: keep-alive",
            "Content-Length: 0",
            "Server: app",
        )
    )
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 0", "Server: app", *ANSWERED))


@conversation()
def test_connection_cannot_name_away_what_frames_or_routes(world: World) -> None:
    client = world.client()
    client.sends(
        head("POST / HTTP/1.1", "Connection: host, content-length, x-a", "Host: a", "X-A: 1", "Content-Length: 2"),
        b"hi",
    )
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED), b"hi")
    app.sends(head("HTTP/1.1 200 OK", "Connection: content-length", "Content-Length: 2"), b"ok")
    client.got(GOT_OK)


@conversation()
def test_connection_cannot_name_away_what_meshlet_adds(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: x-forwarded-for, x-request-id"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_the_apps_wish_to_close_stays_between_us(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close"), b"ok")
    client.got(GOT_OK)
    assert client.state == "open"
    assert app.state == "closed"
    client.sends(GET)
    world.app().got(GOT_GET)


# --- what is added ---


@conversation()
def test_forwarded_for_is_appended(world: World) -> None:
    client = world.client()
    client.sends(
        head("GET / HTTP/1.1", "Host: a", "X-Forwarded-For: 1.2.3.4", "X-A: 1", "x-forwarded-for: 5.6.7.8, 9.9.9.9")
    )
    app = world.app()
    app.got(
        head(
            "GET / HTTP/1.1",
            "Host: a",
            "X-A: 1",
            "x-forwarded-for: 1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.9",
            "x-forwarded-proto: http",
            ID,
        )
    )


@conversation()
def test_a_trusted_peers_request_id_and_proto_are_kept(world: World) -> None:
    client = world.client("10.0.0.9")
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Request-ID: mine", "X-Forwarded-Proto: HTTPS"))
    app = world.app()
    app.got(
        head(
            "GET / HTTP/1.1",
            "Host: a",
            "x-forwarded-for: 10.0.0.9",
            "x-forwarded-proto: https",
            "x-request-id: mine",
        )
    )
    app.sends(OK)
    client.got(GOT_OK)
    assert world.log.entries[0].request_id == b"mine"


@conversation()
def test_a_strangers_request_id_and_proto_are_not(world: World) -> None:
    client = world.client("192.0.2.1")
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Request-ID: mine", "X-Forwarded-Proto: https"))
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", "x-forwarded-for: 192.0.2.1", "x-forwarded-proto: http", ID))


@conversation(listener={"trusted_peers": ["192.0.2.0/24"]})
def test_who_is_trusted_can_be_said(world: World) -> None:
    for address, expected in (("192.0.2.1", "mine"), ("10.0.0.9", "made-by-meshlet")):
        client = world.client(address)
        client.sends(head("GET / HTTP/1.1", "Host: a", "X-Request-ID: mine"))
        fields = (f"x-forwarded-for: {address}", "x-forwarded-proto: http", f"x-request-id: {expected}")
        world.app().got(head("GET / HTTP/1.1", "Host: a", *fields))


@conversation()
def test_an_empty_request_id_is_replaced(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Request-ID: "))
    world.app().got(GOT_GET)


@conversation()
def test_ipv6(world: World) -> None:
    client = world.client("2001:db8::1")
    client.sends(GET)
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", "x-forwarded-for: 2001:db8::1", "x-forwarded-proto: http", ID))
    app.sends(OK)
    client.got(GOT_OK)
    assert world.log.entries[0].downstream == "[2001:db8::1]:40000"


@conversation(cut=False)
def test_service_time(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(1.234)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0", "X-Envoy-Upstream-Service-Time: 7", DATE))
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 0", DATE, "x-envoy-upstream-service-time: 1234"))


@pytest.mark.parametrize(
    ("mode", "app_says", "client_gets"),
    [
        ("keep", ["Server: app"], ["Server: app", SERVICE_TIME, DATE]),
        ("keep", [], [SERVICE_TIME, DATE]),
        ("set-if-absent", ["Server: app"], ["Server: app", SERVICE_TIME, DATE]),
        ("set-if-absent", [], [SERVICE_TIME, DATE, "server: meshlet"]),
        ("overwrite", ["Server: app", "X-A: 1", "server: b"], ["X-A: 1", SERVICE_TIME, DATE, "server: meshlet"]),
        ("overwrite", [], [SERVICE_TIME, DATE, "server: meshlet"]),
    ],
)
def test_server(mode: str, app_says: list[str], client_gets: list[str]) -> None:
    with World(listener={"server_header": mode}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0", *app_says))
        client.got(head("HTTP/1.1 200 OK", "Content-Length: 0", *client_gets))


# --- targets ---


@conversation()
def test_absolute_form_becomes_origin_form(world: World) -> None:
    client = world.client()
    client.sends(
        head("GET http://B.example:81/x?y HTTP/1.1", "X-A: 1", "Host: other"),
        head("GET http://b?q HTTP/1.1", "Host: b"),
        head("GET HTTPS://b HTTP/1.1", "Host: b"),
    )
    app = world.app()
    app.got(head("GET /x?y HTTP/1.1", "X-A: 1", "Host: B.example:81", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("GET /?q HTTP/1.1", "Host: b", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("GET / HTTP/1.1", "Host: b", *FORWARDED))


@conversation()
def test_absolute_form_in_http_1_0_makes_a_host(world: World) -> None:
    client = world.client()
    client.sends(head("GET http://b/x HTTP/1.0"))
    world.app().got(head("GET /x HTTP/1.1", "Host: b", *FORWARDED))


@conversation()
def test_asterisk_form(world: World) -> None:
    client = world.client()
    client.sends(head("OPTIONS * HTTP/1.1", "Host: a"), head("OPTIONS http://b HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head("OPTIONS * HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("OPTIONS * HTTP/1.1", "Host: b", *FORWARDED))


@conversation()
def test_custom_methods_and_odd_targets(world: World) -> None:
    client = world.client()
    client.sends(head('BREW!~ /\xe9|{}" HTTP/1.1', "Host: a"), head("get / HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head('BREW!~ /\xe9|{}" HTTP/1.1', "Host: a", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)
    app.got(head("get / HTTP/1.1", "Host: a", *FORWARDED))


@conversation()
def test_a_later_minor_version_is_served_as_1_1(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.2", "Host: a"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.9 200 OK", "Transfer-Encoding: chunked"), chunked(b"ok"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunked(b"ok"))


# --- routes ---


@conversation(
    routes=[
        {"match": {"host": "b"}, "cluster": "app"},
        {"match": {"path": "/one", "method": "POST"}, "cluster": "app"},
        {"match": {"prefix": "/v2"}, "cluster": "app"},
    ]
)
def test_only_what_a_route_takes_is_forwarded(world: World) -> None:
    client = world.client()
    taken = [("GET", "/", "B:80"), ("POST", "/one", "a"), ("GET", "/v2/x", "a"), ("GET", "/v2?x", "a")]
    app = None
    for method, path, host in taken:
        client.sends(head(f"{method} {path} HTTP/1.1", f"Host: {host}"))
        app = app or world.app()
        app.got(head(f"{method} {path} HTTP/1.1", f"Host: {host}", *FORWARDED))
        app.sends(OK)
        client.got(GOT_OK)
    for method, path, host in [
        ("GET", "/one", "a"),
        ("POST", "/one/x", "a"),
        ("GET", "/v20", "a"),
        ("GET", "/", "b.c"),
    ]:
        client.sends(head(f"{method} {path} HTTP/1.1", f"Host: {host}"))
        client.got_reply(404, "NR", "no route", close=False)
    assert world.counts == {(200, ""): 4, (404, "NR"): 4}
