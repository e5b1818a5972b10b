"""What could refuse or change a request, and what is relayed although it is no HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import fields

from meshlet.config import rules as module
from meshlet.config.load import loads
from meshlet.config.rules import rules, tcp_cluster, warnings
from meshlet.config.schema import Config, Limits, Listener, Route

CLUSTERS = [{"name": name, "endpoints": ["10.0.0.1:80"]} for name in ("app", "other")]


def config_of(listener: dict[str, Any] | None = None, *routes: dict[str, Any]) -> Config:
    written = {"name": "in", "address": "127.0.0.1:0", "routes": list(routes or [{"cluster": "app"}])}
    return loads(json.dumps({"listeners": [written | (listener or {})], "clusters": CLUSTERS}), "test")


def listener_of(listener: dict[str, Any] | None = None, *routes: dict[str, Any]) -> Listener:
    return config_of(listener, *routes).listeners[0]


FREE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"match": {"prefix": "/"}}),
    ({}, {"name": "all", "timeout": "3s", "idle_timeout": "1h", "priority": "high", "attempt_count": True}),
    ({}, {"retry": {"attempts": 1}, "hedge": {"after": "1s"}}),
    ({}, {"upgrades": ["websocket"]}),
    ({}, {"upgrades": ["websocket", "foo"]}),
    ({}, {"upgrades": ["*"]}),
    ({}, {"connect": True}),
    ({"limits": {"max_connections": 10, "head_timeout": "1s", "detect_timeout": "1s", "tcp_idle_timeout": "5s"}}, {}),
    ({"limits": {"max_headers": 100}, "server_header": "keep", "filters": []}, {}),  # as by default
    ({"direction": "outbound"}, {}),
]


@pytest.mark.parametrize(("listener", "route"), FREE)
def test_nothing_forbids(listener: dict[str, Any], route: dict[str, Any]) -> None:
    found = listener_of(listener, {"cluster": "app"} | route)
    assert rules(found) == []
    assert tcp_cluster(found) == "app"


FILTER: list[dict[str, Any]] = [{"buffer": {}}]
LISTENERS: list[tuple[str, dict[str, Any]]] = [
    ("rate_limit", {"rate_limit": {"requests": 100}}),
    ("filters", {"filters": FILTER}),
    ("trusted_peers", {"trusted_peers": ["10.0.0.1/32"]}),
    ("trusted_peers", {"trusted_peers": []}),
    ("server_header", {"server_header": "overwrite"}),
    ("limits.max_body", {"limits": {"max_body": 1}}),
    ("limits.max_header_bytes", {"limits": {"max_header_bytes": "1KiB"}}),
    ("limits.max_headers", {"limits": {"max_headers": 9}}),
    ("limits.max_target_bytes", {"limits": {"max_target_bytes": 9}}),
    ("limits.max_requests_per_connection", {"limits": {"max_requests_per_connection": 9}}),
]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("match", {"match": {"host": "a"}}),
    ("match", {"match": {"prefix": "/a"}}),
    ("match", {"match": {"path": "/a"}}),
    ("match", {"match": {"regex": "/a"}}),
    ("match", {"match": {"method": "GET"}}),
    ("match", {"match": {"headers": {"x-a": "b"}}}),
    ("match", {"match": {"query": {"a": "b"}}}),
    ("rate_limit", {"rate_limit": {"requests": 100}}),
    ("fault", {"fault": {"abort": {"status": 500, "percent": 1}}}),
    ("cors", {"cors": {"allow_origins": ["*"]}}),
    ("filters", {"filters": FILTER}),
    ("mirror", {"mirror": {"cluster": "other"}}),
    ("rewrite", {"rewrite": {"prefix": "/b"}}),
    ("request_headers", {"request_headers": {"remove": ["x-user"]}}),
    ("response_headers", {"response_headers": {"set": {"x-a": "b"}}}),
    ("deadline_header", {"deadline_header": "x-deadline"}),
    ("max_body", {"max_body": 1}),
    ("upgrades", {"upgrades": []}),
    ("upgrades", {"upgrades": ["foo"]}),
]
ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("redirect", {"redirect": {"host": "b"}}),
    ("direct_response", {"direct_response": {"status": 403}}),
    ("split", {"split": [{"cluster": "app", "weight": 1}]}),
]


@pytest.mark.parametrize(("key", "written"), LISTENERS)
def test_a_rule_of_the_listener(key: str, written: dict[str, Any]) -> None:
    found = listener_of(written)
    assert rules(found) == [key]
    assert tcp_cluster(found) is None
    assert tcp_cluster(listener_of({"cluster": "other"} | written)) == "other"


@pytest.mark.parametrize(("key", "written"), [*((key, {"cluster": "app"} | rest) for key, rest in ROUTES), *ANSWERS])
def test_a_rule_of_the_route(key: str, written: dict[str, Any]) -> None:
    found = listener_of(None, written)
    assert rules(found) == [f"routes[0].{key}"]
    assert tcp_cluster(found) is None
    assert tcp_cluster(listener_of({"cluster": "other"}, written)) == "other"


@pytest.mark.parametrize(
    "first", [{"match": {"prefix": "/admin"}, "direct_response": {"status": 403}}, {"cluster": "app"}]
)
def test_several_routes_are_a_rule(first: dict[str, Any]) -> None:
    found = listener_of(None, first, {"cluster": "app"})
    assert rules(found) == ["routes"]
    assert tcp_cluster(found) is None


@pytest.mark.parametrize("struct", [Listener, Limits, Route])
def test_what_is_no_rule_is_a_key(struct: type) -> None:
    """A key that is added to the schema is a rule until it is named; one that is renamed must not stay here."""
    assert module._NO_RULES[struct.__name__] <= {each.name for each in fields(struct)}


def test_protocol_tcp_knows_no_rules() -> None:
    listener = listener_of(
        {"protocol": "tcp", "limits": {"max_body": 1}},
        {"match": {"prefix": "/a"}, "cluster": "other"},
        {"cluster": "app"},
    )
    assert tcp_cluster(listener) == "app"


def test_warnings() -> None:
    rule = {"limits": {"max_body": 1}}
    assert warnings(config_of({"cluster": "other"} | rule, {"match": {"host": "a"}, "cluster": "app"})) == [
        "listeners[0].cluster: what is not HTTP goes to other past limits.max_body, routes[0].match; "
        "leave `cluster` out to have it refused"
    ]
    assert warnings(config_of({"cluster": "other"})) == []
    assert warnings(config_of(rule)) == []
    assert warnings(config_of({"cluster": "other", "protocol": "http"} | rule)) == []
    assert warnings(config_of({"cluster": "other", "protocol": "tcp"} | rule)) == []
