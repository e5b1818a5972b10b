"""Closed-loop load: wrk on the load core, a slice at a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import BenchmarkError
from benchmarks.host import pinned
from benchmarks.proxies import tool

_SCRIPT = Path(__file__).with_name("load.lua")
# More failed requests than this, and the slice measured something else than the work.
_TOLERATED_ERRORS = 0.001

# With Host these are the 12 fields of a request, in names and sizes as a browser's or an app's client sends them.
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept: application/json, text/plain, */*",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Cache-Control: no-cache",
    "Pragma: no-cache",
    "Referer: https://shop.example.com/items?page=3",
    "Cookie: session=0b8f2c1e6d0a4a539a551f2d0c3b4e5f; theme=light",
    "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiZW5jaCJ9.c2lnbmF0dXJl",
    "X-Tenant: example",
    "X-Client-Version: 4.12.0",
)


class Load(NamedTuple):
    """What wrk sends."""

    path: str = "/"
    connections: int = 32
    headers: Sequence[str] = HEADERS
    upload: bool = False


class WrkResult(NamedTuple):
    """What came of a slice."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float


def parse(output: str) -> WrkResult:
    """Read the line that load.lua prints, and refuse a slice with failed requests."""
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise BenchmarkError("wrk printed no result")
    result: dict[str, int] = json.loads(lines[-1].removeprefix("RESULT "))
    failed = result["socket_errors"] + result["status_errors"]
    if result["requests"] == 0 or failed > result["requests"] * _TOLERATED_ERRORS:
        raise BenchmarkError(
            f"{result['requests']} requests with {result['status_errors']} error statuses "
            f"and {result['socket_errors']} socket errors"
        )
    return WrkResult(
        requests=result["requests"],
        requests_per_second=result["requests"] / (result["duration_us"] / 1e6),
        p50_ms=result["p50_us"] / 1000,
        p99_ms=result["p99_us"] / 1000,
    )


def command(port: int, seconds: int, load: Load) -> list[str]:
    """Wrk's command line; wrk knows whole seconds only."""
    line = [tool("wrk"), "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(_SCRIPT)]
    for header in load.headers:
        line += ["-H", header]
    return [*line, f"http://127.0.0.1:{port}{load.path}", *(["--", "upload"] if load.upload else [])]


def run(port: int, seconds: int, load: Load, core: int) -> WrkResult:
    """Load one port for a slice."""
    with pinned(core):
        try:
            result = subprocess.run(
                command(port, seconds, load), capture_output=True, text=True, timeout=seconds + 15, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError("wrk did not end in time") from error
    if result.returncode:
        raise BenchmarkError(f"wrk ended with status {result.returncode}: {result.stderr.strip()}")
    return parse(result.stdout)
