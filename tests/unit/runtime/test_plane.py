from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meshlet.config.load import loads
from meshlet.proxy.settings import ListenerStats
from meshlet.runtime import plane as plane_module
from meshlet.runtime.plane import DataPlane
from meshlet.runtime.sockets import bind
from meshlet.runtime.traffic import traffic
from meshlet.telemetry.requests import Buckets
from meshlet.upstream.discovery import names

if TYPE_CHECKING:
    from meshlet.config.schema import Config
    from meshlet.config.units import Address


async def test_a_log_that_cannot_be_opened_anew_keeps_none_of_the_others_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = [tmp_path / "gone" / "access.log", tmp_path / "access.log"]
    logs[0].parent.mkdir()
    written = ", ".join(f"{{path: {path}}}" for path in logs)
    plane = DataPlane(bind)
    await plane.apply(
        loads(
            "listeners: [{name: a, address: '127.0.0.1:0', routes: [{cluster: app}]}]\n"
            f"clusters: [{{name: app, endpoints: ['127.0.0.1:1']}}]\ntelemetry: {{access_log: [{written}]}}\n",
            "test",
        )
    )
    logs[0].parent.rename(tmp_path / "away")
    logs[1].rename(tmp_path / "access.log.1")
    await plane.reopen_logs()
    await plane.close()
    assert logs[1].exists()
    assert str(logs[0]) in caplog.text


def test_what_might_have_become_tcp_shows_in_no_totals() -> None:
    stats = ListenerStats(Buckets())
    counts = stats.for_tcp("app")
    assert traffic({"in": stats}, [], Buckets(), 0.0).routes == ()
    counts.opened += 1
    (route,) = traffic({"in": stats}, [], Buckets(), 0.0).routes
    assert (route.route, route.cluster, route.requests) == ("TCP", "app", 0)


def quick_config(name: str) -> Config:
    return loads(
        f"listeners: [{{name: {name}, address: '127.0.0.1:0', routes: [{{cluster: app}}]}}]\n"
        "clusters: [{name: app, endpoints: ['127.0.0.1:1']}]\n",
        "test",
    )


def slow_config(name: str, log: Path | None = None) -> Config:
    """Its endpoint's name has not been found when it is applied."""
    telemetry = f"telemetry: {{access_log: {{path: {log}}}}}\n" if log is not None else ""
    return loads(
        f"listeners: [{{name: {name}, address: '127.0.0.1:0', routes: [{{cluster: app}}]}}]\n"
        f"clusters: [{{name: app, endpoints: ['{name}.test:1']}}]\n{telemetry}",
        "test",
    )


@pytest.fixture
def never_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(address: Address) -> tuple[Address, ...]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(names, "resolve", never)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def pending(plane: DataPlane, config: Config) -> asyncio.Task[None]:
    """Return an `apply` that waits for host names."""
    before = open_files()
    task = asyncio.create_task(plane.apply(config))
    while open_files() == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


@pytest.mark.usefixtures("never_resolved")
@pytest.mark.parametrize("log", [False, True])
async def test_a_config_that_is_given_up_leaves_nothing_behind(tmp_path: Path, log: bool) -> None:
    plane = DataPlane(bind)
    await plane.apply(quick_config("first"))
    before, tasks = open_files(), len(asyncio.all_tasks())
    task = await pending(plane, slow_config("second", tmp_path / "log" if log else None))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(0)
    assert (open_files(), len(asyncio.all_tasks())) == (before, tasks)
    assert [listener["name"] for listener in await plane.listeners()] == ["first"]
    await plane.close()


@pytest.mark.usefixtures("never_resolved")
async def test_a_config_that_comes_into_the_end_opens_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_module, "_RESOLVE", 0.05)
    plane = DataPlane(bind)
    await plane.apply(quick_config("first"))
    before = open_files()
    task = await pending(plane, slow_config("second"))
    await plane.stop_accepting()
    with pytest.raises(OSError, match="no more connections are accepted"):
        await task
    assert open_files() == before - 1  # and the first one's is closed
    assert await plane.listeners() == []
    await plane.close()
