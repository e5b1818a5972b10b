"""Bytes of any kind between a client and the app."""

from __future__ import annotations

import pytest

from tests.conversations.world import FIRST, App, World, conversation

TCP = {"protocol": "tcp", "cluster": "app"}


@conversation(listener=TCP)
def test_both_ways(world: World) -> None:
    client = world.client()
    app = world.app()
    client.sends(b"GET / HTTP/1.1\n\n")  # whatever it looks like
    app.got(b"GET / HTTP/1.1\n\n")
    app.sends(b"hello")
    client.got(b"hello")
    client.sends(b"\0\xff")
    app.got(b"\0\xff")
    assert world.pooled() == "open=1 idle=0 connecting=0 pending=0"
    client.ends()
    assert app.state == "half-closed"
    app.sends(b"the rest")
    client.got(b"the rest")
    app.ends()
    assert client.state == app.state == "closed"
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    assert world.log.entries[0].protocol == "TCP"
    entry = world.log.entries[0]
    assert (entry.status, entry.flag, entry.received, entry.sent, entry.downstream, entry.upstream) == (
        0,
        "",
        18,
        13,
        "10.0.0.9:40000",
        "10.0.1.1:8080",
    )


@conversation(listener=TCP)
def test_the_app_speaks_first_and_ends_first(world: World) -> None:
    client = world.client()
    app = world.app()
    app.sends(b"220 hello\r\n")
    client.got(b"220 hello\r\n")
    app.ends()
    assert client.state == "half-closed"
    client.sends(b"bye")
    app.got(b"bye")
    client.ends()
    assert client.state == app.state == "closed"
    assert world.flags == [""]


@conversation(listener=TCP)
def test_what_was_said_while_connecting_is_not_lost(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(b"early ")
    client.sends(b"bird")
    client.ends()
    world.let_in()
    app = world.app()
    app.got(b"early bird")
    assert app.state == "half-closed"
    app.sends(b"answer")
    client.got(b"answer")
    app.closes()
    assert client.state == "closed"


@conversation(listener=TCP)
def test_an_app_that_answers_and_closes_before_the_client_says_anything(world: World) -> None:
    def say_busy_and_close(app: App) -> None:
        app.put(b"busy")
        app.close()

    world.on_accept = say_busy_and_close
    client = world.client()
    client.got(b"busy")
    assert client.state == "half-closed"
    client.ends()
    assert client.state == "closed"
    world.app()


@conversation(listener=TCP)
def test_a_reset_is_passed_on(world: World) -> None:
    for who in ("client", "app"):
        client = world.client()
        app = world.app()
        client.sends(b"abc")
        app.got(b"abc")
        if who == "client":
            client.resets()
            assert app.state == "reset"
        else:
            app.resets()
            assert client.state == "reset"
    assert world.flags == ["DC", "UC"]
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(listener=TCP)
def test_a_reset_after_one_side_has_ended(world: World) -> None:
    client = world.client()
    app = world.app()
    client.sends(b"abc")
    client.ends()
    app.got(b"abc")
    app.resets()
    assert client.state == "reset"
    assert world.flags == ["UC"]


@conversation(listener=TCP)
def test_refused(world: World) -> None:
    world.refuse()
    client = world.client()
    assert client.state == "reset"
    assert world.flags == ["UF"]
    assert world.pool.connect_failures_total == 1
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"


@conversation(cut=False, listener=TCP, cluster={"connect_timeout": "1s"})
def test_no_answer_to_connecting(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(b"abc")
    assert world.cluster.endpoints[0].active == 0  # the app has nothing to do for it yet
    world.passes(1.1)
    assert client.state == "reset"
    assert world.flags == ["UF"]


@conversation(listener=TCP)
def test_a_client_that_leaves_while_connecting(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(b"abc")
    client.resets()
    assert world.flags == ["DC"]
    assert world.active() == 0
    assert world.pooled() == "open=0 idle=0 connecting=0 pending=0"
    world.let_in()
    world.no_more_apps()


@conversation(listener=TCP, cluster={"endpoints": ["name.invalid:80"]})
def test_no_endpoint(world: World) -> None:
    client = world.client()
    assert client.state == "reset"
    assert world.flags == ["UH"]


@conversation(listener=TCP, cluster={"circuit_breaker": {"max_connections": 1}})
def test_the_clusters_bound_holds(world: World) -> None:
    client, other = world.client(), world.client()
    app = world.app()
    assert other.state == "reset"
    assert world.flags == ["UO"]
    client.sends(b"abc")
    app.got(b"abc")
    app.resets()
    assert world.client().state == "open"
    world.app()


@conversation(cut=False, listener=TCP)
def test_back_pressure_both_ways(world: World) -> None:
    client = world.client()
    app = world.app()
    for here, there in ((client, app), (app, client)):
        there.stalls()
        here.sends(bytes(65536))
        assert not here.is_paused()
        here.sends(b"x")
        assert here.is_paused()
        here.sends(bytes(500_000))
        assert len(there.transport.buffer) == 65537
        there.reads(65537 - 17)
        assert here.is_paused()
        there.reads()
        assert not here.is_paused()
        assert len(there.takes()) == 565_537


@conversation(cut=False, listener=TCP)
def test_back_pressure_and_the_end(world: World) -> None:
    client = world.client()
    app = world.app()
    app.stalls()
    client.sends(bytes(200_000))
    client.sends(bytes(200_000))
    client.ends()
    app.reads()
    assert len(app.takes()) == 400_000
    assert app.state == "half-closed"
    client.stalls()
    app.sends(bytes(200_000))
    app.closes()
    client.reads()
    assert len(client.takes()) == 200_000
    assert client.state == "closed"
    entry = world.log.entries[0]
    assert (entry.flag, entry.received, entry.sent) == ("", 400_000, 200_000)


@conversation(cut=False, listener=TCP)
def test_a_reader_that_resumes_after_the_other_side_has_ended(world: World) -> None:
    client = world.client()
    app = world.app()
    app.stalls()
    client.sends(bytes(65537))
    with world.at_once():
        app.reads()
        client.ends()
    app.stalls()
    assert len(app.takes()) == 65537
    app.sends(b"still here")
    client.got(b"still here")
    app.reads()
    app.ends()
    assert client.state == app.state == "closed"


@conversation(cut=False, listener=TCP)
def test_early_bytes_are_bounded(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(bytes(60_000))
    assert not client.is_paused()
    client.sends(bytes(60_000))
    assert client.is_paused()
    client.sends(bytes(500_000))
    world.let_in()
    app = world.app()
    assert len(app.takes()) == 620_000
    assert not client.is_paused()


@conversation(cut=False, listener=TCP, limits={"tcp_idle_timeout": "10s"})
def test_idle(world: World) -> None:
    client = world.client()
    app = world.app()
    world.passes(9)
    app.sends(b"x")
    client.got(b"x")
    world.passes(10.5)
    assert client.state == "open"
    world.passes(10)
    assert client.state == app.state == "reset"
    assert world.flags == ["SI"]


@conversation(cut=False, listener=TCP, limits={"tcp_idle_timeout": "10s"})
def test_a_client_that_neither_reads_nor_leaves_ends_some_time(world: World) -> None:
    client = world.client()
    app = world.app()
    client.stalls()
    app.sends(bytes(100_000))
    app.closes()
    client.ends()
    world.passes(30)
    client.takes()
    assert client.closed
    assert world.active() == 0
    assert world.listener.connections == 0


@pytest.mark.parametrize("who", ["client", "app", "both"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000])
def test_all_bytes_before_the_end_arrive(who: str, size: int) -> None:
    with World(listener=TCP) as world:
        client = world.client()
        app = world.app()
        with world.at_once():
            for side in (client, app):
                if who in (side.__class__.__name__.lower(), "both"):
                    side.sends(bytes(size)) if size else None
                    side.ends()
        if who in ("client", "both"):
            assert len(app.takes()) == size
            assert app.state == ("closed" if who == "both" else "half-closed")
        if who in ("app", "both"):
            assert len(client.takes()) == size
            assert client.state == ("closed" if who == "both" else "half-closed")


def test_an_app_that_resets_as_soon_as_it_accepts() -> None:
    with World(listener=TCP) as world:
        world.on_accept = App.kill
        client = world.client()
        assert client.state == "reset"
        world.cleared()


@conversation(
    cut=False,
    drop=False,
    listener=TCP,
    cluster={"endpoints": [FIRST, "10.0.1.2:8080"], "outlier_detection": {"consecutive_local_failures": 3}},
)
def test_connections_that_are_made_end_what_failed_in_a_row(world: World) -> None:
    first = next(endpoint for endpoint in world.cluster.endpoints if endpoint.name == FIRST)
    for _ in range(4):
        world.refuse()
        for _ in range(3):
            world.client().closes()
        assert not first.ejected
        world.unreachable.clear()
        for _ in range(2):
            world.client().closes()
    assert first.pool.connect_failures_total >= 4
    world.refuse()
    for _ in range(6):
        world.client().closes()
    assert first.ejected
