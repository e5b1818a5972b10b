"""What a run found, as plain text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.fairness.attacks import ALL
from benchmarks.fairness.figures import Outcome, verdict
from benchmarks.report import number, table
from benchmarks.stats import disturbed

_COLUMNS = (
    ("p50 ms", "p50_ms", 1),
    ("p99 ms", "p99_ms", 1),
    ("max ms", "max_ms", 1),
    ("from sending: p99 ms", "reply_p99_ms", 1),
    ("failed", "failed", 0),
    ("connections", "connections", 0),
    ("sent MB", "sent_mb", 1),
    ("received MB", "received_mb", 1),
    ("proxy CPU s", "proxy_cpu_s", 2),
    ("no proxy, p99 ms", "direct_p99_ms", 1),
)


def waits_text(outcomes: Mapping[str, Outcome]) -> str:
    """The medians over the rounds, a line for each attack and proxy."""
    rows = [["attack", "proxy", *(heading for heading, _, _ in _COLUMNS)]]
    notes = []
    for name, outcome in outcomes.items():
        for proxy in outcome.samples:
            cells = (number(outcome.median(proxy, figure), decimals) for _, figure, decimals in _COLUMNS)
            rows.append([name, proxy, *cells])
        notes += _notes(name, outcome)
    if bad := _disturbed(outcomes):
        slices = sum(len(samples) for outcome in outcomes.values() for samples in outcome.samples.values())
        notes.append(f"host disturbed beside {bad} of {slices} slices")
    return "\n".join([table(rows), *notes])


def _disturbed(outcomes: Mapping[str, Outcome]) -> int:
    everything = [sample for outcome in outcomes.values() for samples in outcome.samples.values() for sample in samples]
    return disturbed(everything, min((sample["loop_ms"] for sample in everything), default=0.0))


def _notes(name: str, outcome: Outcome) -> list[str]:
    lines = [f"{name}: {proxy} not measured: {reason}" for proxy, reason in outcome.failures.items()]
    for proxy, statuses in outcome.unmeant.items():
        expected = " or ".join(status or "no answer" for status in ALL[name].statuses)
        got = ", ".join(status or "no answer" for status in sorted(statuses))
        lines.append(f"{name}: {proxy} gave the attacker {got} where {expected} was meant")
    return lines


def verdicts_text(outcomes: Mapping[str, Outcome]) -> str:
    """The p99 of meshlet beside what it may be."""
    rows = [["attack", "meshlet p99 ms", "at most", "verdict"]]
    for name, outcome in outcomes.items():
        judged = verdict(outcome)
        rows.append([ALL[name].title, number(judged.value, 1), number(judged.bar, 1), judged.text])
    return table(rows)


def document(outcomes: Mapping[str, Outcome], circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """All of it for a program to read: circumstances, every sample, medians and verdicts."""
    return {
        **circumstances,
        "disturbed_slices": _disturbed(outcomes),
        "attacks": {name: _attack(name, outcome) for name, outcome in outcomes.items()},
    }


def _attack(name: str, outcome: Outcome) -> dict[str, Any]:
    judged = verdict(outcome)
    return {
        "title": ALL[name].title,
        "medians": {
            proxy: {figure: outcome.median(proxy, figure) for figure in samples[0]}
            for proxy, samples in outcome.samples.items()
        },
        "meshlet_p99_ms": judged.value,
        "at_most_ms": judged.bar,
        "verdict": judged.text,
        "samples": outcome.samples,
        "unmeant_statuses": {proxy: sorted(statuses) for proxy, statuses in outcome.unmeant.items()},
        "failures": outcome.failures,
    }
