"""From what happened to figures, and from figures to verdicts: pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, NamedTuple

from benchmarks.chaos.load import CONNECTIONS
from benchmarks.chaos.run import Outcome, Phase
from benchmarks.chaos.schedule import Kind
from benchmarks.stats import percentile

REPEATABLE = tuple(kind for kind in Kind if kind.repeatable)
LEAST_REPEATABLE, LEAST_PLAIN = 0.999, 0.96
# The retry budget of both configs: a share of the requests in flight, and a number that is always allowed.
BUDGET_SHARE, BUDGET_LEAST = 0.20, 10
MOST_RETRIES = max(BUDGET_LEAST, math.ceil(BUDGET_SHARE * CONNECTIONS))
_DIGITS = re.compile(r"\d+")
_PERCENTILES = {"p50_ms": 50, "p99_ms": 99, "p999_ms": 99.9}


class Check(NamedTuple):
    """A figure beside the bound it must keep."""

    title: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def kinds(phase: Phase) -> dict[Kind, dict[str, int]]:
    """By kind of request: how many there were, how many were answered rightly, how many were executed twice.

    `cut` were broken off within the response body. Nobody can send those again once the client has got a byte, so
    they do not count among the requests that may be sent again.
    """
    found = {}
    for kind in Kind:
        mine = [result for result in phase.results if result.kind is kind]
        found[kind] = {
            "requests": len(mine),
            "succeeded": sum(not result.problem for result in mine),
            "cut": sum(bool(result.problem) and result.number in phase.ledger.cut for result in mine),
            "executed_twice": sum(phase.ledger.executions[result.number] > 1 for result in mine),
            "failed_but_executed": sum(
                bool(result.problem) and phase.ledger.executions[result.number] > 0 for result in mine
            ),
        }
    return found


def success_of(phase: Phase, *of: Kind) -> float:
    """The share of the requests of these kinds that were answered rightly; see `kinds` for what `cut` does to it."""
    found = kinds(phase)
    could = sum(found[kind]["requests"] - (found[kind]["cut"] if kind.repeatable else 0) for kind in of)
    return sum(found[kind]["succeeded"] for kind in of) / could if could else 1.0


def attempts_per_request(phase: Phase) -> float:
    """The proxy's own count of tries, those that no app has seen too, as it told the apps and the callers."""
    seen = phase.ledger.attempts
    return sum(max(result.attempts, seen.get(result.number, 1)) for result in phase.results) / len(phase.results)


def latencies(phase: Phase) -> list[float]:
    """The sorted seconds of the requests that succeeded."""
    return sorted(result.seconds for result in phase.results if not result.problem)


def percentiles(phase: Phase) -> dict[str, float]:
    """Milliseconds."""
    ordered = latencies(phase)
    return {name: percentile(ordered, percent) * 1000 for name, percent in _PERCENTILES.items()}


def checks(outcome: Outcome) -> list[Check]:
    """What must hold, whatever proxy it is."""
    chaos = outcome.chaos
    requests = len(chaos.results)
    return [
        Check("success where it may be sent again", success_of(chaos, *REPEATABLE), LEAST_REPEATABLE, at_least=True),
        Check("success of plain POST", success_of(chaos, Kind.PLAIN), LEAST_PLAIN, at_least=True),
        Check("plain POST executed twice", kinds(chaos)[Kind.PLAIN]["executed_twice"], 0),
        Check("most retries in flight at the apps", chaos.ledger.most_retries, MOST_RETRIES),
        Check("retries per request", attempts_per_request(chaos) - 1, BUDGET_SHARE),
        Check("requests that came in changed", len(chaos.ledger.wrong), 0),
        Check("failures in calm", sum(bool(result.problem) for result in outcome.calm.results) / requests, 0),
        Check("descriptors at rest", outcome.after.descriptors, outcome.fresh.descriptors),
        Check("memory at rest, after to before", outcome.after.rss / outcome.before.rss, 1.10),
    ]


def problems(phase: Phase) -> Counter[str]:
    """What the callers got instead of an answer: the status, or the error without the numbers in it."""
    return Counter(
        f"{result.kind}: {result.problem[:3]}{_DIGITS.sub('#', result.problem[3:])}"
        for result in phase.results
        if result.problem
    )


def document(outcome: Outcome) -> dict[str, Any]:
    """All of it for a program to read."""
    calm, chaos = percentiles(outcome.calm), percentiles(outcome.chaos)
    return {
        "kinds": {kind.value: figures for kind, figures in kinds(outcome.chaos).items()},
        "success_repeatable": success_of(outcome.chaos, *REPEATABLE),
        "success_plain": success_of(outcome.chaos, Kind.PLAIN),
        "attempts_per_request": attempts_per_request(outcome.chaos),
        "most_retries_in_flight": outcome.chaos.ledger.most_retries,
        "latency_calm": calm,
        "latency_chaos": chaos,
        "latency_added": {name: chaos[name] - calm[name] for name in chaos},
        "seconds": {"calm": outcome.calm.seconds, "chaos": outcome.chaos.seconds},
        "chaos": {
            **dict(outcome.chaos.ledger.faults),
            "deaths": outcome.chaos.ledger.deaths,
            "idle connections closed": outcome.chaos.ledger.idle_closed,
        },
        "wrong": outcome.chaos.ledger.wrong[:10],
        "counters": dict(outcome.counters),
        "rest": {
            name: resources._asdict()
            for name, resources in (("fresh", outcome.fresh), ("before", outcome.before), ("after", outcome.after))
        },
        "problems": dict(problems(outcome.chaos).most_common()),
        "checks": [{**check._asdict(), "met": check.met} for check in checks(outcome)],
    }
