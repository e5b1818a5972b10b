"""One connection, many requests: keep-alive, pipelining, HTTP/1.0."""

from __future__ import annotations

from tests.conversations.world import DATE, FORWARDED, GET, GOT_GET, GOT_OK, OK, SERVICE_TIME, World, conversation
from tests.support.wire import chunked, head


def get(path: str) -> bytes:
    return head(f"GET {path} HTTP/1.1", "Host: a")


def got_get(path: str) -> bytes:
    return head(f"GET {path} HTTP/1.1", "Host: a", *FORWARDED)


@conversation()
def test_both_connections_are_kept(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    for _ in range(3):
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(GET)
    app.got(GOT_GET)
    world.no_more_apps()
    assert world.pooled() == "open=1 idle=0 connecting=0 pending=0"
    assert world.counts == {(200, ""): 3}


@conversation()
def test_pipelined_requests_are_answered_one_by_one_in_order(world: World) -> None:
    client = world.client()
    client.sends(get("/1"), get("/2"), get("/3"))
    app = world.app()
    for number in (1, 2, 3):
        app.got(got_get(f"/{number}"))  # and not the next one yet
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 1", DATE), b"%d" % number)
        client.got(head("HTTP/1.1 200 OK", "Content-Length: 1", DATE, SERVICE_TIME), b"%d" % number)
    world.no_more_apps()


@conversation()
def test_pipelined_after_a_body(world: World) -> None:
    client = world.client()
    client.sends(
        head("POST /1 HTTP/1.1", "Host: a", "Content-Length: 3"),
        b"GET",
        head("POST /2 HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"),
        chunked(b"GET / ", b"HTTP"),
        get("/3"),
    )
    app = world.app()
    app.got(head("POST /1 HTTP/1.1", "Host: a", "Content-Length: 3", *FORWARDED), b"GET")
    app.sends(OK)
    client.got(GOT_OK)
    app.got(
        head("POST /2 HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"),
        chunked(b"GET / HTTP"),
    )
    app.sends(OK)
    client.got(GOT_OK)
    app.got(got_get("/3"))
    app.sends(OK)
    client.got(GOT_OK)


@conversation()
def test_empty_lines_before_a_request(world: World) -> None:
    client = world.client()
    client.sends(b"\r\n", GET, b"\r\n\r\n", GET)
    app = world.app()
    for _ in range(2):
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)


@conversation()
def test_a_client_that_wants_its_connection_closed(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: close"), get("/never"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: close"), b"ok")
    assert client.state == "closed"
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(limits={"max_requests_per_connection": 2})
def test_requests_per_connection(world: World) -> None:
    client = world.client()
    client.sends(GET, GET, GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    app.got(GOT_GET)
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: close"), b"ok")
    assert client.state == "closed"


# --- HTTP/1.0 ---


@conversation()
def test_http_1_0_is_closed_after_its_answer(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0"))
    app = world.app()
    app.got(head("GET / HTTP/1.0", *FORWARDED))  # without Host it cannot be 1.1
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: close"), b"ok")
    assert client.state == "closed"


@conversation()
def test_http_1_0_that_asks_to_be_kept(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a", "Connection: keep-alive"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: keep-alive"), b"ok")
    assert client.state == "open"
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    app.got(GOT_GET)


@conversation()
def test_http_1_0_never_gets_chunks(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a", "Connection: keep-alive"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"))
    client.got(head("HTTP/1.1 200 OK", SERVICE_TIME, DATE, "connection: close"))
    app.sends(chunked(b"one", b"two", trailers=("X-Sum: 1",)))
    client.got(b"onetwo")
    assert client.state == "closed"
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation()
def test_http_1_0_gets_no_interim_responses(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.0", "Host: a", "Content-Length: 2", "Expect: 100-continue"), b"hi")
    app = world.app()
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED), b"hi")
    app.sends(head("HTTP/1.1 100 Continue"), head("HTTP/1.1 103 Early Hints", "Link: </a>"), OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", SERVICE_TIME, DATE, "connection: close"), b"ok")


@conversation()
def test_an_app_of_http_1_0(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.0 200 OK", "Content-Length: 2"), b"ok")
    client.got(GOT_OK)
    assert client.state == "open"
    assert app.state == "closed"
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.0 200 OK", "Content-Length: 2", "Connection: keep-alive"), b"ok")
    client.got(GOT_OK)
    assert app.state == "open"


# --- bounds ---


@conversation(cut=False, drop=False)
def test_reading_stops_when_a_client_pipelines_too_much(world: World) -> None:
    client = world.client()
    one = get("/" + "x" * 1000)
    client.sends(one * 300)
    assert client.is_paused()
    waiting = sum(len(item) for item in client.unread if isinstance(item, bytes))
    client.sends(one * 300)
    assert sum(len(item) for item in client.unread if isinstance(item, bytes)) == waiting + len(one) * 300
    app = world.app()
    for _ in range(600):
        app.got(got_get("/" + "x" * 1000))
        app.forgets()
        app.sends(OK)
    assert not client.is_paused()
    client.got(GOT_OK * 600)


@conversation(cut=False)
def test_a_pipelining_client_that_never_reads_does_not_fill_memory(world: World) -> None:
    client = world.client()
    client.stalls()
    client.sends(GET * 2000)
    app = world.app()
    answers = 0
    while app.takes():
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 20000"), bytes(20000))
        answers += 1
        assert answers < 10
    assert len(client.transport.buffer) < 65536 + 20000 + 200
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    client.reads()
    app.got(GOT_GET)
    assert len(client.takes()) > 20000 * answers


@conversation(cut=False, drop=False)
def test_a_client_that_never_reads_is_not_waited_for_for_ever(world: World) -> None:
    client = world.client()
    client.stalls()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100000"), bytes(100000))
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"
    world.passes(299)
    assert client.state == "open"
    world.passes(2)
    assert client.closed
    assert world.listener.connections == 0


@conversation(cut=False, drop=False)
def test_local_replies_to_a_client_that_never_reads_are_bounded(world: World) -> None:
    world.refuse()
    client = world.client()
    client.stalls()
    client.sends(GET * 1000)
    assert len(client.transport.buffer) < 65536 + 1000
    client.reads()
    assert client.takes().count(b"HTTP/1.1 503 ") == 1000


@conversation(route={"match": {"path": "/other"}})
def test_pipelined_requests_that_are_answered_by_meshlet_itself(world: World) -> None:
    client = world.client()
    client.sends(GET * 3)
    assert client.takes().count(b"HTTP/1.1 404 ") == 3
    assert client.state == "open"


@conversation()
def test_an_idle_client_is_closed(world: World) -> None:
    client = world.client()
    world.passes(3599)
    assert client.state == "open"
    world.passes(2)
    assert client.state == "closed"


@conversation(limits={"idle_timeout": "5s"})
def test_an_idle_client_is_closed_counting_from_its_last_answer(world: World) -> None:
    client = world.client()
    world.passes(4)
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(6)
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 2", "x-envoy-upstream-service-time: 6000", DATE), b"ok")
    world.passes(4)
    assert client.state == "open"
    world.passes(2)
    assert client.state == "closed"
