"""Which records a log has: `filters` of the config, compiled to one function."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from meshlet.config.values import parse_status_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.config.schema import LogFilter
    from meshlet.telemetry.record import Record

    Condition = Callable[[Record], bool]


def compile_filters(filters: Sequence[LogFilter]) -> Condition | None:
    """Make the function that says whether a record is logged; None where all are."""
    compiled = [_conditions(one) for one in filters]
    if not compiled or not all(compiled):
        return None  # there are none, or one of them takes whatever comes
    if len(compiled) == 1:
        return _all_of(compiled[0])
    alternatives = [_all_of(conditions) for conditions in compiled]

    def taken(record: Record) -> bool:
        for takes in alternatives:  # noqa: SIM110 - as below
            if takes(record):
                return True
        return False

    return taken


def _all_of(conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]

    def taken(record: Record) -> bool:
        for holds in conditions:  # noqa: SIM110 - a generator would cost more than the conditions
            if not holds(record):
                return False
        return True

    return taken


def _conditions(written: LogFilter) -> list[Condition]:
    """Return the conditions of one filter, the cheapest first."""
    conditions: list[Condition] = []
    if written.status:
        statuses = frozenset(status for text in written.status for status in parse_status_range(text))
        conditions.append(lambda record: record.status in statuses)
    if written.min_duration > 0:
        least = float(written.min_duration)
        conditions.append(lambda record: record.duration >= least)
    if written.flags:
        conditions.append(_flags(frozenset(written.flags)))
    if written.percent < 100:
        conditions.append(_share(written.percent))
    if written.prefix:
        below = _below(written.prefix)
        conditions.append(lambda record: below(record.target))
    if written.not_prefix:
        kept_out = _below(written.not_prefix)
        conditions.append(lambda record: not kept_out(record.target))
    return conditions


def _flags(wanted: frozenset[str]) -> Condition:
    if "any" in wanted:
        return lambda record: bool(record.flag)

    def taken(record: Record) -> bool:
        flags = record.flag
        # `FE` means whatever filter has raised.
        return bool(flags) and any(flag in wanted or flag.partition(":")[0] in wanted for flag in flags.split(","))

    return taken


def _share(percent: float) -> Condition:
    """Say yes to a share of the request ids: all proxies on a request's way, and all tries of its client, agree.

    TCP connections have none, so it goes by their client's address.
    """
    below = round(percent / 100 * (1 << 32))

    def taken(record: Record) -> bool:
        request_id = record.request_id
        return crc32(request_id if request_id is not None else record.remote.encode()) < below

    return taken


def _below(prefixes: Sequence[str]) -> Callable[[bytes | None], bool]:
    """Make the function that says whether a target's path is one of those, or below it on segment borders."""
    whole = frozenset(prefix.encode() for prefix in prefixes)
    starts = tuple(prefix.encode().rstrip(b"/") + b"/" for prefix in prefixes)

    def found(target: bytes | None) -> bool:
        if target is None:
            return False
        path = target.partition(b"?")[0]
        return path in whole or path.startswith(starts)

    return found
