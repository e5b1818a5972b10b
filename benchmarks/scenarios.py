"""What is measured: one function a scenario, all through the same interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

from benchmarks import openloop, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import BODY_BYTES, Backend, Target, get, sink, start, start_all
from benchmarks.host import fixed_loop, pinned
from benchmarks.observability import ACCESS_LOG, SPANS_INTERVAL, Evidence
from benchmarks.proxies import Proxy
from benchmarks.stats import Sample, percentile
from benchmarks.wrk import Load

IDLE_CONNECTIONS = 2000
RATE = 2000
ROUTES = (10, 1000)


@dataclass(frozen=True)
class Run:
    """What all scenarios of a run share."""

    proxies: Sequence[Proxy]
    app: Backend
    rounds: int
    seconds: int
    warm_up: bool
    progress: Callable[[str], None]


@dataclass
class Outcome:
    """What a scenario gave: for each proxy its samples, one a round, or why it has none."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Column(NamedTuple):
    """A figure in the scenario's table."""

    figure: str
    heading: str
    decimals: int


@dataclass(frozen=True)
class Scenario:
    """A scenario with the columns of its table; the first column is the one compared with Envoy."""

    name: str
    title: str
    columns: tuple[Column, ...]
    measure: Callable[[Run], Outcome]


def _interleave(run: Run, names: Iterable[str], measure: Callable[[str], Sample], outcome: Outcome) -> Outcome:
    """A B C D, A B C D: the proxies' slices lie side by side, and a fixed loop around each shows a disturbed host."""
    names = list(names)
    core = run.app.cores.proxy
    for number in range(run.rounds):
        for name in [name for name in names if name not in outcome.failures]:
            before = fixed_loop(core)
            try:
                sample = measure(name)
            except (BenchmarkError, OSError, HTTPException) as error:
                # Ratios pair samples by round, so a proxy that missed one has none.
                outcome.failures[name] = str(error)
                outcome.samples.pop(name, None)
                run.progress(f"  {name}: {error}")
                continue
            sample["loop_ms"] = max(before, fixed_loop(core))
            outcome.samples.setdefault(name, []).append(sample)
        run.progress(f"  round {number + 1} of {run.rounds}")
    return outcome


def _slice(run: Run, target: Target, load: Load) -> Sample:
    """One slice of wrk's load on one proxy."""
    before = target.process.cpu_seconds()
    result = wrk.run(target.port, run.seconds, load, run.app.cores.load)
    target.process.check_alive()
    cpu = target.process.cpu_seconds() - before
    sample = {
        "requests": float(result.requests),
        "cpu_us": cpu / result.requests * 1e6,
        "requests_per_second": result.requests_per_second,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "rss_mb": target.process.rss_bytes() / 1e6,
    }
    pss = target.process.pss_bytes()
    return sample if pss is None else {**sample, "pss_mb": pss / 1e6}


def _warm_up(run: Run, targets: Iterable[Target], load: Load) -> None:
    """Pools filled, code paths taken once, memory of a first load allocated."""
    if run.warm_up:
        for target in targets:
            with suppress(BenchmarkError):  # the slices will tell
                wrk.run(target.port, 1, load, run.app.cores.load)


def _closed_loop(load: Load, mode: str = "http") -> Callable[[Run], Outcome]:
    def measure(run: Run) -> Outcome:
        outcome = Outcome()
        chosen = [proxy for proxy in run.proxies if proxy.template(mode).exists()]
        with start_all(chosen, run.app, outcome.failures, mode) as targets:
            _warm_up(run, targets.values(), load)
            return _interleave(run, targets, lambda name: _slice(run, targets[name], load), outcome)

    return measure


def _observability(run: Run) -> Outcome:
    """The load of keepalive, and a look at what each proxy has logged and exported: both are part of the work."""
    outcome = Outcome()
    mode = "observability"
    chosen = [proxy for proxy in run.proxies if proxy.template(mode).exists()]
    with ExitStack() as stack:
        sinks = {proxy.name: stack.enter_context(sink(run.app, proxy.name)) for proxy in chosen}
        app = replace(run.app, sinks=sinks)
        targets = stack.enter_context(start_all(chosen, app, outcome.failures, mode))
        evidence = {name: Evidence() for name in targets}

        def measure(name: str) -> Sample:
            sample = _slice(run, targets[name], Load())
            evidence[name].read(targets[name].workdir / ACCESS_LOG, int(sample["requests"]))
            return sample

        if run.warm_up:
            for name in targets:
                measure(name)
        _interleave(run, targets, measure, outcome)
        for name in list(outcome.samples):
            try:
                evidence[name].check(_spans(sinks[name], evidence[name].spans[0]))
            except BenchmarkError as error:
                outcome.failures[name] = str(error)
                del outcome.samples[name]
    return outcome


def _spans(port: int, least: float) -> int:
    """How many spans a sink has got; the last ones may come a batch's interval after the load."""
    deadline = time.monotonic() + SPANS_INTERVAL
    while (spans := int(get(port, "/spans")[1])) < least and time.monotonic() < deadline:
        time.sleep(0.1)
    return spans


def _bodies(load: Load) -> Callable[[Run], Outcome]:
    closed_loop = _closed_loop(load)

    def measure(run: Run) -> Outcome:
        outcome = closed_loop(run)
        for samples in outcome.samples.values():
            for sample in samples:
                sample["cpu_ms_per_gb"] = sample["cpu_us"] / 1000 * (1e9 / BODY_BYTES)
                sample["mb_per_second"] = sample["requests_per_second"] * BODY_BYTES / 1e6
        return outcome

    return measure


def _idle(run: Run) -> Outcome:
    """A fresh process each round: memory that an allocator has once got is seldom given back."""
    by_name = {proxy.name: proxy for proxy in run.proxies}

    def measure(name: str) -> Sample:
        with start(by_name[name], run.app) as target, ExitStack() as stack, pinned(run.app.cores.load):
            wrk.run(target.port, 1, Load(), run.app.cores.load)
            before = target.process.rss_bytes()
            for _ in range(IDLE_CONNECTIONS):
                connection = HTTPConnection("127.0.0.1", target.port, timeout=5)
                stack.callback(connection.close)
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise BenchmarkError(f"status {response.status}")
            after = target.process.rss_bytes()
            return {"bytes_per_connection": (after - before) / IDLE_CONNECTIONS, "rss_mb": after / 1e6}

    return _interleave(run, by_name, measure, Outcome())


def _latency(run: Run) -> Outcome:
    outcome = Outcome()
    with start_all(run.proxies, run.app, outcome.failures) as targets:
        _warm_up(run, targets.values(), Load())

        def measure(name: str) -> Sample:
            target = targets[name]
            with pinned(run.app.cores.load):
                request = openloop.request_bytes(target.port, wrk.HEADERS)
                latencies = openloop.run(target.port, RATE, run.seconds, request)
            return {figure: percentile(latencies, percent) * 1000 for figure, percent in _PERCENTILES.items()}

        return _interleave(run, targets, measure, outcome)


_PERCENTILES = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "p999_ms": 99.9}


def _startup(run: Run) -> Outcome:
    by_name = {proxy.name: proxy for proxy in run.proxies}

    def measure(name: str) -> Sample:
        # Writing the config is within the time: well under a millisecond.
        begin = time.perf_counter()
        with pinned(run.app.cores.load), start(by_name[name], run.app):
            return {"ready_s": time.perf_counter() - begin}

    return _interleave(run, by_name, measure, Outcome())


def _routes(run: Run) -> Outcome:
    outcome = Outcome()
    few, many = ([f"/service-{number:04}" for number in range(count)] for count in ROUTES)
    with (
        start_all(run.proxies, run.app, outcome.failures, routes=few) as with_few,
        start_all(run.proxies, run.app, outcome.failures, routes=many) as with_many,
    ):
        # The last route is the worst case of a table that is searched in order.
        load_few, load_many = Load(path=f"{few[-1]}/items/7"), Load(path=f"{many[-1]}/items/7")
        _warm_up(run, with_few.values(), load_few)
        _warm_up(run, with_many.values(), load_many)

        def measure(name: str) -> Sample:
            base = _slice(run, with_few[name], load_few)["cpu_us"]
            grown = _slice(run, with_many[name], load_many)["cpu_us"]
            return {"cpu_us_10": base, "cpu_us_1000": grown, "growth": grown / base}

        return _interleave(run, [name for name in with_few if name in with_many], measure, outcome)


_LOAD_COLUMNS = (
    Column("cpu_us", "CPU µs/req", 1),
    Column("requests_per_second", "req/s", 0),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("rss_mb", "RSS MB", 1),
    Column("pss_mb", "PSS MB", 1),
)
_BODY_COLUMNS = (
    Column("cpu_ms_per_gb", "CPU ms/GB", 0),
    Column("mb_per_second", "MB/s", 0),
    Column("rss_mb", "RSS MB", 1),
)

# Few connections: a body that is cut off by the end of a slice cost CPU but is not counted.
_DOWNLOAD = Load(path="/body", connections=8)
_UPLOAD = Load(path="/upload", connections=8, upload=True)
_CONNECT = Load(headers=(*wrk.HEADERS, "Connection: close"))

ALL = {
    scenario.name: scenario
    for scenario in (
        Scenario("keepalive", "32 keep-alive connections, 12 request headers", _LOAD_COLUMNS, _closed_loop(Load())),
        Scenario(
            "policies",
            "the load of keepalive; retries, breaker, outlier detection, rate limit, two header rules on",
            _LOAD_COLUMNS,
            _closed_loop(Load(), "policies"),
        ),
        Scenario(
            "observability",
            "the load of keepalive; JSON access log, spans of 1 %, request ids, retries and breaker on",
            _LOAD_COLUMNS,
            _observability,
        ),
        Scenario("download", "1 MB response bodies, 8 connections", _BODY_COLUMNS, _bodies(_DOWNLOAD)),
        Scenario("upload", "1 MB request bodies, 8 connections", _BODY_COLUMNS, _bodies(_UPLOAD)),
        Scenario("connect", "a new connection for each request", _LOAD_COLUMNS, _closed_loop(_CONNECT)),
        Scenario(
            "idle",
            f"{IDLE_CONNECTIONS:,} idle connections that made one request each",
            (Column("bytes_per_connection", "bytes/connection", 0), Column("rss_mb", "RSS MB", 1)),
            _idle,
        ),
        Scenario(
            "latency",
            f"open loop, {RATE:,} requests per second",
            (
                Column("p99_ms", "p99 ms", 3),
                Column("p50_ms", "p50 ms", 3),
                Column("p90_ms", "p90 ms", 3),
                Column("p999_ms", "p99.9 ms", 3),
            ),
            _latency,
        ),
        Scenario("tcp", "TCP relay under the same load as keepalive", _LOAD_COLUMNS, _closed_loop(Load(), "tcp")),
        Scenario("startup", "from exec to the first proxied response", (Column("ready_s", "seconds", 3),), _startup),
        Scenario(
            "routes",
            "10 routes against 1,000, the last one matches",
            (
                Column("growth", "1,000 : 10", 3),
                Column("cpu_us_10", "CPU µs/req, 10", 1),
                Column("cpu_us_1000", "CPU µs/req, 1,000", 1),
            ),
            _routes,
        ),
    )
}
