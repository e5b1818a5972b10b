"""The metrics of one process, read from the counters that the data plane keeps."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Literal

from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from meshlet.proxy.listener import Listener
    from meshlet.proxy.settings import ListenerStats
    from meshlet.upstream.cluster import Cluster

_PAGE = os.sysconf("SC_PAGE_SIZE")


def request_families(stats: dict[str, ListenerStats]) -> list[Family]:
    """What happened to requests and TCP connections, by listener and cluster."""
    requests = Family("meshlet_requests_total", "counter", "Requests that have ended.")
    active = Family("meshlet_requests_active", "gauge", "Requests in flight.")
    duration = Family("meshlet_request_duration_seconds", "histogram", "From the request head to the last byte.")
    received = Family("meshlet_request_bytes_total", "counter", "Bytes of request bodies.")
    sent = Family("meshlet_response_bytes_total", "counter", "Bytes of response bodies.")
    counted = {
        field: Family(f"meshlet_{name}_total", "counter", text)
        for field, (name, text) in {
            "retries": ("retries", "Requests sent again."),
            "retries_successful": ("retries_successful", "Requests answered well after a retry."),
            "retries_exhausted": ("retries_exhausted", "Requests that failed after all tries of their route."),
            "retries_over_budget": ("retries_over_budget", "Requests not sent again: the retry budget was spent."),
            "try_timeouts": ("try_timeouts", "Tries without a response within their own timeout."),
            "hedges": ("hedges", "Second tries beside a first one."),
            "hedges_won": ("hedges_won", "Second tries that were answered first."),
            "mirrors": ("mirrored_requests", "Copies begun for another cluster."),
            "mirrors_dropped": ("mirrored_requests_dropped", "Copies given up."),
        }.items()
    }
    tcp = Family("meshlet_tcp_connections_closed_total", "counter", "TCP connections that have ended.")
    tcp_received = Family("meshlet_tcp_received_bytes_total", "counter", "Bytes from TCP clients.")
    tcp_sent = Family("meshlet_tcp_sent_bytes_total", "counter", "Bytes to TCP clients.")
    for name, listener in stats.items():
        for cluster, counts in listener.requests.items():
            labels = {"listener": name, "cluster": cluster}
            for (status, flag), count in counts.codes.items():
                requests.add(count, **labels, response_code=str(status), response_flags=flag or "-")
            active.add(counts.active, **labels)
            duration.add(counts.duration.data(), **labels)
            received.add(counts.received, **labels)
            sent.add(counts.sent, **labels)
            for field, family in counted.items():
                family.add(getattr(counts, field), **labels)
        for cluster, counts in listener.tcp.items():
            labels = {"listener": name, "cluster": cluster}
            for (_, flag), count in counts.codes.items():
                tcp.add(count, **labels, response_flags=flag or "-")
            tcp_received.add(counts.received, **labels)
            tcp_sent.add(counts.sent, **labels)
    return [requests, active, duration, received, sent, *counted.values(), tcp, tcp_received, tcp_sent]


def listener_families(stats: dict[str, ListenerStats], listeners: Iterable[Listener]) -> list[Family]:
    """Connections of clients."""
    accepted = Family("meshlet_listener_connections_total", "counter", "Connections accepted.")
    shed = Family("meshlet_listener_connections_shed_total", "counter", "Connections closed: too many were open.")
    errors = Family("meshlet_listener_accept_errors_total", "counter", "Connections that could not be accepted.")
    detected = Family("meshlet_listener_detected_total", "counter", "What connections of auto listeners were.")
    connections = Family("meshlet_listener_connections", "gauge", "Connections open.")
    for name, listener in stats.items():
        accepted.add(listener.accepted_total, listener=name)
        shed.add(listener.shed_total, listener=name)
        errors.add(listener.accept_errors_total, listener=name)
        for protocol, count in listener.detected.items():
            detected.add(count, listener=name, protocol=protocol)
    open_: dict[str, int] = dict.fromkeys(stats, 0)
    for running in listeners:
        open_[running.settings.name] += running.connections
    for name, number in open_.items():
        connections.add(number, listener=name)
    return [accepted, shed, errors, detected, connections]


def cluster_families(clusters: Collection[Cluster]) -> list[Family]:
    """What clusters hold, and how they choose."""
    active = Family("meshlet_cluster_requests_active", "gauge", "Requests in flight.")
    pending = Family("meshlet_cluster_requests_pending", "gauge", "Requests that wait for a place among connections.")
    retries = Family("meshlet_cluster_retries_active", "gauge", "Retries in flight, their pauses included.")
    overflows = Family(
        "meshlet_cluster_overflows_total", "counter", "Times that a bound of the circuit breaker was met."
    )
    connections = Family("meshlet_cluster_connections", "gauge", "Connections to all endpoints.")
    panics = Family("meshlet_cluster_panics_total", "counter", "Requests sent without regard to health.")
    ejections = Family("meshlet_cluster_ejections_total", "counter", "Endpoints taken out by outlier detection.")
    refused = Family(
        "meshlet_cluster_ejections_refused_total", "counter", "Endpoints not taken out: too many were out already."
    )
    updates = Family("meshlet_cluster_discovery_updates_total", "counter", "Answers of the cluster's discovery.")
    failures = Family("meshlet_cluster_discovery_failures_total", "counter", "Failures of the cluster's discovery.")
    for cluster in clusters:
        name = cluster.name
        for priority, breaker in cluster.breakers.items():
            labels = {"cluster": name, "priority": priority}
            active.add(breaker.requests, **labels)
            pending.add(breaker.pending, **labels)
            retries.add(breaker.retries, **labels)
            for what, count in breaker.overflows.items():
                overflows.add(count, **labels, what=what)
        connections.add(cluster.connections.count, cluster=name)
        panics.add(cluster.panics_total, cluster=name)
        for reason, count in cluster.ejections_total.items():
            ejections.add(count, cluster=name, reason=reason)
        refused.add(cluster.ejections_refused_total, cluster=name)
        updates.add(cluster.updates_total, cluster=name)
        failures.add(cluster.update_failures_total, cluster=name)
    return [
        active, pending, retries, overflows, connections, panics, ejections, refused, updates, failures,
        *endpoint_families(clusters),
    ]  # fmt: skip


def endpoint_families(clusters: Iterable[Cluster]) -> list[Family]:
    """Requests and connections to each endpoint, and how it is doing."""
    families = {
        field: Family(f"meshlet_endpoint_{name}", kind, text) for field, (name, kind, text) in _OF_ENDPOINT.items()
    }
    for cluster in clusters:
        for endpoint in cluster.endpoints:
            labels = {"cluster": cluster.name, "endpoint": endpoint.name}
            for field, family in families.items():
                owner = endpoint if hasattr(endpoint, field) else endpoint.pool
                family.add(float(getattr(owner, field)), **labels)
    return list(families.values())


_Kind = Literal["counter", "gauge"]

#: by the attribute of the endpoint, or else of its pool
_OF_ENDPOINT: dict[str, tuple[str, _Kind, str]] = {
    "requests_total": ("requests_total", "counter", "Requests sent."),
    "active": ("requests_active", "gauge", "Requests in flight."),
    # Each worker finds out for itself, so these add up over workers.
    "available": ("available", "gauge", "In how many processes it may be chosen."),
    "healthy": ("healthy", "gauge", "In how many processes its health checks pass, or there are none."),
    "ejected": ("ejected", "gauge", "In how many processes outlier detection has taken it out."),
    "checks_total": ("health_checks_total", "counter", "Health checks that were made."),
    "check_failures_total": ("health_check_failures_total", "counter", "Health checks that failed."),
    "open": ("connections", "gauge", "Connections open."),
    "idle": ("connections_idle", "gauge", "Connections without a request."),
    "pending": ("requests_pending", "gauge", "Requests that wait for a connection."),
    "idle_timeout": ("idle_timeout_seconds", "gauge", "How long a connection is kept without a request."),
    "opened_total": ("connections_total", "counter", "Connections opened."),
    "connect_failures_total": ("connect_failures_total", "counter", "Connections that could not be opened."),
    "overflows_total": (
        "overflows_total",
        "counter",
        "Requests refused: no connection was to be had in time, or at all.",
    ),
    "reused_total": ("connections_reused_total", "counter", "Requests on a pooled connection."),
    "stale_total": ("connections_stale_total", "counter", "Pooled connections that the app had closed."),
}


def process_families(uptime: float) -> list[Family]:
    """What the process itself costs."""
    cpu = Family("meshlet_process_cpu_seconds_total", "counter", "User and system time.")
    memory = Family("meshlet_process_resident_memory_bytes", "gauge", "Resident memory.")
    files = Family("meshlet_process_open_fds", "gauge", "Open file descriptors.")
    up = Family("meshlet_process_uptime_seconds", "gauge", "Time since the start.")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu.add(usage.ru_utime + usage.ru_stime)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        memory.add(int(statm.read().split()[1]) * _PAGE)
    files.add(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    up.add(uptime)
    return [cpu, memory, files, up]
