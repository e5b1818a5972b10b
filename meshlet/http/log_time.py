"""Formats of points in time as Envoy's %START_TIME(…)% has them: those of strftime(3), and parts of a second.

`%f` and `%1f` to `%9f` are the digits behind a second's point, nine unless told; `%E3S` are seconds with so many of
them, `%E*S` with all that are not zero; `%E4Y` is a year of at least four digits, `%Ez` an offset with a colon. Times
are UTC.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DIRECTIVE = re.compile(r"%(?:(?P<plain>[aAbBCdDeFgGhHIjklmMpPrRSTuUVwWyY%])|(?P<digits>[1-9])?f|E(?P<of>[0-9*])S|"
                        r"(?P<epoch>s)|(?P<year>E4Y)|(?P<colon>Ez)|(?P<offset>z)|(?P<zone>Z))")  # fmt: skip
# Stand for a fraction and for the seconds since 1970 in what strftime is given; a template holds no such characters.
_FRACTION, _EPOCH = "\1", "\2"


def compile_format(text: str) -> Callable[[Sequence[float]], list[str]]:
    """Make the function from unix seconds to text. Raises ValueError where the format holds an unknown directive."""
    whole: list[str] = []
    fractions: list[Callable[[int], str]] = []
    position = 0
    while (at := text.find("%", position)) >= 0:
        match = _DIRECTIVE.match(text, at)
        if match is None:
            raise ValueError(
                f"directives of strftime, %f, %1f to %9f or %E1S to %E9S in START_TIME(…), not {text[at : at + 3]!r}"
            )
        written, fraction = _directive(match)
        whole += [text[position:at], written]
        if fraction is not None:
            fractions.append(fraction)
        position = match.end()
    whole.append(text[position:])
    return _formatter("".join(whole), fractions)


def _directive(match: re.Match[str]) -> tuple[str, Callable[[int], str] | None]:
    """Return what strftime is given, and the function from microseconds to what stands in the place of _FRACTION."""
    if match["of"] is not None:
        if match["of"] == "0":
            return "%S", None
        return f"%S{_FRACTION}", _all_digits if match["of"] == "*" else _digits(int(match["of"]), ".")
    if match["plain"] is not None:
        return match[0], None
    for group, written in (
        ("epoch", _EPOCH),
        ("year", "%Y"),
        ("colon", "+00:00"),
        ("offset", "+0000"),
        ("zone", "UTC"),
    ):
        if match[group] is not None:
            return written, None
    return _FRACTION, _digits(int(match["digits"] or 9))


def _digits(count: int, point: str = "") -> Callable[[int], str]:
    if count <= 6:
        divisor = 10 ** (6 - count)
        return lambda micros: f"{point}{micros // divisor:0{count}d}"
    zeros = "0" * (count - 6)
    return lambda micros: f"{point}{micros:06d}{zeros}"


def _all_digits(micros: int) -> str:
    return f".{micros:06d}".rstrip("0").rstrip(".")


def _formatter(whole: str, fractions: Sequence[Callable[[int], str]]) -> Callable[[Sequence[float]], list[str]]:
    def written(times: Sequence[float]) -> list[str]:
        lines = []
        last, parts = None, [""]
        for moment in times:
            micros = int(moment * 1_000_000)
            second = micros // 1_000_000
            if second != last:
                text = time.strftime(whole, time.gmtime(second)).replace(_EPOCH, str(second))
                last, parts = second, text.split(_FRACTION)
            line = parts[0]
            for fraction, rest in zip(fractions, parts[1:], strict=True):
                line += fraction(micros - second * 1_000_000) + rest
            lines.append(line)
        return lines

    return written


def iso_milliseconds(times: Sequence[float]) -> list[str]:
    """Return unix seconds as RFC 3339 in UTC with milliseconds, which is what %START_TIME% is without a format."""
    lines = []
    last, text = None, ""
    for moment in times:
        millis = int(moment * 1000)
        second = millis // 1000
        if second != last:
            # Neighbours in a log nearly always share their second.
            last, text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        lines.append(f"{text}.{millis - second * 1000:03d}Z")
    return lines


def milliseconds(durations: Sequence[float | None]) -> list[int | None]:
    """Return seconds as whole milliseconds, rounded down as in Envoy."""
    return [int(seconds * 1000) if seconds is not None else None for seconds in durations]
