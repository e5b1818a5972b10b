"""The arithmetic of a comparison: every function is pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

Sample = dict[str, float]
"""What one proxy showed in one round: figure name to value."""

# A slice is called disturbed where the fixed loop beside it took so much longer than the fastest of the run.
DISTURBED = 1.25


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values that are sorted already."""
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def median_of(samples: Sequence[Sample], figure: str) -> float | None:
    """The median of a figure over the rounds, or None where no round has it."""
    values = [sample[figure] for sample in samples if figure in sample]
    return median(values) if values else None


def median_ratio(subject: Sequence[Sample], against: Sequence[Sample], figure: str) -> float | None:
    """The median over the rounds of a ratio taken inside each round.

    The host drifts by tens of percent within seconds, so only slices that lie side by side may be compared.
    """
    ratios = [
        ours[figure] / theirs[figure]
        for ours, theirs in zip(subject, against, strict=False)
        if figure in ours and theirs.get(figure)
    ]
    return median(ratios) if ratios else None


def disturbed(samples: Sequence[Sample], fastest_loop: float) -> int:
    """How many slices lie beside a fixed loop that was slowed down; see DISTURBED."""
    return sum(sample.get("loop_ms", 0.0) > fastest_loop * DISTURBED for sample in samples)
