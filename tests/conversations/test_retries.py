"""Tries after the first: when they are made, what they send, and what is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conversations.world import (
    ANSWERED,
    DATE,
    FIRST,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, head

SECOND = "10.0.1.2:8080"
THIRD = "10.0.1.3:8080"
TWO = {"endpoints": [FIRST, SECOND]}
THREE = {"endpoints": [FIRST, SECOND, THIRD]}
EVERYTHING = {"retry": {"on": ["5xx", "reset", "connect-failure"]}}
UNAVAILABLE = head("HTTP/1.1 503 Service Unavailable", "Content-Length: 2") + b"no"
#: complete with its head, so that its connection is kept however it comes
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
GOT_UNAVAILABLE = head("HTTP/1.1 503 Service Unavailable", "Content-Length: 2", *ANSWERED) + b"no"


def _at_once(world: World) -> None:
    """Have no pauses between tries."""
    world.chance = 0.0


# --- without a policy: other endpoints, where no connection could be made ---


@conversation(cluster=TWO)
def test_another_endpoint_where_one_refuses(world: World) -> None:
    world.refuse(FIRST)
    client = world.client()
    for _ in range(2):
        client.sends(GET)
        app = world.app(SECOND) if not world.apps else world.apps[0]
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
    assert world.flags == ["", ""]
    assert sum(world.attempts) == 3
    assert world.stats().retries == world.stats().retries_successful == 1


@conversation(cluster=TWO)
def test_the_one_endpoint_is_not_tried_twice(world: World) -> None:
    world.refuse(FIRST, SECOND)
    client = world.client()
    client.sends(GET)
    reply = client.got_reply(503, "UF", "cluster app, endpoint 10.0.1.", "2 attempts (1: ", "; 2: ", close=False)
    assert reply.body.count(b"connection refused") == 3  # once for each, and the last one in front
    assert world.flags == ["UF"]
    assert world.attempts == [2]


@conversation(cluster=TWO)
def test_a_post_goes_on_to_another_endpoint(world: World) -> None:
    world.refuse(FIRST)
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 4"), b"ab")
    app = world.app(SECOND)
    app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 4", *FORWARDED), b"ab")
    client.sends(b"cd")
    app.got(b"cd")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cluster=THREE)
def test_at_most_two_other_endpoints(world: World) -> None:
    world.refuse(FIRST, SECOND, THIRD)
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "UF", "3 attempts", FIRST, SECOND, THIRD, close=False)
    assert sorted(world.dialled) == [FIRST, SECOND, THIRD]
    assert world.stats().retries_exhausted == 0


# --- with a policy ---


@conversation(route={"retry": {"on": ["5xx"], "attempts": 2}})
def test_tried_until_used_up(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(GET)
    app = world.app()
    for left in range(2, -1, -1):
        app.got(GOT_GET)
        app.sends(NOTHING if left else UNAVAILABLE)
    client.got(GOT_UNAVAILABLE)
    assert world.flags == ["URX"]
    assert world.statuses == [503]
    assert world.attempts == [3]
    stats = world.stats()
    assert (stats.retries, stats.retries_exhausted, stats.retries_successful) == (2, 1, 0)
    world.no_more_apps()


@conversation(route={"retry": {"on": ["5xx"], "attempts": 1}})
def test_a_reset_that_uses_up_the_tries(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(GET)
    for _ in range(2):
        app = world.app()
        app.got(GOT_GET)
        app.closes()
    client.got_reply(503, "URX,UC", "2 attempts (1: ", close=False)
    assert world.flags == ["URX,UC"]


@conversation(route={"retry": {"attempts": 1}}, cluster=TWO)
def test_refused_connections_that_use_up_the_tries(world: World) -> None:
    _at_once(world)
    world.refuse(FIRST, SECOND)
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "URX,UF", "2 attempts", close=False)
    assert sorted(world.dialled) == [FIRST, SECOND]
    assert world.stats().retries_exhausted == 1


def test_no_tries_at_all() -> None:
    with World(route={"retry": {"attempts": 0, "on": ["5xx"]}}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(UNAVAILABLE)
        client.got(GOT_UNAVAILABLE)
        assert world.flags == ["URX"]


@conversation(route={"retry": {"on": ["connect-failure"], "attempts": 2}})
def test_what_the_policy_does_not_name_is_passed_on(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(UNAVAILABLE)
    client.got(GOT_UNAVAILABLE)
    client.sends(GET)
    app.got(GOT_GET)
    app.resets()
    world.app().got(GOT_GET)  # for the connection was used before: any such request may meet a connection just closed
    world.apps[-1].resets()
    client.got_reply(503, "UC", "2 attempts", close=False)
    assert world.flags == ["", "UC"]
    world.no_more_apps()


@conversation(cluster=TWO, route=EVERYTHING)
def test_another_endpoint_is_preferred(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    first.sends(NOTHING)
    second = world.app()
    assert {first.address, second.address} == {FIRST, SECOND}
    second.got(GOT_GET)
    second.sends(OK)
    client.got(GOT_OK)
    assert first.state == second.state == "open"  # both connections are as good as before
    assert world.log.entries[0].upstream == second.address
    assert world.stats().retries_successful == 1


@conversation(route=EVERYTHING)
def test_a_failed_answer_with_a_body_to_come_is_not_waited_for(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 100"))
    assert app.state == "closed" or app.reset
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=EVERYTHING)
def test_an_app_that_answers_and_goes(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0", "Connection: close"))
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


CONDITIONS: list[tuple[str, bytes, bool]] = [
    ("5xx", b"500", True),
    ("5xx", b"404", False),
    ("gateway-error", b"502", True),
    ("gateway-error", b"504", True),
    ("gateway-error", b"500", False),
    ("retriable-4xx", b"409", True),
    ("retriable-4xx", b"404", False),
    ("429", b"429", True),
    ("429", b"503", False),
    ("reset", b"503", False),
]


@pytest.mark.parametrize(("condition", "status", "again"), CONDITIONS)
def test_conditions(condition: str, status: bytes, again: bool) -> None:
    with World(route={"retry": {"on": [condition], "attempts": 5}}) as world:
        _at_once(world)
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(UNAVAILABLE.replace(b"503", status))
        if again:
            app.got(GOT_GET)
            app.sends(OK)
            client.got(GOT_OK)
        else:
            client.got(GOT_UNAVAILABLE.replace(b"503", status))
        assert world.attempts == [1 + again]


FAILURES: list[tuple[str, bytes, bool]] = [
    ("reset", b"", True),
    ("reset", b"HTTP/1.1 2", True),
    ("reset", b"SSH-2.0-", True),
    ("reset-before-response", b"", True),
    ("reset-before-response", b"HTTP/1.1 2", False),
    ("refused", b"", False),
    ("connect-failure", b"", False),
    ("503", b"", False),
    ("gateway-error", b"", True),
]


@pytest.mark.parametrize(("condition", "said", "again"), FAILURES)
def test_broken_answers(condition: str, said: bytes, again: bool) -> None:
    with World(route={"retry": {"on": [condition]}}) as world:
        _at_once(world)
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        if said:
            app.sends(said)
        app.closes()
        if again:
            app = world.app()
            app.got(GOT_GET)
            app.sends(OK)
            client.got(GOT_OK)
        else:
            client.got_reply(503, "UC", "1 attempt", close=False)


def test_a_connection_broken_off_as_soon_as_made_is_refused() -> None:
    with World(route={"retry": {"on": ["refused"]}}) as world:
        _at_once(world)
        world.on_accept = lambda app: app.put(b"busy")
        client = world.client()
        client.sends(head("POST / HTTP/1.1", "Host: a", "Content-Length: 2"), b"ab")
        client.got_reply(503, "URX,UC", "3 attempts", close=False)
        assert all(app.received == b"" for app in world.apps)
        assert len(world.apps) == 3


def test_no_endpoint_is_no_reason_to_ask_again() -> None:
    with World(cluster={"endpoints": ["name.invalid:80"]}, route=EVERYTHING) as world:
        client = world.client()
        client.sends(GET)
        client.got_reply(503, "UH", "0 attempts", close=False)
        assert world.stats().retries == 0


# --- bodies ---

PUT = head("PUT / HTTP/1.1", "Host: a", "Content-Length: 6")
GOT_PUT = head("PUT / HTTP/1.1", "Host: a", "Content-Length: 6", *FORWARDED)
PUT_CHUNKED = head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
GOT_PUT_CHUNKED = head("PUT / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked")


@conversation(route=EVERYTHING)
def test_a_body_is_sent_again(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(PUT, b"abc")
    client.sends(b"def")
    app = world.app()
    app.got(GOT_PUT, b"abcdef")
    app.sends(NOTHING)
    app.got(GOT_PUT, b"abcdef")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=EVERYTHING)
def test_chunks_and_trailers_are_sent_again(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(PUT_CHUNKED, chunk(b"abc"))
    client.sends(chunked(b"d", b"ef", trailers=("X-Sum: 1", "X-More: 2")))
    for last in (False, True):
        app = world.app()
        app.got(GOT_PUT_CHUNKED, chunked(b"abcdef", trailers=("X-Sum: 1", "X-More: 2")))
        if last:
            app.sends(OK)
        else:
            app.resets()
    client.got(GOT_OK)


@conversation(route=EVERYTHING)
def test_a_body_that_is_still_arriving(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(PUT_CHUNKED, chunk(b"abc"))
    app = world.app()
    app.got(GOT_PUT_CHUNKED, chunk(b"abc"))
    app.resets()
    app = world.app()
    app.got(GOT_PUT_CHUNKED, chunk(b"abc"))
    client.sends(chunk(b"de"))
    app.got(chunk(b"de"))
    app.closes()
    app = world.app()
    app.got(GOT_PUT_CHUNKED, chunk(b"abcde"))
    client.sends(chunked(b"f", trailers=("X-Sum: 1",)))
    app.got(chunked(b"f", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)
    assert world.attempts == [3]


@conversation(route=EVERYTHING)
def test_an_answer_to_half_a_request(world: World) -> None:
    """That connection has the beginning of a request on it, which no other one must follow."""
    _at_once(world)
    client = world.client()
    client.sends(PUT, b"abc")
    app = world.app()
    app.got(GOT_PUT, b"abc")
    app.sends(NOTHING)
    assert app.state == "closed" or app.reset
    app = world.app()
    app.got(GOT_PUT, b"abc")
    client.sends(b"def")
    app.got(b"def")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, route={"retry": {"on": ["5xx"], "backoff": {"base": "1s", "max": "1s"}}})
def test_a_body_that_arrives_while_we_wait(world: World) -> None:
    client = world.client()
    client.sends(PUT, b"ab")
    app = world.app()
    app.got(GOT_PUT, b"ab")
    app.resets()
    client.sends(b"cd")
    client.sends(b"ef")
    world.no_more_apps()
    world.passes(0.6)
    app = world.app()
    app.got(GOT_PUT, b"abcdef")
    app.sends(OK)
    assert client.takes().endswith(b"\r\n\r\nok")


def test_what_is_kept_of_a_body_is_bounded() -> None:
    with World(route={"retry": {"on": ["5xx"], "max_body": "1KiB"}}) as world:
        _at_once(world)
        client = world.client()
        client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 1024"), b"x" * 1024)
        app = world.app()
        app.takes()
        app.sends(UNAVAILABLE)
        assert app.takes().endswith(b"x" * 1024)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 1025"), b"x" * 500)
        client.sends(b"x" * 525)
        app.takes()
        app.sends(UNAVAILABLE)
        client.got(GOT_UNAVAILABLE)
        assert world.attempts == [2, 1]
        assert world.flags == ["", ""]  # nothing is used up


def test_little_is_kept_while_there_is_nobody_to_send_it_to() -> None:
    backoff = {"base": "60s", "max": "60s"}
    with World(route={"timeout": "1h", "retry": {"on": ["reset"], "max_body": "1KiB", "backoff": backoff}}) as world:
        client = world.client()
        client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 100000000"), b"x" * 10)
        app = world.app()
        app.takes()
        app.resets()
        for _ in range(10):
            client.sends(b"x" * 300_000)
        assert client.is_paused()
        assert sum(len(item) for item in client.unread if isinstance(item, bytes)) > 2_500_000
        client.resets()


@conversation(route=EVERYTHING, cut=False)
def test_an_app_that_took_no_more_and_then_failed(world: World) -> None:
    """The client is read again, by the next try."""
    _at_once(world)
    client = world.client()
    world.on_accept = lambda app: app.stall() if len(world.apps) == 1 else None
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 50000"), bytes(20000))
    client.sends(bytes(20000))
    client.sends(bytes(1))
    app = world.app()
    world.passes(0)
    app.resets()
    app = world.app()
    client.sends(bytes(9999))
    assert not client.is_paused()
    assert app.takes().endswith(bytes(50000))
    app.sends(OK)
    client.got(GOT_OK)


# --- pauses ---


@conversation(cut=False, route={"retry": {"on": ["5xx"], "backoff": {"base": "1s", "max": "3s"}, "attempts": 3}})
def test_pauses_grow(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    for pause in (0.5, 1.0, 1.5):  # of at most 1, 2, and 3 rather than 4 seconds
        app.got(GOT_GET)
        app.sends(UNAVAILABLE)
        world.passes(pause - 0.05)
        app.got()
        world.passes(0.1)
    app.got(GOT_GET)
    app.sends(OK)
    assert client.takes().endswith(b"\r\n\r\nok")
    assert world.attempts == [4]


PAUSE = {"on": ["503"], "backoff": {"base": "1s", "max": "1s"}, "max_retry_after": "5s"}


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        ("3", 3.0),
        ("4", 4.0),
        ("60", 5.0),
        ("99999999999999999999", 5.0),
        ("0", 0.5),
        ("Thu, 01 Jan 2026 00:00:02 GMT", 2.0),
        ("Thu, 01 Jan 2026 01:00:00 GMT", 5.0),
        ("Thu, 01 Jan 2025 00:00:00 GMT", 0.5),
        ("soon", 0.5),
        ("-1", 0.5),
    ],
)
def test_retry_after(asked: str, pause: float) -> None:
    with World(route={"retry": PAUSE}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 503 No", "Content-Length: 0", f"Retry-After: {asked}"))
        world.passes(pause - 0.05)
        app.got()
        world.passes(0.1)
        app.got(GOT_GET)
        app.sends(OK)
        client.takes()
        assert world.attempts == [2]


def test_retry_after_that_is_not_obeyed() -> None:
    with World(route={"retry": {**PAUSE, "max_retry_after": 0}}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 503 No", "Content-Length: 0", "Retry-After: 5"))
        world.passes(0.55)
        app.got(GOT_GET)
        app.sends(OK)
        client.takes()


def test_a_pause_longer_than_the_time_left() -> None:
    with World(route={"retry": PAUSE, "timeout": "2s"}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 503 No", "Content-Length: 0", "Retry-After: 2"))
        client.got(head("HTTP/1.1 503 No", "Content-Length: 0", "Retry-After: 2", *ANSWERED))
        assert world.flags == [""]
        client.sends(GET)
        app.got(GOT_GET)
        world.passes(0.9)
        app.resets()
        app = world.app()  # for the stale connection
        app.got(GOT_GET)
        world.passes(0.95)
        app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
        assert b"503 No" in client.takes()
        world.no_more_apps()


@conversation(cut=False, route={"retry": PAUSE})
def test_a_client_that_leaves_in_a_pause(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(UNAVAILABLE)
    assert world.cluster.breakers["default"].retries == 1
    client.resets()
    assert world.active() == 0
    assert world.flags == ["DC"]
    assert world.cluster.breakers["default"].retries == 0
    world.passes(5)
    app.got()


# --- kinds of requests and clients ---


@conversation(route=EVERYTHING)
def test_head_requests(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(head("HEAD / HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head("HEAD / HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 100"))
    app.got(head("HEAD / HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100"))
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 100", *ANSWERED))
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(route=EVERYTHING)
def test_old_clients(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a"))
    for last in (False, True):
        app = world.app()
        app.got(GOT_GET)
        if last:
            app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunked(b"ok"))
        else:
            app.sends(head("HTTP/1.1 100 Continue"))
            app.closes()
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "connection: close"), b"ok")
    assert client.state == "closed"


@conversation(route=EVERYTHING)
def test_requests_behind_one_that_is_tried_again(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(head("GET /1 HTTP/1.1", "Host: a"), PUT, b"abcdef", head("GET /3 HTTP/1.1", "Host: a"))
    app = world.app()
    app.got(head("GET /1 HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(NOTHING)
    app.got(head("GET /1 HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(OK)
    app.got(GOT_PUT, b"abcdef")
    app.resets()
    app = world.app()
    app.got(GOT_PUT, b"abcdef")
    app.sends(OK)
    app.got(head("GET /3 HTTP/1.1", "Host: a", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK * 3)
    assert world.attempts == [2, 2, 1]


WEBSOCKET = head("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
GOT_WEBSOCKET = head("GET / HTTP/1.1", "Host: a", *FORWARDED, "connection: upgrade", "upgrade: websocket")


@conversation(route=EVERYTHING)
def test_an_upgrade_is_tried_again(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(WEBSOCKET, b"early")
    app = world.app()
    app.got(GOT_WEBSOCKET)
    app.sends(NOTHING)
    app.got(GOT_WEBSOCKET)
    app.sends(head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"))
    client.got(head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"))
    app.got(b"early")
    app.resets()
    assert client.reset  # what is a tunnel is nothing to be tried again
    assert world.attempts == [2]
    world.no_more_apps()


@conversation(route={**EVERYTHING, "connect": True}, cluster=TWO)
def test_connect_is_tried_again_only_where_nothing_was_sent(world: World) -> None:
    _at_once(world)
    world.refuse(FIRST)
    client = world.client()
    client.sends(head("CONNECT b:443 HTTP/1.1", "Host: b:443"))
    app = world.app(SECOND)
    app.got(head("CONNECT b:443 HTTP/1.1", "Host: b:443", *FORWARDED))
    app.resets()
    client.got_reply(503, "UC", close=False)
    world.no_more_apps()


@conversation(route=EVERYTHING)
def test_a_request_that_expects_100(world: World) -> None:
    _at_once(world)
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 6"))
    got = head("PUT / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 6", *FORWARDED)
    app = world.app()
    app.got(got)
    app.resets()
    app = world.app()
    app.got(got)
    app.sends(head("HTTP/1.1 100 Continue"))
    client.got(head("HTTP/1.1 100 Continue"))
    client.sends(b"abcdef")
    app.got(b"abcdef")
    app.sends(OK)
    client.got(GOT_OK)


# --- what is told ---


def test_the_local_reply_tells_each_try() -> None:
    with World(route={"retry": {"on": ["5xx"], "attempts": 1}}, cluster=TWO) as world:
        _at_once(world)
        client = world.client()
        client.sends(head("GET / HTTP/1.1", "Host: a", "Accept: application/json"))
        one = world.app()
        one.takes()
        one.sends(NOTHING)
        two = world.app()
        two.takes()
        two.sends(b"what?")
        told: dict[str, Any] = json.loads(client.takes().partition(b"\r\n\r\n")[2])
        assert told["flag"] == "URX,UPE"
        assert told["status"] == 502
        assert [failure["flag"] for failure in told["failures"]] == ["", "UPE"]
        assert [failure["endpoint"] for failure in told["failures"]] == [one.address, two.address]
        assert f"2 attempts (1: {one.address} answered 503; 2: {two.address}: " in told["where"]


def test_passed_on_after_tries_a_response_says_nothing_of_them() -> None:
    with World(route={"retry": {"on": ["5xx"], "attempts": 1}}) as world:
        _at_once(world)
        client = world.client()
        client.sends(GET)
        app = world.app()
        for _ in range(2):
            app.got(GOT_GET)
            app.sends(UNAVAILABLE)
        client.got(GOT_UNAVAILABLE)
        assert DATE.encode() in client.received
