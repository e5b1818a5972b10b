from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.config.load import loads
from meshlet.proxy.settings import ListenerStats
from meshlet.runtime.plane import DataPlane
from meshlet.runtime.sockets import bind
from meshlet.runtime.traffic import traffic
from meshlet.telemetry.requests import Buckets

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
