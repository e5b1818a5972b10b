"""Requests and responses that pass filters on their way."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.conversations import own_filters
from tests.conversations.world import (
    ANSWERED,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    World,
    conversation,
)
from tests.support.fakes import HIGH_WATER
from tests.support.wire import chunk, chunked, head, messages

NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
PUT = head("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
GOT_PUT = head("PUT / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked")
POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 4")
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 4", *FORWARDED)


def _filters(*names: str, **more: Any) -> dict[str, Any]:
    """Return the config of a route with own filters, written `Class` or `Class:hook`."""
    filters = []
    for each in names:
        name, _, hook = each.partition(":")
        filters.append(
            {"python": f"tests.conversations.own_filters:{name}", **({"config": {"hook": hook}} if hook else {})}
        )
    return {"filters": filters, **more}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    own_filters.gates.clear()
    own_filters.outcomes.clear()


def _opens(world: World) -> None:
    """Let the hook that waits go on."""
    for gate in own_filters.gates:
        if not gate.done():
            gate.set_result(None)
    own_filters.gates.clear()
    world.acted()


# --- what they change ---


@conversation(route=_filters("Shouts"))
def test_both_messages_pass(world: World) -> None:
    client = world.client()
    client.sends(POST, b"ab")
    app = world.app()
    client.sends(b"cd")
    app.got(
        head("POST / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED, "transfer-encoding: chunked"),
        chunked(b"ABCD"),
    )
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "x-response-mark: 1", *ANSWERED, "transfer-encoding: chunked"), chunked(b"OK"))
    assert own_filters.outcomes[-1][:2] == (200, "")
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(route=_filters("Shouts"))
def test_messages_without_bodies(world: World) -> None:
    client = world.client()
    client.sends(head("HEAD / HTTP/1.1", "Host: a"), GET)
    app = world.app()
    app.got(head("HEAD / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED))
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 7"))
    client.got(head("HTTP/1.1 200 OK", "x-response-mark: 1", *ANSWERED))
    app.got(head("GET / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED))
    app.sends(head("HTTP/1.1 204 No Content"))
    client.got(head("HTTP/1.1 204 No Content", "x-response-mark: 1", *ANSWERED))


@conversation(route=_filters("Shouts"))
def test_trailers_pass_untouched(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"), chunked(b"cd", trailers=("X-Sum: 1",)))
    app = world.app()
    app.got(
        head("PUT / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED, "transfer-encoding: chunked"),
        chunked(b"ABCD", trailers=("X-Sum: 1",)),
    )
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunked(b"ok", trailers=("X-Sum: 2",)))
    client.got(
        head("HTTP/1.1 200 OK", "x-response-mark: 1", *ANSWERED, "transfer-encoding: chunked"),
        chunked(b"OK", trailers=("X-Sum: 2",)),
    )


# --- hooks that wait ---


@conversation(route=_filters("Waits:request_head"))
def test_a_head_waits(world: World) -> None:
    client = world.client()
    client.sends(POST, b"ab")
    assert world.dialled == []
    _opens(world)
    app = world.app()
    client.sends(b"cd")
    app.got(GOT_POST, b"abcd")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, route=_filters("Waits:request_data"))
def test_pieces_wait(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    _opens(world)
    client.sends(chunk(b"cd"))
    client.sends(chunked(b"ef", trailers=("X-Sum: 1",)))
    for _ in range(4):
        _opens(world)
    app = world.app()
    app.got(GOT_PUT, chunked(b"abcdef", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=_filters("Waits:response_head"))
def test_a_response_waits(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.got()
    app.closes()  # it has said all there was to say
    _opens(world)
    client.got(GOT_OK)
    assert world.flags == [""]


@conversation(route=_filters("Waits:response_head"))
def test_an_app_that_breaks_off_while_its_response_waits(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 9"))
    app.sends(b"abc")
    app.closes()
    client.got()  # nothing is read of the app while a hook waits
    _opens(world)
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 9", *ANSWERED), b"abc")
    assert client.reset
    assert world.flags == ["UC"]


def test_an_app_that_breaks_off_before_the_filters_let_its_response_through() -> None:
    with World(route=_filters("Holds")) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 9"), b"abc")
        app.resets()
        client.got_reply(503, "UC", close=False)
        (entry,) = world.log.entries
        assert [(one.endpoint, one.status, one.flag) for one in entry.tries] == [(app.address, 200, "UC")]
        endpoint = world.cluster.endpoints[0]
        assert (sum(endpoint.durations), endpoint.failures_total) == (1, 1)


@conversation(cut=False, route=_filters("Waits:request_head", "Waits:request_data"))
def test_a_client_that_leaves_while_a_hook_waits(world: World) -> None:
    client = world.client()
    client.sends(POST, b"abcd")
    client.resets()
    assert world.active() == 0
    assert all(gate.cancelled() for gate in own_filters.gates)
    assert own_filters.outcomes[-1][:2] == (0, "DC")
    world.no_more_apps()


@conversation(cut=False, route=_filters("Waits:response_head"))
def test_a_client_that_leaves_while_the_response_waits(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.resets()
    assert world.active() == 0
    assert all(gate.cancelled() for gate in own_filters.gates)
    assert own_filters.outcomes[-1][:2] == (0, "DC")  # the app's status is not what the client got


@conversation(cut=False, route=_filters("Waits:request_head", idle_timeout="2s"))
def test_a_hook_that_waits_for_ever(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(4.1)
    client.got_reply(504, "SI", close=False)
    assert all(gate.cancelled() for gate in own_filters.gates)


@conversation(cut=False, route=_filters("Waits:response_head", idle_timeout="2s"))
def test_a_hook_of_the_response_that_waits_for_ever(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    world.passes(4.1)
    client.got_reply(504, "SI", close=False)
    assert all(gate.cancelled() for gate in own_filters.gates)


@conversation(cut=False, route=_filters("Waits:request_head", timeout="2s"))
def test_the_apps_time_begins_behind_the_filters(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(5)
    _opens(world)
    app = world.app()
    app.got(GOT_GET)
    world.passes(1.9)
    client.got()
    world.passes(0.2)
    client.got_reply(504, "UT", close=False)


# --- nothing piles up ---


def test_an_app_that_takes_nothing_stops_the_client_behind_a_hook_that_waits() -> None:
    with World(route=_filters("Waits:request_data")) as world:
        world.on_accept = lambda app: app.stall()
        client = world.client()
        client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 100000000"), b"x")
        _opens(world)
        for _ in range(40):
            client.sends(bytes(100_000))
            _opens(world)
        waiting = len(world.apps[0].transport.buffer)
        assert waiting < HIGH_WATER + 1_000_000, waiting
        client.resets()
        world.apps[0].takes()


def test_a_client_that_takes_nothing_stops_the_app_behind_a_hook_that_waits() -> None:
    with World(route=_filters("Waits:response_data")) as world:
        client = world.client()
        client.sends(GET)
        client.stalls()
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 100000000"), b"x")
        for _ in range(40):
            app.sends(bytes(100_000))
            _opens(world)
        waiting = len(client.transport.buffer)
        assert waiting < HIGH_WATER + 1_000_000, waiting
        client.resets()


# --- answers of their own ---


REPLY = ("server: meshlet", "x-meshlet-flag: -", "date: Thu, 01 Jan 2026 00:00:00 GMT", "x-request-id: made-by-meshlet")
GOT_REPLY = head(
    "HTTP/1.1 403 Forbidden", *REPLY, "x-why: because", "content-type: text/plain; charset=utf-8", "content-length: 2"
)


@conversation(route=_filters("Shouts", "Answers:request_head"))
def test_an_answer_to_the_head(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    client.got(GOT_REPLY, b"no", GOT_REPLY, b"no")
    assert world.dialled == []
    assert world.flags == ["", ""]
    assert [outcome.status for outcome in own_filters.outcomes[-2:]] == [403, 403]


@conversation(cut=False, route=_filters("Answers:request_data"))
def test_an_answer_to_a_body(world: World) -> None:
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.takes()
    client.sends(b"ab")
    assert b"403 Forbidden" in client.takes()
    assert app.state == "closed" or app.reset
    client.sends(b"cd")


@conversation(route=_filters("Answers:response_head"))
def test_an_answer_in_place_of_the_apps(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 0"))
    client.got(GOT_REPLY, b"no")
    client.sends(GET)
    app.got(GOT_GET)  # on the same connection
    app.sends(OK)
    client.got(GOT_REPLY, b"no")


@pytest.mark.parametrize("filters", ["Answers", "Fails"])
def test_the_app_is_not_said_to_have_answered_what_a_filter_did(filters: str) -> None:
    with World(route=_filters(f"{filters}:response_head")) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.takes()
        (entry,) = world.log.entries
        (told,) = entry.tries
        assert (entry.status, told.endpoint, told.status) == (403 if filters == "Answers" else 500, app.address, 200)
        assert filters in told.reason


@pytest.mark.parametrize("hook", ["request_head", "request_data", "response_head"])
def test_a_slip(hook: str) -> None:
    with World(route=_filters(f"Fails:{hook}")) as world:
        client = world.client()
        client.sends(POST, b"abcd")
        if hook == "response_head":
            app = world.app()
            app.takes()
            app.sends(OK)
        client.got_reply(500, "FE:Fails", "the filter Fails failed", close=False)
        assert world.flags == ["FE:Fails"]
        assert world.cluster.endpoints[0].active == 0


def test_a_slip_within_a_response() -> None:
    with World(route=_filters("Fails:response_data")) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 200 OK", "Content-Length: 5"))
        client.takes()
        app.sends(b"ab")
        assert client.reset
        assert world.flags == ["FE:Fails"]


# --- early responses ---


@conversation(cut=False, route=_filters("Waits:request_data"))
def test_an_app_that_answers_while_a_piece_of_the_request_waits(world: World) -> None:
    client = world.client()
    client.sends(POST)
    app = world.app()
    app.takes()
    client.sends(b"ab")
    app.sends(head("HTTP/1.1 413 Too Large", "Content-Length: 0"))
    assert client.takes().startswith(b"HTTP/1.1 413 Too Large")
    assert app.closed
    assert all(gate.cancelled() for gate in own_filters.gates)
    client.sends(b"cd")
    client.sends(GET)
    assert world.app().takes()


# --- tries ---

RETRY = {"retry": {"on": ["503", "reset"], "attempts": 3}}


@conversation(route=_filters("Shouts", **RETRY))
def test_filters_see_one_request_and_one_response(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    got = head("PUT / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED, "transfer-encoding: chunked")
    app = world.app()
    app.got(got, chunked(b"ABCD", trailers=("X-Sum: 1",)))
    app.sends(NOTHING)
    app.got(got, chunked(b"ABCD", trailers=("X-Sum: 1",)))
    app.resets()
    app = world.app()
    app.got(got, chunked(b"ABCD", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(head("HTTP/1.1 200 OK", "x-response-mark: 1", *ANSWERED, "transfer-encoding: chunked"), chunked(b"OK"))
    # The second try met a connection that had been used before: that one is sent again besides.
    assert world.attempts == [3]


@conversation(cut=False, route=_filters("Waits:request_data", **RETRY))
def test_a_try_fails_while_a_piece_waits(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(PUT)
    app = world.app()
    app.got(GOT_PUT)
    client.sends(chunk(b"ab"))
    app.resets()
    app = world.app()
    app.got(GOT_PUT)
    _opens(world)
    app.got(chunk(b"ab"))
    client.sends(chunked(b"cd"))
    _opens(world)
    _opens(world)
    app.got(chunked(b"cd"))
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=_filters("Holds", **RETRY))
def test_no_try_once_filters_have_seen_a_response(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 5"), b"ab")
    app.resets()
    client.got_reply(503, "UC", "1 attempt", close=False)
    world.no_more_apps()


@conversation(cut=False, route=_filters("Answers:request_data", **RETRY))
def test_an_answer_between_two_tries(world: World) -> None:
    world.chance = 0.9
    client = world.client()
    client.sends(POST.replace(b"POST", b"PUT"))
    app = world.app()
    app.takes()
    app.resets()
    client.sends(b"abcd")
    assert b"403 Forbidden" in client.takes()
    world.passes(10)
    world.no_more_apps()


# --- upgrades ---


@conversation(route=_filters("Shouts"))
def test_a_tunnel_is_no_body(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket"))
    app = world.app()
    app.got(
        head("GET / HTTP/1.1", "Host: a", "x-request-mark: 1", *FORWARDED, "connection: upgrade", "upgrade: websocket")
    )
    app.sends(head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"))
    client.got(head("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket"))
    client.sends(b"abc")
    app.got(b"abc")
    app.sends(b"def")
    client.got(b"def")
    app.resets()
    assert client.reset
    assert own_filters.outcomes[-1].status == 101


# --- buffer ---

BUFFER = {"filters": [{"buffer": {"max_bytes": 8}}]}


@conversation(route=BUFFER)
def test_a_request_is_held_until_it_is_whole(world: World) -> None:
    client = world.client()
    client.sends(POST, b"ab")
    assert world.dialled == []
    client.sends(b"cd")
    app = world.app()
    app.got(GOT_POST, b"abcd")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=BUFFER)
def test_chunks_become_a_length(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    client.sends(chunked(b"cd"))
    app = world.app()
    app.got(head("PUT / HTTP/1.1", "Host: a", "content-length: 4", *FORWARDED), b"abcd")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=BUFFER)
def test_trailers_behind_a_body_that_was_held(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    client.sends(chunked(b"cd", trailers=("X-Sum: 1",)))
    app = world.app()
    app.got(GOT_PUT, chunked(b"abcd", trailers=("X-Sum: 1",)))
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route=BUFFER)
def test_a_body_too_large_to_hold(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"abcd"))
    client.sends(chunk(b"efghi"))
    assert messages(client.takes())[0].status == 413
    assert world.dialled == []


@conversation(route=BUFFER)
def test_a_client_that_waits_to_be_asked_for_its_body(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 4"))
    client.got(head("HTTP/1.1 100 Continue"))
    client.sends(b"abcd")
    app = world.app()
    app.got(GOT_POST, b"abcd")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(route={**BUFFER, **RETRY})
def test_what_was_held_is_tried_again(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    client.sends(chunked(b"cd"))
    app = world.app()
    for _ in range(2):
        app.got(head("PUT / HTTP/1.1", "Host: a", "content-length: 4", *FORWARDED), b"abcd")
        app.sends(OK if world.stats().retries else NOTHING)
    client.got(GOT_OK)


@conversation(cut=False, route={**BUFFER, "fault": {"delay": {"duration": "1s"}}})
def test_a_request_that_came_while_it_was_delayed_is_held(world: World) -> None:
    client = world.client()
    client.sends(PUT, chunk(b"ab"))
    client.sends(chunked(b"cd"))
    world.passes(1.1)
    app = world.app()
    app.got(head("PUT / HTTP/1.1", "Host: a", "content-length: 4", *FORWARDED), b"abcd")
    app.sends(OK)
    assert client.takes().endswith(b"ok")


@conversation(cut=False, route={**BUFFER, "timeout": "2s"})
def test_the_apps_time_begins_when_the_request_is_whole(world: World) -> None:
    client = world.client()
    client.sends(POST, b"ab")
    world.passes(10)
    client.sends(b"cd")
    app = world.app()
    app.got(GOT_POST, b"abcd")
    world.passes(1.9)
    client.got()
    world.passes(0.2)
    client.got_reply(504, "UT", close=False)


# --- compression ---

COMPRESSION = {"filters": [{"compression": {"min_bytes": 4}}]}
ASKS = head("GET / HTTP/1.1", "Host: a", "Accept-Encoding: gzip")


@conversation(route=COMPRESSION)
def test_a_compressed_response(world: World) -> None:
    client = world.client()
    client.sends(ASKS)
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Length: 6", 'ETag: "1"'), b"abcabc")
    (answer,) = messages(client.takes())
    assert answer.complete
    assert gzip.decompress(answer.body) == b"abcabc"
    assert answer.field("content-encoding") == "gzip"
    assert answer.field("vary") == "accept-encoding"
    assert answer.field("etag") == 'W/"1"'
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


@conversation(route=COMPRESSION)
def test_compression_for_an_old_client(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.0", "Host: a", "Accept-Encoding: gzip"))
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked"), chunked(b"abcabc"))
    (answer,) = messages(client.takes())
    assert gzip.decompress(answer.body) == b"abcabc"
    assert client.state == "closed"


@conversation(route=COMPRESSION)
def test_a_compressed_response_cut_short(world: World) -> None:
    client = world.client()
    client.sends(ASKS)
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Length: 60"), b"abcabc")
    client.takes()
    app.closes()
    assert client.reset
    assert world.flags == ["UC"]


@conversation(cut=False, route=_filters("Waits:request_head", deadline_header="x-deadline"))
def test_a_hook_uses_up_the_clients_time(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Deadline: 1000"))
    world.passes(3)
    _opens(world)
    world.passes(0.02)
    client.got_reply(504, "UT", close=False)
