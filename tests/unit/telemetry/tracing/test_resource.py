from __future__ import annotations

import pytest

from meshlet import __version__
from meshlet.config.schema import Workload
from meshlet.telemetry.tracing.resource import resource_attributes

POD = {
    "POD_NAME": "shop-7d4b9c6f5d-x2x8q",
    "POD_NAMESPACE": "sales",
    "POD_UID": "0c6f8f5e",
    "POD_IP": "10.0.0.1",
    "NODE_NAME": "n1",
    "CONTAINER_NAME": "meshlet",
    "MESHLET_CLUSTER": "eu",
    "MESHLET_VERSION": "v2",
}


def test_a_pod_by_the_downward_api() -> None:
    found = resource_attributes({}, Workload(), POD)
    instance = found.pop("service.instance.id")
    assert found == {
        "service.name": "shop",
        "service.namespace": "sales",
        "service.version": "v2",
        "k8s.cluster.name": "eu",
        "k8s.namespace.name": "sales",
        "k8s.node.name": "n1",
        "k8s.pod.name": "shop-7d4b9c6f5d-x2x8q",
        "k8s.pod.uid": "0c6f8f5e",
        "k8s.pod.ip": "10.0.0.1",
        "k8s.container.name": "meshlet",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.distro.name": "meshlet",
        "telemetry.distro.version": __version__,
    }
    assert instance == resource_attributes({}, Workload(), POD)["service.instance.id"], "all workers are one instance"
    for name in ("POD_UID", "CONTAINER_NAME"):
        assert instance != resource_attributes({}, Workload(), POD | {name: "other"})["service.instance.id"]


def test_outside_kubernetes() -> None:
    found = resource_attributes({}, Workload(), {}, "host")
    assert found["service.name"] == "unknown_service"
    assert found.keys() == {
        "service.name",
        "service.instance.id",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.distro.name",
        "telemetry.distro.version",
    }
    assert found["service.instance.id"] != resource_attributes({}, Workload(), {}, "other")["service.instance.id"]


@pytest.mark.parametrize(
    ("further", "workload", "env", "name"),
    [
        ({}, Workload(), {"POD_NAME": "pod-0"}, "pod"),
        ({}, Workload(), {"POD_NAME": "pod-0", "OTEL_RESOURCE_ATTRIBUTES": "service.name=listed"}, "listed"),
        ({}, Workload(), {"OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "service.name=listed"}, "env"),
        ({}, Workload(name="config"), {"OTEL_SERVICE_NAME": "env"}, "config"),
        ({"service.name": "attribute"}, Workload(name="config"), {"OTEL_SERVICE_NAME": "env"}, "attribute"),
    ],
)
def test_who_names_the_service(further: dict[str, str], workload: Workload, env: dict[str, str], name: str) -> None:
    assert resource_attributes(further, workload, env)["service.name"] == name


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (" a = 1 , b=x%2Cy=z ,", {"a": "1", "b": "x,y=z"}),
        ("k8s.pod.name=mine", {"k8s.pod.name": "mine"}),
        ("", {}),
        ("a=1,b", {}),
        ("a=1,=2", {}),
    ],
)
def test_attributes_listed_in_the_environment(listed: str, found: dict[str, str]) -> None:
    plain = resource_attributes({}, Workload(), {})
    assert resource_attributes({}, Workload(), {"OTEL_RESOURCE_ATTRIBUTES": listed}) == plain | found


def test_an_attribute_can_be_taken_out() -> None:
    assert "k8s.pod.ip" not in resource_attributes({"k8s.pod.ip": ""}, Workload(), POD)
