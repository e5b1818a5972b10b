"""One slice: a fresh proxy, the victim and the attacker, and what the victim saw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks import proxies
from benchmarks.errors import BenchmarkError
from benchmarks.fairness.figures import waits_sample
from benchmarks.fairness.schedule import LIMIT
from benchmarks.fleet import wait_until_ready
from benchmarks.host import Cores, pinned
from benchmarks.processes import free_port, running
from benchmarks.proxies import Proxy
from benchmarks.stats import Sample

PEERS = Path(__file__).parent
# What the victim's figures hang on comes before what makes the load: all of it shares a core.
_NICE = ("nice", "-n", "-5")
# Seconds from the last process's being ready to the attack.
_LEAD = 0.1
_GRACE = 10.0


@dataclass(frozen=True)
class World:
    """What stands behind every proxy."""

    workdir: Path
    cores: Cores
    backend: int
    """Port of the victim's nginx."""
    app: int
    """Port of the attacker's nginx."""
    sink: int
    """Port of the attacker's own app."""
    meshlet_protocol: str


@contextmanager
def world(workdir: Path, cores: Cores, meshlet_protocol: str) -> Iterator[World]:
    """All of it, ready to answer."""
    with ExitStack() as stack:
        backend, app, sink = (free_port() for _ in range(3))
        for name, port, nice in (("backend", backend, _NICE), ("app", app, ())):
            config = proxies.write_config(
                f"{name}.conf", PEERS / "backend.conf.tmpl", workdir, {"name": name, "port": port}, ()
            )
            command = [*nice, *proxies.nginx_command(config)]
            process = stack.enter_context(running(command, cores.load, workdir / f"{name}.log"))
            wait_until_ready(process, port)
        command = [sys.executable, "-m", "benchmarks.fairness.app", str(sink)]
        process = stack.enter_context(running(command, cores.load, workdir / "sink.log"))
        wait_until_ready(process, sink)
        yield World(workdir, cores, backend, app, sink, meshlet_protocol)


def measure(proxy: Proxy, attack: str, world_: World, seconds: float) -> tuple[Sample, dict[str, Any]]:
    """The victim's waits and what the attacker did. Raises BenchmarkError where the proxy does not work at all."""
    port = free_port()
    values = {
        "port": port,
        "admin_port": free_port(),
        "victim_port": world_.backend,
        "app_port": world_.app,
        "sink_port": world_.sink,
        "meshlet_protocol": world_.meshlet_protocol,
    }
    workdir = world_.workdir / f"{proxy.name}-{port}"
    workdir.mkdir()
    config = proxies.write_config(proxy.config, PEERS / f"{proxy.config}.tmpl", workdir, values, ())
    with running(proxy.command(config), world_.cores.proxy, workdir / "log") as process:
        wait_until_ready(process, port, "/victim")
        victim = (*_NICE, *_python("victim", port, world_.backend, seconds))
        before = process.cpu_seconds()
        seen, done = _together((victim, _python("attacker", attack, port, seconds)), world_.cores.load, seconds)
        process.check_alive()
        cpu = process.cpu_seconds() - before
    sample = {
        **waits_sample(seen["waits"]),
        **waits_sample(seen["direct"], "direct_"),
        "failed": float(seen["failed"]),
        "cpu_s": cpu,
    }
    return sample, done


def _python(module: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", f"benchmarks.fairness.{module}", *map(str, arguments))


def _together(commands: Sequence[Sequence[str]], core: int, seconds: float) -> list[dict[str, Any]]:
    """Run processes that begin at the same moment, once all are ready; what each of them printed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_player(command, core)) for command in commands]
        for process in processes:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise BenchmarkError(_complaint(process))
        start = monotonic() + _LEAD
        for process in processes:
            assert process.stdin
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        return [_result(process, _LEAD + seconds + LIMIT + _GRACE) for process in processes]


@contextmanager
def _player(command: Sequence[str], core: int) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with pinned(core):
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def _result(process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
    try:
        output, _ = process.communicate(timeout=timeout)
        result: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{process.args!r} did not end in time") from error
    except ValueError as error:
        raise BenchmarkError(_complaint(process)) from error
    return result


def _complaint(process: subprocess.Popen[str]) -> str:
    process.kill()
    _, errors = process.communicate()
    return f"{process.args!r} failed: " + " | ".join(errors.strip().splitlines()[-3:])
