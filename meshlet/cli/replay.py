"""`meshlet replay`: send the requests of a HAR file again."""

from __future__ import annotations

import json
import re
import threading
import time
from http.client import HTTPConnection, HTTPException
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from meshlet.cli.har import SAFE, HarError, Recorded, Recording, read
from meshlet.cli.tap import printable
from meshlet.config.units import Address
from meshlet.telemetry.redact import as_text, redact_target

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

_TIMEOUT = 60.0  # seconds, to connect and for each silence
_TO = re.compile(r"http://(?P<address>[^/?#@]+)/?")
_CHUNK = 65536  # bytes
_LONGEST_SLEEP = 1e9  # seconds; a file may ask for more than a sleep can last

_monotonic, _sleep = time.monotonic, time.sleep


class Target(click.ParamType[Address]):
    """http://HOST:PORT."""

    name = "http://HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse it, or say what was expected."""
        expected = "http:// and HOST:PORT, without a path"
        match = _TO.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            self.fail(f"found {value!r}, expected {expected}", param, ctx)
        address = match["address"]
        try:
            parsed = Address.parse(address if re.search(r":[0-9]+$", address) else f"{address}:80")
        except ValueError as error:
            self.fail(f"found {value!r}, expected {expected}: {error}", param, ctx)
        if parsed.path or not parsed.port:
            self.fail(f"found {value!r}, expected {expected}", param, ctx)
        return parsed


class Outcome(NamedTuple):
    """What became of one request."""

    request: Recorded
    status: int  # 0 where no response came
    error: str
    seconds: float

    @property
    def same(self) -> bool:
        return self.status == self.request.status


@click.command(
    "replay",
    epilog="Example: meshlet replay failures.har --to http://127.0.0.1:15006 --speed 0 --concurrency 1",
    short_help="Send the requests of a HAR file again.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--to", "address", type=Target(), required=True, help="Where they are sent, whatever their URLs say.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="1: at the recorded pace; 2: twice as fast; 0: as fast as it goes.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    help="How many may be in flight; 1: one after another.",
)
@click.option("--unsafe", is_flag=True, help="Send POST, PUT, DELETE and the like too: they may change something.")
@click.option("--allow-cut", is_flag=True, help="Send what there is of bodies that were not recorded whole.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON document on stdout for programs.",
)
def command(
    file: str, address: Address, speed: float, concurrency: int, unsafe: bool, allow_cut: bool, output: str
) -> None:
    """Send the requests of the HAR file FILE to an address, and compare the statuses with the recorded ones.

    Hidden values are left out, and fields of the connection are made anew. Exits with 1 where
    a request could not be sent, got no response, or had no whole body; with 2 when FILE is no HAR file.
    """
    try:
        recording = read(file, unsafe=unsafe, allow_cut=allow_cut)
    except HarError as error:
        raise click.UsageError(f"{file}: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{file}: {(error.strerror or str(error)).lower()}") from error
    text = output == "text"
    outcomes = replay(recording.requests, address, speed, concurrency, _tell if text else lambda _: None)
    if text:
        click.echo("\n".join(_summary(recording, outcomes)))
    else:
        click.echo(json.dumps(_report(recording, outcomes), indent=2))
    if recording.cut or len(outcomes) < len(recording.requests) or any(not outcome.status for outcome in outcomes):
        raise SystemExit(1)


def replay(
    requests: list[Recorded], address: Address, speed: float, concurrency: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Send the requests, each when its time has come; return what became of them, in the order of the answers.

    `tell` is called with each as it comes. Ctrl-C ends it with what there is.
    """
    waiting: SimpleQueue[Recorded | None] = SimpleQueue()
    done: SimpleQueue[Outcome] = SimpleQueue()
    count = min(concurrency, len(requests))
    threads = [threading.Thread(target=_send_all, args=(address, waiting, done), daemon=True) for _ in range(count)]
    pace = threading.Thread(target=_pace, args=(requests, speed, count, waiting), daemon=True)
    outcomes: list[Outcome] = []
    try:
        for thread in (pace, *threads):
            thread.start()
        while len(outcomes) < len(requests):
            outcomes.append(done.get())
            tell(outcomes[-1])
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)  # the threads end with the process
    return outcomes


def _pace(requests: list[Recorded], speed: float, count: int, waiting: SimpleQueue[Recorded | None]) -> None:
    """Hand out the requests at their times, then tell as many threads that this was all."""
    began = _monotonic()
    for request in requests:
        if speed:
            _sleep(min(max(0.0, began + request.after / speed - _monotonic()), _LONGEST_SLEEP))
        waiting.put(request)
    for _ in range(count):
        waiting.put(None)


def _send_all(address: Address, waiting: SimpleQueue[Recorded | None], done: SimpleQueue[Outcome]) -> None:
    """Send what is waiting, over one connection as long as it lasts."""
    sender = _Sender(address)
    while (request := waiting.get()) is not None:
        began = time.monotonic()
        try:
            status, error = sender.send(request), ""
        except (OSError, HTTPException, ValueError) as failure:
            status, error = 0, str(failure) or type(failure).__name__
        done.put(Outcome(request, status, error, time.monotonic() - began))
    sender.close()


class _Sender:
    """A connection to the address, made anew where it was closed."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: HTTPConnection | None = None

    def send(self, request: Recorded) -> int:
        """Send one request and return the status of its response. Raises OSError, HTTPException or ValueError."""
        connection = self._connection
        if connection is not None and request.method not in SAFE:
            # A connection that was idle may be closed just now; then nobody would know whether this was executed.
            self.close()
            connection = None
        if connection is not None:
            try:
                return self._on(connection, request)
            except ConnectionError:
                self.close()
        self._connection = connection = HTTPConnection(self._address.host, self._address.port, timeout=_TIMEOUT)
        try:
            return self._on(connection, request)
        except BaseException:
            self.close()
            raise

    def _on(self, connection: HTTPConnection, request: Recorded) -> int:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", request.host.encode())
        for name, value in request.headers:
            connection.putheader(name, value.encode())
        if request.body or request.method not in SAFE:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        response = connection.getresponse()
        while response.read(_CHUNK):
            pass
        if response.length:
            raise HTTPException(f"the response ended {response.length} bytes too early")
        if response.will_close:
            self.close()
        return response.status

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


# --- what is told ---


def _tell(outcome: Outcome) -> None:
    """Print what is not as it was."""
    request = outcome.request
    if outcome.same and not outcome.error:
        return
    now = str(outcome.status) if outcome.status else f"no response: {outcome.error}"
    what = printable(f"{request.method} {request.host}{_target(request)}")
    click.echo(f"{request.number}: {what}: {request.status or 'no response'} → {printable(now)}")


def _summary(recording: Recording, outcomes: list[Outcome]) -> list[str]:
    answered = [outcome for outcome in outcomes if outcome.status]
    same = sum(outcome.same for outcome in answered)
    lines = [
        f"sent {len(outcomes)}: {same} with the recorded status, {len(answered) - same} with another one, "
        f"{len(outcomes) - len(answered)} without a response"
    ]
    lines += [f"not sent {count}: {reason}" for reason, count in recording.skipped.items()]
    if recording.hidden:
        lines.append(f"left out, because the file hides their values: {_counted(recording.hidden)}")
    return lines


def _counted(counts: Counter[str]) -> str:
    return ", ".join(printable(f"{name} ({count})") for name, count in counts.most_common())


def _report(recording: Recording, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "sent": len(outcomes),
        "same": sum(outcome.same for outcome in outcomes if outcome.status),
        "different": [_told(outcome) for outcome in outcomes if outcome.status and not outcome.same],
        "failed": [_told(outcome) for outcome in outcomes if not outcome.status],
        "not_sent": dict(recording.skipped),
        "left_out": dict(recording.hidden),
    }


def _target(request: Recorded) -> str:
    """Return what of the target may be printed: a browser's file has all of it."""
    return as_text(redact_target(request.target.encode()))


def _told(outcome: Outcome) -> dict[str, Any]:
    request = outcome.request
    return {
        "number": request.number,
        "method": request.method,
        "host": request.host,
        "target": _target(request),
        "recorded": request.status,
        "status": outcome.status,
        "error": outcome.error,
        "seconds": round(outcome.seconds, 6),
    }
