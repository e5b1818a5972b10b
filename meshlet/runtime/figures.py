"""The metrics of one process, read from the counters that the data plane keeps."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        for cluster, counts in listener.tcp.items():
            labels = {"listener": name, "cluster": cluster}
            for (_, flag), count in counts.codes.items():
                tcp.add(count, **labels, response_flags=flag or "-")
            tcp_received.add(counts.received, **labels)
            tcp_sent.add(counts.sent, **labels)
    return [requests, active, duration, received, sent, tcp, tcp_received, tcp_sent]


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


def cluster_families(clusters: Iterable[Cluster]) -> list[Family]:
    """Connections to endpoints."""
    gauges = {
        "meshlet_endpoint_connections": ("Connections open.", "open"),
        "meshlet_endpoint_connections_idle": ("Connections without a request.", "idle"),
        "meshlet_endpoint_requests_pending": ("Requests that wait for a connection.", "pending"),
        "meshlet_endpoint_idle_timeout_seconds": ("How long a connection is kept without a request.", "idle_timeout"),
    }
    counters = {
        "meshlet_endpoint_connections_total": ("Connections opened.", "opened_total"),
        "meshlet_endpoint_connect_failures_total": ("Connections that could not be opened.", "connect_failures_total"),
        "meshlet_endpoint_overflows_total": ("Requests refused: the circuit breaker is full.", "overflows_total"),
        "meshlet_endpoint_connections_reused_total": ("Requests on a pooled connection.", "reused_total"),
        "meshlet_endpoint_connections_stale_total": ("Pooled connections that the app had closed.", "stale_total"),
    }
    requests = Family("meshlet_endpoint_requests_total", "counter", "Requests sent.")
    active = Family("meshlet_endpoint_requests_active", "gauge", "Requests in flight.")
    of_pool = {name: (Family(name, "gauge", text), field) for name, (text, field) in gauges.items()}
    of_pool |= {name: (Family(name, "counter", text), field) for name, (text, field) in counters.items()}
    for cluster in clusters:
        for endpoint in cluster.endpoints:
            labels = {"cluster": cluster.name, "endpoint": endpoint.name}
            requests.add(endpoint.requests_total, **labels)
            active.add(endpoint.active, **labels)
            for family, field in of_pool.values():
                family.add(getattr(endpoint.pool, field), **labels)
    return [requests, active, *(family for family, _ in of_pool.values())]


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
