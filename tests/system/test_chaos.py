"""The chaos run in its short form: `python -m benchmarks.chaos` is the long one, with Envoy beside meshlet."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos import apps, figures, report, run, schedule
from benchmarks.chaos.__main__ import QUICK_REQUESTS, SEED
from benchmarks.chaos.schedule import Fault
from benchmarks.proxies import ALL

if TYPE_CHECKING:
    from pathlib import Path

# Of memory the short form says little: an allocator has not yet got what it will keep.
_LONG_RUNS_ONLY = {"memory at rest, after to before"}


def measure(requests: int, folder: Path) -> run.Outcome:
    load = schedule.requests(SEED, requests)
    return asyncio.run(run.measure(ALL["meshlet"], load, SEED, folder, min(os.sched_getaffinity(0))))


@pytest.mark.system
def test_five_failing_apps(tmp_path: Path) -> None:
    found = measure(QUICK_REQUESTS, tmp_path)

    # It was chaos: every fault, a death, idle connections closed, and tries that only a retry could save.
    assert set(found.chaos.ledger.faults) == {fault.value for fault in Fault}
    assert found.chaos.ledger.deaths
    assert found.chaos.ledger.idle_closed
    assert figures.attempts_per_request(found.chaos) > 1

    unmet = [check for check in figures.checks(found) if not check.met and check.title not in _LONG_RUNS_ONLY]
    assert not unmet, f"{unmet}\n{report.figures_text({'meshlet': found})}\n{report.problems_text('meshlet', found)}"


@pytest.mark.system
def test_retries_stay_within_their_budget_when_every_app_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "fault", lambda seed, number, earlier: Fault.UNAVAILABLE)
    # The apps see a second try, not what for. What none of them has seen is sent again outside of the budget, so here
    # all answer, and nobody dies or hangs up.
    monkeypatch.setattr(apps, "deaths", lambda seed: ())
    monkeypatch.setattr(apps, "_IDLE_PAUSE", 1e9)
    found = measure(500, tmp_path)

    assert not any(result.problem for result in found.calm.results)
    assert all(result.problem.startswith("503") for result in found.chaos.results)
    assert found.counters["retries refused by the budget"] > 0
    assert 1 < found.chaos.ledger.most_retries <= figures.MOST_RETRIES
