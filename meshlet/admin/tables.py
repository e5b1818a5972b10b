"""Dumps as a table of text: one row for each object, or for each object in a list that it holds."""

from __future__ import annotations

from itertools import product

from meshlet.admin.backend import Dump
from meshlet.telemetry.log import escape


def table(dumps: list[Dump]) -> str:
    """The objects below each other under a line of column names.

    An object in an object adds columns named `outer.inner`. A list of objects makes a row of each,
    which repeats what stands outside of the list, so that every row can be grepped for.
    """
    rows = [row for dump in dumps for row in _rows(dump)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column, "-") for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in cells) if rows else "none\n"


def _rows(dump: Dump, prefix: str = "") -> list[dict[str, str]]:
    # Each value gives alternatives, of which a row takes one: a plain value has one, a list of objects several.
    parts = [_alternatives(f"{prefix}{key}", value) for key, value in dump.items()]
    return [{column: text for part in combination for column, text in part.items()} for combination in product(*parts)]


def _alternatives(column: str, value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        return _rows(value, f"{column}.")
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [row for item in value for row in _rows(item, f"{column}.")]
    return [{column: _text(value)}]


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value)) or "-"
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))
