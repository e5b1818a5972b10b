"""Faults on purpose."""

from __future__ import annotations

from typing import Any

from tests.conversations.world import FORWARDED, GET, GOT_GET, OK, World, conversation
from tests.support.wire import chunk, chunked, head, messages


def _fault(**more: Any) -> dict[str, Any]:
    return {"fault": more}


@conversation(route=_fault(abort={"status": 418}))
def test_an_abort(world: World) -> None:
    client = world.client()
    client.sends(GET, GET)
    first, second = messages(client.takes())
    for reply in (first, second):
        assert reply.status == 418
        assert reply.field("x-meshlet-flag") == "FI"
        assert reply.field("connection") is None
    assert world.flags == ["FI", "FI"]
    assert world.dialled == []


@conversation(cut=False, route=_fault(delay={"duration": "2s"}))
def test_a_delay(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(1.9)
    assert world.dialled == []
    assert world.active() == 1
    world.passes(0.2)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    assert client.takes().endswith(b"ok")
    assert world.flags == ["DI"]
    assert world.counts == {(200, "DI"): 1}


@conversation(cut=False, route=_fault(delay={"duration": "2s"}, abort={"status": 503}))
def test_a_delay_and_an_abort(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(1.9)
    client.got()
    world.passes(0.2)
    client.got_reply(503, "DI,FI", close=False)
    assert world.dialled == []


@conversation(cut=False, route={**_fault(delay={"duration": "20s"}), "timeout": "1s"})
def test_the_apps_time_begins_behind_the_delay(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(20.1)
    world.app().got(GOT_GET)
    world.passes(0.8)
    client.got()
    world.passes(0.3)
    client.got_reply(504, "DI,UT", close=False)


@conversation(cut=False, route=_fault(delay={"duration": "2s"}))
def test_a_body_that_comes_within_a_delay(world: World) -> None:
    client = world.client()
    client.sends(head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), chunk(b"ab"))
    client.sends(chunk(b"cd"))
    world.passes(1)
    client.sends(chunked(b"ef", trailers=("X-Sum: 1",)))
    world.passes(1.1)
    app = world.app()
    app.got(
        head("POST / HTTP/1.1", "Host: a", *FORWARDED, "transfer-encoding: chunked"),
        chunked(b"abcdef", trailers=("X-Sum: 1",)),
    )
    app.sends(OK)
    assert client.takes().endswith(b"ok")


@conversation(cut=False, route=_fault(delay={"duration": "2s"}))
def test_a_client_that_leaves_within_a_delay(world: World) -> None:
    client = world.client()
    client.sends(GET)
    world.passes(1)
    client.resets()
    assert world.active() == 0
    assert world.flags == ["DI,DC"]
    world.passes(5)
    assert world.dialled == []


@conversation(route=_fault(abort={"status": 503, "percent": 100}, headers={"x-chaos": "1"}))
def test_only_some_requests(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(OK)
    client.takes()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Chaos: 1"))
    client.got_reply(503, "FI", close=False)


@conversation(cut=False, route={**_fault(delay={"duration": "1s"}), "retry": {"on": ["503"]}})
def test_tries_are_not_delayed_again(world: World) -> None:
    world.chance = 0.0
    client = world.client()
    client.sends(GET)
    world.passes(1.1)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 503 No", "Content-Length: 0"))
    app.got(GOT_GET)
    app.sends(OK)
    client.takes()


@conversation(route={**_fault(abort={"status": 503}), "rate_limit": {"requests": 1, "per": "1h"}})
def test_a_rate_limit_comes_first(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.got_reply(503, "FI", close=False)
    client.sends(GET)
    client.got_reply(429, "RL", close=False)


@conversation(cut=False, route={**_fault(delay={"duration": "1s"}), "deadline_header": "x-deadline"})
def test_a_delay_uses_up_the_clients_time(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "X-Deadline: 1500"))
    world.passes(1.01)
    app = world.app()
    told = messages(app.takes())[0].field("x-deadline")
    assert told is not None
    assert 400 <= int(told) <= 500
    world.passes(0.5)
    client.got_reply(504, "DI,UT", close=False)
