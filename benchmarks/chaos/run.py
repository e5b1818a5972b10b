"""One proxy through the chaos: started before a fleet of its own, loaded in calm, then in chaos, watched at rest."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import proxies
from benchmarks.chaos import load
from benchmarks.chaos.apps import Fleet, Ledger
from benchmarks.chaos.load import Result
from benchmarks.chaos.schedule import APPS, Request
from benchmarks.errors import BenchmarkError
from benchmarks.processes import Process, free_port, running
from benchmarks.proxies import Proxy

PEERS = Path(__file__).parent
NAMES = ("meshlet", "envoy")
_READY_TIMEOUT = 20.0
_REST = 0.5
_REST_TIMEOUT = 5.0

# What each proxy says of itself, by the names of its metrics; both speak Prometheus' text format.
COUNTERS: Mapping[str, Mapping[str, str]] = {
    "meshlet": {
        "retries": "meshlet_retries_total",
        "retries refused by the budget": "meshlet_retries_over_budget_total",
        "requests out of retries": "meshlet_retries_exhausted_total",
        "tries timed out": "meshlet_try_timeouts_total",
        "failed connects": "meshlet_endpoint_connect_failures_total",
        "ejections": "meshlet_cluster_ejections_total",
        "requests sent in panic": "meshlet_cluster_panics_total",
    },
    "envoy": {
        "retries": "envoy_cluster_upstream_rq_retry",
        "retries refused by the budget": "envoy_cluster_upstream_rq_retry_overflow",
        "requests out of retries": "envoy_cluster_upstream_rq_retry_limit_exceeded",
        "tries timed out": "envoy_cluster_upstream_rq_per_try_timeout",
        "failed connects": "envoy_cluster_upstream_cx_connect_fail",
        "ejections": "envoy_cluster_outlier_detection_ejections_enforced_total",
        "requests sent in panic": "envoy_cluster_lb_healthy_panic",
    },
}


class Resources(NamedTuple):
    """What a proxy at rest holds."""

    descriptors: int
    rss: int
    """Bytes."""


@dataclass(frozen=True)
class Phase:
    """A pass of the load."""

    results: Sequence[Result]
    ledger: Ledger
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What one proxy showed."""

    calm: Phase
    chaos: Phase
    fresh: Resources
    """Before the first request."""
    before: Resources
    """Between calm and chaos."""
    after: Resources
    counters: Mapping[str, float]
    """How much those of COUNTERS grew in the chaos."""


async def measure(proxy: Proxy, requests: Sequence[Request], seed: int, workdir: Path, core: int) -> Outcome:
    """Run the same load twice, in calm and in chaos. Raises BenchmarkError where the proxy does not work at all."""
    port, admin_port, *ports = (free_port() for _ in range(2 + APPS))
    values = {"port": port, "admin_port": admin_port, **{f"app{number}": app for number, app in enumerate(ports)}}
    config = proxies.write_config(proxy.config, PEERS / f"{proxy.config}.tmpl", workdir, values, ())
    fleet = Fleet(ports, seed, requests)
    async with fleet.running():
        with running(proxy.command(config), core, workdir / f"{proxy.name}.log") as process:
            await _ready(process, port)
            fresh = await _rest(process, fleet)
            calm = await _phase(fleet, port, requests)
            earlier = await _counters(proxy, admin_port)  # the first look at the admin port costs memory, too
            before = await _rest(process, fleet, fresh.descriptors)
            async with fleet.chaos():
                chaos = await _phase(fleet, port, requests)
            process.check_alive()
            later = await _counters(proxy, admin_port)
            after = await _rest(process, fleet, fresh.descriptors)
    grown = {name: later[name] - earlier.get(name, 0.0) for name in later}
    return Outcome(calm, chaos, fresh, before, after, grown)


async def _phase(fleet: Fleet, port: int, requests: Sequence[Request]) -> Phase:
    fleet.ledger = Ledger()
    begin = time.monotonic()
    results = await load.run(port, requests)
    return Phase(results, fleet.ledger, time.monotonic() - begin)


async def _ready(process: Process, port: int) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while not await load.answers(port):
        process.check_alive()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not ready after {_READY_TIMEOUT:.0f} s")
        await asyncio.sleep(0.02)


async def _rest(process: Process, fleet: Fleet, expected: int | None = None) -> Resources:
    """With no connection left on either side; the proxy gets a while to notice.

    Returns as soon as it holds no more descriptors than `expected`, or their number has not changed for half a second.
    """
    deadline = time.monotonic() + _REST_TIMEOUT
    descriptors, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        fleet.close_idle()
        await asyncio.sleep(0.05)
        now = _descriptors(process)
        if now != descriptors:
            descriptors, since = now, time.monotonic()
        if expected is None and time.monotonic() - since > _REST:
            break
        if expected is not None and descriptors <= expected:
            break
    return Resources(descriptors, process.rss_bytes())


def _descriptors(process: Process) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in process.tree())


async def _counters(proxy: Proxy, admin_port: int) -> dict[str, float]:
    text = await asyncio.to_thread(_get, f"http://127.0.0.1:{admin_port}/stats/prometheus")
    return counters(text, COUNTERS[proxy.name])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
    return text


def counters(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """The sums over all labels of these metrics, as far as they are there, in Prometheus' text format."""
    totals: defaultdict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if line and line[0] != "#":
            series, _, value = line.rpartition(" ")
            totals[series.partition("{")[0]] += float(value)
    return {title: totals[name] for title, name in names.items() if name in totals}
