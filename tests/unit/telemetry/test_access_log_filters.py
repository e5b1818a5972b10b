from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from meshlet.config.schema import LogFilter
from meshlet.config.units import Duration
from meshlet.proxy.request_id import RequestIds
from meshlet.telemetry.access_log.filters import compile_filters
from tests.support.records import TCP, Ended


def taken(*filters: LogFilter, **changes: Any) -> bool:
    accepts = compile_filters(filters)
    return accepts is None or accepts(replace(Ended(), **changes))


def test_none_given_costs_nothing() -> None:
    assert compile_filters(()) is None
    assert compile_filters((LogFilter(),)) is None
    assert compile_filters((LogFilter(status=("5xx",)), LogFilter())) is None


@pytest.mark.parametrize(
    ("written", "status", "expected"),
    [
        (("5xx",), 503, True), (("5xx",), 499, False), (("404",), 404, True), (("400-403", "0"), 0, True),
        (("400-403", "0"), 403, True), (("400-403", "0"), 404, False),
    ],
)  # fmt: skip
def test_status(written: tuple[str, ...], status: int, expected: bool) -> None:
    assert taken(LogFilter(status=written), status=status) is expected


@pytest.mark.parametrize(("duration", "expected"), [(0.499, False), (0.5, True), (3.0, True)])
def test_duration(duration: float, expected: bool) -> None:
    assert taken(LogFilter(min_duration=Duration(0.5)), duration=duration) is expected


@pytest.mark.parametrize(
    ("written", "flag", "expected"),
    [
        (("any",), "", False), (("any",), "UF", True), (("UF",), "URX,UF", True), (("UF", "UC"), "UC", True),
        (("UF",), "UC", False), (("UF",), "", False), (("FE",), "FE:MyFilter", True),
        (("FE:MyFilter",), "FE:MyFilter", True),
        (("FE:Other",), "FE:MyFilter", False), (("U",), "UF", False),
    ],
)  # fmt: skip
def test_flags(written: tuple[str, ...], flag: str, expected: bool) -> None:
    assert taken(LogFilter(flags=written), flag=flag) is expected


@pytest.mark.parametrize(
    ("prefix", "target", "below"),
    [
        ("/health", b"/health", True), ("/health", b"/health?x", True), ("/health", b"/health/live", True),
        ("/health", b"/healthy", False), ("/health", b"/", False), ("/", b"/x", True), ("/v2/", b"/v2", False),
        ("/v2/", b"/v2/x", True), ("/health", b"*", False), ("/health", None, False),
    ],
)  # fmt: skip
def test_prefixes(prefix: str, target: bytes | None, below: bool) -> None:
    assert taken(LogFilter(prefix=(prefix, "/other")), target=target) is below
    assert taken(LogFilter(not_prefix=("/other", prefix)), target=target) is not below


def test_all_conditions_of_one_filter_and_any_of_the_filters() -> None:
    both = LogFilter(status=("5xx",), min_duration=Duration(1.0))
    other = LogFilter(flags=("UF",), not_prefix=("/health",))
    assert taken(both, other, status=500, duration=2.0)
    assert not taken(both, other, status=500, duration=0.1)
    assert taken(both, other, status=200, flag="UF", target=b"/x")
    assert not taken(both, other, status=200, flag="UF", target=b"/health")


def test_a_share_of_the_requests_and_the_same_ones_everywhere() -> None:
    ids, count = RequestIds(), 20_000
    first = compile_filters((LogFilter(percent=10),))
    second = compile_filters((LogFilter(percent=10),))
    assert first is not None
    assert second is not None
    records = [replace(Ended(), request_id=ids(at / 1000)) for at in range(count)]
    logged = [first(record) for record in records]
    assert logged == [second(record) for record in records]
    assert 0.08 < sum(logged) / count < 0.12


def test_random_ids_are_sampled_alike() -> None:
    accepts = compile_filters((LogFilter(percent=10),))
    assert accepts is not None
    logged = [
        accepts(
            replace(Ended(), request_id=str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))).encode())
        )
        for n in range(5000)
    ]
    assert 0.08 < sum(logged) / 5000 < 0.12


@pytest.mark.parametrize(("percent", "expected"), [(0.0, 0), (100.0, 1000)])
def test_none_and_all(percent: float, expected: int) -> None:
    assert sum(taken(LogFilter(percent=percent), request_id=b"%d" % n) for n in range(1000)) == expected


def test_tcp_connections_are_sampled_by_their_client() -> None:
    accepts = compile_filters((LogFilter(percent=50),))
    assert accepts is not None
    found = {port: accepts(replace(TCP, remote=f"10.0.0.7:{port}")) for port in range(1000, 2000)}
    assert 400 < sum(found.values()) < 600
    assert found == {port: accepts(replace(TCP, remote=f"10.0.0.7:{port}")) for port in found}
