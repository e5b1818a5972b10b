"""What `dump` writes loads to an equal config, whatever config it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck as Slowness
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.dump import dump
from meshlet.config.load import load, loads
from meshlet.config.schema import (
    Abort,
    AccessLog,
    Admin,
    Backoff,
    Buffer,
    CircuitBreaker,
    Cluster,
    Compression,
    Config,
    Cors,
    Delay,
    DirectResponse,
    Discovery,
    EndpointConfig,
    Fault,
    Filter,
    HashOn,
    HeaderRules,
    Health,
    HealthCheck,
    Hedge,
    HighPriority,
    Limits,
    Listener,
    Log,
    Match,
    Mirror,
    OutlierDetection,
    RateLimit,
    Redirect,
    RegexRewrite,
    Reload,
    Retry,
    RetryBudget,
    Rewrite,
    Route,
    Shutdown,
    Split,
    SuccessRate,
    Telemetry,
    ValueMatch,
)  # fmt: skip
from meshlet.config.units import Address, Duration, RetryOn, Size

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


headers = st.sampled_from(["x-user", "X-On", "1", "true", "x-null"])
texts = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=6)
# Without an exponent, which YAML and JSON write in different ways.
percents = st.floats(0.001, 100) | st.integers(0, 100).map(float)
value_matches = texts | st.one_of(
    st.builds(ValueMatch, exact=texts, invert=st.booleans()),
    st.builds(ValueMatch, prefix=texts),
    st.builds(ValueMatch, regex=st.sampled_from(["a|b", "", "[0-9]{3}"])),
    st.builds(ValueMatch, present=st.booleans()),
)
values_by_header = st.dictionaries(headers, value_matches, max_size=3)
hosts = st.sampled_from(["a", "*.b.example", "on", "1a"])
matches = st.one_of(
    st.builds(Match, prefix=paths, host=st.none() | hosts | st.lists(hosts, min_size=1, max_size=2).map(tuple)),
    st.builds(Match, headers=values_by_header, query=st.dictionaries(texts, value_matches, max_size=3)),
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
breakers = st.builds(
    CircuitBreaker,
    max_connections=counts,
    max_pending=st.just(0) | counts,
    max_retries=st.none() | st.integers(0, 5),
    high=st.builds(HighPriority, max_requests=counts),
)
addresses = st.builds(Address, ips | st.just("app.example.com"), ports, st.just("")) | st.just(
    Address("", 0, "/run/app.sock")
)
endpoints = addresses | st.builds(
    EndpointConfig,
    address=addresses,
    weight=st.integers(1, 1000),
    zone=st.none() | st.sampled_from(["a", "1", "no"]),
    priority=st.integers(0, 100),
)
templates = st.sampled_from(["%REQ(x-user)%", "100 %%", "true", "5", "~", "a: b #"])
header_rules = st.builds(
    HeaderRules,
    remove=some(headers),
    set=st.dictionaries(headers, templates, max_size=2),
    append=st.dictionaries(headers, templates, max_size=2),
    add=st.dictionaries(headers, templates, max_size=2),
)
rewrites = st.one_of(
    st.builds(Rewrite, path=paths, host=st.sampled_from([None, "app:8080", "[::1]"])),
    st.builds(Rewrite, prefix=paths),
    st.builds(Rewrite, regex=st.just(RegexRewrite(pattern="/(a|b)", substitution=r"/\1\\"))),
)
retries = st.builds(
    Retry,
    attempts=st.integers(0, 100),
    on=some(st.sampled_from([*RetryOn.NAMES, "503", "404"]).map(RetryOn)),
    per_try_timeout=st.none() | durations,
    backoff=st.builds(Backoff, base=durations, max=durations),
    max_retry_after=st.just(Duration(0)) | durations,
    non_idempotent=st.booleans(),
    max_body=sizes,
)
hedges = st.builds(Hedge, after=durations) | st.builds(Hedge, percentile=st.floats(50, 99.9))
rate_limits = st.builds(
    RateLimit,
    requests=counts,
    per=durations,
    burst=st.none() | counts,
    header=st.none() | headers,
    source=st.booleans(),
    report=st.booleans(),
)
aborts = st.builds(Abort, status=st.integers(200, 599), percent=percents)
faults = st.builds(
    Fault,
    delay=st.none() | st.builds(Delay, duration=durations, percent=percents),
    abort=aborts,
    headers=values_by_header,
)
cors = st.builds(
    Cors,
    allow_origins=st.sampled_from([("*",), ("https://a.example", "https://*.b.example"), ("null",)]),
    allow_methods=some(methods),
    allow_headers=some(headers),
    expose_headers=some(headers),
    max_age=st.none() | durations,
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), inner),
    max_leaves=5,
)
filters = st.one_of(
    st.builds(Filter, buffer=st.builds(Buffer, max_bytes=sizes)),
    st.builds(Filter, compression=st.builds(Compression, algorithms=st.just(("br", "gzip")), min_bytes=sizes)),
    st.builds(Filter, python=st.just("package.module:Class"), config=plain_values),
)
outlier_detections = st.builds(
    OutlierDetection,
    consecutive_5xx=st.integers(0, 100),
    success_rate=st.none() | st.builds(SuccessRate, deviations=percents),
    interval=durations,
    base_ejection_time=st.just(Duration(1)),
    max_ejection_time=durations.map(lambda span: Duration(span + 1)),
    max_ejection_percent=percents,
)
health_checks = st.builds(
    HealthCheck,
    path=st.none() | paths,
    host=st.sampled_from([None, "a"]),
    statuses=st.lists(st.integers(200, 599), min_size=1, max_size=3).map(tuple),
    port=st.none() | ports,
    interval=durations,
    initially=st.sampled_from(["healthy", "unhealthy"]),
)
found = st.one_of(
    st.builds(
        Discovery,
        dns=st.builds(Address, st.just("app.example.com"), ports, st.just("")),
        family=st.sampled_from(["auto", "ipv4", "ipv6", "all"]),
    ),
    st.builds(Discovery, srv=st.just("_http._tcp.app"), max_refresh=durations.map(lambda span: Duration(span + 1))),
    st.builds(Discovery, file=st.just("/etc/on"), resolvers=some(st.builds(Address, ips, ports, st.just("")))),
)


@st.composite
def routes_to(draw: st.DrawFn, known: st.SearchStrategy[str]) -> Route:
    common: dict[str, Any] = {
        "name": draw(st.none() | names),
        "match": draw(matches),
        "request_headers": draw(st.none() | header_rules),
        "response_headers": draw(st.none() | header_rules),
        "rate_limit": draw(st.none() | rate_limits),
        "fault": draw(st.none() | faults),
        "cors": draw(st.none() | cors),
        "filters": draw(some(filters)),
        "timeout": draw(st.just(Duration(0)) | durations),
        "idle_timeout": draw(st.none() | durations),
        "max_body": draw(st.none() | sizes),
    }
    if draw(st.booleans()):
        redirects = st.builds(
            Redirect, status=st.sampled_from([301, 308]), port=st.none() | ports, path=st.none() | paths
        )
        answers = st.builds(DirectResponse, status=st.integers(200, 599), body=texts)
        answer: dict[str, Any] = draw(
            st.fixed_dictionaries({"redirect": redirects}) | st.fixed_dictionaries({"direct_response": answers})
        )
        return Route(**common, **answer)
    where: dict[str, Any] = draw(
        st.fixed_dictionaries({"cluster": known})
        | st.fixed_dictionaries(
            {
                "split": st.builds(Split, cluster=known, weight=counts.map(lambda n: n % 10**6 + 1)).map(
                    lambda one: (one,)
                )
            }
        )
    )
    return Route(
        **common,
        **where,
        rewrite=draw(st.none() | rewrites),
        mirror=draw(st.none() | st.builds(Mirror, cluster=known, percent=percents)),
        retry=draw(st.none() | retries),
        hedge=draw(st.none() | hedges),
        deadline_header=draw(st.none() | headers),
        attempt_count=draw(st.booleans()),
        priority=draw(st.sampled_from(["default", "high"])),
        upgrades=draw(some(st.sampled_from(["websocket", "tls", "1"]))),
        connect=draw(st.booleans()),
    )


@st.composite
def clusters_of(draw: st.DrawFn, name: str) -> Cluster:
    balancer: Any = draw(
        st.sampled_from(["round-robin", "random", "least-request", "peak-ewma", "ring-hash", "maglev"])
    )
    hashes = balancer in ("ring-hash", "maglev")
    where: dict[str, Any] = draw(
        st.fixed_dictionaries({"endpoints": st.lists(endpoints, min_size=1, max_size=2).map(tuple)})
        | st.fixed_dictionaries({"discovery": found})
    )
    return Cluster(
        name=name,
        **where,
        balancer=balancer,
        hash_on=draw(st.builds(HashOn, cookie=headers) | st.just(HashOn(source=True))) if hashes else None,
        slow_start=draw(st.just(Duration(0)) | durations),
        panic_threshold=draw(percents),
        connect_timeout=draw(durations),
        max_header_bytes=draw(sizes),
        circuit_breaker=draw(breakers),
        retry_budget=draw(st.builds(RetryBudget, percent=percents)),
        outlier_detection=draw(st.none() | outlier_detections),
        health_check=draw(st.none() | health_checks),
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    clusters = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    known = st.sampled_from(clusters)
    listeners = st.builds(
        Listener,
        name=names,
        address=st.builds(Address, ips, st.just(0), st.just("")),
        protocol=st.sampled_from(["auto", "http", "tcp"]),
        cluster=known,
        routes=st.lists(routes_to(known), min_size=1, max_size=2).map(tuple),
        rate_limit=st.none() | rate_limits,
        filters=some(filters),
        limits=limits,
        trusted_peers=some(networks),
        server_header=st.sampled_from(["keep", "set-if-absent", "overwrite"]),
    )
    log_path = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=8)
    grace = draw(durations)
    return Config(
        listeners=tuple(draw(st.lists(listeners, min_size=1, max_size=3, unique_by=lambda one: one.name))),
        clusters=tuple(draw(clusters_of(name)) for name in clusters),
        zone=draw(st.none() | st.sampled_from(["a", "1", "no"])),
        telemetry=Telemetry(access_log=draw(st.none() | st.builds(AccessLog, path=log_path))),
        log=Log(level=draw(st.sampled_from(["debug", "info", "warning", "error"])), format="json"),
        admin=draw(st.none() | st.just(Admin(address=Address("127.0.0.1", 15000)))),
        health=draw(st.none() | st.builds(Health, address=st.just(Address("::", 15021)), require=some(known))),
        shutdown=Shutdown(grace=grace, timeout=Duration(grace + 1)),
        reload=Reload(watch=draw(st.booleans()), interval=draw(durations)),
    )


BIG = [Slowness.too_slow, Slowness.data_too_large, Slowness.large_base_example]


@settings(deadline=None, suppress_health_check=BIG)
@given(configs())
def test_a_dump_loads_to_an_equal_config(config: Config) -> None:
    assert loads(yaml.safe_dump(dump(config), allow_unicode=True), "dump") == config


@settings(deadline=None, max_examples=20, suppress_health_check=BIG)
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
