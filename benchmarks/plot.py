"""The picture of a run: CPU per request of all proxies, and meshlet's figures as ratios to Envoy's."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bars import Samples, Verdict
from benchmarks.stats import median_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"meshlet": "#1f6feb", "envoy": "#6e7781", "nginx": "#a9b1b9", "haproxy": "#d0d6dc"}
LABELS = {"meshlet": "meshlet", "envoy": "Envoy", "nginx": "nginx", "haproxy": "HAProxy"}
_GROUPS = {"keepalive": "keep-alive", "tcp": "TCP relay", "connect": "new connection"}
_TEXT = "#24292f"


def available() -> bool:
    """Whether matplotlib is installed, without the second that importing it takes."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def drawing(size: tuple[float, float], target: Path) -> Iterator[Figure]:
    """A figure of so many inches, written when the block ends; the format is the target's suffix."""
    import matplotlib as mpl

    mpl.use("agg")
    # The same run gives the same bytes. Text is drawn as paths: no two machines have the same fonts.
    mpl.rcParams.update({"svg.hashsalt": "meshlet", "font.family": "sans-serif", "font.size": 10})
    mpl.rcParams.update({"text.color": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.labelcolor": _TEXT})
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08), facecolor="white")
    yield figure
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


def draw(samples: Samples, verdicts: Sequence[Verdict], versions: Mapping[str, str], target: Path) -> None:
    """Write the picture of a run of `python -m benchmarks`."""
    with drawing((10, 4.2), target) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _cpu_bars(left, samples, versions)
        against_envoy = [verdict for verdict in verdicts if verdict.bar.against == "envoy"]
        _ratios(right, [verdict for verdict in against_envoy if verdict.value is not None])


def _cpu_bars(axes: Axes, samples: Samples, versions: Mapping[str, str]) -> None:
    groups = [group for group in _GROUPS if samples.get(group)]
    names = [name for name in COLOURS if any(name in samples[group] for group in groups)]
    width = 0.8 / max(len(names), 1)
    for index, name in enumerate(names):
        values = [median_of(samples[group].get(name, ()), "cpu_us") or 0.0 for group in groups]
        offset = (index - (len(names) - 1) / 2) * width
        places = [place + offset for place in range(len(groups))]
        label = f"{LABELS[name]} {versions.get(name, '').partition('-')[0]}"
        bars = axes.bar(places, values, width * 0.92, color=COLOURS[name], label=label)
        axes.bar_label(bars, [f"{value:.0f}" if value else "" for value in values], padding=2, fontsize=9)
    axes.set_xticks(range(len(groups)), [_GROUPS[group] for group in groups])
    axes.set_title("CPU µs per request (less is better)", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _ratios(axes: Axes, verdicts: Sequence[Verdict]) -> None:
    places = range(len(verdicts))
    values = [verdict.value or 0.0 for verdict in verdicts]
    bars = axes.barh(places, values, 0.6, color=COLOURS["meshlet"])
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=9)
    axes.axvline(1, color=COLOURS["envoy"], linewidth=1)
    axes.set_yticks(places, [verdict.bar.title for verdict in verdicts])
    axes.set_xlim(0, max([1.2, *values]) * 1.12)
    axes.set_xticks([1], ["Envoy"])
    axes.invert_yaxis()
    axes.set_title("meshlet : Envoy, same run (less is better)", loc="left", fontsize=11)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
