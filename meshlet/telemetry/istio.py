"""Istio's standard metrics: its labels on the series of requests and TCP connections, and its names if asked for.

https://istio.io/latest/docs/reference/config/metrics/ says what each is. Workers send these families with the few
labels that tell the series apart; whoever shows them adds the others here, which are the same for all series
between a listener and a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlet.telemetry.metrics import Exemplar, Family, HistogramData, Sample
from meshlet.telemetry.workload import UNKNOWN, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.config.schema import Cluster, Config
    from meshlet.telemetry.metrics import Labels

#: Istio's names by ours
STANDARD = {
    "meshlet_requests_total": "istio_requests_total",
    "meshlet_request_duration_seconds": "istio_request_duration_milliseconds",
    "meshlet_request_bytes": "istio_request_bytes",
    "meshlet_response_bytes": "istio_response_bytes",
    "meshlet_tcp_connections_opened_total": "istio_tcp_connections_opened_total",
    "meshlet_tcp_connections_closed_total": "istio_tcp_connections_closed_total",
    "meshlet_tcp_sent_bytes_total": "istio_tcp_sent_bytes_total",
    "meshlet_tcp_received_bytes_total": "istio_tcp_received_bytes_total",
}

_CLUSTER_DOMAIN = "svc.cluster.local"
_LATEST = "latest"  # Istio's word for a revision that nobody has named

# The labels that series come with, in this order; those behind them differ between series of the same four.
_KEY = 4  # reporter, listener, route, cluster


class Service(NamedTuple):
    """What a service is called."""

    host: str = UNKNOWN
    name: str = UNKNOWN
    namespace: str = UNKNOWN


class StandardMetrics:
    """Completes the standard metrics. `configure` tells it the config and who the sidecar works for, again at a reload.

    A cluster that a reload has removed keeps its labels, as its counters stay.
    """

    def __init__(self, config: Config, identity: Identity) -> None:
        self._clusters: dict[str, Cluster] = {}
        self._labels: dict[Labels, Labels] = {}
        self.configure(config, identity)

    def configure(self, config: Config, identity: Identity) -> None:
        """Use the names of this config from now on."""
        self._identity = identity
        self._istio = config.telemetry.metrics.naming == "istio"
        self._clusters |= {cluster.name: cluster for cluster in config.clusters}
        self._labels.clear()

    def complete(self, families: Iterable[Family]) -> list[Family]:
        """Return the families with all labels on the standard metrics; the others stay as they are."""
        return [self._complete(family) if family.name in STANDARD else family for family in families]

    def _complete(self, family: Family) -> Family:
        samples = [
            Sample(self._shared(sample.labels[:_KEY]) + sample.labels[_KEY:], sample.value) for sample in family.samples
        ]
        if not self._istio:
            return Family(family.name, family.kind, family.help, samples)
        if family.name == "meshlet_request_duration_seconds":
            samples = [Sample(sample.labels, _milliseconds(sample.value)) for sample in samples]
        return Family(STANDARD[family.name], family.kind, family.help, samples)

    def _shared(self, key: Labels) -> Labels:
        known = self._labels.get(key)
        if known is None:
            known = self._labels[key] = self._make(key)
        return known

    def _make(self, key: Labels) -> Labels:
        given = dict(key)
        inbound, cluster = given["reporter"] == "destination", self._clusters.get(given["cluster"])
        us, them = _workload(self._identity), _workload(Identity())  # without mTLS, nobody says who the peer is
        if inbound:
            source, destination = them, us
            service = _own_service(cluster, self._identity)
        else:
            source, destination = us, them
            service = service_of(cluster) if cluster is not None else Service()
        return (
            *key,
            *((f"source_{name}", value) for name, value in source.items()),
            *((f"destination_{name}", value) for name, value in destination.items()),
            ("destination_service", service.host),
            ("destination_service_name", service.name),
            ("destination_service_namespace", service.namespace),
            # Only who accepts a connection knows that it is in clear; so does Istio.
            ("connection_security_policy", "none" if inbound else UNKNOWN),
        )


def service_of(cluster: Cluster) -> Service:
    """Return the service behind a cluster: as the config calls it, else what discovery asks for, else its name."""
    if cluster.service is not None:
        return named(cluster.service)
    discovery = cluster.discovery
    if discovery is not None and discovery.dns is not None:
        return named(discovery.dns.host)
    if discovery is not None and discovery.srv is not None:
        labels = discovery.srv.rstrip(".").split(".")
        return named(".".join(label for label in labels if not label.startswith("_")))
    return Service(cluster.name, cluster.name)


def named(host: str) -> Service:
    """Return the service with this host name; `NAME.NAMESPACE.svc…` says where it is."""
    host = host.rstrip(".")
    labels = host.split(".")
    if len(labels) > 2 and labels[2] == "svc":
        return Service(host, labels[0], labels[1])
    return Service(host, host)


def _own_service(cluster: Cluster | None, identity: Identity) -> Service:
    """The service that the sidecar's app serves: as the config calls it, else like the workload."""
    if cluster is not None and cluster.service is not None:
        return named(cluster.service)
    if UNKNOWN in (identity.name, identity.namespace):
        return Service(identity.name, identity.name, identity.namespace)
    return named(f"{identity.name}.{identity.namespace}.{_CLUSTER_DOMAIN}")


def _workload(identity: Identity) -> dict[str, str]:
    """The labels of one side."""
    return {
        "workload": identity.name,
        "workload_namespace": identity.namespace,
        "principal": UNKNOWN,
        "app": identity.app,
        "version": identity.version,
        "cluster": identity.cluster,
        "canonical_service": identity.app,
        "canonical_revision": identity.version if identity.version != UNKNOWN else _LATEST,
    }


def _milliseconds(value: float | HistogramData) -> HistogramData:
    assert isinstance(value, HistogramData)
    return HistogramData(
        tuple(_thousandfold(bound) for bound in value.bounds),
        value.counts,
        value.sum * 1000,
        tuple(Exemplar(each.trace_id, _thousandfold(each.value), each.time) for each in value.exemplars),
    )


def _thousandfold(seconds: float) -> float:
    # Not 2.5000000000000004: it becomes the name of a bucket.
    return round(seconds * 1000, 9)
