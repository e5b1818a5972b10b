"""The tables of a chaos run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.chaos import figures
from benchmarks.chaos.figures import Check
from benchmarks.chaos.run import Outcome
from benchmarks.chaos.schedule import Kind
from benchmarks.report import table

_MB = 1e6


def figures_text(outcomes: Mapping[str, Outcome]) -> str:
    """A line for each figure, a column for each proxy."""
    rows = [["", *outcomes]]
    rows += [[title, *map(cell, outcomes.values())] for title, cell in _ROWS]
    counters = dict.fromkeys(name for outcome in outcomes.values() for name in outcome.counters)
    for name in counters:
        cells = (outcome.counters.get(name) for outcome in outcomes.values())
        rows.append([f"its own count: {name}", *("-" if cell is None else f"{cell:.0f}" for cell in cells)])
    return table(rows)


def checks_text(outcomes: Mapping[str, Outcome]) -> str:
    """What must hold, with the figures of each proxy; a figure out of its bound is marked."""
    found = {name: figures.checks(outcome) for name, outcome in outcomes.items()}
    rows = [["must hold", "bound", *found]]
    for same in zip(*found.values(), strict=True):
        first = same[0]
        rows.append([first.title, f"{'>=' if first.at_least else '<='} {first.bound:g}", *map(_check_cell, same)])
    return table(rows)


def problems_text(name: str, outcome: Outcome) -> str:
    """What went wrong for the callers of one proxy, the most frequent first."""
    found = figures.problems(outcome.chaos).most_common() + [(line, 1) for line in outcome.chaos.ledger.wrong[:10]]
    return "\n".join([f"{name}, what the callers got instead:", *(f"{count:6}  {text}" for text, count in found)])


def _check_cell(check: Check) -> str:
    return f"{check.value:.4g}" + ("" if check.met else " (!)")


def _success(kind: Kind) -> Callable[[Outcome], str]:
    def cell(outcome: Outcome) -> str:
        mine = figures.kinds(outcome.chaos)[kind]
        return f"{mine['succeeded']:,} of {mine['requests']:,}"

    return cell


def _count(kind: Kind, figure: str) -> Callable[[Outcome], str]:
    return lambda outcome: f"{figures.kinds(outcome.chaos)[kind][figure]:,}"


def _added(figure: str) -> Callable[[Outcome], str]:
    def cell(outcome: Outcome) -> str:
        calm, chaos = figures.percentiles(outcome.calm)[figure], figures.percentiles(outcome.chaos)[figure]
        return f"{calm:.1f} + {chaos - calm:.1f}"

    return cell


def _rest(outcome: Outcome) -> str:
    return f"{outcome.before.rss / _MB:.1f} -> {outcome.after.rss / _MB:.1f}"


_ROWS: tuple[tuple[str, Callable[[Outcome], str]], ...] = (
    *((f"{kind} answered", _success(kind)) for kind in Kind),
    *((f"{kind} cut off within the body", _count(kind, "cut")) for kind in Kind),
    *((f"{kind} executed twice", _count(kind, "executed_twice")) for kind in Kind),
    (
        "success where it may be sent again",
        lambda outcome: f"{figures.success_of(outcome.chaos, *figures.REPEATABLE):.3%}",
    ),
    ("success of plain POST", lambda outcome: f"{figures.success_of(outcome.chaos, Kind.PLAIN):.2%}"),
    ("tries per request", lambda outcome: f"{figures.attempts_per_request(outcome.chaos):.3f}"),
    ("most retries in flight at the apps", lambda outcome: str(outcome.chaos.ledger.most_retries)),
    ("p50 in calm + added in chaos, ms", _added("p50_ms")),
    ("p99", _added("p99_ms")),
    ("p99.9", _added("p999_ms")),
    ("RSS at rest, before -> after, MB", _rest),
    (
        "descriptors at rest, fresh -> after",
        lambda outcome: f"{outcome.fresh.descriptors} -> {outcome.after.descriptors}",
    ),
)
