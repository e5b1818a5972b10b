from __future__ import annotations

import yaml

from benchmarks.proxies import ALL, render
from benchmarks.scenarios import ALL as SCENARIOS
from meshlet.config.load import loads

VALUES = {"port": 18080, "backend_port": 18081, "admin_port": 18082, "meshlet_protocol": "http"}


def test_meshlet_and_envoy_alone_take_part() -> None:
    assert "policies" in SCENARIOS
    assert [name for name, proxy in ALL.items() if proxy.template("policies").exists()] == ["meshlet", "envoy"]


def test_meshlets_policies_are_all_on() -> None:
    text = render(ALL["meshlet"].template("policies").read_text(encoding="utf-8"), VALUES, ["/"])
    config = loads(text, "meshlet.yaml")
    route, cluster = config.listeners[0].routes[0], config.clusters[0]
    assert all((route.retry, route.rate_limit, route.request_headers, route.response_headers))
    assert cluster.outlier_detection is not None
    assert cluster.circuit_breaker.max_requests == 1000


def test_envoys_policies_are_all_on() -> None:
    text = render(ALL["envoy"].template("policies").read_text(encoding="utf-8"), VALUES, ["/"])
    parts = yaml.safe_load(text)["static_resources"]
    manager = parts["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    assert route["route"]["retry_policy"]["num_retries"] == 3
    assert {"request_headers_to_add", "response_headers_to_add"} <= route.keys()
    assert manager["http_filters"][0]["name"] == "envoy.filters.http.local_ratelimit"
    assert {"circuit_breakers", "outlier_detection"} <= parts["clusters"][0].keys()
