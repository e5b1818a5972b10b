"""Mistakes in routes and clusters, with the exact line that names each; and what is none."""

from __future__ import annotations

import pytest

from meshlet.config.load import ConfigError, loads

# A route stands on line 5, a cluster's further keys on line 9.
TEXT = """\
listeners:
  - name: in
    address: 127.0.0.1:8000
    routes:
      - {%s}
clusters:
  - name: app
    endpoints: ["127.0.0.1:8080"]
    %s
  - {name: other, endpoints: ["127.0.0.1:8081"]}
"""
ROUTE = "c.yaml:5: listeners[0].routes[0]"
CLUSTER = "c.yaml:9: clusters[0]"


def lines_of(text: str) -> list[str]:
    try:
        loads(text, "c.yaml")
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


def mistakes_of(route: str = "cluster: app", cluster: str = "balancer: random") -> list[str]:
    return lines_of(TEXT % (route, cluster))


FIELD_WORDS = "a header name, which is a token of RFC 9110 such as x-user"
RETRY_WORDS = (
    "connect-failure, refused, reset, reset-before-response, 5xx, gateway-error, retriable-4xx or a status from 400 "
    "to 599"
)

ROUTES = {
    # what becomes of the requests
    "timeout: 5s": [f"{ROUTE}: found none of cluster, split, redirect and direct_response, expected one of them"],
    "cluster: app, redirect: {path: /}": [
        f"{ROUTE}.redirect: found cluster and redirect, expected only one of cluster, split, redirect and "
        "direct_response"
    ],
    "split: []": [
        f"{ROUTE}.split: found an empty list, expected a list that is not empty, or cluster, redirect or "
        "direct_response in its place"
    ],
    "cluster: null": [
        f"{ROUTE}.cluster: found nothing, expected a value, or split, redirect or direct_response in its place"
    ],
    "split: [{cluster: app, weight: 1}, {cluster: ap, weight: 1}]": [
        f"{ROUTE}.split[1].cluster: found 'ap', expected the name of a cluster (did you mean \"app\"?)"
    ],
    "split: [{cluster: app, weight: 0}, {cluster: other, weight: 0}]": [
        f"{ROUTE}.split: found weights that are all 0, expected at least one above 0"
    ],
    "split: [{cluster: app, weight: x}]": [
        f"{ROUTE}.split[0].weight: found 'x', expected a whole number from 0 to 1000000"
    ],
    "split: [{cluster: app, weight: -1}]": [
        f"{ROUTE}.split[0].weight: found -1, expected a whole number from 0 to 1000000"
    ],
    "split: [app, other]": [
        f"{ROUTE}.split[0]: found 'app', expected a mapping with cluster, weight",
        f"{ROUTE}.split[1]: found 'other', expected a mapping with cluster, weight",
    ],
    "cluster: app, mirror: {cluster: appp}": [
        f"{ROUTE}.mirror.cluster: found 'appp', expected the name of a cluster (did you mean \"app\"?)"
    ],
    "cluster: app, mirror: {cluster: other, percent: 101}": [
        f"{ROUTE}.mirror.percent: found 101, expected a number from 0 to 100"
    ],
    "redirect: {path: /a, prefix: /b}": [f"{ROUTE}.redirect.prefix: found path and prefix, expected only one of them"],
    "redirect: {status: 304}": [f"{ROUTE}.redirect.status: found 304, expected one of 301, 302, 303, 307, 308"],
    "redirect: {port: 0}": [f"{ROUTE}.redirect.port: found 0, expected a whole number from 1 to 65535"],
    "redirect: {host: 'a:80'}": [
        f"{ROUTE}.redirect.host: found 'a:80', expected a host name or an IP address, without a port"
    ],
    "redirect: {}, rewrite: {path: /}": [
        f"{ROUTE}.rewrite: found rewrite and redirect, expected only redirect: no cluster gets the requests"
    ],
    "direct_response: {status: 200}, mirror: {cluster: app}, hedge: {after: 1s}": [
        f"{ROUTE}.mirror: found mirror and direct_response, expected only direct_response: no cluster gets the "
        "requests",
        f"{ROUTE}.hedge: found hedge and direct_response, expected only direct_response: no cluster gets the requests",
    ],
    "direct_response: {body: a}": [
        f"{ROUTE}.direct_response.status: found nothing, expected this key, which is required: status of the response"
    ],
    "direct_response: {status: 100}": [
        f"{ROUTE}.direct_response.status: found 100, expected a whole number from 200 to 599"
    ],
    # conditions
    "cluster: app, match: {host: []}": [
        f"{ROUTE}.match.host: found an empty list, expected a list that is not empty"
    ],
    "cluster: app, match: {headers: {x-a: {}}}": [
        f"{ROUTE}.match.headers.x-a: found none of exact, prefix, regex and present, expected one of them"
    ],
    "cluster: app, match: {headers: {x-a: {exact: a, present: false}}}": [
        f"{ROUTE}.match.headers.x-a.present: found exact and present, expected only one of exact, prefix, regex and "
        "present"
    ],
    "cluster: app, match: {headers: {x-a: [a]}}": [
        f"{ROUTE}.match.headers.x-a: found a list, expected text or a mapping"
    ],
    "cluster: app, match: {headers: {x-a: 5}}": [
        f'{ROUTE}.match.headers.x-a: found 5, expected text; put it in quotes: "5"'
    ],
    "cluster: app, match: {headers: {te: a}}": [
        f"{ROUTE}.match.headers.te: found 'te', expected another header: this one is for one hop only, and no route "
        "sees it"
    ],
    "cluster: app, match: {headers: [x-a]}": [f"{ROUTE}.match.headers: found a list, expected a mapping"],
    "cluster: app, match: {query: {page: {regex: (}}}": [
        f"{ROUTE}.match.query.page.regex: found '(', expected a regular expression of RE2 (missing ): ()"
    ],
    # changes
    "cluster: app, rewrite: {}": [],
    "cluster: app, rewrite: {path: /a, regex: {pattern: a, substitution: b}}": [
        f"{ROUTE}.rewrite.regex: found path and regex, expected only one of path, prefix and regex"
    ],
    r"cluster: app, rewrite: {regex: {pattern: (a), substitution: '\2'}}": [
        rf"{ROUTE}.rewrite.regex.substitution: found '\\2', expected references to groups that the pattern has, "
        r"which are 1, so not \2"
    ],
    r"cluster: app, rewrite: {regex: {pattern: (a, substitution: '\2'}}": [
        f"{ROUTE}.rewrite.regex.pattern: found '(a', expected a regular expression of RE2 (missing ): (a)"
    ],
    "cluster: app, request_headers: {remove: [x-a, Host]}": [
        f"{ROUTE}.request_headers.remove[1]: found 'Host', expected another header: `rewrite.host` is for this one"
    ],
    "cluster: app, request_headers: {remove: [null]}": [
        f"{ROUTE}.request_headers.remove[0]: found nothing, expected text"
    ],
    "cluster: app, response_headers: {remove: [Host]}": [],
    "cluster: app, response_headers: {set: {Date: now}}": [
        f"{ROUTE}.response_headers.set.Date: found 'Date', expected another header: meshlet writes this one itself"
    ],
    "cluster: app, response_headers: {append: {set-cookie: a}}": [
        f"{ROUTE}.response_headers.append.set-cookie: found 'set-cookie', expected another header, or `add` in place "
        "of `append`: the value of this one is no list with commas"
    ],
    "cluster: app, request_headers: {add: {x a: b}}": [
        f"{ROUTE}.request_headers.add.'x a': found 'x a', expected {FIELD_WORDS}"
    ],
    "cluster: app, request_headers: {set: {x-a: ''}}": [
        f"{ROUTE}.request_headers.set.x-a: found '', expected a header value that is not empty; `remove` takes a "
        "header away"
    ],
    # retries and hedges
    "cluster: app, retry: {on: 'reset, 5xx'}": [
        f"{ROUTE}.retry.on: found 'reset, 5xx', expected a list; put it in brackets: [reset, 5xx]"
    ],
    "cluster: app, retry: {on: [503, '504', 5xx, refused-stream]}": [],
    "cluster: app, retry: {on: [200]}": [f"{ROUTE}.retry.on[0]: found 200, expected {RETRY_WORDS}"],
    "cluster: app, retry: {on: [timeout, true]}": [
        f"{ROUTE}.retry.on[0]: found 'timeout', expected {RETRY_WORDS}",
        f"{ROUTE}.retry.on[1]: found true, expected {RETRY_WORDS}",
    ],
    "cluster: app, retry: {attempts: 101}": [
        f"{ROUTE}.retry.attempts: found 101, expected a whole number from 0 to 100"
    ],
    "cluster: app, hedge: {}": [f"{ROUTE}.hedge: found none of after and percentile, expected one of them"],
    "cluster: app, hedge: {after: 1s, percentile: 95}": [
        f"{ROUTE}.hedge.percentile: found after and percentile, expected only one of them"
    ],
    "cluster: app, hedge: {percentile: 100}": [
        f"{ROUTE}.hedge.percentile: found 100, expected a number from 50 to 99.9"
    ],
    "cluster: app, hedge: {after: 0}": [f"{ROUTE}.hedge.after: found 0, expected a duration above 0"],
    # refusals and faults
    "cluster: app, rate_limit: {per: 1m}": [
        f"{ROUTE}.rate_limit.requests: found nothing, expected this key, which is required: requests that are let "
        "through in `per`"
    ],
    "cluster: app, rate_limit: {requests: 0}": [
        f"{ROUTE}.rate_limit.requests: found 0, expected a whole number from 1 to 1000000000"
    ],
    "cluster: app, fault: {}": [f"{ROUTE}.fault: found neither delay nor abort, expected at least one of them"],
    "cluster: app, fault: {headers: {x-a: b}, abort: null}": [
        f"{ROUTE}.fault: found neither delay nor abort, expected at least one of them"
    ],
    "cluster: app, fault: {delay: 5s}": [
        f"{ROUTE}.fault.delay: found '5s', expected a mapping with duration, percent"
    ],
    "cluster: app, fault: {abort: {status: 503}, headers: {x-a: {exact: a, prefix: b}}}": [
        f"{ROUTE}.fault.headers.x-a.prefix: found exact and prefix, expected only one of exact, prefix, regex and "
        "present"
    ],
    "cluster: app, cors: {allow_origins: ['*']}": [],
    "cluster: app, cors: {allow_origins: ['*'], allow_credentials: true}": [
        f"{ROUTE}.cors.allow_credentials: found true with the origin *, expected origins that are named"
    ],
    "cluster: app, cors: {allow_origins: []}": [
        f"{ROUTE}.cors.allow_origins: found an empty list, expected a list that is not empty"
    ],
    "cluster: app, cors: {allow_origins: [app.example.com]}": [
        f"{ROUTE}.cors.allow_origins[0]: found 'app.example.com', expected an origin such as https://app.example.com, "
        "https://*.example.com or *"
    ],
    # filters
    "cluster: app, filters: [{}]": [
        f"{ROUTE}.filters[0]: found none of python, buffer and compression, expected one of them"
    ],
    "cluster: app, filters: [buffer]": [
        f"{ROUTE}.filters[0]: found 'buffer', expected a mapping with python, config, buffer, compression"
    ],
    "cluster: app, filters: [{buffer: {}, compression: {}}]": [
        f"{ROUTE}.filters[0].compression: found buffer and compression, expected only one of python, buffer and "
        "compression"
    ],
    "cluster: app, filters: [{buffer: {}, config: {a: 1}}]": [
        f"{ROUTE}.filters[0].config: found a config, expected this key beside python only"
    ],
    "cluster: app, filters: [{python: a.b}]": [
        f"{ROUTE}.filters[0].python: found 'a.b', expected package.module:Class"
    ],
    "cluster: app, filters: [{python: 'a:B', config: {c: {d: 1, d: 2}}}]": [
        f"{ROUTE}.filters[0].config.c.d: found the key a second time (first on line 5), expected each key once"
    ],
    "cluster: app, filters: [{compression: {algorithms: [deflate]}}]": [
        f"{ROUTE}.filters[0].compression.algorithms[0]: found 'deflate', expected one of br, gzip, zstd"
    ],
    "cluster: app, filters: [{compression: {algorithms: []}}]": [
        f"{ROUTE}.filters[0].compression.algorithms: found an empty list, expected a list that is not empty"
    ],
}  # fmt: skip

CLUSTERS = {
    "discovery: {dns: 'a:80'}": [f"{CLUSTER}.discovery: found endpoints and discovery, expected only one of them"],
    "balancer: ring-hash": [
        "c.yaml:7: clusters[0].hash_on: found nothing, expected a header, a cookie or source, by which ring-hash "
        "chooses"
    ],
    "{balancer: maglev, hash_on: {}}": [
        f"{CLUSTER}.hash_on: found none of header, cookie and source, expected one of them"
    ],
    "{balancer: maglev, hash_on: {source: false}}": [
        f"{CLUSTER}.hash_on.source: found false, expected true, or header or cookie in its place"
    ],
    "{balancer: maglev, hash_on: {source: true, cookie: a}}": [
        f"{CLUSTER}.hash_on.source: found cookie and source, expected only one of header, cookie and source"
    ],
    "{balancer: maglev, hash_on: {source: true}}": [],
    "hash_on: {header: x-user}": [
        f"{CLUSTER}.hash_on: found the balancer round-robin, expected ring-hash or maglev beside this key"
    ],
    "{balancer: mglev, hash_on: {header: x-user}}": [
        f"{CLUSTER}.balancer: found 'mglev', expected one of least-request, maglev, peak-ewma, random, ring-hash, "
        'round-robin (did you mean "maglev"?)'
    ],
    "outlier_detection: {max_ejection_time: 10s}": [
        f"{CLUSTER}.outlier_detection.max_ejection_time: found 10s, expected at least base_ejection_time, which is 30s"
    ],
    "outlier_detection: {base_ejection_time: 10m}": [
        f"{CLUSTER}.outlier_detection.base_ejection_time: found 10m, expected at most max_ejection_time, 5m by default"
    ],
    "outlier_detection: {base_ejection_time: 10m, max_ejection_time: 10m}": [],
    "outlier_detection: {base_ejection_time: long, max_ejection_time: 1s}": [
        f"{CLUSTER}.outlier_detection.base_ejection_time: found 'long', expected a duration such as 250ms, 2s, 5m or 1h"
    ],
    "outlier_detection: {max_ejection_percent: 50%}": [
        f"{CLUSTER}.outlier_detection.max_ejection_percent: found '50%', expected a number from 0 to 100"
    ],
    "health_check: {statuses: []}": [
        f"{CLUSTER}.health_check.statuses: found an empty list, expected a list that is not empty"
    ],
    "circuit_breaker: {max_pending: 0, high: {max_requests: 0}}": [
        f"{CLUSTER}.circuit_breaker.high.max_requests: found 0, expected a whole number from 1 to 1000000000"
    ],
}  # fmt: skip

FOUND = {
    "{}": [f"{CLUSTER}.discovery: found none of dns, srv and file, expected one of them"],
    "{dns: 'a:80', srv: _http._tcp.a}": [
        f"{CLUSTER}.discovery.srv: found dns and srv, expected only one of dns, srv and file"
    ],
    "{dns: 'a:0'}": [f"{CLUSTER}.discovery.dns: found 'a:0', expected HOST:PORT, with a port between 1 and 65535"],
    "{srv: a, min_refresh: 5s, max_refresh: 1s}": [
        f"{CLUSTER}.discovery.max_refresh: found 1s, expected at least min_refresh, which is 5s"
    ],
    "{srv: a, min_refresh: 2m}": [
        f"{CLUSTER}.discovery.min_refresh: found 2m, expected at most max_refresh, 1m by default"
    ],
    "{srv: a, min_refresh: 2, max_refresh: 1ms}": [
        f"{CLUSTER}.discovery.min_refresh: found 2, expected a duration such as 250ms, 2s, 5m or 1h"
    ],
    "{file: ''}": [f"{CLUSTER}.discovery.file: found '', expected the path of a file, in printable characters"],
    "{file: endpoints.yaml}": [],
    "{dns: 'a:80', family: v6}": [
        f"{CLUSTER}.discovery.family: found 'v6', expected one of all, auto, ipv4, ipv6 (did you mean \"ipv6\"?)"
    ],
    "{dns: 'a:80', family: [ipv4, ipv6]}": [
        f"{CLUSTER}.discovery.family: found a list, expected one of all, auto, ipv4, ipv6"
    ],
    "{file: endpoints.yaml, family: ipv6}": [
        f"{CLUSTER}.discovery.family: found ipv6 beside file, expected dns or srv beside this key"
    ],
    "{file: endpoints.yaml, family: auto}": [],
    "{dns: '10.0.0.1:80', family: ipv6}": [
        f"{CLUSTER}.discovery.family: found ipv6 beside 10.0.0.1:80, expected ipv4, or a host name in dns"
    ],
    "{dns: '[fd00::1]:80', family: ipv4}": [
        f"{CLUSTER}.discovery.family: found ipv4 beside [fd00::1]:80, expected ipv6, or a host name in dns"
    ],
    "{dns: '10.0.0.1:80', family: ipv4}": [],
    "{dns: '10.0.0.1:80', family: all}": [],
    "{srv: _http._tcp.a, family: ipv6}": [],
}


@pytest.mark.parametrize("route", ROUTES)
def test_routes(route: str) -> None:
    assert mistakes_of(route) == ROUTES[route]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_clusters(cluster: str) -> None:
    written = "\n    ".join(cluster[1:-1].split(", ", 1)) if cluster.startswith("{") else cluster
    lines = [line.replace("c.yaml:10: ", "c.yaml:9: ") for line in mistakes_of(cluster=written)]
    assert lines == CLUSTERS[cluster]


@pytest.mark.parametrize("discovery", FOUND)
def test_discovery(discovery: str) -> None:
    text = (TEXT % ("cluster: app", f"discovery: {discovery}")).replace('    endpoints: ["127.0.0.1:8080"]\n', "    \n")
    assert lines_of(text) == FOUND[discovery]


def test_neither_endpoints_nor_discovery() -> None:
    text = "listeners:\n- {name: in, address: 'localhost:0', routes: [{cluster: app}]}\nclusters:\n- name: app\n"
    with pytest.raises(ConfigError) as caught:
        loads(text, "c.yaml")
    assert str(caught.value) == "c.yaml:4: clusters[0]: found none of endpoints and discovery, expected one of them"


# What somebody writes who knows another proxy, or has the wrong level: the key that is meant is named.
MEANT = {
    "prefix: /a, cluster: app": "match.prefix",
    "host: a, cluster: app": "match.host",
    "headers: {x-a: b}, cluster: app": "match.headers",
    "weighted_clusters: []": "split",
    "weightedClusters: []": "split",
    "destination: app": "cluster",
    "cluster: app, retries: {attempts: 3}": "retry",
    "cluster: app, retry_policy: {}": "retry",
    "cluster: app, retry: {num_retries: 3}": "attempts",
    "cluster: app, retry: {retryOn: 5xx}": "on",
    "cluster: app, retry: {true: [5xx]}": "on",
    "cluster: app, per_try_timeout: 1s": "retry.per_try_timeout",
    "cluster: app, request_headers_to_add: []": "request_headers.add",
    "cluster: app, prefix_rewrite: /": "rewrite.prefix",
    "cluster: app, corsPolicy: {}": "cors",
    "cluster: app, http_filters: []": "filters",
    "cluster: app, filters: [{gzip: {}}]": "compression",
    "cluster: app, match: {safe_regex: a}": "regex",
    "cluster: app, timout: 5s": "timeout",
    "cluster: app, rateLimit: {}": "rate_limit",
    "cluster: app, fault: {delay: {duration: 1s, percentage: 5}}": "percent",
    "cluster: app, fault: {dealy: {}}": "delay",
}


@pytest.mark.parametrize("route", MEANT)
def test_the_key_that_is_meant_is_named_and_nothing_else(route: str) -> None:
    [line] = mistakes_of(route)
    assert "found the unknown key" in line
    assert line.endswith(f'expected a known one (did you mean "{MEANT[route]}"?)')


@pytest.mark.parametrize(
    ("cluster", "meant"),
    [
        ("lb_policy: ROUND_ROBIN", "balancer"),
        ("max_connections: 5", "circuit_breaker.max_connections"),
        ("circuit_breakers: {}", "circuit_breaker"),
        ("circuit_breaker: {max_pending_requests: 5}", "max_pending"),
        ("outlier_detection: {baseEjectionTime: 5s}", "base_ejection_time"),
    ],
)
def test_the_key_of_a_cluster_that_is_meant(cluster: str, meant: str) -> None:
    [line] = mistakes_of(cluster=cluster)
    assert line.endswith(f'(did you mean "{meant}"?)')


def test_without_a_guess_all_keys_are_listed() -> None:
    [line] = mistakes_of("cluster: app, retry: {zzz: 1}")
    assert line == (
        f"{ROUTE}.retry.zzz: found the unknown key 'zzz', expected one of attempts, on, per_try_timeout, backoff, "
        "max_retry_after, non_idempotent, max_body"
    )
