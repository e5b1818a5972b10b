"""Istio's standard metrics: their names and labels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshlet.config.load import loads
from meshlet.telemetry.istio import STANDARD, Service, StandardMetrics, named, service_of
from meshlet.telemetry.metrics import Exemplar, Family, HistogramData
from meshlet.telemetry.workload import Identity

IDENTITY = Identity("reviews-v2", "shop", "reviews", "v2", "east", "reviews-v2-x", "node")

#: https://istio.io/latest/docs/reference/config/metrics/
ISTIO = {
    "reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version",
    "source_cluster", "source_canonical_service", "source_canonical_revision", "destination_workload",
    "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
    "destination_service", "destination_service_name", "destination_service_namespace", "destination_cluster",
    "destination_canonical_service", "destination_canonical_revision", "request_protocol", "response_code",
    "response_flags", "connection_security_policy",
}  # fmt: skip


def config(naming: str = "meshlet", **cluster: Any) -> Any:
    document = {
        "listeners": [
            {"name": "in", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": cluster.get("name", "app")}
        ],
        "clusters": [{"name": "app", **({"endpoints": ["10.0.0.1:80"]} | cluster)}],
        "telemetry": {"metrics": {"naming": naming}},
    }
    return loads(json.dumps(document), "c.yaml")


def sample(reporter: str = "destination", cluster: str = "app") -> Family:
    family = Family("meshlet_requests_total", "counter", "Requests.")
    family.add(
        3,
        reporter=reporter,
        listener="in",
        route="all",
        cluster=cluster,
        request_protocol="http",
        response_code="200",
        response_flags="-",
    )
    return family


def labels(standard: StandardMetrics, family: Family) -> dict[str, str]:
    [completed] = standard.complete([family])
    [found] = completed.samples
    assert len(dict(found.labels)) == len(found.labels)
    return dict(found.labels)


def test_inbound_the_app_is_the_destination() -> None:
    found = labels(StandardMetrics(config(), IDENTITY), sample())
    assert found.keys() == ISTIO | {"listener", "route", "cluster"}
    assert found == {
        "reporter": "destination",
        "listener": "in",
        "route": "all",
        "cluster": "app",
        "request_protocol": "http",
        "response_code": "200",
        "response_flags": "-",
        "source_workload": "unknown",
        "source_workload_namespace": "unknown",
        "source_principal": "unknown",
        "source_app": "unknown",
        "source_version": "unknown",
        "source_cluster": "unknown",
        "source_canonical_service": "unknown",
        "source_canonical_revision": "latest",
        "destination_workload": "reviews-v2",
        "destination_workload_namespace": "shop",
        "destination_principal": "unknown",
        "destination_app": "reviews",
        "destination_version": "v2",
        "destination_cluster": "east",
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": "v2",
        "destination_service": "reviews-v2.shop.svc.cluster.local",
        "destination_service_name": "reviews-v2",
        "destination_service_namespace": "shop",
        "connection_security_policy": "none",
    }


def test_outbound_the_app_is_the_source() -> None:
    standard = StandardMetrics(config(service="ratings.prod.svc.cluster.local"), IDENTITY)
    found = labels(standard, sample("source"))
    assert found.keys() == ISTIO | {"listener", "route", "cluster"}
    assert {name: value for name, value in found.items() if name.startswith("source_")} == {
        "source_workload": "reviews-v2",
        "source_workload_namespace": "shop",
        "source_principal": "unknown",
        "source_app": "reviews",
        "source_version": "v2",
        "source_cluster": "east",
        "source_canonical_service": "reviews",
        "source_canonical_revision": "v2",
    }
    assert {name: value for name, value in found.items() if name.startswith("destination_service")} == {
        "destination_service": "ratings.prod.svc.cluster.local",
        "destination_service_name": "ratings",
        "destination_service_namespace": "prod",
    }
    assert (found["destination_workload"], found["connection_security_policy"]) == ("unknown", "unknown")


def test_inbound_the_config_may_say_what_the_service_is() -> None:
    standard = StandardMetrics(config(service="front.web.svc"), IDENTITY)
    found = labels(standard, sample())
    assert (found["destination_service"], found["destination_service_namespace"]) == ("front.web.svc", "web")


@pytest.mark.parametrize(
    ("identity", "service"),
    [
        (Identity(), ("unknown", "unknown", "unknown")),
        (Identity(name="a"), ("a", "a", "unknown")),
        (Identity(name="a", namespace="b"), ("a.b.svc.cluster.local", "a", "b")),
    ],
)
def test_what_nobody_knows_is_not_made_up(identity: Identity, service: tuple[str, str, str]) -> None:
    found = labels(StandardMetrics(config(), identity), sample(cluster=""))
    assert tuple(found[f"destination_service{part}"] for part in ("", "_name", "_namespace")) == service
    assert found["destination_canonical_revision"] == "latest"


@pytest.mark.parametrize(
    ("details", "service"),
    [
        ({}, Service("app", "app")),
        ({"service": "a.b.svc.cluster.local"}, Service("a.b.svc.cluster.local", "a", "b")),
        ({"service": "api.example.com"}, Service("api.example.com", "api.example.com")),
        ({"endpoints": [], "discovery": {"dns": "a.b.svc:80"}}, Service("a.b.svc", "a", "b")),
        (
            {"endpoints": [], "discovery": {"srv": "_http._tcp.a.b.svc.cluster.local"}},
            Service("a.b.svc.cluster.local", "a", "b"),
        ),
        ({"endpoints": [], "discovery": {"file": "x.yaml"}}, Service("app", "app")),
        ({"service": "a.b.svc", "endpoints": [], "discovery": {"dns": "c.d.svc:80"}}, Service("a.b.svc", "a", "b")),
    ],
)
def test_the_service_behind_a_cluster(details: dict[str, Any], service: Service) -> None:
    assert service_of(config(**details).clusters[0]) == service


@pytest.mark.parametrize("host", ["svc", "a.svc", "a.b", "a.b.c.svc"])
def test_a_name_of_another_form_has_no_namespace(host: str) -> None:
    assert named(host) == Service(host, host)


def test_a_request_without_a_cluster_goes_nowhere_known() -> None:
    found = labels(StandardMetrics(config(), IDENTITY), sample("source", cluster=""))
    assert found["destination_service"] == "unknown"


def test_a_cluster_that_is_gone_keeps_its_labels() -> None:
    standard = StandardMetrics(config(service="a.b.svc"), IDENTITY)
    other = config(name="other")
    standard.configure(other, IDENTITY)
    assert labels(standard, sample("source"))["destination_service"] == "a.b.svc"


def test_a_reload_changes_labels() -> None:
    standard = StandardMetrics(config(service="a.b.svc"), IDENTITY)
    assert labels(standard, sample("source"))["source_workload"] == "reviews-v2"
    standard.configure(config(service="c.d.svc"), IDENTITY._replace(name="new"))
    found = labels(standard, sample("source"))
    assert (found["destination_service"], found["source_workload"]) == ("c.d.svc", "new")


def test_what_all_series_of_a_pair_share_is_made_once() -> None:
    standard = StandardMetrics(config(), IDENTITY)
    [first], [second] = standard.complete([sample()]), standard.complete([sample()])
    shared = [
        [value for _, value in each.samples[0].labels if value.endswith("cluster.local")] for each in (first, second)
    ]
    assert shared[0][0] is shared[1][0]


def test_other_families_stay_as_they_are() -> None:
    family = Family("meshlet_ready", "gauge", "Ready.")
    for naming in ("meshlet", "istio"):
        assert StandardMetrics(config(naming), IDENTITY).complete([family]) == [family]


def test_the_names_of_istio() -> None:
    standard = StandardMetrics(config("istio"), IDENTITY)
    for ours, theirs in STANDARD.items():
        kind: Any = "counter" if ours.endswith("_total") else "histogram"
        assert [family.name for family in standard.complete([Family(ours, kind, "Help.")])] == [theirs]


def test_istio_counts_milliseconds() -> None:
    family = Family("meshlet_request_duration_seconds", "histogram", "Time.")
    data = HistogramData((0.0005, 0.0025, 0.07), (1, 2, 3, 4), 1.5, (Exemplar("ab", 0.07, 5.0),))
    family.add(data, reporter="destination", listener="in", route="", cluster="app", response_code="200")
    [completed] = StandardMetrics(config("istio"), IDENTITY).complete([family])
    assert completed.name == "istio_request_duration_milliseconds"
    value = completed.samples[0].value
    assert value == HistogramData((0.5, 2.5, 70.0), (1, 2, 3, 4), 1500.0, (Exemplar("ab", 70.0, 5.0),))
    assert isinstance(value, HistogramData)
    assert value.examples().keys() == data.examples().keys()
    [same] = StandardMetrics(config(), IDENTITY).complete([family])
    assert same.samples[0].value == data
