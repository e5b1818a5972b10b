"""What clusters and their endpoints hold, how they are chosen, and how they are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from meshlet.telemetry.metrics import Family, HistogramData, Sample

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from meshlet.upstream.cluster import Cluster
    from meshlet.upstream.endpoint import Endpoint

_Kind = Literal["counter", "gauge"]


def cluster_families(clusters: Collection[Cluster]) -> list[Family]:
    """Return the figures of clusters and of their endpoints."""
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
        connections.add(cluster.connections.count, cluster=name)
        panics.add(cluster.panics_total, cluster=name)
        for reason, count in cluster.ejections_total.items():
            ejections.add(count, cluster=name, reason=reason)
        refused.add(cluster.ejections_refused_total, cluster=name)
        updates.add(cluster.updates_total, cluster=name)
        failures.add(cluster.update_failures_total, cluster=name)
    return [
        *_breaker_families(clusters),
        connections, panics, ejections, refused, updates, failures,
        *_endpoint_families(clusters),
    ]  # fmt: skip


# --- circuit breakers ---


def _breaker_families(clusters: Iterable[Cluster]) -> list[Family]:
    active = Family("meshlet_cluster_requests_active", "gauge", "Requests in flight.")
    pending = Family("meshlet_cluster_requests_pending", "gauge", "Requests that wait for a place among connections.")
    retries = Family("meshlet_cluster_retries_active", "gauge", "Retries in flight, their pauses included.")
    left = Family("meshlet_cluster_retries_left", "gauge", "Further retries that the retry budget allows right now.")
    open_ = Family(
        "meshlet_cluster_breaker_open", "gauge", "In how many processes a bound of the circuit breaker is reached."
    )
    overflows = Family(
        "meshlet_cluster_overflows_total", "counter", "Times that a bound of the circuit breaker was met."
    )
    for cluster in clusters:
        for priority, breaker in cluster.breakers.items():
            labels = (("cluster", cluster.name), ("priority", priority))
            retries_left = breaker.retries_left
            active.samples.append(Sample(labels, breaker.requests))
            pending.samples.append(Sample(labels, breaker.pending))
            retries.samples.append(Sample(labels, breaker.retries))
            left.samples.append(Sample(labels, retries_left))
            reached = {
                "requests": breaker.requests >= breaker.max_requests,
                "pending": breaker.pending >= breaker.max_pending,
                "retries": not retries_left,
                "connections": cluster.connections.count >= cluster.connections.limit,
            }
            for what, count in breaker.overflows.items():
                bound = (*labels, ("what", what))
                open_.samples.append(Sample(bound, int(reached[what])))
                overflows.samples.append(Sample(bound, count))
    return [active, pending, retries, left, open_, overflows]


# --- endpoints ---

#: by the attribute of the endpoint
_OF_ENDPOINT: dict[str, tuple[str, _Kind, str]] = {
    "requests_total": ("requests_total", "counter", "Requests sent."),
    "failures_total": ("failures_total", "counter", "Requests that were answered 5xx, or not at all."),
    "active": ("requests_active", "gauge", "Requests in flight."),
    # Each worker finds out for itself, so these add up over workers.
    "available": ("available", "gauge", "In how many processes it may be chosen."),
    "healthy": ("healthy", "gauge", "In how many processes its health checks pass, or there are none."),
    "ejected": ("ejected", "gauge", "In how many processes outlier detection has taken it out."),
    "checks_total": ("health_checks_total", "counter", "Health checks that were made."),
    "check_failures_total": ("health_check_failures_total", "counter", "Health checks that failed."),
}

#: by the attribute of its pool
_OF_POOL: dict[str, tuple[str, _Kind, str]] = {
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
    "stale_total": ("connections_stale_total", "counter", "Pooled connections that the app had closed or written to."),
}


def _endpoint_families(clusters: Iterable[Cluster]) -> list[Family]:
    of_endpoint, of_pool = _made(_OF_ENDPOINT), _made(_OF_POOL)
    duration = Family(
        "meshlet_endpoint_duration_seconds", "histogram", "From the request on a connection to the response head."
    )
    for cluster in clusters:
        for endpoint in cluster.endpoints:
            labels = (("cluster", cluster.name), ("endpoint", endpoint.name))
            for field, family in of_endpoint.items():
                family.samples.append(Sample(labels, _plain(getattr(endpoint, field))))
            for field, family in of_pool.items():
                family.samples.append(Sample(labels, _plain(getattr(endpoint.pool, field))))
            if any(endpoint.durations):
                duration.samples.append(Sample(labels, _durations(endpoint)))
    return [*of_endpoint.values(), duration, *of_pool.values()]


def _made(described: dict[str, tuple[str, _Kind, str]]) -> dict[str, Family]:
    return {field: Family(f"meshlet_endpoint_{name}", kind, text) for field, (name, kind, text) in described.items()}


def _plain(value: float) -> float:
    # Whether is 1 or 0; a duration of the config is a float with another name.
    return int(value) if isinstance(value, int) else float(value)


def _durations(endpoint: Endpoint) -> HistogramData:
    return HistogramData(endpoint.bounds, tuple(endpoint.durations), endpoint.seconds)
