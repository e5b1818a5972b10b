"""How long a request may take: all of it, one try, a moment without a byte; and the deadline that the app is told."""

from __future__ import annotations

import pytest

from tests.conversations.world import (
    ANSWERED,
    FIRST,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    App,
    World,
    conversation,
)
from tests.support.wire import chunk, chunked, fields, head, messages

SECOND = "10.0.1.2:8080"
NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
AT_ONCE = {"base": "1ms", "max": "1ms"}


@conversation(cut=False, route={"timeout": "2s"})
def test_the_whole_wait(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.app().got(GOT_GET)
    world.passes(1.9)
    client.got()
    world.passes(0.2)
    client.got_reply(504, "UT", "no response within 2 s; cluster app", "1 attempt", close=False)
    assert world.apps[0].closed
    assert world.stats().codes == {(504, "UT"): 1}


@conversation(cut=False, route={"timeout": "2s", "retry": {"on": ["5xx"], "attempts": 3, "backoff": AT_ONCE}})
def test_tries_share_the_time(world: World) -> None:
    client = world.client()
    client.sends(GET)
    for _ in range(3):
        app = world.app()
        app.got(GOT_GET)
        world.passes(0.6)
        app.resets()
        world.passes(0.02)
    app = world.app()
    app.got(GOT_GET)
    world.passes(0.2)
    client.got_reply(504, "UT", "4 attempts", close=False)
    assert world.flags == ["UT"]  # the tries were used up, but the time was over first
    world.passes(5)
    world.no_more_apps()


@conversation(
    cut=False, route={"timeout": "2s", "retry": {"on": ["5xx"], "per_try_timeout": "500ms", "backoff": AT_ONCE}}
)
def test_each_try_has_its_time(world: World) -> None:
    client = world.client()
    client.sends(GET)
    for _ in range(3):
        app = world.app()
        app.got(GOT_GET)
        world.passes(0.4)
        assert app.state == "open"
        world.passes(0.15)
        assert app.closed
    client.got_reply(504, "URX,UT", "no response to this try within 0.5 s", "3 attempts (1: ", close=False)
    assert world.stats().retries_exhausted == 1


@conversation(cut=False, route={"timeout": "700ms", "retry": {"on": ["5xx"], "per_try_timeout": "500ms"}})
def test_the_time_of_a_try_within_that_of_all(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    world.app().got(GOT_GET)
    world.passes(0.55)
    app = world.app()
    app.got(GOT_GET)
    world.passes(0.2)
    client.got_reply(504, "UT", "no response within 0.7 s", "2 attempts", close=False)
    assert app.closed
    world.passes(2)
    world.no_more_apps()


@conversation(cut=False, route={"timeout": "1s", "retry": {"on": ["5xx"], "per_try_timeout": "500ms"}})
def test_a_slow_body_is_no_slow_try(world: World) -> None:
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 4"), b"ab")
    app = world.app()
    for _ in range(4):
        world.passes(1)
    client.sends(b"cd")
    world.passes(0.4)
    assert app.takes().endswith(b"abcd")
    app.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.attempts == [1]


@conversation(cut=False, route={"timeout": "1s", "retry": {"on": ["503"], "max_retry_after": "5s"}})
def test_a_request_that_ends_within_a_long_pause(world: World) -> None:
    """Its time runs from then on, and ends before the pause does."""
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 4"), b"ab")
    app = world.app()
    app.takes()
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0", "Retry-After: 5"))
    client.sends(b"cd")
    world.passes(1.1)
    client.got_reply(504, "UT", "no response within 1 s", close=False)
    world.passes(10)
    world.no_more_apps()


@conversation(cut=False, route={"timeout": "0s"})
def test_no_timeout(world: World) -> None:
    """Then silence has an end all the same."""
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(299)
    app.sends(OK)
    assert client.takes().endswith(b"ok")
    client.sends(GET)
    app.got(GOT_GET)
    world.passes(300.1)
    client.got_reply(504, "SI", "no byte moved for 300 s", close=False)


@conversation(cut=False, route={"timeout": "2s"})
def test_connecting_counts(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(GET)
    world.passes(2.1)
    client.got_reply(504, "UT", close=False)
    assert world.pooled() == "open=0 idle=0 connecting=1 pending=0"
    world.let_in()
    assert world.pooled() == "open=1 idle=1 connecting=0 pending=0"


# --- moments without a byte ---


@conversation(cut=False, route={"idle_timeout": "2s"}, limits={"stream_idle_timeout": "60s"})
def test_a_route_with_an_idle_timeout_of_its_own(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), chunk(b"a"))
    for _ in range(3):
        world.passes(1.5)
        app.sends(chunk(b"b"))
    client.got(head("HTTP/1.1 200 OK", *ANSWERED, "transfer-encoding: chunked"), chunk(b"abbb"))
    world.passes(4.1)
    assert client.reset
    assert app.closed
    assert world.flags == ["SI"]


@conversation(cut=False, route={"idle_timeout": "2s", "retry": {"on": ["5xx"]}})
def test_half_a_request(world: World) -> None:
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 4"), b"ab")
    app = world.app()
    app.takes()
    world.passes(4.1)
    client.got_reply(408, "SI", "no byte moved for 2 s")
    assert app.closed
    world.no_more_apps()


# --- deadlines ---

DEADLINE = {"deadline_header": "X-Deadline", "timeout": "4s"}


def _told(app: App) -> int:
    """Return the deadline that the app was told in its last request."""
    last = messages(app.takes())[-1]
    (value,) = fields(last.head, b"x-deadline")
    return int(value)


@conversation(cut=False, route={**DEADLINE, "retry": {"on": ["5xx"], "backoff": AT_ONCE}})
def test_the_app_is_told_what_is_left(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    assert _told(app) == 4000
    world.passes(1)
    app.resets()
    world.passes(0.02)
    app = world.app()
    assert 2900 <= _told(app) < 3000
    world.passes(1)
    app.sends(NOTHING)
    world.passes(0.02)
    assert 1800 <= _told(app) < 2000
    app.sends(OK)
    assert client.takes().endswith(b"ok")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["1500"], 1500),
        (["9000"], 4000),
        (["1500", "900"], 900),
        (["1500", "x"], 1500),
        (["x"], 4000),
        (["-1"], 4000),
        (["1e3"], 4000),
        (["9" * 40], 4000),
    ],
)
@pytest.mark.parametrize("peer", ["10.0.0.9", "203.0.113.9"])
def test_a_client_may_ask_for_less(asked: list[str], told: int, peer: str) -> None:
    with World(route=DEADLINE) as world:
        client = world.client(peer)
        client.sends(head("GET / HTTP/1.1", "Host: a", *(f"x-DEADLINE: {value}" for value in asked)))
        app = world.app()
        assert _told(app) == told
        world.passes(told / 1000 + 0.02)
        client.got_reply(504, "UT", f"within {told / 1000:g} s", close=False)


def test_no_deadline_to_tell() -> None:
    with World(route={**DEADLINE, "timeout": 0}) as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(head("GET / HTTP/1.1", "Host: a", "X-Deadline: 70"))
        assert _told(app) == 70
        app.sends(OK)
        client.got(GOT_OK)


def test_a_deadline_with_a_body_to_come() -> None:
    with World(route=DEADLINE) as world:
        client = world.client()
        client.sends(head("PUT / HTTP/1.1", "Host: a", "X-Deadline: 700", "Transfer-Encoding: chunked"), chunk(b"ab"))
        app = world.app()
        got = head("PUT / HTTP/1.1", "Host: a", *FORWARDED, "x-deadline: 700", "transfer-encoding: chunked")
        app.got(got, chunk(b"ab"))
        client.sends(chunked(b"c"))
        app.got(chunked(b"c"))
        world.passes(0.72)
        client.got_reply(504, "UT", close=False)


def test_a_deadline_is_the_next_ones_problem_no_longer() -> None:
    """What one request asked for is forgotten with it."""
    with World(route=DEADLINE) as world:
        client = world.client()
        client.sends(head("GET / HTTP/1.1", "Host: a", "X-Deadline: 700"))
        app = world.app()
        assert _told(app) == 700
        app.sends(OK)
        client.got(GOT_OK)
        client.sends(GET)
        assert _told(app) == 4000
        app.sends(OK)
        client.got(GOT_OK)


def test_a_deadline_goes_on_while_connections_fail() -> None:
    with World(route={**DEADLINE, "retry": {"backoff": AT_ONCE}}, cluster={"endpoints": [FIRST, SECOND]}) as world:
        world.hold(FIRST)
        world.hold(SECOND)
        client = world.client()
        client.sends(GET)
        world.passes(1)
        first = world.dialled[0]
        answer = world.unreachable.pop(first)
        assert not isinstance(answer, OSError)
        answer.set_exception(ConnectionRefusedError("refused"))
        world.passes(0.05)
        assert len(world.dialled) == 2
        world.let_in(world.dialled[1])
        app = world.app()
        assert 2900 <= _told(app) < 3000
        app.sends(OK)
        client.takes()


@conversation(route=DEADLINE)
def test_no_time_left_at_all(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Deadline: 0"))
    client.got_reply(504, "UT", close=False)
    assert world.dialled == []


@conversation(cut=False, route=DEADLINE)
def test_a_slow_body_uses_up_the_clients_time(world: World) -> None:
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "X-Deadline: 1000", "Content-Length: 4"), b"ab")
    app = world.app()
    app.takes()
    world.passes(3)
    client.sends(b"cd")
    world.passes(0.02)
    client.got_reply(504, "UT", close=False)
    app.takes()
