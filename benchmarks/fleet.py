"""The proxies in front of the backend: started, checked, ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks import proxies
from benchmarks.errors import BenchmarkError
from benchmarks.host import Cores
from benchmarks.processes import Process, free_port, running
from benchmarks.proxies import Proxy

BODY_BYTES = 1_000_000
_READY_TIMEOUT = 20.0


@dataclass(frozen=True)
class Backend:
    """The app behind the proxies, and where everything of the run is kept."""

    port: int
    workdir: Path
    cores: Cores
    meshlet_protocol: str
    sinks: Mapping[str, int] = field(default_factory=dict)
    """The port of each proxy's collector, by the proxy's name; only proxies that export anything have one."""


@dataclass(frozen=True)
class Target:
    """A running proxy."""

    name: str
    port: int
    process: Process
    workdir: Path


@contextmanager
def backend(workdir: Path, cores: Cores, meshlet_protocol: str) -> Iterator[Backend]:
    """The backend, ready to answer."""
    (workdir / "body").write_bytes(b"x" * BODY_BYTES)
    port = free_port()
    config = proxies.write_config("backend.conf", proxies.PEERS / "backend.conf.tmpl", workdir, {"port": port}, ())
    with running(proxies.nginx_command(config), cores.load, workdir / "backend.log") as process:
        wait_until_ready(process, port)
        yield Backend(port, workdir, cores, meshlet_protocol)


@contextmanager
def sink(app: Backend, name: str) -> Iterator[int]:
    """A collector for one proxy, ready; its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.sink", str(port)]
    with running(command, app.cores.load, app.workdir / f"sink-{name}.log") as process:
        wait_until_ready(process, port)
        yield port


@contextmanager
def start(proxy: Proxy, app: Backend, mode: str = "http", routes: Sequence[str] = ("/",)) -> Iterator[Target]:
    """One proxy with a fresh config, ready to answer; `mode` is the folder of its template."""
    port = free_port()
    values = {
        "port": port,
        "backend_port": app.port,
        "admin_port": free_port(),
        "meshlet_protocol": app.meshlet_protocol,
        "sink_port": app.sinks.get(proxy.name, 0),
    }
    # A directory for each instance: the same program may run twice, with different routes.
    workdir = app.workdir / f"{proxy.name}-{port}"
    workdir.mkdir()
    for name in (proxy.config, *proxy.more_files):
        template = proxies.PEERS / mode / f"{name}.tmpl"
        if template.exists():
            proxies.write_config(name, template, workdir, values, routes)
    command = proxy.command(workdir / proxy.config)
    with running(command, app.cores.proxy, workdir / "log") as process:
        wait_until_ready(process, port, routes[-1])
        yield Target(proxy.name, port, process, workdir)


@contextmanager
def start_all(
    chosen: Sequence[Proxy], app: Backend, failures: dict[str, str], mode: str = "http", routes: Sequence[str] = ("/",)
) -> Iterator[dict[str, Target]]:
    """All proxies alive at once; what does not start or work is left out and told in `failures`."""
    with ExitStack() as stack:
        targets: dict[str, Target] = {}
        for proxy in chosen:
            try:
                target = stack.enter_context(start(proxy, app, mode, routes))
                if routes == ("/",) and mode in _CHECKS:
                    _CHECKS[mode](target)
                targets[proxy.name] = target
            except BenchmarkError as error:
                failures[proxy.name] = str(error)
        yield targets


def wait_until_ready(process: Process, port: int, path: str = "/") -> None:
    """Return as soon as a request is answered with 200."""
    deadline = time.monotonic() + _READY_TIMEOUT
    problem: object = "no answer"
    while time.monotonic() < deadline:
        try:
            status, _ = get(port, path)
        except (OSError, HTTPException) as error:
            problem = error
        else:
            if status == 200:
                return
            problem = f"status {status}"
        process.check_alive()
        time.sleep(0.001)
    raise BenchmarkError(f"not ready after {_READY_TIMEOUT:.0f} s: {problem}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check_same_work(target: Target) -> None:
    """A proxy that skips a part of the work would win unfairly: look at what the backend sees."""
    get(target.port, "/seen")
    seen: Mapping[str, str | int] = json.loads(get(target.port, "/seen")[1])
    absent = [name for name in ("x-request-id", "x-forwarded-for", "x-forwarded-proto") if not seen[name]]
    if int(seen["requests"]) < 2:
        absent.append("a pooled backend connection")
    _complain(target, absent)


def check_policies(target: Target) -> None:
    """Beside all of that, its header rules are on; what else of a policy is on shows only where something fails."""
    check_same_work(target)
    connection = HTTPConnection("127.0.0.1", target.port, timeout=5)
    try:
        connection.request("GET", "/seen")
        response = connection.getresponse()
        fields = {"x-bench-request": json.loads(response.read())["x-bench-request"], **response.headers}
    finally:
        connection.close()
    _complain(target, [name for name in ("x-bench-request", "x-bench-response") if not fields.get(name)])


def _complain(target: Target, absent: Sequence[str]) -> None:
    if absent:
        raise BenchmarkError(f"{target.name} does not do the same work, it lacks: {', '.join(absent)}")


_CHECKS = {"http": check_same_work, "policies": check_policies, "observability": check_same_work}
