"""The tables of `meshlet top` in a terminal. Importing this module loads rich."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meshlet.telemetry.log import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from rich.console import RenderableType

    from meshlet.cli.top import Row, Tables

    Figure: TypeAlias = tuple[str, Callable[[Row], str]]

_NONE = "\N{EN DASH}"
_PIPE = 240  # columns, where the output is no terminal
# Shares of successes; the dashboard has the same.
_FAILING, _BROKEN = 0.99, 0.5


def show(tables: Tables) -> None:
    """Print both tables once."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width: whole names serve grep best
        console = Console(highlight=False, width=_PIPE)
    console.print(_render(tables, console.width))


def live(looks: Iterator[Tables], address: str, interval: float) -> None:
    """Show the tables in all of the terminal, each look in the place of the one before, until they end."""
    console = Console(highlight=False)
    if not console.is_terminal:
        raise click.UsageError("the live table needs a terminal; expected --once or --output json")
    waiting = Text(f"Asking {address} ...", style="dim")
    with Live(waiting, console=console, screen=True, auto_refresh=False) as screen:
        for tables in looks:
            head = Text(f"meshlet top  {address}  every {interval:g} s  {time.strftime('%H:%M:%S')}  Ctrl-C ends it")
            screen.update(Group(head, _render(tables, console.width, console.height - 1)), refresh=True)


def _render(tables: Tables, width: int, height: int | None = None) -> RenderableType:
    """Return both tables, within `height` lines where it is given."""
    routes, endpoints = tables.routes, tables.endpoints
    left_out = 0
    if height is not None:
        room = max(2, height - 5)  # titles, heads, and how many are left out
        mine = min(len(routes), max(room // 2, room - len(endpoints)))
        routes, endpoints = routes[:mine], endpoints[: room - mine]
        left_out = len(tables.routes) + len(tables.endpoints) - len(routes) - len(endpoints)
    figures = [figure for figure in _FIGURES if width >= _NARROW or figure[0] not in _LEFT_OUT]
    of_endpoints = [figure for figure in figures if figure[0] != "retry/s"]
    parts: list[RenderableType] = [
        _table("Routes", ["listener", "route", "cluster"], [(_of_route(row), row) for row in routes], figures),
        _table(
            "Endpoints", ["cluster", "endpoint", "state"], [(_of_endpoint(row), row) for row in endpoints], of_endpoints
        ),
    ]
    if left_out:
        parts.append(f"and {left_out} more; --sort says which come first")
    return Group(*parts)


def _of_route(row: Row) -> tuple[str, str, str]:
    return row.listener, row.name or (_NONE if row.cluster else "(no route)"), row.cluster or _NONE


def _of_endpoint(row: Row) -> tuple[str, str, str]:
    return row.cluster, row.name, row.state


def _table(title: str, names: list[str], rows: list[tuple[tuple[str, str, str], Row]], figures: list[Figure]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name)
    for name, _ in figures:
        table.add_column(name, justify="right", no_wrap=True)
    for texts, row in rows:
        style = _style(row)
        # Names come from configs and discovery: as text, so that neither rich's markup nor a terminal's own codes work.
        cells = [Text(escape(text), style=style, no_wrap=True, overflow="ellipsis") for text in texts]
        table.add_row(*cells, *(Text(write(row), style=style) for _, write in figures))
    if not rows:
        table.add_row("none")
    return table


def _style(row: Row) -> str:
    success = 1.0 if row.success is None else row.success
    if success < _BROKEN or row.state.startswith("unhealthy"):
        return "red"
    return "yellow" if success < _FAILING or row.state not in ("", "available") else ""


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def _percent(share: float | None) -> str:
    # What is not quite all must not look like all.
    return _NONE if share is None else "100" if share == 1 else f"{min(99.99, share * 100):.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f} ms"


_FIGURES: list[Figure] = [
    ("rate/s", lambda row: _number(row.rate)),
    ("ok %", lambda row: _percent(row.success)),
    ("p50", lambda row: _duration(row.p50)),
    ("p95", lambda row: _duration(row.p95)),
    ("p99", lambda row: _duration(row.p99)),
    ("retry/s", lambda row: _number(row.retries)),
    ("active", lambda row: str(row.active)),
]
_NARROW = 100  # columns; fewer leave no room for names beside all figures
_LEFT_OUT = ("p50", "p95")
