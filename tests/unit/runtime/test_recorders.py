from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.config.schema import AccessLog, Telemetry
from meshlet.runtime.recorders import Recorders
from tests.support.records import Ended

if TYPE_CHECKING:
    from pathlib import Path


def opened(before: Recorders | None, *paths: Path) -> Recorders:
    logs = tuple(AccessLog(path=str(path), format="%PATH%") for path in paths)
    recorders = Recorders(Telemetry(access_log=logs), before)
    recorders.open_logs()
    return recorders


async def test_what_ends_after_a_reload_is_in_each_of_the_new_logs_once(tmp_path: Path) -> None:
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    old = opened(None, one, other)
    new = opened(old, third)
    await old.close(besides=new)
    for log in old.logs:  # as an exchange does that began before
        log.record(Ended(target=b"/late"))
    await new.close()
    assert [path.read_text() for path in (one, other, third)] == ["", "", "/late\n"]


async def test_a_log_that_both_configs_have_goes_on(tmp_path: Path) -> None:
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    old = opened(None, one, other)
    new = opened(old, one, third)
    assert new.logs[0] is old.logs[0]
    await old.close(besides=new)
    for log in old.logs:
        log.record(Ended(target=b"/late"))
    await new.close()
    assert [path.read_text() for path in (one, other, third)] == ["/late\n", "", "/late\n"]
