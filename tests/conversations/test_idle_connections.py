"""What an app says or does while a connection carries no request: it is nobody's answer, and nobody's failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conversations.world import (
    ANSWERED,
    FORWARDED,
    GET,
    GOT_GET,
    GOT_OK,
    OK,
    App,
    Client,
    World,
    conversation,
)
from tests.support.wire import head, messages

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 40
FIRST = "10.0.1.1:8080"
SECOND = "10.0.1.2:8080"
NO_BUDGET = {"retry_budget": {"percent": 0, "min_concurrency": 0}}
POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2") + b"hi"
GOT_POST = head("POST / HTTP/1.1", "Host: a", "Content-Length: 2", *FORWARDED) + b"hi"
PUT = POST.replace(b"POST", b"PUT")
GOT_PUT = GOT_POST.replace(b"POST", b"PUT")

TIMED_OUT = head("HTTP/1.1 408 Request Timeout", "Connection: close", "Content-Length: 4") + b"late"
GOT_TIMED_OUT = head("HTTP/1.1 408 Request Timeout", "Content-Length: 4", *ANSWERED) + b"late"


def get(number: int) -> bytes:
    return head(f"GET /{number} HTTP/1.1", "Host: a")


def got_get(number: int) -> bytes:
    return head(f"GET /{number} HTTP/1.1", "Host: a", *FORWARDED)


def warm(world: World, connections: int = 1) -> tuple[list[Client], list[App]]:
    """Have some idle connections in the pool."""
    clients = [world.client() for _ in range(connections)]
    apps = []
    for client in clients:
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        apps.append(app)
    for client, app in zip(clients, apps, strict=True):
        app.sends(OK)
        client.got(GOT_OK)
    assert world.pool.idle == connections
    return clients, apps


def warm_all(world: World, connections: int) -> tuple[list[Client], list[App]]:
    """Have idle connections, whichever endpoints they lead to."""
    clients = [world.client() for _ in range(connections)]
    for client in clients:
        client.sends(GET)
    apps = [world.app() for _ in clients]
    for app in apps:
        app.got(GOT_GET)
        app.sends(OK)
    for client in clients:
        client.got(GOT_OK)
    return clients, apps


def served(world: World, clients: list[Client]) -> None:
    """Assert that each client's request has come to an app of its own, and gets that app's answer."""
    waiting = {get(number): client for number, client in enumerate(clients)}
    for _ in clients:
        app = world.app()
        (number,) = (number for number in range(len(clients)) if app.received == got_get(number))
        app.got(got_get(number))
        body = b"%d" % number
        app.sends(head("HTTP/1.1 200 OK", f"Content-Length: {len(body)}") + body)
        waiting.pop(get(number)).got(head("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *ANSWERED) + body)
    world.no_more_apps()


# --- in one turn of the loop ---


@pytest.mark.parametrize("pause", [0.0, 1.0])
def test_connections_that_have_ended_are_nobodys(pause: float) -> None:
    """Forty ends of stream are read, and in the same turn, behind them, forty requests."""
    with World(cluster=NO_BUDGET) as world:
        clients, apps = warm(world, MANY)
        if pause:
            world.passes(pause)
        with world.at_once():
            for app in apps:
                app.closes()
            for number, client in enumerate(clients):
                client.sends(get(number))
        served(world, clients)
        assert world.attempts == [1] * 2 * MANY
        assert world.flags == [""] * 2 * MANY


@pytest.mark.parametrize("leave", [App.closes, App.ends, App.resets])
@pytest.mark.parametrize("first", ["app", "client"])
@pytest.mark.parametrize("pause", [0.0, 0.003, 20.0])
def test_whatever_the_order(leave: Callable[[App], None], first: str, pause: float) -> None:
    """However a turn mixes them: nobody fails, and the budget has nothing to do with it."""
    with World(cluster=NO_BUDGET) as world:
        clients, apps = warm(world, MANY)
        if pause:
            world.passes(pause)
        with world.at_once():
            for number, (client, app) in enumerate(zip(clients, apps, strict=True)):
                if first == "app":
                    leave(app)
                client.sends(get(number))
                if first == "client":
                    leave(app)
        for app in apps:
            app.takes()  # an app that only ends its side may see a request, and then that it is given up
        served(world, clients)
        assert world.flags == [""] * 2 * MANY
        if pause:  # what has lain idle is looked at, so nothing was sent twice
            assert world.attempts == [1] * 2 * MANY
        breaker = world.cluster.breakers["default"]
        assert (breaker.overflows["retries"], world.stats().retries_over_budget) == (0, 0)


@pytest.mark.parametrize("leave", [App.closes, App.resets])
def test_a_post_is_sent_on_none_of_them(leave: Callable[[App], None]) -> None:
    """Not even on one that was in use a moment ago."""
    with World(cluster=NO_BUDGET) as world:
        clients, apps = warm(world, MANY)
        with world.at_once():
            for client in clients:
                client.sends(POST)
            for app in apps:
                leave(app)
        for _ in clients:
            app = world.app()
            app.got(GOT_POST)
            app.sends(OK)
        for client in clients:
            client.got(GOT_OK)
        world.no_more_apps()
        assert world.attempts == [1] * 2 * MANY
        assert world.pool.stale_total == MANY


# --- old bytes ---

OLD = {
    "an answer": OK.replace(b"ok", b"no"),
    "a timeout": TIMED_OUT,
    "an interim answer": head("HTTP/1.1 103 Early Hints", "Link: </old>"),
    "half a head": b"HTTP/1.1 200 OK\r\nX-Old: ",
    "the end of a head": b"\r\n\r\n",
    "a line": b"220 mail.example.com ESMTP\r\n",
    "a byte": b"H",
}


@pytest.mark.parametrize("first", ["app", "client"])
@pytest.mark.parametrize("old", OLD.values(), ids=OLD)
@pytest.mark.parametrize("pause", [0.003, 20.0])
def test_bytes_older_than_a_request_are_not_its_answer(old: bytes, first: str, pause: float) -> None:
    """They lie in the kernel's buffers, unread, when the requests come."""
    with World(cluster=NO_BUDGET) as world:
        clients, apps = warm(world, MANY)
        world.passes(pause)
        with world.at_once():
            if first == "app":
                for app in apps:
                    app.sends(old)
            for number, client in enumerate(clients):
                client.sends(get(number))
            if first == "client":
                for app in apps:
                    app.sends(old)
        served(world, clients)
        assert world.attempts == [1] * 2 * MANY
        assert all(app.closed for app in apps)


@pytest.mark.parametrize("old", OLD.values(), ids=OLD)
def test_nor_is_a_retry_answered_by_them(old: bytes) -> None:
    """It takes a pooled connection as well, in the turn in which the first try has failed."""
    with World(route={"retry": {"on": ["503"], "attempts": 1}}, cluster={"endpoints": [FIRST, SECOND]}) as world:
        world.chance = 0.0
        (client, _), apps = warm_all(world, 2)
        world.passes(0.003)
        client.sends(get(7))
        (one,) = (app for app in apps if app.takes())
        (other,) = (app for app in apps if app is not one)
        with world.at_once():
            one.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
            other.sends(old)
        assert other.reset
        app = world.app(other.address)
        app.got(got_get(7))
        app.sends(OK)
        client.got(GOT_OK)


# --- 408 as the answer ---


@conversation(cut=False, cluster=NO_BUDGET)
def test_a_timeout_of_the_idle_connection_is_no_answer(world: World) -> None:
    (client,), (app,) = warm(world)
    world.passes(10)
    client.sends(GET)
    app.got(GOT_GET)
    app.sends(TIMED_OUT)
    assert app.state in {"closed", "reset"}
    again = world.app()
    again.got(GOT_GET)
    again.sends(OK)
    client.got(GOT_OK)
    assert world.flags == ["", ""]
    assert world.attempts == [1, 2]
    (failed, _) = world.log.entries[1].tries
    assert (failed.status, failed.reason) == (408, "10.0.1.1:8080 closed the idle connection with a 408")
    assert world.pool.stale_total == 1
    assert world.pool.idle_timeout == pytest.approx(8)
    assert world.stats().retries == world.stats().retries_successful == 1


@pytest.mark.parametrize(
    ("request_", "got"),
    [
        (GET, GOT_GET),
        (PUT, GOT_PUT),
        (head("DELETE / HTTP/1.1", "Host: a"), head("DELETE / HTTP/1.1", "Host: a", *FORWARDED)),
        (head("OPTIONS * HTTP/1.1", "Host: a"), head("OPTIONS * HTTP/1.1", "Host: a", *FORWARDED)),
    ],
    ids=["GET", "PUT", "DELETE", "OPTIONS"],
)
@pytest.mark.parametrize(
    "words",
    [
        TIMED_OUT,
        TIMED_OUT[:-2],  # not even its body is here yet
        head("HTTP/1.0 408 Request Time-out", "Cache-Control: no-cache", "Connection: close") + b"<html>",
        head("HTTP/1.0 408 Request Time-out", "Content-Length: 0"),
        head("HTTP/1.1 408 Request Timeout", "Connection: close", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
)
def test_what_may_be_sent_again_after_it(request_: bytes, got: bytes, words: bytes) -> None:
    with World(cluster=NO_BUDGET) as world:
        (client,), (app,) = warm(world)
        client.sends(request_)
        app.got(got)
        app.sends(words)
        again = world.app()
        again.got(got)
        again.sends(OK)
        client.got(GOT_OK)


def passed_on(client: Client) -> None:
    (answer,) = messages(client.takes())
    assert answer.status == 408
    assert answer.field("x-meshlet-flag") is None


def test_a_post_gets_it() -> None:
    """It is not sent twice; and the client, who is told the truth, may decide."""
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(POST)
        app.got(GOT_POST)
        app.sends(TIMED_OUT)
        client.got(GOT_TIMED_OUT)
        world.no_more_apps()
        assert world.flags == ["", ""]
        assert world.attempts == [1, 1]
        assert world.pool.stale_total == 0
        assert client.state == "open"  # the client's own connection is not to blame


def test_a_body_that_was_not_kept_is_not_sent_again() -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 100000"), bytes(100000))
        app.takes()
        app.sends(TIMED_OUT)
        passed_on(client)
        world.no_more_apps()


def test_once_the_client_has_got_an_interim_response_it_is_not_sent_again() -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        app.sends(head("HTTP/1.1 103 Early Hints", "Link: </a>"))
        client.got(head("HTTP/1.1 103 Early Hints", "Link: </a>"))
        app.sends(TIMED_OUT)
        client.got(GOT_TIMED_OUT)
        world.no_more_apps()


def test_a_fresh_connection_has_timed_out_for_nobody() -> None:
    with World() as world:
        client = world.client()
        client.sends(GET)
        app = world.app()
        app.got(GOT_GET)
        app.sends(TIMED_OUT)
        client.got(GOT_TIMED_OUT)
        world.no_more_apps()


def test_who_says_it_again_means_it() -> None:
    """An app that answers so by itself is asked once more, no oftener."""
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        for each in (app, None):
            app = each or world.app()
            app.got(GOT_GET)
            app.sends(TIMED_OUT)
        client.got(GOT_TIMED_OUT)
        world.no_more_apps()
        assert world.attempts == [1, 2]


def test_who_keeps_the_connection_means_it() -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        app.sends(TIMED_OUT.replace(b"Connection: close\r\n", b""))
        client.got(GOT_TIMED_OUT)
        world.no_more_apps()


@pytest.mark.parametrize("status", ["400 Bad Request", "503 No", "500 No", "200 OK"])
def test_other_answers_with_close_are_answers(status: str) -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        app.sends(head(f"HTTP/1.1 {status}", "Connection: close", "Content-Length: 0"))
        client.got(head(f"HTTP/1.1 {status}", "Content-Length: 0", *ANSWERED))
        world.no_more_apps()


def test_one_that_takes_a_while_is_an_answer() -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        world.passes(1.1)
        app.sends(TIMED_OUT)
        passed_on(client)
        world.no_more_apps()


def test_a_route_that_wants_408_again_has_it_so() -> None:
    """The race comes first, then the policy with its own tries."""
    with World(route={"retry": {"on": ["408"], "attempts": 1}}) as world:
        world.chance = 0.0
        (client,), (app,) = warm(world)
        client.sends(GET)
        for each in (app, None, None):
            app = each or world.app()
            app.got(GOT_GET)
            app.sends(TIMED_OUT)
        client.got(GOT_TIMED_OUT)
        assert world.attempts == [1, 3]
        assert world.flags == ["", "URX"]


@conversation(cut=False, cluster={"endpoints": [FIRST, SECOND]}, route={"hedge": {"after": "100ms"}})
def test_it_wins_no_hedge(world: World) -> None:
    (client, _), apps = warm_all(world, 2)
    client.sends(GET)
    first = next(app for app in apps if app.received != app.expected)
    first.got(GOT_GET)
    world.passes(0.12)
    (second,) = (app for app in apps if app is not first)
    second.got(GOT_GET)
    second.sends(TIMED_OUT)
    client.got()
    assert second.closed
    first.sends(OK)
    assert client.takes().endswith(b"\r\n\r\nok")
    assert world.stats().hedges_won == 0


@conversation(cut=False, cluster={"endpoints": [FIRST, SECOND]}, route={"hedge": {"after": "100ms"}})
def test_a_hedge_that_is_under_way_is_waited_for(world: World) -> None:
    (client, _), apps = warm_all(world, 2)
    client.sends(GET)
    first = next(app for app in apps if app.received != app.expected)
    first.got(GOT_GET)
    world.passes(0.12)
    (second,) = (app for app in apps if app is not first)
    second.got(GOT_GET)
    first.sends(TIMED_OUT)
    second.sends(OK)
    assert client.takes().endswith(b"\r\n\r\nok")
    assert world.attempts[-1] == 2
    world.no_more_apps()


# --- nobody's failure ---


@pytest.mark.parametrize("last_words", [None, TIMED_OUT])
def test_a_race_is_no_failure_of_the_endpoint(last_words: bytes | None) -> None:
    outlier = {"consecutive_5xx": 3, "consecutive_local_failures": 3}
    with World(cluster={"endpoints": [FIRST, SECOND], "outlier_detection": outlier}) as world:
        clients, apps = warm_all(world, 20)
        for client in clients:
            client.sends(GET)
        for app in apps:
            app.got(GOT_GET)
            if last_words is None:
                app.closes()
            else:
                app.sends(last_words)
        for _ in clients:
            app = world.app()
            app.got(GOT_GET)
            app.sends(OK)
        for client in clients:
            client.got(GOT_OK)
        for endpoint in world.cluster.endpoints:
            assert (endpoint.failures_total, endpoint.unanswered_total, endpoint.ejected) == (0, 0, False)


def test_one_that_is_not_sent_again_is() -> None:
    """The client has a failure then, so the endpoint has one too."""
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(POST)
        app.got(GOT_POST)
        app.closes()
        client.got_reply(503, "UC", "1 attempt", close=False)
        (endpoint,) = world.cluster.endpoints
        assert (endpoint.failures_total, endpoint.unanswered_total) == (1, 1)


def test_what_a_race_took_time_from_is_not_begun_again_after_its_time() -> None:
    with World(route={"timeout": "500ms"}) as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        world.passes(0.4)
        app.closes()
        again = world.app()
        again.got(GOT_GET)
        world.passes(0.2)
        client.got_reply(504, "UT", "no response within 0.5 s", "2 attempts", close=False)
        world.no_more_apps()


def test_service_time_is_that_of_the_last_try() -> None:
    with World() as world:
        (client,), (app,) = warm(world)
        client.sends(GET)
        app.got(GOT_GET)
        world.passes(0.4)
        app.sends(TIMED_OUT)
        app = world.app()
        app.got(GOT_GET)
        app.sends(OK)
        client.got(GOT_OK)  # 0 ms
