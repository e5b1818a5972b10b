"""`meshlet demo`: an app, a sidecar in front of it and a little traffic, on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from meshlet.cli.run import AddressType
from meshlet.config.units import Address
from meshlet.config.values import listen_address, loopback_address
from meshlet.runtime.sockets import BindError, bind, name_of

if TYPE_CHECKING:
    import socket
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

LISTEN = Address("127.0.0.1", 8000)
ADMIN = Address("127.0.0.1", 15000)
APP = Address("127.0.0.1", 8080)

CONFIG = """\
# The sidecar of `meshlet demo`. Save a change, and it is taken over within a second or two.

listeners:
  - name: inbound
    address: "{listen}"
    routes:
      - {{match: {{prefix: /slow}}, cluster: app, timeout: 3s}}
      - {{match: {{prefix: /broken}}, cluster: nowhere}}
      - {{match: {{prefix: /}}, cluster: app}}

clusters:
  - {{name: app, endpoints: ["{app}"]}}
  - {{name: nowhere, endpoints: ["127.0.0.1:1"]}}  # nobody listens there

telemetry:
  access_log: {{path: {folder}/access.log, format: text}}

admin: {{address: "{admin}"}}
shutdown: {{grace: 0s, timeout: 5s}}
"""

GUIDE = """
Open
  http://{listen}/    the example app, through the sidecar
  http://{admin}/    the sidecar's dashboard; its admin port to curl

Try, in another terminal
  # two requests, one connection
  curl -s -o /dev/null -o /dev/null -w '%{{http_code}}, new connections: %{{num_connects}}\\n' \\
    http://{listen}/ http://{listen}/

  # the request as the app gets it from the sidecar, and without it
  curl http://{listen}/headers
  curl http://{app}/headers

  # nobody listens behind this route: the sidecar answers by itself, with the flag UF
  curl -i http://{listen}/broken

  # the app takes longer than the route allows: UT
  curl -i 'http://{listen}/slow?seconds=5'

  # some servers would take this for a framing header: DPE, and the app never sees it
  curl -i -H 'Transfer_Encoding: chunked' http://{listen}/

  # a body that is passed on piece by piece
  curl -N http://{listen}/stream

  # why the last ones have failed, and what to check
  curl -s 'http://{admin}/explain?limit=2'

  # what was counted, and what was logged
  curl -s http://{admin}/stats/prometheus | grep meshlet_requests_total
  tail -n 5 {folder}/access.log

  # a new config without a restart; edit the file as you like, a mistake in it is named here
  sed -i 's/timeout: 3s/timeout: 1s/' {folder}/meshlet.yaml && sleep 3
  curl -i 'http://{listen}/slow?seconds=2'

Ctrl-C ends all of it."""

# The demo's own traffic: one after the other, for ever; the slow one holds up none behind it.
_PATHS = ("/", "/headers", "/stream?lines=3&interval=0.1", "/", "/no-such-path", "/headers", "/", "/slow?seconds=1.5")
_INTERVAL = 0.25  # seconds from one request to the next
_LONGEST = 10.0  # seconds for one request
_SUMMARY = 3.0  # seconds from one summary to the next
_RETRY = 0.05  # seconds
_START = 30.0  # seconds until everything answers; a loaded machine needs some
_END = 8.0  # seconds, more than the sidecar's `shutdown.timeout`

_CLEAR = "\r\x1b[K"  # the line that the cursor is in


def _not_unix(ctx: click.Context, param: click.Parameter, value: Address | None) -> Address | None:
    if value is not None and value.path:
        raise click.BadParameter("expected HOST:PORT: the demo's commands are for TCP", ctx, param)
    return value


@click.command(
    "demo", epilog="Example: meshlet demo --listen 127.0.0.1:0", short_help="See it at work on this machine."
)
@click.option(
    "--listen",
    type=AddressType(listen_address),
    callback=_not_unix,
    help=f"Where the sidecar listens; {LISTEN} or a free port.",
)
@click.option(
    "--admin",
    type=AddressType(loopback_address),
    callback=_not_unix,
    help=f"Where its admin port is; {ADMIN} or a free port.",
)
def command(listen: Address | None, admin: Address | None) -> None:
    """Run an app, a sidecar in front of it and a little traffic, and say what to open and to try.

    Nothing leaves this machine. Ctrl-C ends all of it.
    """
    places = _places(listen, admin)
    with tempfile.TemporaryDirectory(prefix="meshlet-demo-") as folder:
        asyncio.run(_demo(places, Path(folder)))


# --- ports ---


class Places(NamedTuple):
    """Where the parts of the demo listen."""

    listen: Address
    admin: Address
    app: Address


def _places(listen: Address | None, admin: Address | None) -> Places:
    # Bound together and let go together: no port is given out twice.
    with (
        _bound("the sidecar", LISTEN, listen) as first,
        _bound("the admin port", ADMIN, admin) as second,
        _bound("the example app", APP, None) as third,
    ):
        return Places(*(Address.parse(name_of(sock)) for sock in (first, second, third)))


def _bound(what: str, usual: Address, wanted: Address | None) -> socket.socket:
    """Bind what is wanted, else the usual port, else a free one, and say so."""
    try:
        return bind(wanted or usual)
    except BindError as error:
        if wanted is not None:
            raise click.ClickException(str(error)) from error
    sock = bind(usual._replace(port=0))
    click.echo(f"{usual} is taken: {what} is on {name_of(sock)} instead.")
    return sock


def _reachable(address: Address) -> Address:
    """Return what to connect to where `address` is listened on."""
    return address._replace(host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host))  # noqa: S104


# --- the run ---


async def _demo(places: Places, folder: Path) -> None:
    """Run it until a signal comes. Raises ClickException where it fails."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = folder / "meshlet.yaml"
    config.write_text(CONFIG.format(**places._asdict(), folder=folder))
    # Left in reverse order: the sidecar ends first, so that its last requests still find the app.
    async with (
        _child("meshlet.example_app", "--listen", str(places.app)) as app,
        _child("meshlet", "run", "--config", str(config)) as sidecar,
    ):
        ends = {
            asyncio.create_task(app.wait()): "the example app",
            asyncio.create_task(sidecar.wait()): "the sidecar",
        }
        show = asyncio.create_task(_show(places, folder))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({*ends, show, stopped}, return_when=asyncio.FIRST_COMPLETED)
        show.cancel()
        await asyncio.wait({show})
        _clear_line()
        if not stop.is_set():
            for end, name in ends.items():
                if end.done():
                    raise click.ClickException(f"{name} has ended with status {end.result()}, so the demo ends too")
            show.result()
        click.echo("Ending.")


@contextlib.asynccontextmanager
async def _child(*arguments: str) -> AsyncIterator[Process]:
    """Run a module of Python with `arguments`; what it says on stderr is passed on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # `-m` alone would look for modules in the working directory first, where `http` may be any folder.
        env=os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C reaches a whole process group; who ends when is for us to say
    )
    assert process.stderr is not None
    log = asyncio.create_task(_pass_on(process.stderr))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_END):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await log


async def _pass_on(stream: asyncio.StreamReader) -> None:
    async for line in stream:
        _clear_line()
        click.echo(line, err=True, nl=False)


def _clear_line() -> None:
    if sys.stdout.isatty():
        click.echo(_CLEAR, nl=False)


# --- what it shows ---


async def _show(places: Places, folder: Path) -> None:
    """Print the guide once everything answers, then make traffic. Returns only by an error."""
    places = Places(*map(_reachable, places))
    await _answers(places.app, "/")
    await _answers(places.listen, "/")
    await _answers(places.admin, "/ready")
    click.echo(GUIDE.format(**places._asdict(), folder=folder))
    answers: Counter[int] = Counter()
    async with asyncio.TaskGroup() as group:
        if sys.stdout.isatty():
            group.create_task(_summarize(answers))
        for path in itertools.cycle(_PATHS):
            group.create_task(_request(places.listen, path, answers))
            await asyncio.sleep(_INTERVAL)


async def _answers(address: Address, path: str) -> None:
    try:
        async with asyncio.timeout(_START):
            while await _get(address, path) != 200:  # noqa: ASYNC110 - other processes set no Event
                await asyncio.sleep(_RETRY)
    except TimeoutError as error:
        raise click.ClickException(f"no answer from http://{address}{path} within {_START:g} s") from error


async def _summarize(answers: Counter[int]) -> None:
    while True:
        await asyncio.sleep(_SUMMARY)
        counts = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(answers.items()))
        click.echo(f"{_CLEAR}{answers.total()} requests so far: {counts}", nl=False)


async def _request(address: Address, path: str, answers: Counter[int]) -> None:
    answers[await _get(address, path)] += 1


async def _get(address: Address, path: str) -> int:
    """Return the status of the answer, read to its end; 0 where there is none."""
    try:
        async with asyncio.timeout(_LONGEST):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                status = int((await reader.readline())[9:12])
                while await reader.read(65536):
                    pass
    except (OSError, ValueError):
        return 0
    return status
