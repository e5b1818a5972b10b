"""How balancers cope with one slow endpoint of five, and how many keys move when one leaves: meshlet beside Envoy.

    python -m benchmarks.balancing [--seconds 8] [--rate 500] [--only least-request]

Each of five apps serves eight requests at a time, one of them ten times slower than the others. Requests come at a
fixed rate, whatever is answered, at which a fifth of them is more than the slow app can do. Prints a table and writes
`results/balancing.json` and, where matplotlib is installed, `results/balancing.svg`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from benchmarks import openloop, plot, proxies
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import get, wait_until_ready
from benchmarks.processes import free_port, running

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
APPS = 5
_AT_ONCE = 8  # requests that an app works on
_TIME = 0.01  # seconds for a request; ten times that for the last app
_CONNECTIONS = 512  # of the client: enough that it never waits for one
_KEYS = 3000

#: meshlet's name of a balancer, and Envoy's where it has that one
BALANCERS: dict[str, str | None] = {
    "round-robin": "ROUND_ROBIN",
    "random": "RANDOM",
    "least-request": "LEAST_REQUEST",
    "peak-ewma": None,
}
HASHING: dict[str, str | None] = {"ring-hash": "RING_HASH", "maglev": "MAGLEV"}


class Fairness(NamedTuple):
    """What one balancer made of the slow app."""

    proxy: str
    balancer: str
    slow_share: float
    """Part of the requests that the slow app got."""
    p50: float
    p99: float
    """Seconds, from when a request was meant to leave."""


class Movement(NamedTuple):
    """How many keys moved when one of five endpoints left."""

    proxy: str
    balancer: str
    moved: float
    """Part of all keys; a fifth has to."""


# --- the apps ---


class App:
    """An app with a bounded number of workers; what comes beyond that waits."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._workers = asyncio.Semaphore(_AT_ONCE)
        self._served = 0

    async def serve(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=1024)
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            target = head.split(b" ", 2)[1]
            if target == b"/count":
                body = str(self._served).encode()
                self._served = 0
            else:
                body = str(self._port).encode()
            if target == b"/":
                self._served += 1
                async with self._workers:
                    await asyncio.sleep(self._seconds)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def serve(ports: Sequence[int]) -> None:
    """Run the apps; the last one is the slow one."""
    apps = [App(port, _TIME * (10 if port == ports[-1] else 1)) for port in ports]
    await asyncio.gather(*(app.serve() for app in apps))


# --- the proxies ---


def meshlet_config(port: int, ports: Sequence[int], balancer: str) -> dict[str, Any]:
    """A config with one route to all apps."""
    cluster: dict[str, Any] = {"name": "app", "endpoints": [f"127.0.0.1:{each}" for each in ports]}
    cluster["balancer"] = balancer
    if balancer in HASHING:
        cluster["hash_on"] = {"header": "x-key"}
    # Not `auto`, which dials an app for each client that is silent at first, as most of these many are.
    listener = {"name": "in", "address": f"127.0.0.1:{port}", "protocol": "http", "routes": [{"cluster": "app"}]}
    return {"listeners": [listener], "clusters": [cluster]}


def envoy_config(port: int, ports: Sequence[int], policy: str) -> dict[str, Any]:
    """The same for Envoy, with its own defaults."""
    package = "type.googleapis.com/envoy.extensions.filters"
    route: dict[str, Any] = {"cluster": "app"}
    if policy in HASHING.values():
        route["hash_policy"] = [{"header": {"header_name": "x-key"}}]
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{package}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoints = [{"endpoint": {"address": _address(each)}} for each in ports]
    cluster = {
        "name": "app",
        "type": "STATIC",
        "lb_policy": policy,
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"name": "in", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def proxy(name: str, balancer: str, ports: Sequence[int], workdir: Path) -> Iterator[int]:
    """The port of a running proxy before the apps at `ports`."""
    port = free_port()
    config = (
        meshlet_config(port, ports, balancer)
        if name == "meshlet"
        else envoy_config(port, ports, (BALANCERS | HASHING)[balancer] or "")
    )
    path = workdir / f"{name}-{port}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with running(proxies.ALL[name].command(path), 0, workdir / f"{name}-{port}.log") as process:
        wait_until_ready(process, port, "/who")
        yield port


# --- what is measured ---


def fairness(name: str, balancer: str, ports: Sequence[int], workdir: Path, arguments: argparse.Namespace) -> Fairness:
    """Load the proxy and see who served what."""
    with proxy(name, balancer, ports, workdir) as port:
        request = openloop.request_bytes(port, ())
        _counts(ports)
        latencies = openloop.run(port, arguments.rate, arguments.seconds, request, _CONNECTIONS)
        counts = _counts(ports)
    return Fairness(
        name,
        balancer,
        counts[-1] / sum(counts),
        latencies[len(latencies) // 2],
        latencies[len(latencies) * 99 // 100],
    )


def _counts(ports: Sequence[int]) -> list[int]:
    return [int(get(port, "/count")[1]) for port in ports]


def movement(name: str, balancer: str, ports: Sequence[int], workdir: Path) -> Movement:
    """Ask for many keys before five endpoints, and before four of them."""
    before = _owners(name, balancer, ports, workdir)
    after = _owners(name, balancer, ports[:-1], workdir)
    return Movement(name, balancer, sum(one != other for one, other in zip(before, after, strict=True)) / _KEYS)


def _owners(name: str, balancer: str, ports: Sequence[int], workdir: Path) -> list[bytes]:
    with proxy(name, balancer, ports, workdir) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            return [_owner(connection, f"user-{number}") for number in range(_KEYS)]
        finally:
            connection.close()


def _owner(connection: HTTPConnection, key: str) -> bytes:
    connection.request("GET", "/who", headers={"x-key": key})
    return connection.getresponse().read()


# --- the report ---


def report(fair: Sequence[Fairness], moved: Sequence[Movement]) -> None:
    """Print the tables."""
    print(f"\n{'balancer':<15}{'proxy':<9}{'slow app':>9}{'p50':>10}{'p99':>10}")
    for each in fair:
        times = f"{each.p50 * 1000:>7.0f} ms{each.p99 * 1000:>7.0f} ms"
        print(f"{each.balancer:<15}{each.proxy:<9}{each.slow_share:>8.1%} {times}")
    print(f"\n{'balancer':<15}{'proxy':<9}{'keys moved':>11}")
    for key in moved:
        print(f"{key.balancer:<15}{key.proxy:<9}{key.moved:>11.1%}")


def draw(fair: Sequence[Fairness], target: Path) -> None:
    """Write the picture: what the slow endpoint got, and what that did to the tail."""
    names = list(dict.fromkeys(each.balancer for each in fair))
    with plot.drawing((11, 3.4), target) as figure:
        left, right = figure.subplots(1, 2)
        _bars(left, names, {(each.proxy, each.balancer): each.slow_share * 100 for each in fair}, "{:.1f}")
        left.set_title("% of the requests that went to the slow one of five", loc="left")
        _bars(right, names, {(each.proxy, each.balancer): each.p99 * 1000 for each in fair}, "{:.0f}")
        right.set_yscale("log")
        right.set_title("p99 in ms (log scale)", loc="left")
        left.legend(frameon=False)


def _bars(axes: Axes, names: Sequence[str], values: Mapping[tuple[str, str], float], text: str) -> None:
    for index, proxy_name in enumerate(("meshlet", "envoy")):
        own = {balancer: value for (name, balancer), value in values.items() if name == proxy_name}
        places = [names.index(balancer) + (index - 0.5) * 0.38 for balancer in own]
        bars = axes.bar(places, list(own.values()), 0.36, color=plot.COLOURS[proxy_name], label=plot.LABELS[proxy_name])
        axes.bar_label(bars, [text.format(value) for value in own.values()], padding=2, fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.yaxis.set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balancing", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run")
    parser.add_argument("--rate", type=int, default=500, help="requests per second")
    parser.add_argument("--only", action="append", choices=[*BALANCERS, *HASHING], help="a balancer; may be repeated")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve([int(port) for port in arguments.serve.split(",")]))
        return 0
    try:
        fair, moved = _measure(arguments)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    report(fair, moved)
    arguments.output.mkdir(parents=True, exist_ok=True)
    result = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "versions": {name: proxies.ALL[name].version() for name in ("meshlet", "envoy")},
        "fairness": [each._asdict() for each in fair],
        "keys_moved": [each._asdict() for each in moved],
    }
    (arguments.output / "balancing.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if fair and plot.available():
        draw(fair, arguments.output / "balancing.svg")
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[list[Fairness], list[Movement]]:
    wanted = arguments.only or [*BALANCERS, *HASHING]
    fair: list[Fairness] = []
    moved: list[Movement] = []
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        ports: list[int] = []
        while len(ports) < APPS:
            ports = list(dict.fromkeys([*ports, free_port()]))
        command = [sys.executable, "-m", "benchmarks.balancing", "--serve", ",".join(map(str, ports))]
        with running(command, 1, workdir / "apps.log") as process:
            for port in ports:
                wait_until_ready(process, port, "/who")
            for balancer in wanted:
                theirs = (BALANCERS | HASHING)[balancer]
                for name in ("meshlet", "envoy") if theirs and not proxies.ALL["envoy"].missing() else ("meshlet",):
                    print(f"{balancer}, {name} …", flush=True)
                    if balancer in HASHING:
                        moved.append(movement(name, balancer, ports, workdir))
                    else:
                        fair.append(fairness(name, balancer, ports, workdir, arguments))
    return fair, moved


if __name__ == "__main__":
    raise SystemExit(main())
