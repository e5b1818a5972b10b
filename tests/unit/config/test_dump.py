"""What `dump` writes loads to an equal config, whatever config it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.dump import dump
from meshlet.config.load import load, loads
from meshlet.config.schema import (
    AccessLog,
    Admin,
    CircuitBreaker,
    Cluster,
    Config,
    Health,
    Limits,
    Listener,
    Log,
    Match,
    Reload,
    Route,
    Shutdown,
    Telemetry,
)  # fmt: skip
from meshlet.config.units import Address, Duration, Size

CONFIGS = Path(__file__).parents[3] / "config"

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
counts = st.integers(1, 10**9)
durations = st.floats(min_value=1e-6, max_value=1e6).map(Duration) | st.integers(1, 10**9).map(
    lambda number: Duration(number / 1000)
)
sizes = st.integers(1024, 1 << 40).map(Size) | st.integers(1, 1 << 20).map(lambda number: Size(number * 1024))
ports = st.integers(1, 65535)
ips = st.ip_addresses().map(str)
paths = st.from_regex(r"/[a-z0-9/%._~-]{0,8}", fullmatch=True)
networks = st.sampled_from(["10.0.0.0/8", "::/0", "fc00::/7", "192.168.1.1/32"])
methods = st.sampled_from(["GET", "POST", "M-SEARCH", "NO", "1", "null"])


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


matches = st.one_of(
    st.builds(Match, prefix=paths, host=st.sampled_from([None, "a", "*.b.example", "on", "1"])),
    st.builds(Match, path=paths, method=methods | st.lists(methods, min_size=1, max_size=3).map(tuple)),
    st.builds(Match, regex=st.sampled_from(["/a+", "/(b|c)/.*", "/\\d"])),
)
limits = st.builds(
    Limits,
    max_header_bytes=sizes,
    max_headers=counts,
    max_target_bytes=sizes,
    max_body=st.none() | sizes,
    max_connections=counts,
    max_requests_per_connection=st.none() | counts,
    head_timeout=durations,
    idle_timeout=durations,
    stream_idle_timeout=durations,
    tcp_idle_timeout=durations,
    detect_timeout=durations,
)
breakers = st.builds(CircuitBreaker, max_connections=counts, max_pending=st.just(0) | counts)
endpoints = st.builds(Address, ips | st.just("app.example.com"), ports, st.just("")) | st.just(
    Address("", 0, "/run/app.sock")
)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    clusters = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    known = st.sampled_from(clusters)
    routes = st.builds(
        Route,
        cluster=known,
        match=matches,
        timeout=st.just(Duration(0)) | durations,
        upgrades=some(st.sampled_from(["websocket", "tls", "1"])),
        connect=st.booleans(),
        max_body=st.none() | sizes,
    )
    listeners = st.builds(
        Listener,
        name=names,
        address=st.builds(Address, ips, st.just(0), st.just("")),
        protocol=st.sampled_from(["auto", "http", "tcp"]),
        cluster=known,
        routes=st.lists(routes, min_size=1, max_size=3).map(tuple),
        limits=limits,
        trusted_peers=some(networks),
        server_header=st.sampled_from(["keep", "set-if-absent", "overwrite"]),
    )
    log_path = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=8)
    grace = draw(durations)
    return Config(
        listeners=tuple(draw(st.lists(listeners, min_size=1, max_size=3, unique_by=lambda one: one.name))),
        clusters=tuple(
            Cluster(
                name=name,
                endpoints=tuple(draw(st.lists(endpoints, min_size=1, max_size=2))),
                balancer=draw(st.sampled_from(["round-robin", "least-request"])),
                connect_timeout=draw(durations),
                max_header_bytes=draw(sizes),
                circuit_breaker=draw(breakers),
            )
            for name in clusters
        ),
        telemetry=Telemetry(access_log=draw(st.none() | st.builds(AccessLog, path=log_path))),
        log=Log(level=draw(st.sampled_from(["debug", "info", "warning", "error"])), format="json"),
        admin=draw(st.none() | st.just(Admin(address=Address("127.0.0.1", 15000)))),
        health=draw(st.none() | st.builds(Health, address=st.just(Address("::", 15021)), require=some(known))),
        shutdown=Shutdown(grace=grace, timeout=Duration(grace + 1)),
        reload=Reload(watch=draw(st.booleans()), interval=draw(durations)),
    )


@settings(deadline=None)
@given(configs())
def test_a_dump_loads_to_an_equal_config(config: Config) -> None:
    assert loads(yaml.safe_dump(dump(config), allow_unicode=True), "dump") == config


@settings(deadline=None, max_examples=20)
@given(configs())
def test_a_dump_survives_json_too(config: Config) -> None:
    # Unescaped, because YAML knows no surrogate pairs.
    assert loads(json.dumps(dump(config), ensure_ascii=False), "dump") == config


def test_a_dump_is_what_people_write() -> None:
    written = dump(load(CONFIGS / "sidecar.yaml"))
    inbound = written["listeners"][0]
    assert inbound["address"] == "0.0.0.0:15006"
    assert inbound["limits"]["max_header_bytes"] == "64KiB"
    assert inbound["limits"]["detect_timeout"] == "100ms"
    assert inbound["limits"]["max_requests_per_connection"] is None
    assert inbound["routes"][0]["upgrades"] == ["websocket"]
    assert written["clusters"][0]["endpoints"] == ["127.0.0.1:8080"]
