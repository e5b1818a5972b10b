"""The JSON Schema accepts what the loader accepts, and refuses what a schema can see is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from meshlet.config.dump import dump
from meshlet.config.json_schema import json_schema
from meshlet.config.load import ConfigError, load, loads
from meshlet.config.nodes import parse
from meshlet.config.reader import Reader, _Context

CONFIGS = sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))
VALIDATOR = Draft202012Validator(json_schema())


def read(text: str) -> Any:
    """The document in plain types. PyYAML would make the key `on` true, as YAML 1.1 has it."""
    return Reader("c.yaml")._any(parse(text), _Context(()))


def accepted(config: Any) -> bool:
    return bool(VALIDATOR.is_valid(config))


def loaded(config: Any) -> bool:
    try:
        loads(yaml.safe_dump(config), "c.yaml")
    except ConfigError:
        return False
    return True


def config_of(route: str = "cluster: app", cluster: str = "endpoints: ['a:80']") -> Any:
    return read(f"""\
listeners: [{{name: in, address: "127.0.0.1:80", routes: [{{{route}}}]}}]
clusters: [{{name: app, {cluster}}}]
""")


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_example_configs(path: Path) -> None:
    assert accepted(read(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_dumps_of_example_configs(path: Path) -> None:
    assert accepted(dump(load(path)))


GOOD = [
    "cluster: app, match: {headers: {x-a: b, x-c: {regex: 'a.*', invert: true}}, query: {a: {present: false}}}",
    "cluster: app, match: {host: [a, '*.b.example'], method: [GET, PUT]}",
    "split: [{cluster: app, weight: 1}]",
    "redirect: {status: 308, host: a, port: 80, strip_query: true}",
    "direct_response: {status: 200, body: ok}",
    "cluster: app, rewrite: {regex: {pattern: a, substitution: b}, host: 'a:80'}",
    "cluster: app, request_headers: {remove: [x-a], set: {x-b: '%PROTOCOL%'}, append: {}, add: {x-c: d}}",
    "cluster: app, mirror: {cluster: app, percent: 0.5}",
    "cluster: app, retry: {attempts: 0, on: [5xx, 503, '504', refused-stream], max_retry_after: 0}",
    "cluster: app, retry: {backoff: {base: 1ms, max: 1s}, per_try_timeout: 1s, non_idempotent: true, max_body: 1MiB}",
    "cluster: app, hedge: {percentile: 99.9}",
    "cluster: app, rate_limit: {requests: 5, per: 1m, header: x-a, source: true}",
    "cluster: app, fault: {delay: {duration: 1s}, abort: {status: 503, percent: 50}, headers: {x-a: b}}",
    "cluster: app, cors: {allow_origins: ['*'], max_age: 1h}",
    "cluster: app, filters: [{buffer: {}}, {compression: {algorithms: [br, gzip]}}]",
    "cluster: app, filters: [{python: 'a:B', config: {any: [1, null, {thing: x}]}}, {python: 'a:B', config: 5}]",
    "cluster: app, priority: high, timeout: 0, deadline_header: x-d, attempt_count: true, idle_timeout: null",
]
GOOD_CLUSTERS = [
    "discovery: {dns: 'a:80', resolvers: ['10.0.0.1:53'], min_refresh: 1s}",
    "discovery: {srv: _http._tcp.a}",
    "discovery: {srv: _http._tcp.a, family: ipv6}",
    "discovery: {dns: 'a:80', family: all}",
    "endpoints: ['a:80', {address: 'b:80', weight: 5, zone: z, priority: 1}]",
    "endpoints: ['a:80'], balancer: maglev, hash_on: {cookie: a}",
    "endpoints: ['a:80'], outlier_detection: {consecutive_5xx: 0, success_rate: {deviations: 1.5}}",
    "endpoints: ['a:80'], health_check: {path: /, statuses: [200, 204], initially: healthy}",
    "endpoints: ['a:80'], circuit_breaker: {max_retries: 0, high: {max_pending: 0}}, retry_budget: {percent: 12.5}",
]


@pytest.mark.parametrize("route", GOOD)
def test_routes(route: str) -> None:
    config = config_of(route)
    assert loaded(config)
    assert accepted(config)


@pytest.mark.parametrize("cluster", GOOD_CLUSTERS)
def test_clusters(cluster: str) -> None:
    config = config_of(cluster=cluster)
    assert loaded(config)
    assert accepted(config)


BAD = [
    "cluster: app, match: {headers: {x-a: 5}}",
    "cluster: app, match: {headers: {x-a: [b]}}",
    "cluster: app, match: {headers: {x-a: {exakt: b}}}",
    "cluster: app, match: {headers: [x-a]}",
    "cluster: app, match: {host: []}",
    "cluster: app, match: {prefix: v2}",
    "split: [{cluster: app}]",
    "split: [{cluster: app, weight: -1}]",
    "redirect: {status: 304}",
    "direct_response: {status: 99}",
    "direct_response: {body: a}",
    "cluster: app, rewrite: {regex: {pattern: a}}",
    "cluster: app, request_headers: {set: {x-a: 5}}",
    "cluster: app, request_headers: {remove: x-a}",
    "cluster: app, mirror: {cluster: app, percent: 101}",
    "cluster: app, retry: {on: 5xx}",
    "cluster: app, retry: {on: [often]}",
    "cluster: app, retry: {on: [200]}",
    "cluster: app, retry: {on: ['600']}",
    "cluster: app, hedge: {percentile: 100}",
    "cluster: app, rate_limit: {per: 1s}",
    "cluster: app, rate_limit: {requests: 5, per: 1}",
    "cluster: app, fault: {delay: {percent: 5}}",
    "cluster: app, cors: {}",
    "cluster: app, cors: {allow_origins: []}",
    "cluster: app, filters: [{buffer: 5}]",
    "cluster: app, filters: [{compression: {algorithms: [deflate]}}]",
    "cluster: app, priority: low",
]
BAD_CLUSTERS = [
    "endpoints: [5]",
    "endpoints: [{address: 'a:80', weight: 0}]",
    "endpoints: [{weight: 1}]",
    "endpoints: ['a:80'], balancer: fastest",
    "endpoints: ['a:80'], hash_on: {source: yes-please}, balancer: maglev",
    "endpoints: ['a:80'], outlier_detection: {max_ejection_percent: 101}",
    "endpoints: ['a:80'], health_check: {statuses: []}",
    "endpoints: ['a:80'], circuit_breaker: {max_requests: 0}",
    "endpoints: ['a:80'], zone: z",
]


@pytest.mark.parametrize("route", BAD)
def test_routes_that_are_refused(route: str) -> None:
    config = config_of(route)
    assert not loaded(config)
    assert not accepted(config)


@pytest.mark.parametrize("cluster", BAD_CLUSTERS)
def test_clusters_that_are_refused(cluster: str) -> None:
    config = config_of(cluster=cluster)
    assert not loaded(config)
    assert not accepted(config)


def _spots(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, inner in items for spot in _spots(inner, (*path, key)))]


WHOLE = {path.name: read(path.read_text(encoding="utf-8")) for path in CONFIGS}
SPOTS = [(name, spot) for name, config in WHOLE.items() for spot in _spots(config) if spot]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(SPOTS),
    st.sampled_from([None, True, 0, 5, -1, 1.5, "", "a", "5s", "64KiB", "/a", [], ["a"], {}, {"a": "b"}]),
)
def test_what_the_loader_takes_the_schema_takes(spot: tuple[str, tuple[str | int, ...]], value: Any) -> None:
    """A value of a real config is replaced: an editor must not underline what works."""
    name, (*around, last) = spot
    config = copy.deepcopy(WHOLE[name])
    inner = config
    for step in around:
        inner = inner[step]
    inner[last] = value
    if loaded(config):
        assert accepted(config)
