from __future__ import annotations

import pytest

from meshlet.config.schema import Workload
from meshlet.telemetry.workload import Identity, resolve, workload_of_pod


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("shop-7d4b9c6f5d-x2x8q", "shop"),
        ("shop-cart-5bf5c9d7f-zz9p4", "shop-cart"),
        ("shop-29384755-x2x8q", "shop"),  # a CronJob's
        ("agent-x2x8q", "agent"),  # a DaemonSet's
        ("db-0", "db"),  # a StatefulSet's
        ("db-12", "db"),
        ("my-db-0", "my-db"),
        ("shop", "shop"),
        ("shop-checkout", "shop-checkout"),  # has vowels, which no random part has
        ("shop-v01", "shop-v01"),
        ("", ""),
    ],
)
def test_a_pod_s_name_without_what_its_controller_added(pod: str, workload: str) -> None:
    assert workload_of_pod(pod) == workload


def test_all_from_the_environment() -> None:
    env = {
        "MESHLET_WORKLOAD_NAME": "shop",
        "MESHLET_WORKLOAD_NAMESPACE": "sales",
        "MESHLET_APP": "front",
        "MESHLET_VERSION": "v2",
        "MESHLET_CLUSTER": "eu",
        "POD_NAME": "shop-7d4b9c6f5d-x2x8q",
        "NODE_NAME": "n1",
    }
    assert resolve(Workload(), env) == Identity("shop", "sales", "front", "v2", "eu", "shop-7d4b9c6f5d-x2x8q", "n1")


def test_the_config_goes_before_the_environment() -> None:
    config = Workload(name="a", namespace="b", app="c", version="d", cluster="e")
    env = dict.fromkeys(
        ("MESHLET_WORKLOAD_NAME", "MESHLET_WORKLOAD_NAMESPACE", "MESHLET_APP", "MESHLET_VERSION", "MESHLET_CLUSTER"),
        "x",
    )
    assert resolve(config, env)[:5] == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"OTEL_SERVICE_NAME": "otel", "POD_NAME": "pod-0"}, "otel"),
        ({"MESHLET_WORKLOAD_NAME": "mine", "OTEL_SERVICE_NAME": "otel"}, "mine"),
        ({"MESHLET_WORKLOAD_NAME": "", "POD_NAME": "pod-0"}, "pod"),
        ({}, "unknown"),
    ],
)
def test_the_name_is_the_app_too(env: dict[str, str], name: str) -> None:
    found = resolve(Workload(), env)
    assert (found.name, found.app) == (name, name)


def test_what_nobody_says_is_unknown() -> None:
    assert set(resolve(Workload(), {})) == {"unknown"}
    assert resolve(Workload(), {"POD_NAMESPACE": "sales"}).namespace == "sales"
