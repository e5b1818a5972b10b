"""The apps and the callers of the chaos run, with no proxy between them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos import apps, load
from benchmarks.chaos.apps import Fleet
from benchmarks.chaos.schedule import APPS, Fault, Kind, Request, requests
from benchmarks.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.chaos.load import Result

FAST = [replace(request, service=0.001, think=0.0) for request in requests(1, 60)]
PLAIN = Request(0, Kind.PLAIN, 20_000, 3000, 0.001, 0.0)


async def ask(fleet: Fleet, request: Request) -> list[Result]:
    """Ask the first app."""
    return await load.run(fleet.apps[0].port, [request], connections=1)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the apps set no Event
            await asyncio.sleep(0)


def fleet_of(requests_: list[Request]) -> Fleet:
    return Fleet([free_port() for _ in range(APPS)], 1, requests_)


async def test_in_calm_everything_is_executed_once() -> None:
    fleet = fleet_of(FAST)
    async with fleet.running():
        assert await load.answers(fleet.apps[0].port)
        results = await load.run(fleet.apps[0].port, FAST, connections=4)
    assert [result.problem for result in results] == [""] * len(FAST)
    assert fleet.ledger.executions == dict.fromkeys(range(len(FAST)), 1)
    assert fleet.ledger.faults == {}
    assert fleet.ledger.wrong == []


@pytest.mark.parametrize(
    ("kind", "problem", "executed"),
    [
        (Fault.RESET_BEFORE, "ConnectionResetError", 0),
        (Fault.RESET_AFTER, "ConnectionResetError", 1),
        (Fault.UNAVAILABLE, "503 not now", 0),
        (Fault.CUT, "ConnectionResetError", 1),
        (Fault.STALL, "", 1),
    ],
)
async def test_a_fault(monkeypatch: pytest.MonkeyPatch, kind: Fault, problem: str, executed: int) -> None:
    monkeypatch.setattr(apps, "STALL", 0.01)
    monkeypatch.setattr(apps, "fault", lambda seed, number, earlier: kind if earlier == 0 else None)
    fleet = fleet_of([PLAIN])
    async with fleet.running():
        async with fleet.chaos():
            (first,) = await ask(fleet, PLAIN)
        # In chaos idle connections are closed as well, and this one is not about them.
        (second,) = await ask(fleet, PLAIN)
    assert first.problem.startswith(problem)
    assert bool(first.problem) == bool(problem)
    assert second.problem == ""
    assert fleet.ledger.executions[0] == executed + 1
    assert fleet.ledger.faults == {kind: 1}
    assert fleet.ledger.cut == ({0} if kind is Fault.CUT else set())


async def test_a_dead_app_refuses_and_comes_back() -> None:
    fleet = fleet_of([PLAIN])
    async with fleet.running():
        app = fleet.apps[0]
        waiting = asyncio.create_task(ask(fleet, replace(PLAIN, think=0.0)))
        fleet.load = [replace(PLAIN, service=5.0)]
        await eventually(lambda: fleet.ledger.executions)
        app.die()
        assert not app.up
        assert (await waiting)[0].problem.startswith("ConnectionResetError")
        assert (await ask(fleet, PLAIN))[0].problem.startswith("ConnectionRefusedError")
        assert not await load.answers(app.port)
        await app.start()
        fleet.load = [PLAIN]
        assert (await ask(fleet, PLAIN))[0].problem == ""


async def test_retries_in_flight_are_counted_by_the_attempt_header() -> None:
    fleet = fleet_of([PLAIN])
    message = load.message(PLAIN).replace(b"\r\n\r\n", b"\r\nx-envoy-attempt-count: 3\r\n\r\n", 1)
    async with fleet.running():
        _, writer = await asyncio.open_connection("127.0.0.1", fleet.apps[0].port)
        writer.write(message)
        await eventually(lambda: fleet.ledger.executions)
        assert fleet.ledger.retries == 1
        writer.transport.abort()
        await eventually(lambda: not fleet.ledger.retries)
    assert fleet.ledger.most_retries == 1
    assert fleet.ledger.attempts == {0: 3}


async def test_a_changed_body_is_noticed() -> None:
    fleet = fleet_of([PLAIN])
    async with fleet.running():
        _, writer = await asyncio.open_connection("127.0.0.1", fleet.apps[0].port)
        writer.write(load.message(PLAIN)[:-1] + b"!")
        await eventually(lambda: fleet.ledger.executions)
        writer.transport.abort()
    assert fleet.ledger.wrong == ["request 0 came with 20000 of 20000 bytes, or others"]


async def test_another_requests_answer_is_noticed() -> None:
    fleet = fleet_of([replace(PLAIN, answer=3000), replace(PLAIN, number=1)])
    async with fleet.running():
        results = await ask(fleet, replace(PLAIN, answer=2999))
    assert [result.problem for result in results] == ["another request's answer"]


async def test_closed_idle_connections_are_counted_in_chaos() -> None:
    fleet = fleet_of([PLAIN])
    async with fleet.running():
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.apps[0].port)
        async with fleet.chaos(), asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()
    assert fleet.ledger.idle_closed >= 1
