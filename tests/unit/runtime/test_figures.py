"""Every metric has samples with its labels, and adds up over workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from meshlet.config.load import loads
from meshlet.proxy.settings import ListenerStats
from meshlet.runtime.figures import cluster_families, listener_families, process_families, request_families
from meshlet.runtime.messages import decode, encode
from meshlet.runtime.totals import total
from meshlet.telemetry.exposition import prometheus
from meshlet.telemetry.metrics import Family, HistogramData
from meshlet.timers import Timers
from meshlet.upstream.cluster import Cluster
from tests.support.fakes import FakeLoop

if TYPE_CHECKING:
    from meshlet.proxy.listener import Listener


def cluster(**details: Any) -> Cluster:
    config = {
        "listeners": [{"name": "in", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"}],
        "clusters": [{"name": "app", "endpoints": ["10.0.0.1:80", "10.0.0.2:80"], **details}],
    }
    loop = FakeLoop()
    return Cluster(loads(json.dumps(config), "c.yaml").clusters[0], Timers(loop.time, loop.call_later), loop.time)


def busy_stats() -> ListenerStats:
    """Figures of a listener, each of them another number."""
    stats = ListenerStats()
    counts = stats.for_requests("app")
    counts.record(200, "", 0.25, 10, 20)
    counts.record(200, "", 0.5, 10, 20)
    counts.record(503, "UF", 2.0, 1, 2)
    for number, name in enumerate(COUNTED, 1):
        setattr(counts, name, number)
    counts.active = 100
    stats.for_tcp("db").record(0, "", 1.0, 5, 6)
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


def families() -> list[Family]:
    """All there are, of a process that has seen everything."""
    stats = {"in": busy_stats()}
    return [
        *request_families(stats),
        *listener_families(stats, [cast("Listener", Running())]),
        *cluster_families([cluster(outlier_detection={}, health_check={"path": "/"})]),
        *process_families(60.0),
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
REQUEST = {"listener", "cluster"}
LABELS = {
    "meshlet_requests_total": REQUEST | {"response_code", "response_flags"},
    "meshlet_requests_active": REQUEST,
    "meshlet_request_duration_seconds": REQUEST,
    "meshlet_request_bytes_total": REQUEST,
    "meshlet_response_bytes_total": REQUEST,
    **dict.fromkeys(COUNTED.values(), REQUEST),
    "meshlet_tcp_connections_closed_total": REQUEST | {"response_flags"},
    "meshlet_tcp_received_bytes_total": REQUEST,
    "meshlet_tcp_sent_bytes_total": REQUEST,
    "meshlet_listener_connections_total": {"listener"},
    "meshlet_listener_connections_shed_total": {"listener"},
    "meshlet_listener_accept_errors_total": {"listener"},
    "meshlet_listener_detected_total": {"listener", "protocol"},
    "meshlet_listener_connections": {"listener"},
    "meshlet_cluster_requests_active": PRIORITY,
    "meshlet_cluster_requests_pending": PRIORITY,
    "meshlet_cluster_retries_active": PRIORITY,
    "meshlet_cluster_overflows_total": PRIORITY | {"what"},
    "meshlet_cluster_connections": CLUSTER,
    "meshlet_cluster_panics_total": CLUSTER,
    "meshlet_cluster_ejections_total": CLUSTER | {"reason"},
    "meshlet_cluster_ejections_refused_total": CLUSTER,
    "meshlet_cluster_discovery_updates_total": CLUSTER,
    "meshlet_cluster_discovery_failures_total": CLUSTER,
    "meshlet_endpoint_requests_total": ENDPOINT,
    "meshlet_endpoint_requests_active": ENDPOINT,
    "meshlet_endpoint_available": ENDPOINT,
    "meshlet_endpoint_healthy": ENDPOINT,
    "meshlet_endpoint_ejected": ENDPOINT,
    "meshlet_endpoint_health_checks_total": ENDPOINT,
    "meshlet_endpoint_health_check_failures_total": ENDPOINT,
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
    assert value(families(), COUNTED[field], listener="in", cluster="app") == [*COUNTED].index(field) + 1


def test_requests_by_status_and_flag() -> None:
    found = families()
    assert value(found, "meshlet_requests_total", response_code="200", response_flags="-") == 2
    assert value(found, "meshlet_requests_total", response_code="503", response_flags="UF") == 1
    assert value(found, "meshlet_request_duration_seconds") == 3
    assert (value(found, "meshlet_request_bytes_total"), value(found, "meshlet_response_bytes_total")) == (21, 42)


def test_breakers_by_priority() -> None:
    one = cluster(circuit_breaker={"max_requests": 1, "high": {"max_requests": 2}})
    one.breakers["default"].enter()
    one.breakers["high"].enter()
    one.breakers["high"].enter()
    one.breakers["high"].overflow()
    found = cluster_families([one])
    assert value(found, "meshlet_cluster_requests_active", priority="default") == 1
    assert value(found, "meshlet_cluster_requests_active", priority="high") == 2
    assert value(found, "meshlet_cluster_overflows_total", priority="high", what="requests") == 1
    assert value(found, "meshlet_cluster_overflows_total", priority="default") == 0


def test_how_an_endpoint_is_doing() -> None:
    one = cluster()
    one.endpoints[0].healthy = False
    one.endpoints[0].checks_total = 5
    found = cluster_families([one])
    assert value(found, "meshlet_endpoint_healthy", endpoint="10.0.0.1:80") == 0
    assert value(found, "meshlet_endpoint_available", endpoint="10.0.0.1:80") == 0
    assert value(found, "meshlet_endpoint_available", endpoint="10.0.0.2:80") == 1
    assert value(found, "meshlet_endpoint_health_checks_total") == 5


def test_a_cluster_without_endpoints_has_no_endpoint_samples() -> None:
    found = cluster_families([cluster(endpoints=[], discovery={"file": "none.yaml"})])
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
