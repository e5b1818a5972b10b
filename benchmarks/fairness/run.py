"""One slice: a fresh proxy, the victim and the attacker, and what the victim saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks import proxies
from benchmarks.errors import BenchmarkError
from benchmarks.fairness.attacks import Attack
from benchmarks.fairness.figures import Measured, waits_sample
from benchmarks.fairness.schedule import LIMIT
from benchmarks.fleet import wait_until_ready
from benchmarks.host import Cores, fixed_loop, pinned
from benchmarks.processes import free_port, running
from benchmarks.proxies import Proxy

PEERS = Path(__file__).parent
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
        for name, port in (("backend", backend), ("app", app)):
            values = {"name": name, "port": port}
            config = proxies.write_config(f"{name}.conf", PEERS / "backend.conf.tmpl", workdir, values, ())
            log = workdir / f"{name}.log"
            process = stack.enter_context(running(proxies.nginx_command(config), cores.load, log))
            wait_until_ready(process, port)
            if name == "backend":
                _prefer(process.tree())
        process = stack.enter_context(running(_python("app", sink), cores.load, workdir / "sink.log"))
        wait_until_ready(process, sink)
        yield World(workdir, cores, backend, app, sink, meshlet_protocol)


def _prefer(pids: Iterable[int]) -> None:
    """Let what the victim's figures hang on come before what makes the load, which shares its core."""
    for pid in pids:
        with suppress(PermissionError, ProcessLookupError):  # without the right to it, the figures are noisier
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def measure(proxy: Proxy, attack: Attack, behind: World, seconds: float) -> Measured:
    """Start a proxy and attack it. Raises BenchmarkError where it does not work at all."""
    port, relay_port, admin_port = (free_port() for _ in range(3))
    values = {
        "port": port,
        "relay_port": relay_port,
        "admin_port": admin_port,
        "victim_port": behind.backend,
        "app_port": behind.app,
        "sink_port": behind.sink,
        "meshlet_protocol": behind.meshlet_protocol,
    }
    workdir = behind.workdir / f"{proxy.name}-{port}"
    workdir.mkdir()
    config = proxies.write_config(proxy.config, PEERS / f"{proxy.config}.tmpl", workdir, values, ())
    with running(proxy.command(config), behind.cores.proxy, workdir / "log") as process:
        wait_until_ready(process, port, "/victim")
        loops = [fixed_loop(behind.cores.proxy)]
        before = process.cpu_seconds()
        victim = _python("victim", port, behind.backend, seconds)
        attacker = _python("attacker", attack.name, port, relay_port, seconds)
        seen, done = _together(victim, attacker, behind.cores.load, seconds)
        process.check_alive()
        cpu = process.cpu_seconds() - before
        loops.append(fixed_loop(behind.cores.proxy))
    sample = {
        **waits_sample(seen["waits"]),
        **waits_sample(seen["replies"], "reply_"),
        **waits_sample(seen["direct"], "direct_"),
        "failed": float(seen["failed"]),
        "connections": float(done["opened"]),
        "sent_mb": done["sent"] / 1e6,
        "received_mb": done["received"] / 1e6,
        "proxy_cpu_s": cpu,
        "attacker_cpu_s": done["cpu_s"],
        "loop_ms": max(loops),
    }
    return Measured(sample, [status for status in done["statuses"] if status not in attack.statuses])


def _python(module: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", f"benchmarks.fairness.{module}", *map(str, arguments))


def _together(victim: Sequence[str], attacker: Sequence[str], core: int, seconds: float) -> list[dict[str, Any]]:
    """Run both from the same moment on, once both are ready; what each of them printed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_player(command, core)) for command in (victim, attacker)]
        _prefer([processes[0].pid])
        for process in processes:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise BenchmarkError(_complaint(process))
        start = monotonic() + _LEAD
        for process in processes:
            assert process.stdin
            with suppress(BrokenPipeError):  # it has ended already: the result tells why
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
