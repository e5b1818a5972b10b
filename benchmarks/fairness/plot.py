"""The picture of a fairness run: the victim's p99 under each attack, by proxy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.fairness.attacks import ALL
from benchmarks.fairness.figures import Outcome, verdict
from benchmarks.plot import COLOURS, LABELS, drawing

_COLOURS = {**COLOURS, "before": "#a5c8ff"}
_LABELS = {**LABELS, "before": "meshlet before"}
_BOUND = "#cf222e"


def draw(outcomes: Mapping[str, Outcome], target: Path) -> None:
    """Write the picture; its format is the target's suffix."""
    names = list(outcomes)
    proxies = [proxy for proxy in _COLOURS if any(proxy in outcome.samples for outcome in outcomes.values())]
    height = 0.8 / max(len(proxies), 1)
    with drawing((10, 1.2 + 0.36 * len(names)), target) as figure:
        axes = figure.subplots()
        for index, proxy in enumerate(proxies):
            values = [outcomes[name].median(proxy, "p99_ms") or 0.0 for name in names]
            places = [place + (index - (len(proxies) - 1) / 2) * height for place in range(len(names))]
            axes.barh(places, values, height * 0.9, color=_COLOURS[proxy], label=_LABELS[proxy])
        for place, name in enumerate(names):
            bar = verdict(outcomes[name]).bar
            if bar is not None:
                axes.vlines(bar, place - 0.45, place + 0.45, color=_BOUND, linewidth=1)
        axes.set_xscale("log")
        axes.set_xlim(0.1, 20_000)
        axes.set_xticks([0.1, 1, 10, 100, 1000, 10_000], ["0.1", "1", "10", "100", "1,000", "10,000"])
        axes.minorticks_off()
        axes.set_yticks(range(len(names)), [ALL[name].title for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title("p99 in ms (red: the bar)", loc="left", fontsize=11)
        axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), ncols=4)
        axes.spines[["top", "right"]].set_visible(False)
