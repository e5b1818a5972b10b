"""Every metric has samples with its labels, and adds up over workers."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from meshlet.config.load import loads
from meshlet.proxy.settings import ListenerStats
from meshlet.runtime import figures
from meshlet.runtime.figures import LoopLag
from meshlet.runtime.messages import decode, encode
from meshlet.runtime.totals import total
from meshlet.telemetry.exposition import prometheus
from meshlet.telemetry.metrics import Exemplar, Family, HistogramData
from meshlet.telemetry.requests import Buckets
from meshlet.timers import Timers
from meshlet.upstream.cluster import Cluster
from tests.support.fakes import FakeLoop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from meshlet.proxy.listener import Listener

BUCKETS = Buckets((0.1, 1.0), (0, 16))


def cluster(**details: Any) -> Cluster:
    config = {
        "listeners": [{"name": "in", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"}],
        "clusters": [{"name": "app", "endpoints": ["10.0.0.1:80", "10.0.0.2:80"], **details}],
    }
    loop = FakeLoop()
    return Cluster(loads(json.dumps(config), "c.yaml").clusters[0], Timers(loop.time, loop.call_later), loop.time)


def busy_stats() -> ListenerStats:
    """Figures of a listener, each of them another number."""
    stats = ListenerStats(BUCKETS)
    counts = stats.for_requests("all", "app")
    series = counts.record(200, "", 0.25, 10, 20)
    counts.record(200, "", 0.5, 10, 20)
    counts.record(503, "UF", 2.0, 1, 2)
    counts.exemplify(series, 0.5, b"4bf92f3577b34da6a3ce929d0e0e4736", 1.7e9)
    for number, name in enumerate(COUNTED, 1):
        setattr(counts, name, number)
    counts.active = 100
    tcp = stats.for_tcp("db")
    tcp.opened = 4
    tcp.record(0, "", 1.0, 5, 6)
    tcp.record(0, "UF", 1.0, 0, 0)
    stats.accepted_total, stats.shed_total, stats.accept_errors_total = 7, 8, 9
    stats.detected["http"] = 3
    return stats


#: attributes of RequestStats by the metrics that show them
COUNTED = {
    "try_timeouts": "meshlet_try_timeouts_total",
    "retries": "meshlet_retries_total",
    "retries_successful": "meshlet_retries_successful_total",
    "retries_exhausted": "meshlet_retries_exhausted_total",
    "retries_over_budget": "meshlet_retries_over_budget_total",
    "hedges": "meshlet_hedges_total",
    "hedges_won": "meshlet_hedges_won_total",
    "mirrors": "meshlet_mirrored_requests_total",
    "mirrors_dropped": "meshlet_mirrored_requests_dropped_total",
}


class Running:
    """As much of a listener as its figures need."""

    class settings:  # noqa: N801
        name = "in"

    connections = 4


def busy_cluster() -> Cluster:
    one = cluster(outlier_detection={}, health_check={"path": "/"})
    one.endpoints[0].responded(200, 0.25)
    return one


def looked_at() -> LoopLag:
    loop = FakeLoop()
    lag = LoopLag(cast("AbstractEventLoop", loop), loop.time)
    lag.start()
    loop.advance(1.0)
    return lag


def families() -> list[Family]:
    """All there are in a process that has seen everything, but for those of the whole service."""
    stats = {"in": busy_stats()}
    return [
        *figures.request_families(stats, BUCKETS),
        *figures.listener_families(stats, [cast("Listener", Running())]),
        *figures.cluster_families([busy_cluster()]),
        *figures.process_families(60.0, looked_at()),
        *figures.log_families({"queue": 1, "failed": 2, "repeated": 3}),
        *figures.record_families(
            spans=1, spans_dropped={"queue": 2, "failed": 3}, log_dropped=4, explanations=5, tap_dropped=6
        ),
    ]


def service_families() -> list[Family]:
    """Those of the whole service."""
    return [
        *figures.worker_families(2, 1, 1),
        *figures.service_families([("accepted", 1), ("rejected", 2)], "1.2.3", ready=True),
        *figures.push_families(3, 4),
    ]


def value(found: list[Family], name: str, **labels: str) -> float:
    """The sum of the samples of a family that have these labels."""
    [family] = [each for each in found if each.name == name]
    values = [each.value for each in family.samples if labels.items() <= dict(each.labels).items()]
    assert values, f"{name} has no sample with {labels}"
    return sum(each.count if isinstance(each, HistogramData) else each for each in values)


CLUSTER = {"cluster"}
PRIORITY = {"cluster", "priority"}
ENDPOINT = {"cluster", "endpoint"}
REQUEST = {"listener", "route", "cluster"}
STANDARD = REQUEST | {"reporter", "request_protocol", "response_flags"}
LABELS = {
    "meshlet_requests_total": STANDARD | {"response_code"},
    "meshlet_request_duration_seconds": STANDARD | {"response_code"},
    "meshlet_request_bytes": STANDARD | {"response_code"},
    "meshlet_response_bytes": STANDARD | {"response_code"},
    "meshlet_requests_active": REQUEST,
    **dict.fromkeys(COUNTED.values(), REQUEST),
    "meshlet_tcp_connections_opened_total": STANDARD,
    "meshlet_tcp_connections_closed_total": STANDARD,
    "meshlet_tcp_received_bytes_total": STANDARD,
    "meshlet_tcp_sent_bytes_total": STANDARD,
    "meshlet_listener_connections_total": {"listener"},
    "meshlet_listener_connections_shed_total": {"listener"},
    "meshlet_listener_accept_errors_total": {"listener"},
    "meshlet_listener_detected_total": {"listener", "protocol"},
    "meshlet_listener_connections": {"listener"},
    "meshlet_cluster_requests_active": PRIORITY,
    "meshlet_cluster_requests_pending": PRIORITY,
    "meshlet_cluster_retries_active": PRIORITY,
    "meshlet_cluster_retries_left": PRIORITY,
    "meshlet_cluster_breaker_open": PRIORITY | {"what"},
    "meshlet_cluster_overflows_total": PRIORITY | {"what"},
    "meshlet_cluster_connections": CLUSTER,
    "meshlet_cluster_panics_total": CLUSTER,
    "meshlet_cluster_ejections_total": CLUSTER | {"reason"},
    "meshlet_cluster_ejections_refused_total": CLUSTER,
    "meshlet_cluster_discovery_updates_total": CLUSTER,
    "meshlet_cluster_discovery_failures_total": CLUSTER,
    "meshlet_endpoint_requests_total": ENDPOINT,
    "meshlet_endpoint_failures_total": ENDPOINT,
    "meshlet_endpoint_requests_active": ENDPOINT,
    "meshlet_endpoint_available": ENDPOINT,
    "meshlet_endpoint_healthy": ENDPOINT,
    "meshlet_endpoint_ejected": ENDPOINT,
    "meshlet_endpoint_health_checks_total": ENDPOINT,
    "meshlet_endpoint_health_check_failures_total": ENDPOINT,
    "meshlet_endpoint_duration_seconds": ENDPOINT,
    "meshlet_endpoint_connections": ENDPOINT,
    "meshlet_endpoint_connections_idle": ENDPOINT,
    "meshlet_endpoint_requests_pending": ENDPOINT,
    "meshlet_endpoint_idle_timeout_seconds": ENDPOINT,
    "meshlet_endpoint_connections_total": ENDPOINT,
    "meshlet_endpoint_connect_failures_total": ENDPOINT,
    "meshlet_endpoint_overflows_total": ENDPOINT,
    "meshlet_endpoint_connections_reused_total": ENDPOINT,
    "meshlet_endpoint_connections_stale_total": ENDPOINT,
    "meshlet_process_cpu_seconds_total": set[str](),
    "meshlet_process_resident_memory_bytes": set[str](),
    "meshlet_process_open_fds": set[str](),
    "meshlet_process_uptime_seconds": set[str](),
    "meshlet_event_loop_lag_seconds": set[str](),
    "meshlet_log_dropped_total": {"reason"},
    "meshlet_spans_exported_total": set[str](),
    "meshlet_spans_dropped_total": {"reason"},
    "meshlet_access_log_dropped_total": set[str](),
    "meshlet_explanations": set[str](),
    "meshlet_tap_entries_dropped_total": set[str](),
}


def test_every_family_has_samples_with_its_labels() -> None:
    found = families()
    assert [family.name for family in found if not family.samples] == []
    assert {family.name: {name for each in family.samples for name, _ in each.labels} for family in found} == LABELS


def test_no_two_samples_of_a_family_have_the_same_labels() -> None:
    for family in families():
        labels = [each.labels for each in family.samples]
        assert len(labels) == len(set(labels)), family.name


def test_prometheus_takes_all_of_them() -> None:
    body, _ = prometheus(families())
    text = body.decode()
    assert all(f"# TYPE {name} " in text for name in LABELS)


@pytest.mark.parametrize("field", COUNTED)
def test_what_is_counted_about_requests_is_shown(field: str) -> None:
    assert value(families(), COUNTED[field], listener="in", route="all", cluster="app") == [*COUNTED].index(field) + 1


def histogram(found: list[Family], name: str, **labels: str) -> HistogramData:
    [family] = [each for each in found if each.name == name]
    [data] = [each.value for each in family.samples if labels.items() <= dict(each.labels).items()]
    assert isinstance(data, HistogramData)
    return data


def test_requests_by_status_and_flag() -> None:
    found = families()
    well = {"response_code": "200", "response_flags": "-"}
    assert value(found, "meshlet_requests_total", **well, reporter="destination", request_protocol="http") == 2
    assert value(found, "meshlet_requests_total", response_code="503", response_flags="UF") == 1
    exemplar = Exemplar("4bf92f3577b34da6a3ce929d0e0e4736", 0.5, 1.7e9)
    duration = histogram(found, "meshlet_request_duration_seconds", **well)
    assert duration == HistogramData((0.1, 1.0), (0, 2, 0), 0.75, (exemplar,))
    assert histogram(found, "meshlet_request_bytes", **well) == HistogramData((0, 16), (0, 2, 0), 20)
    assert histogram(found, "meshlet_response_bytes", **well) == HistogramData((0, 16), (0, 0, 2), 40)
    assert histogram(found, "meshlet_request_duration_seconds", response_flags="UF").counts == (0, 0, 1)


def test_tcp_connections() -> None:
    found = families()
    tcp = {"listener": "in", "route": "", "cluster": "db", "request_protocol": "tcp"}
    assert value(found, "meshlet_tcp_connections_opened_total", **tcp, response_flags="-") == 4
    assert value(found, "meshlet_tcp_connections_closed_total", **tcp, response_flags="-") == 1
    assert value(found, "meshlet_tcp_connections_closed_total", **tcp, response_flags="UF") == 1
    assert value(found, "meshlet_tcp_received_bytes_total", **tcp) == 5
    assert value(found, "meshlet_tcp_sent_bytes_total", **tcp) == 6


def test_who_reports_is_told_by_the_direction() -> None:
    stats = ListenerStats(BUCKETS, "outbound")
    stats.for_requests("", "app").record(200, "", 0.1, 0, 0)
    assert value(figures.request_families({"out": stats}, BUCKETS), "meshlet_requests_total", reporter="source") == 1


def test_what_has_no_traffic_costs_nothing() -> None:
    stats = ListenerStats(BUCKETS)
    for number in range(500):
        stats.for_requests(f"route-{number}", f"cluster-{number}")
        stats.for_tcp(f"cluster-{number}")
    assert not any(family.samples for family in figures.request_families({"in": stats}, BUCKETS))


def test_whatever_apps_and_filters_answer_the_series_are_bounded() -> None:
    stats = ListenerStats(BUCKETS)
    counts = stats.for_requests("all", "app")
    for number in range(10_000):
        counts.record(200 + number % 800, "" if number % 3 else f"FE:Filter{number}", 0.1, 0, 0)
    found = figures.request_families({"in": stats}, BUCKETS)
    assert max(len(family.samples) for family in found) <= 65
    assert value(found, "meshlet_requests_total") == 10_000
    assert value(found, "meshlet_requests_total", response_code="0", response_flags="other") > 9_000


def test_breakers_by_priority() -> None:
    one = cluster(circuit_breaker={"max_requests": 1, "high": {"max_requests": 2}})
    one.breakers["default"].enter()
    one.breakers["high"].enter()
    one.breakers["high"].enter()
    one.breakers["high"].overflow()
    found = figures.cluster_families([one])
    assert value(found, "meshlet_cluster_requests_active", priority="default") == 1
    assert value(found, "meshlet_cluster_requests_active", priority="high") == 2
    assert value(found, "meshlet_cluster_overflows_total", priority="high", what="requests") == 1
    assert value(found, "meshlet_cluster_overflows_total", priority="default") == 0


@pytest.mark.parametrize("what", ["requests", "pending", "retries", "connections"])
def test_an_open_breaker(what: str) -> None:
    one = cluster(
        circuit_breaker={"max_requests": 1, "max_pending": 1, "max_connections": 1},
        retry_budget={"percent": 0, "min_concurrency": 1},
    )
    before = value(figures.cluster_families([one]), "meshlet_cluster_breaker_open")
    breaker = one.breakers["default"]
    match what:
        case "requests":
            breaker.enter()
        case "pending":
            breaker.pending += 1
        case "retries":
            assert breaker.try_retry()
        case "connections":
            assert one.connections.take()
    found = figures.cluster_families([one])
    open_ = [
        (dict(sample.labels)["priority"], dict(sample.labels)["what"])
        for family in found
        for sample in family.samples
        if family.name == "meshlet_cluster_breaker_open" and sample.value
    ]
    # All priorities share the connections.
    assert open_ == [("default", what), *([("high", what)] if what == "connections" else [])]
    assert before == 0


def test_retries_left_are_as_many_as_the_breaker_lets_through() -> None:
    one = cluster(retry_budget={"percent": 30, "min_concurrency": 2}, circuit_breaker={"high": {"max_retries": 1}})
    for requests in (0, 5, 10, 11):
        for priority, breaker in one.breakers.items():
            breaker.requests, breaker.retries = requests, 0
            left = value(figures.cluster_families([one]), "meshlet_cluster_retries_left", priority=priority)
            allowed = 0
            while breaker.try_retry():
                allowed += 1
            assert left == allowed
            assert value(figures.cluster_families([one]), "meshlet_cluster_retries_left", priority=priority) == 0


def test_how_an_endpoint_is_doing() -> None:
    one = cluster()
    one.endpoints[0].healthy = False
    one.endpoints[0].checks_total = 5
    found = figures.cluster_families([one])
    assert value(found, "meshlet_endpoint_healthy", endpoint="10.0.0.1:80") == 0
    assert value(found, "meshlet_endpoint_available", endpoint="10.0.0.1:80") == 0
    assert value(found, "meshlet_endpoint_available", endpoint="10.0.0.2:80") == 1
    assert value(found, "meshlet_endpoint_health_checks_total") == 5


def test_how_fast_an_endpoint_answers() -> None:
    one = cluster()
    one.endpoints[0].responded(200, 0.0007)
    one.endpoints[0].responded(503, 100.0)
    found = figures.cluster_families([one])
    data = histogram(found, "meshlet_endpoint_duration_seconds", endpoint="10.0.0.1:80")
    assert (data.count, data.counts[1], data.counts[-1], data.sum) == (2, 1, 1, 100.0007)
    assert value(found, "meshlet_endpoint_failures_total", endpoint="10.0.0.1:80") == 1
    assert value(found, "meshlet_endpoint_failures_total", endpoint="10.0.0.2:80") == 0


def test_the_lag_of_the_loop() -> None:
    loop = FakeLoop()
    lag = LoopLag(cast("AbstractEventLoop", loop), loop.time)
    lag.start()
    loop.advance(0.5)
    assert lag.histogram.counts[0] == 1
    loop._now += 0.57  # held up: what is due after 0.5 s has to wait
    loop.advance(0.0)
    assert lag.histogram.sum == pytest.approx(0.07, abs=1e-4)
    loop.advance(0.6)
    assert sum(lag.histogram.counts) == 3
    lag.stop()
    lag.stop()
    loop.advance(10.0)
    assert sum(lag.histogram.counts) == 3


def test_a_cluster_without_endpoints_has_no_endpoint_samples() -> None:
    found = figures.cluster_families([cluster(endpoints=[], discovery={"file": "none.yaml"})])
    assert value(found, "meshlet_cluster_connections") == 0
    assert [each.name for each in found if not each.samples] == [name for name in LABELS if "_endpoint_" in name]


def test_workers_add_up() -> None:
    """As they come from a worker: by way of msgpack."""
    parts = [decode(encode(families()), list[Family]) for _ in range(3)]
    one, three = families(), total(parts)
    assert [family.name for family in three] == [family.name for family in one]
    spans = {"meshlet_endpoint_idle_timeout_seconds", "meshlet_process_uptime_seconds"}
    measured = {name for name in LABELS if name.startswith("meshlet_process_")}
    for name in LABELS.keys() - measured - spans:
        assert value(three, name) == 3 * value(one, name), name
    for name in spans:
        assert value(three, name) == value(one, name), name


def test_without_descriptors_all_is_told_but_what_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **settings: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("builtins.open", fails)
    monkeypatch.setattr("os.listdir", fails)
    found = figures.process_families(60.0, looked_at())
    assert value(found, "meshlet_process_uptime_seconds") == 60.0
    assert value(found, "meshlet_process_cpu_seconds_total") > 0
    empty = {"meshlet_process_resident_memory_bytes", "meshlet_process_open_fds"}
    assert {family.name for family in found if not family.samples} == empty
