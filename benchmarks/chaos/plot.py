"""The picture of a chaos run: success, latency in calm and in chaos, duplicate executions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.chaos import figures
from benchmarks.chaos.run import Outcome
from benchmarks.chaos.schedule import Kind
from benchmarks.plot import COLOURS, LABELS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {Kind.GET: "GET", Kind.KEYED: "POST with key", Kind.PLAIN: "plain POST"}
_BOUND = "#cf222e"


def draw(outcomes: Mapping[str, Outcome], target: Path) -> None:
    """Write the picture; its format is the target's suffix."""
    with drawing((13, 3.9), target) as figure:
        success, latency, twice = figure.subplots(1, 3, width_ratios=(1, 1.15, 1))
        _success(success, outcomes)
        _latency(latency, outcomes)
        _twice(twice, outcomes)


def _success(axes: Axes, outcomes: Mapping[str, Outcome]) -> None:
    def value(outcome: Outcome, kind: Kind) -> float:
        return figures.success_of(outcome.chaos, kind) * 100

    _bars(axes, outcomes, value, "{:.2f}")
    for place, kind in enumerate(_KINDS):
        least = figures.LEAST_REPEATABLE if kind.repeatable else figures.LEAST_PLAIN
        axes.hlines(least * 100, place - 0.45, place + 0.45, color=_BOUND, linewidth=1)
    axes.set_ylim(94, 100.6)
    axes.legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1, 0.93))
    axes.set_title("success, from 94 % up (red: the bar)", loc="left", fontsize=11)


def _latency(axes: Axes, outcomes: Mapping[str, Outcome]) -> None:
    """How many of 10,000 took longer: the tail is what chaos adds."""
    for name, outcome in outcomes.items():
        for phase, style, label in ((outcome.calm, ":", "calm"), (outcome.chaos, "-", "chaos")):
            ordered = [seconds * 1000 for seconds in figures.latencies(phase)]
            slower = [(1 - index / len(ordered)) * 100 for index in range(len(ordered))]
            axes.plot(ordered, slower, style, color=COLOURS[name], label=f"{LABELS[name]}, {label}", linewidth=1.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.01, 100)
    axes.set_xticks([3, 10, 30, 100, 300, 1000], ["3", "10", "30", "100", "300", "1,000"])
    axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set_xlabel("milliseconds")
    axes.legend(frameon=False, fontsize=9)
    axes.set_title("% of answers that took longer", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _twice(axes: Axes, outcomes: Mapping[str, Outcome]) -> None:
    def value(outcome: Outcome, kind: Kind) -> float:
        return figures.kinds(outcome.chaos)[kind]["executed_twice"]

    _bars(axes, outcomes, value, "{:.0f}")
    axes.margins(y=0.1)
    axes.set_title("requests executed twice", loc="left", fontsize=11)


def _bars(axes: Axes, outcomes: Mapping[str, Outcome], value: Callable[[Outcome, Kind], float], text: str) -> None:
    width = 0.8 / max(len(outcomes), 1)
    for index, (name, outcome) in enumerate(outcomes.items()):
        values = [value(outcome, kind) for kind in _KINDS]
        places = [place + (index - (len(outcomes) - 1) / 2) * width for place in range(len(_KINDS))]
        bars = axes.bar(places, values, width * 0.92, color=COLOURS[name], label=LABELS[name])
        axes.bar_label(bars, [text.format(number) for number in values], padding=2, fontsize=9)
    axes.set_xticks(range(len(_KINDS)), list(_KINDS.values()))
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
