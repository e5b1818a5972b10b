"""`meshlet top`: what goes through a running meshlet at this moment, as a table that renews itself."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from meshlet.cli.admin_client import AdminClient, AdminError, admin_option
from meshlet.config.units import Duration
from meshlet.telemetry.traffic import EndpointTraffic, Traffic, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshlet.config.units import Address
    from meshlet.telemetry.traffic import RouteTraffic

_SHORTEST = 0.1  # seconds
_TCP = "TCP"  # the route that connections count under


class Row(NamedTuple):
    """A route or an endpoint over one interval. Rates are per second, latencies seconds; None: nothing ended."""

    listener: str  # empty for endpoints
    direction: str  # likewise
    name: str  # of the route, or the endpoint's address
    cluster: str
    rate: float
    failures: float  # per second
    success: float | None  # share, 0 to 1
    p50: float | None
    p95: float | None
    p99: float | None
    retries: float | None  # per second; None for endpoints
    active: int
    state: str  # of an endpoint


class Tables(NamedTuple):
    """What one interval shows."""

    seconds: float
    routes: list[Row]
    endpoints: list[Row]


class _Interval(click.ParamType[float]):
    """A duration such as `1s` or `500ms`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(Duration.parse(value))
        except ValueError as error:
            self.fail(f"found {value!r}, expected {error}", param, ctx)
        if seconds < _SHORTEST:
            self.fail(f"found {value!r}, expected at least {_SHORTEST:g}s", param, ctx)
        return seconds


def _identity(row: Row) -> tuple[str, ...]:
    return row.direction, row.listener, row.cluster, row.name


# What is largest comes first; by name what is smallest.
_SORTS: dict[str, Callable[[Row], Any]] = {
    "rate": lambda row: (-row.rate, _identity(row)),
    "failures": lambda row: (-row.failures, -row.rate, _identity(row)),
    "p99": lambda row: (-(row.p99 or 0.0), _identity(row)),
    "name": _identity,
}


@click.command(
    "top",
    epilog="""\b
Examples:
  meshlet top --sort failures
  meshlet top --once --interval 5s --output json | jq '.endpoints[] | select(.success and .success < 0.99)'
""",
    short_help="Watch rates, failures and latencies live.",
)
@admin_option
@click.option("--interval", type=_Interval(), default="1s", show_default=True, help="Time between two looks.")
@click.option("--once", is_flag=True, help="Print what one interval shows, and end.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Tables for people, or one JSON document a line and interval for programs.",
)
@click.option("--sort", type=click.Choice(list(_SORTS)), default="rate", show_default=True, help="What comes first.")
def command(admin: Address, interval: float, once: bool, output: str, sort: str) -> None:
    """Show the routes and endpoints of a running meshlet: rate, successes, latency, retries, state.

    Figures are about the last interval. Ctrl-C ends it.
    """
    from meshlet.cli import top_table

    looks = _looks(AdminClient(admin), interval, sort)
    try:
        if output == "json":
            for tables in looks:
                click.echo(json.dumps(_as_json(tables)))
                if once:
                    return
        elif once:
            top_table.show(next(looks))
        else:
            top_table.live(looks, str(admin), interval)
    except KeyboardInterrupt:
        return


def _looks(
    client: AdminClient, interval: float, sort: str, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Tables]:
    """Ask once in each interval and tell what has happened in it."""
    before = _ask(client)
    while True:
        sleep(interval)
        now = _ask(client)
        yield difference(before, now, sort)
        before = now


def _ask(client: AdminClient) -> Traffic:
    import msgspec

    try:
        return msgspec.json.decode(client.get_text("/traffic"), type=Traffic)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise AdminError(
            f"{client.address} answered /traffic with what this version does not know: is it the same version?"
        ) from error


def difference(before: Traffic, now: Traffic, sort: str = "rate") -> Tables:
    """Return what happened between two moments, sorted."""
    seconds = max(now.time - before.time, 1e-3)
    routes_before = {(item.listener, item.route, item.cluster): item for item in before.routes}
    endpoints_before = {(item.cluster, item.endpoint): item for item in before.endpoints}
    routes = [
        _row(item, routes_before.get((item.listener, item.route, item.cluster)), now.bounds, seconds)
        for item in now.routes
        # Every listener may take TCP, few ever do.
        if item.route != _TCP or item.requests or item.active
    ]
    endpoints = [
        _row(item, endpoints_before.get((item.cluster, item.endpoint)), now.bounds, seconds) for item in now.endpoints
    ]
    return Tables(seconds, sorted(routes, key=_SORTS[sort]), sorted(endpoints, key=_SORTS[sort]))


def _row(
    item: RouteTraffic | EndpointTraffic,
    before: RouteTraffic | EndpointTraffic | None,
    bounds: tuple[float, ...],
    seconds: float,
) -> Row:
    if before is not None and before.requests > item.requests:
        before = None  # a restart: totals have begun anew
    requests = item.requests - (before.requests if before is not None else 0)
    failures = max(0, item.failures - (before.failures if before is not None else 0))
    earlier = before.durations if before is not None else (0,) * len(item.durations)
    durations = tuple(max(0, count - old) for count, old in zip(item.durations, earlier, strict=True))
    p50, p95, p99 = (quantile(bounds, durations, share) for share in (0.5, 0.95, 0.99))
    # A connection that was refused has failed without a request.
    success = max(0.0, 1 - failures / requests) if requests else 0.0 if failures else None
    rates = (requests / seconds, failures / seconds, success, p50, p95, p99)
    if isinstance(item, EndpointTraffic):
        return Row("", "", item.endpoint, item.cluster, *rates, None, item.active, item.state)
    retries = max(0, item.retries - (getattr(before, "retries", 0) if before is not None else 0)) / seconds
    return Row(item.listener, item.direction, item.route, item.cluster, *rates, retries, item.active, "")


def _as_json(tables: Tables) -> dict[str, Any]:
    """Return the document of `--output json`: routes have no state, endpoints no listener and retries."""
    routes = [
        {"route" if key == "name" else key: value for key, value in row._asdict().items()} for row in tables.routes
    ]
    endpoints = [
        {"endpoint" if key == "name" else key: value for key, value in row._asdict().items()}
        for row in tables.endpoints
    ]
    for route in routes:
        del route["state"]
    for endpoint in endpoints:
        del endpoint["listener"], endpoint["direction"], endpoint["retries"]
    return {"seconds": round(tables.seconds, 3), "routes": routes, "endpoints": endpoints}
