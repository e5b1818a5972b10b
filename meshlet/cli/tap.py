"""`meshlet tap`: watch the requests of a running meshlet as they end."""

from __future__ import annotations

import json
import re
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from meshlet.cli.admin_client import AdminClient, admin_option
from meshlet.config.units import Duration, Size
from meshlet.telemetry.tap import MOST_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshlet.config.units import Address
    from meshlet.telemetry.tap.har import HarFile

#: the options that are parameters of the endpoint
_FILTERS = ("method", "path", "host", "status", "peer", "flag", "header", "listener", "cluster", "min_duration")
# What a peer has sent may not command the terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_COLOURS = {2: "green", 3: "cyan", 4: "yellow"}


class _Parsed(click.ParamType[Any]):
    """A value as the config writes it."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"found {value!r}, expected {error}", param, ctx)


_DURATION = _Parsed("DURATION", Duration.parse)
_SIZE = _Parsed("SIZE", lambda text: Size.parse(int(text) if text.isascii() and text.isdigit() else text))


@click.command(
    "tap",
    epilog="Example: meshlet tap --path /api --status 5xx --bodies 4KiB --har failures.har",
    short_help="Watch requests as they end.",
)
@click.option("-X", "--method", multiple=True, help="Such as GET or POST,PUT.")
@click.option("--path", multiple=True, help="It begins so, on segment borders; with *, the whole path.")
@click.option("--host", multiple=True, help="Without port; may have a *.")
@click.option("--status", multiple=True, help="Such as 404, 5xx or 400-499; 0 where the client got no response.")
@click.option("--flag", multiple=True, help="A response flag such as UF, or any.")
@click.option("--peer", multiple=True, metavar="IP|NETWORK", help="The client's address.")
@click.option("--header", multiple=True, metavar="NAME[=VALUE]", help="A header of the request.")
@click.option("--listener", multiple=True, metavar="NAME", help="The listener that it came to.")
@click.option("--cluster", multiple=True, metavar="NAME", help="The cluster that it went to.")
@click.option("--min-duration", type=_DURATION, help="It took at least so long, such as 250ms.")
@click.option("--bodies", type=_SIZE, default=0, help="Capture so many bytes of each body, such as 4KiB.")
@click.option("--headers", is_flag=True, help="Show header fields, and bodies where they were captured.")
@click.option("--har", metavar="FILE", type=click.Path(dir_okay=False, writable=True), help="Write a HAR file too.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many requests.")
@click.option("--for", "span", type=_DURATION, help="End after so long.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A line for each request, or a JSON object in a line.",
)
@admin_option
def command(
    admin: Address,
    bodies: int,
    har: str | None,
    count: int | None,
    span: float | None,
    **options: Any,
) -> None:
    """Show the requests of a running meshlet as they end, until Ctrl-C.

    Conditions of different kinds must all hold; of one kind that is given several times, one must. Credentials are
    hidden before anything leaves the data plane. Exits with 1 where meshlet cannot be reached.
    """
    query = [(name, value) for name in _FILTERS for value in _given(options[name])]
    query.append(("limit", str(MOST_ENTRIES)))
    if bodies:
        query.append(("bodies", str(bodies)))
    client = AdminClient(admin)
    show = _json_line if options["output"] == "json" else _Text(headers=options["headers"])
    ends = time.monotonic() + span if span is not None else None
    with ExitStack() as stack:
        stack.enter_context(_interrupted_by_sigterm())
        file = _open(har, stack) if har is not None else None
        try:
            lines = client.stream_lines(f"/tap?{urlencode(query)}")
            _watch((client.from_json("/tap", line) if line else None for line in lines), show, file, count, ends)
        except KeyboardInterrupt:
            pass
    if file is not None:
        click.echo(f"{har}: {file.count} request{'' if file.count == 1 else 's'}", err=True)


def _given(value: Any) -> list[str]:
    if isinstance(value, Duration):
        return [value.written]
    return list(value or ())


def _open(path: str, stack: ExitStack) -> HarFile:
    from meshlet.telemetry.tap.har import HarFile

    try:
        return stack.enter_context(HarFile(path))
    except OSError as error:
        raise click.ClickException(f"{path}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the command as Ctrl-C does, so that the HAR file is whole."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(
    entries: Iterator[dict[str, Any] | None],
    show: Callable[[dict[str, Any]], str],
    file: HarFile | None,
    count: int | None,
    ends: float | None,
) -> None:
    """Show what comes (None: an empty line), until there was enough of it, time is up, or meshlet has ended."""
    shown = 0
    waiting = True
    for entry in entries:
        if waiting:
            waiting = False
            click.echo("waiting for requests, Ctrl-C ends it", err=True)
        if entry is not None:
            if "dropped" in entry:
                click.echo(f"{entry['dropped']} more requests are not shown: there were too many at once", err=True)
            elif "paused" in entry:
                click.echo(f"nothing was captured for {entry['paused']:g} s: the output was not read", err=True)
            else:
                if file is not None:
                    file.add(entry)
                click.echo(show(entry))
                shown += 1
        # There is a line, if only an empty one, every fraction of a second.
        if shown == count or (ends is not None and time.monotonic() >= ends):
            return
    click.echo("meshlet has ended the stream", err=True)


def _json_line(entry: dict[str, Any]) -> str:
    return printable(json.dumps(entry, ensure_ascii=False))  # escapes that JSON has as well


class _Text:
    """Writes an entry in one line, with its headers in further ones where they are wanted."""

    def __init__(self, *, headers: bool) -> None:
        self._headers = headers

    def __call__(self, entry: dict[str, Any]) -> str:
        line = _line(entry)
        if not self._headers:
            return line
        parts = [line, *_details(">", entry["request"])]
        if entry["response"] is not None:
            parts += _details("<", entry["response"])
        return "\n".join(parts)


def _line(entry: dict[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(entry["time"])) + f".{int(entry['time'] % 1 * 1000):03}"
    status = click.style(str(entry["status"] or "-"), fg=_COLOURS.get(entry["status"] // 100, "red"))
    where = entry["endpoint"] or entry["cluster"] or "-"
    if entry["attempts"] > 1:
        where += f" ({entry['attempts']} attempts)"
    target = "" if entry["method"] == "CONNECT" else entry["target"]
    asked = printable(f"{entry['method']} {entry['host'] or '-'}{target}")
    line = (
        f"{when} {entry['client']} → {asked} → {where}  {status} {printable(entry['flag'] or '-')}"
        f"  {entry['duration'] * 1000:.1f} ms  {entry['received']} B in, {entry['sent']} B out"
    )
    return f"{line}  {printable(entry['error'])}" if entry["error"] else line


def _details(mark: str, message: dict[str, Any]) -> Iterator[str]:
    for name, value in (*message["headers"], *message["trailers"]):
        yield printable(f"    {mark} {name}: {value}")
    body = message.get("body")
    if body is None:
        return
    if "text" in body:
        for line in body["text"].splitlines():
            yield printable(f"    {mark}   {line}")
    elif body["base64"]:
        size = len(body["base64"]) * 3 // 4 - body["base64"].count("=")
        yield f"    {mark}   {size} bytes that are not text"
    if body["cut"]:
        yield f"    {mark}   … (cut)"


def printable(text: str) -> str:
    """Return the text with what a terminal would obey written as an escape."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
