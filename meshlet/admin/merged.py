"""Our metrics and the app's as one text that a scraper can read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from meshlet.telemetry import exposition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from meshlet.telemetry.metrics import Family

# The name in a line of either format: of a sample, or in a comment about a family.
_NAME = re.compile(r"(?:#[ \t]+(?:HELP|TYPE|UNIT)[ \t]+)?([a-zA-Z_:][a-zA-Z0-9_:]*)")
# A sample of OpenMetrics: name, labels, value, timestamp; an exemplar may follow.
_SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\})?) ([^ #]+)(?: ([0-9.eE+-]+))?(?: # .*)?"
)
# A line that scrapers can read, of either format: nothing, a comment, or a sample with its timestamp and exemplar.
# Possessive, so that no line takes longer than its length says.
_LABELS = r"\{(?:[^\"{}]++|\"(?:[^\"\\]++|\\.)*+\")*+\}"
_NUMBER = r"[+-]?(?:[0-9][0-9_.]*+(?:e[+-]?[0-9]++)?|\.[0-9]++(?:e[+-]?[0-9]++)?|0x[0-9a-f.p+-]++|nan|inf(?:inity)?)"
_LINE = re.compile(
    r"[ \t]*+(?:(?:[a-z_:][a-z0-9_:]*+[ \t]*+(?:LABELS)?|LABELS)[ \t]*+NUMBER(?:[ \t]++NUMBER)?"
    r"(?:[ \t]++#[ \t]++LABELS[ \t]++NUMBER(?:[ \t]++NUMBER)?)?[ \t]*+)?".replace("LABELS", _LABELS).replace(
        "NUMBER", _NUMBER
    ),
    re.IGNORECASE,
)
_TYPE = re.compile(
    r"#[ \t]++TYPE[ \t]++(?!\S++[ \t]++"
    r"(?:counter|gauge|histogram|summary|untyped|unknown|info|stateset|gaugehistogram)[ \t]*+\Z)"
)
_LONGEST = 256 * 1024  # bytes of a line: a regular expression lets no other thread run


class AppMetrics(NamedTuple):
    """What the app has answered."""

    text: str
    openmetrics: bool


def first_mistake(text: str) -> int:
    """Return the number of the first line that is none of metrics, 0 where all are. Call it in a thread."""
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LONGEST or "\r" in line or "\0" in line:
            return number
        if _TYPE.match(line) if line.startswith("#") else not _LINE.fullmatch(line):
            return number
    return 0


def merge(families: Sequence[Family], app: AppMetrics | None, *, openmetrics: bool) -> tuple[bytes, str]:
    """Return the families and behind them the app's metrics, and the content type.

    `openmetrics`: the scraper reads it, but it is only used where the app has answered in it as well. A family that
    both have is ours. Takes tens of milliseconds: call it in a thread.
    """
    openmetrics = openmetrics and (app is None or app.openmetrics)
    parts = [exposition.text(families, openmetrics=openmetrics)]
    if app is not None:
        lines: Iterator[str] = _others(app.text, exposition.names_of(families))
        if app.openmetrics and not openmetrics:
            lines = _plain(lines)
        parts += [f"{line}\n" for line in lines]
    if openmetrics:
        parts.append(exposition.EOF)
    return "".join(parts).encode(), exposition.OPENMETRICS_TYPE if openmetrics else exposition.PROMETHEUS_TYPE


def _others(text: str, names: Collection[str]) -> Iterator[str]:
    """The lines about whatever is not called so, without the end mark and empty lines."""
    for line in text.split("\n"):
        name = _NAME.match(line)
        if line and line != "# EOF" and (name is None or name[1] not in names):
            yield line


def _plain(lines: Iterator[str]) -> Iterator[str]:
    """Samples of OpenMetrics as Prometheus' text has them.

    For a scraper that cannot read what the app insists on: types and exemplars, for which the older format has other
    words or none, are left out, and timestamps are milliseconds.
    """
    for line in lines:
        sample = _SAMPLE.fullmatch(line)
        if sample is not None:
            series, value, seconds = sample.groups()
            yield f"{series} {value}" if seconds is None else f"{series} {value} {float(seconds) * 1000:.0f}"
