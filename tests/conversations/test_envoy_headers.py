"""What a trusted client may ask for in Envoy's request headers, and what it may not."""

from __future__ import annotations

import pytest

from tests.conversations.world import ANSWERED, FIRST, FORWARDED, GET, GOT_GET, GOT_OK, OK, World, conversation
from tests.support.wire import head

NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0")
GOT_NOTHING = head("HTTP/1.1 503 No", "Content-Length: 0", *ANSWERED)
STRANGER = "203.0.113.9"


def _asking(*lines: str, method: str = "GET") -> bytes:
    return head(f"{method} / HTTP/1.1", "Host: a", *lines)


@conversation()
def test_a_retry_that_was_asked_for(world: World) -> None:
    """The fields themselves are for meshlet alone."""
    world.chance = 0.0
    client = world.client()
    client.sends(_asking("x-envoy-retry-on: 5xx", "X-Envoy-Max-Retries: 2"))
    app = world.app()
    for _ in range(2):
        app.got(GOT_GET)
        app.sends(NOTHING)
    app.got(GOT_GET)
    app.sends(OK)
    client.got(GOT_OK)
    assert world.attempts == [3]


@conversation()
def test_one_retry_if_no_number_is_asked_for(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(_asking("x-envoy-retry-on: gateway-error"))
    app = world.app()
    for _ in range(2):
        app.got(GOT_GET)
        app.sends(NOTHING)
    client.got(GOT_NOTHING)
    assert world.flags == ["URX"]
    client.sends(GET)  # what one request asked for is not the next one's
    app.got(GOT_GET)
    app.sends(NOTHING)
    client.got(GOT_NOTHING)
    assert world.flags == ["URX", ""]


def test_a_stranger_has_no_say() -> None:
    with World(route={"timeout": "2s"}) as world:
        client = world.client(STRANGER)
        client.sends(_asking("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 9", "x-envoy-upstream-rq-timeout-ms: 100"))
        app = world.app()
        app.got(head("GET / HTTP/1.1", "Host: a", f"x-forwarded-for: {STRANGER}", *FORWARDED[1:]))
        world.passes(1)
        app.sends(NOTHING)
        assert client.takes().startswith(b"HTTP/1.1 503 No")
        assert world.attempts == [1]
        assert world.flags == [""]


def test_who_is_trusted_is_the_listeners_to_say() -> None:
    for peer, attempts in ((STRANGER, 2), ("10.0.0.9", 1)):
        with World(listener={"trusted_peers": ["203.0.113.0/24"]}) as world:
            world.chance = 0.0
            client = world.client(peer)
            client.sends(_asking("x-envoy-retry-on: 5xx"))
            app = world.app()
            for _ in range(attempts):
                assert app.takes()
                app.sends(NOTHING)
            client.takes()
            assert world.attempts == [attempts]


@pytest.mark.parametrize("on", ["5xx", "reset", "connect-failure,5xx,reset,gateway-error", "retriable-status-codes"])
def test_safety_is_not_the_clients_to_say(on: str) -> None:
    with World() as world:
        world.chance = 0.0
        client = world.client()
        client.sends(
            _asking(
                f"x-envoy-retry-on: {on}",
                "x-envoy-retriable-status-codes: 503",
                "x-envoy-max-retries: 5",
                "Content-Length: 2",
                method="POST",
            ),
            b"hi",
        )
        app = world.app()
        app.got(head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED), b"hi")
        app.sends(NOTHING)
        client.got(GOT_NOTHING)
        world.no_more_apps()


@pytest.mark.parametrize(
    ("lines", "status", "attempts"),
    [
        (["x-envoy-retry-on: retriable-status-codes", "x-envoy-retriable-status-codes: 418, 503"], b"503", 2),
        (["x-envoy-retry-on: retriable-status-codes", "x-envoy-retriable-status-codes: 418"], b"503", 1),
        (["x-envoy-retriable-status-codes: 503"], b"503", 1),
        (["x-envoy-retry-on: retriable-4xx"], b"409", 2),
        (["x-envoy-retry-on: nonsense, 5xx"], b"500", 2),
        (["x-envoy-retry-on: nonsense"], b"500", 1),
        (["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 0"], b"503", 1),
        (["x-envoy-retry-on: 5xx", "x-envoy-max-retries: -1"], b"503", 2),
        (["x-envoy-max-retries: 3"], b"503", 1),
    ],
)
def test_conditions_that_are_asked_for(lines: list[str], status: bytes, attempts: int) -> None:
    with World() as world:
        world.chance = 0.0
        client = world.client()
        client.sends(_asking(*lines))
        app = world.app()
        for _ in range(attempts):
            app.got(GOT_GET)
            app.sends(NOTHING.replace(b"503", status))
        client.got(GOT_NOTHING.replace(b"503", status))
        assert world.attempts == [attempts]


def test_a_very_large_number_of_retries() -> None:
    with World() as world:
        world.chance = 0.0
        client = world.client()
        client.sends(_asking("x-envoy-retry-on: connect-failure", "x-envoy-max-retries: 99999999999999"))
        assert world.attempts == []
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)
        app.closes()
        world.refuse()
        client.sends(_asking("x-envoy-retry-on: connect-failure", "x-envoy-max-retries: 99999999999999"))
        client.got_reply(503, "URX,UF", "101 attempts", close=False)


# --- times ---


@conversation(cut=False)
def test_a_timeout_that_was_asked_for(world: World) -> None:
    client = world.client()
    client.sends(_asking("x-envoy-upstream-rq-timeout-ms: 700"))
    world.app().got(GOT_GET)
    world.passes(0.69)
    client.got()
    world.passes(0.03)
    client.got_reply(504, "UT", close=False)
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    world.passes(10)
    app.sends(OK)
    assert client.takes().endswith(b"ok")


@pytest.mark.parametrize(
    ("asked", "seconds"), [("20000", 20), ("0", None), ("x", 15), ("-5", 15), ("1.5", 15), ("9" * 30, 15)]
)
def test_other_timeouts(asked: str, seconds: int | None) -> None:
    with World() as world:
        client = world.client()
        client.sends(_asking(f"x-envoy-upstream-rq-timeout-ms: {asked}"))
        app = world.app()
        app.got(GOT_GET)
        world.passes((seconds or 200) - 0.1)
        client.got()
        if seconds is not None:
            world.passes(0.2)
            client.got_reply(504, "UT", f"within {seconds:g} s", close=False)
        else:
            app.sends(OK)
            client.takes()


@conversation(cut=False)
def test_a_timeout_of_each_try(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(
        _asking("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 1", "x-envoy-upstream-rq-per-try-timeout-ms: 300")
    )
    for _ in range(2):
        app = world.app()
        app.got(GOT_GET)
        world.passes(0.32)
        assert app.closed
    client.got_reply(504, "URX,UT", "2 attempts", close=False)


@conversation(cut=False, route={"deadline_header": "x-deadline", "timeout": "5s"})
def test_the_least_of_all_times(world: World) -> None:
    client = world.client()
    client.sends(_asking("x-envoy-upstream-rq-timeout-ms: 1000", "X-Deadline: 400"))
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "x-deadline: 400"))
    world.passes(0.42)
    client.got_reply(504, "UT", close=False)
    client.sends(_asking("x-envoy-upstream-rq-timeout-ms: 1000", "X-Deadline: 4000"))
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", *FORWARDED, "x-deadline: 1000"))
    app.sends(OK)
    client.takes()
    assert world.log.entries[-1].upstream == FIRST


TOLD = ("x-envoy-internal: true", "x-envoy-external-address: 1.2.3.4", "x-envoy-original-path: /secret")


def test_what_only_a_trusted_proxy_may_tell_the_app() -> None:
    for trusted, seen in ((["10.0.0.0/8"], TOLD), ([], ())):
        with World(listener={"trusted_peers": trusted}) as world:
            client = world.client()
            client.sends(head("GET / HTTP/1.1", "Host: a", *TOLD, "x_envoy_internal: true"))
            app = world.app()
            received = app.takes().decode()
            for line in TOLD:
                assert (line in received) is (line in seen)
            app.sends(OK)
            client.takes()
