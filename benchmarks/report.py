"""What a run found, as plain text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bars import Verdict, judge
from benchmarks.scenarios import Outcome, Scenario
from benchmarks.stats import Sample, disturbed, median_of, median_ratio

REFERENCE = "envoy"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, all others to the right; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def number(value: float | None, decimals: int) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{decimals}f}"


def scenario_text(scenario: Scenario, outcome: Outcome, fastest_loop: float) -> str:
    """The medians of one scenario, a line for each proxy."""
    first, *others = scenario.columns
    rows = [["proxy", first.heading, f": {REFERENCE}", *(column.heading for column in others)]]
    reference = outcome.samples.get(REFERENCE, [])
    for name, samples in outcome.samples.items():
        ratio = median_ratio(samples, reference, first.figure)
        values = (number(median_of(samples, column.figure), column.decimals) for column in others)
        rows.append([name, number(median_of(samples, first.figure), first.decimals), number(ratio, 2), *values])
    lines = [f"{scenario.name}: {scenario.title}", table(rows)]
    lines += [f"{name} not measured: {reason}" for name, reason in outcome.failures.items()]
    bad, all_of_them = _disturbed(outcome, fastest_loop)
    if bad:
        lines.append(f"host disturbed beside {bad} of {all_of_them} slices")
    return "\n".join(lines)


def bars_text(verdicts: Sequence[Verdict]) -> str:
    """Meshlet's figures beside their bars and aims."""
    rows = [["figure of meshlet", "against", "value", "bar", "aim", "verdict"]]
    for verdict in verdicts:
        bar = verdict.bar
        rows.append(
            [
                bar.title,
                bar.against or "absolute",
                number(verdict.value, 3),
                f"{bar.bar:g}{bar.unit}",
                f"{bar.aim:g}{bar.unit}",
                verdict.text,
            ]
        )
    return table(rows)


def fastest_loop(outcomes: Mapping[str, Outcome]) -> float:
    """The fixed loop's time on the undisturbed host, as far as this run has seen it."""
    loops = [
        sample["loop_ms"] for outcome in outcomes.values() for samples in outcome.samples.values() for sample in samples
    ]
    return min(loops, default=0.0)


def verdicts_of(outcomes: Mapping[str, Outcome]) -> list[Verdict]:
    """Every bar, judged by these outcomes."""
    return judge({name: outcome.samples for name, outcome in outcomes.items()})


def document(
    outcomes: Mapping[str, Outcome], scenarios: Mapping[str, Scenario], circumstances: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it for a program to read: circumstances, every sample, medians, ratios and verdicts."""
    fastest = fastest_loop(outcomes)
    return {
        **circumstances,
        "scenarios": {
            name: {
                "title": scenarios[name].title,
                "medians": {proxy: _medians(samples) for proxy, samples in outcome.samples.items()},
                f"ratio_to_{REFERENCE}": _ratios(scenarios[name], outcome),
                "samples": outcome.samples,
                "failures": outcome.failures,
                "disturbed_slices": _disturbed(outcome, fastest)[0],
            }
            for name, outcome in outcomes.items()
        },
        "bars": [
            {**verdict.bar._asdict(), "value": verdict.value, "verdict": verdict.text}
            for verdict in verdicts_of(outcomes)
        ],
    }


def _medians(samples: Sequence[Sample]) -> dict[str, float | None]:
    return {figure: median_of(samples, figure) for figure in samples[0]}


def _ratios(scenario: Scenario, outcome: Outcome) -> dict[str, dict[str, float | None]]:
    reference = outcome.samples.get(REFERENCE, [])
    figures = [column.figure for column in scenario.columns]
    return {
        proxy: {figure: median_ratio(samples, reference, figure) for figure in figures}
        for proxy, samples in outcome.samples.items()
    }


def _disturbed(outcome: Outcome, fastest: float) -> tuple[int, int]:
    everything = [sample for samples in outcome.samples.values() for sample in samples]
    return disturbed(everything, fastest), len(everything)
