"""Families as text: Prometheus' format and OpenMetrics for scrapers, plain lines for people.

Written by hand, because a sidecar with many clusters has tens of thousands of samples: prometheus-client makes
objects of them all and takes ten times as long, in which no request is served.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family, HistogramData, Labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: the last line of OpenMetrics
EOF = "# EOF\n"

# Labels that hold the same for all traffic between a listener and a cluster.
_LENGTHY = ("source_", "destination_", "connection_")

_OPENMETRICS = "application/openmetrics-text"
_SUFFIXES = {"counter": ("_total", "_created"), "gauge": (), "histogram": ("_bucket", "_count", "_sum", "_created")}


def prometheus(families: Sequence[Family], accept: str = "") -> tuple[bytes, str]:
    """The families for a scraper whose Accept header is given: the body and its content type.

    Thousands of samples take tens of milliseconds: call it in a thread.
    """
    if wants_openmetrics(accept):
        return (text(families, openmetrics=True) + EOF).encode(), OPENMETRICS_TYPE
    return text(families).encode(), PROMETHEUS_TYPE


def wants_openmetrics(accept: str) -> bool:
    """Say whether an Accept header (RFC 9110, 12.5.1) asks for OpenMetrics at least as much as for Prometheus' text.

    Wildcards get the text, which every scraper reads.
    """
    openmetrics = plain = 0.0
    closest = 0  # how precisely the range that `plain` is from names the type
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        given = {name.strip(): value.strip(' "') for name, _, value in (each.partition("=") for each in parameters)}
        quality = _quality(given.get("q", "1"))
        if kind == _OPENMETRICS and given.get("version", "1.0.0") in {"1.0.0", "0.0.1"}:
            openmetrics = max(openmetrics, quality)
        precision = {"text/plain": 3, "text/*": 2, "*/*": 1}.get(kind, 0)
        if precision > closest:
            plain, closest = quality, precision
        elif precision and precision == closest:
            plain = max(plain, quality)
    return openmetrics > 0 and openmetrics >= plain


def _quality(value: str) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0


def text(families: Iterable[Family], *, openmetrics: bool = False) -> str:
    """The families in Prometheus' text format 0.0.4, or in OpenMetrics 1.0 without its last line."""
    lines: list[str] = []
    known: dict[Labels, str] = {}
    for family in families:
        name = family.name
        # In OpenMetrics a counter's `_total` belongs to its samples.
        title = name.removesuffix("_total") if openmetrics else name
        lines.append(f"# HELP {title} {_help(family.help, openmetrics=openmetrics)}\n# TYPE {title} {family.kind}\n")
        bounds: dict[tuple[float, ...], list[str]] = {}
        for sample in family.samples:
            labels = known.get(sample.labels)
            if labels is None:
                labels = known[sample.labels] = _pairs(sample.labels)
            value = sample.value
            if isinstance(value, HistogramData):
                ends = bounds.get(value.bounds)
                if ends is None:
                    ends = bounds[value.bounds] = [f'le="{_float(bound)}"}} ' for bound in (*value.bounds, math.inf)]
                _add_histogram(lines, name, labels, ends, value, exemplars=openmetrics)
            elif labels:
                lines.append(f"{name}{{{labels}}} {_number(value)}\n")
            else:
                lines.append(f"{name} {_number(value)}\n")
    return "".join(lines)


def _add_histogram(
    lines: list[str], name: str, labels: str, ends: list[str], data: HistogramData, *, exemplars: bool
) -> None:
    start = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    examples = data.examples() if exemplars and data.exemplars else {}
    count = 0
    for bucket, (end, count) in enumerate(zip(ends, accumulate(data.counts), strict=True)):
        example = ""
        if bucket in examples:
            one = examples[bucket]
            example = f' # {{trace_id="{_escape(one.trace_id)}"}} {_float(one.value)} {one.time:.3f}'
        lines.append(f"{start}{end}{count}{example}\n")
    braces = f"{{{labels}}}" if labels else ""
    lines.append(f"{name}_count{braces} {count}\n{name}_sum{braces} {_number(data.sum)}\n")


def names_of(families: Iterable[Family]) -> set[str]:
    """All names that these families may have in either format: the families themselves, and their samples."""
    names: set[str] = set()
    for family in families:
        base = family.name.removesuffix("_total")
        names.add(base)
        names |= {f"{base}{suffix}" for suffix in _SUFFIXES[family.kind]}
    return names


def lines(families: Iterable[Family]) -> list[str]:
    """One sorted line `name{label="value"} value` for each number; of histograms only count and sum.

    Who talks to whom is left out: with all of Istio's labels nobody could read a line.
    """
    return sorted(
        f"{name}{braces} {_short(value)}"
        for family in families
        for sample in family.samples
        for braces in (_braces([pair for pair in sample.labels if not pair[0].startswith(_LENGTHY)]),)
        for name, value in _numbers(family.name, sample.value)
    )


def _braces(labels: Iterable[tuple[str, str]]) -> str:
    pairs = _pairs(labels)
    return f"{{{pairs}}}" if pairs else ""


def _numbers(name: str, value: float | HistogramData) -> Iterator[tuple[str, float]]:
    if isinstance(value, HistogramData):
        yield f"{name}_count", value.count
        yield f"{name}_sum", value.sum
    else:
        yield name, value


def _short(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _number(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else _float(value)


def _float(value: float) -> str:
    # OpenMetrics wants a bound of one second written 1.0; infinities as Go has them.
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))


def _pairs(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join([f'{name}="{_escape(value)}"' for name, value in labels])


def _escape(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def _help(value: str, *, openmetrics: bool) -> str:
    return _escape(value) if openmetrics else value.replace("\\", r"\\").replace("\n", r"\n")
