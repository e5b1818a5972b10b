"""Mistakes under `telemetry`, with the exact lines that name each; and what is none."""

from __future__ import annotations

import pytest

from meshlet.config.load import ConfigError, loads

TEXT = """\
listeners: [{name: in, address: "127.0.0.1:8000", routes: [{cluster: app}]}]
clusters: [{name: app, endpoints: ["127.0.0.1:8080"]}]
telemetry:
  %s
"""
HERE = "c.yaml:4: telemetry"
LOG = f"{HERE}.access_log"


def mistakes_of(telemetry: str) -> list[str]:
    try:
        loads(TEXT % telemetry, "c.yaml")
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


STATUS_WORDS = "a status such as 404, a class such as 5xx, or a range such as 400-499"
FLAG_WORDS = (
    "any, FE:Class for what a filter of that class raised, or one of DC, DI, DPE, DT, FE, FI, LR, NR, OM, RL, SI, "
    "UAEX, UC, UF, UH, UO, UPE, URX, UT"
)
FORMAT_WORDS = "json, text, or a line with placeholders such as %START_TIME%"
KEY_WORDS = "a key of printable ASCII characters, without quotes and backslashes"
PATH_WORDS = "a path that starts with / and holds neither ? nor #, nor white space; other characters percent-encoded"
URL_WORDS = "a URL such as http://127.0.0.1:4318, without a user or a fragment"
SIZE_WORDS = "a size in bytes such as 512, 64KiB or 10MiB"
DURATION_WORDS = "a duration such as 250ms, 2s, 5m or 1h"

LOGS = {
    # where it goes
    "{}": [f"{LOG}: found none of path and otlp_endpoint, expected one of them"],
    "{path: a, otlp_endpoint: 'http://c:4318'}": [
        f"{LOG}.otlp_endpoint: found path and otlp_endpoint, expected only one of them"
    ],
    "{path: null}": [f"{LOG}.path: found nothing, expected a value, or otlp_endpoint in its place"],
    "{otlp_endpoint: null}": [f"{LOG}.otlp_endpoint: found nothing, expected a value, or path in its place"],
    "{path: ''}": [f"{LOG}.path: found '', expected text that is not empty"],
    "/dev/stdout": [f"{LOG}: found '/dev/stdout', expected a mapping or a list"],
    "{path: a, status: 5xx}": [
        f"{LOG}.status: found the unknown key 'status', expected one of path, otlp_endpoint, format, fields, filters"
    ],
    # several
    "[{path: a}, {format: text}]": [f"{LOG}[1]: found none of path and otlp_endpoint, expected one of them"],
    "[{path: a, otlp_endpoint: 'http://c:4318'}, {path: b, format: xml}]": [
        f"{LOG}[1].format: found 'xml', expected {FORMAT_WORDS}",
        f"{LOG}[0].otlp_endpoint: found path and otlp_endpoint, expected only one of them",
    ],
    "[/dev/stdout]": [
        f"{LOG}[0]: found '/dev/stdout', expected a mapping with path, otlp_endpoint, format, fields, filters"
    ],
    # formats
    "{path: a, format: xml}": [f"{LOG}.format: found 'xml', expected {FORMAT_WORDS}"],
    "{path: a, format: JSON}": [f"{LOG}.format: found 'JSON', expected {FORMAT_WORDS}"],
    "{path: a, format: ''}": [f"{LOG}.format: found '', expected {FORMAT_WORDS}"],
    r'{path: a, format: "%DURATION%\n%PATH%"}': [
        rf"{LOG}.format: found '%DURATION%\n%PATH%', expected one line, without control characters"
    ],
    "{path: a, format: '50% %DURATION%'}": [
        f"{LOG}.format: found '50% %DURATION%', expected placeholders such as %START_TIME%, and %% for a percent sign, "
        "not '% %DURATION%'"
    ],
    "{path: a, format: '%PROTOCOL(x)%'}": [
        f"{LOG}.format: found '%PROTOCOL(x)%', expected %PROTOCOL% with neither an argument nor a length"
    ],
    # keys and values of JSON
    "{path: a, fields: {'': x}}": [f"{LOG}.fields.'': found '', expected {KEY_WORDS}"],
    "{path: a, fields: {ü: x}}": [f"{LOG}.fields.'ü': found 'ü', expected {KEY_WORDS}"],
    """{path: a, fields: {'a"b': x}}""": [f"""{LOG}.fields.'a"b': found 'a"b', expected {KEY_WORDS}"""],
    r"{path: a, fields: {'a\b': x}}": [rf"{LOG}.fields.'a\\b': found 'a\\b', expected {KEY_WORDS}"],
    r'{path: a, fields: {"a\tb": x}}': [rf"{LOG}.fields.'a\tb': found 'a\tb', expected {KEY_WORDS}"],
    "{path: a, fields: {a: 5}}": [f'{LOG}.fields.a: found 5, expected text; put it in quotes: "5"'],
    "{path: a, fields: {a: 5%}}": [
        f"{LOG}.fields.a: found '5%', expected placeholders such as %START_TIME%, and %% for a percent sign, not '%'"
    ],
    "{path: a, fields: [a]}": [f"{LOG}.fields: found a list, expected a mapping"],
    "{path: a, format: text, fields: {a: b}}": [
        f"{LOG}.fields: found the format 'text', expected this key beside the format json only"
    ],
    "[{path: a}, {path: b, format: '%PATH%', fields: {a: b}}]": [
        f"{LOG}[1].fields: found the format '%PATH%', expected this key beside the format json only"
    ],
    "{path: a, format: xml, fields: {a: b}}": [f"{LOG}.format: found 'xml', expected {FORMAT_WORDS}"],
    # what is logged
    "{path: a, filters: {status: [5xx]}}": [f"{LOG}.filters: found a mapping, expected a list"],
    "{path: a, filters: [{status: 5xx}]}": [
        f"{LOG}.filters[0].status: found '5xx', expected a list; put it in brackets: [5xx]"
    ],
    "{path: a, filters: [{status: [5xx, 404]}]}": [
        f'{LOG}.filters[0].status[1]: found 404, expected text; put it in quotes: "404"'
    ],
    "{path: a, filters: [{status: [5XX, 6xx, 0xx, '99', 404-, 1-5]}]}": [
        f"{LOG}.filters[0].status[{index}]: found '{status}', expected {STATUS_WORDS}"
        for index, status in enumerate(["5XX", "6xx", "0xx", "99", "404-", "1-5"])
    ],
    "{path: a, filters: [{status: [499-400]}]}": [
        f"{LOG}.filters[0].status[0]: found '499-400', expected a range that ends at 499 or above"
    ],
    "{path: a, filters: [{flags: [uf, Any, '', '-', 'UF,URX', UF:x, 'FE:', 'FE:a b']}]}": [
        f"{LOG}.filters[0].flags[{index}]: found '{flag}', expected {FLAG_WORDS}"
        for index, flag in enumerate(["uf", "Any", "", "-", "UF,URX", "UF:x", "FE:", "FE:a b"])
    ],
    "{path: a, filters: [{flags: UF}]}": [
        f"{LOG}.filters[0].flags: found 'UF', expected a list; put it in brackets: [UF]"
    ],
    "{path: a, filters: [{}, {min_duration: 500, prefix: [a], not_prefix: ['/a?b'], percent: 101}]}": [
        f"{LOG}.filters[1].min_duration: found 500, expected {DURATION_WORDS}",
        f"{LOG}.filters[1].prefix[0]: found 'a', expected {PATH_WORDS}",
        f"{LOG}.filters[1].not_prefix[0]: found '/a?b', expected {PATH_WORDS}",
        f"{LOG}.filters[1].percent: found 101, expected a number from 0 to 100",
    ],
    "{path: a, filters: [{flag: [UF]}]}": [
        f"{LOG}.filters[0].flag: found the unknown key 'flag', expected a known one (did you mean \"flags\"?)"
    ],
}
GOOD_LOGS = [
    "null",
    "[]",
    "{path: /dev/stdout}",
    "{otlp_endpoint: 'https://collector:4318/v1/logs'}",
    "[{path: a}, {otlp_endpoint: 'http://[::1]:4318', format: text}]",
    "{path: a, format: json, fields: {}}",
    "{path: a, format: text, fields: {}}",
    r'{path: a, format: "[%START_TIME(%s.%3f)%] %REQ(X-USER?USER-AGENT):20% 100%%\n"}',
    "{path: a, fields: {status: '%RESPONSE_CODE%', 'a b': constant, '%A%': '', 7: '%PATH(NQ)%', user.id: a}}",
    "{path: a, filters: [{}]}",
    "{path: a, filters: [{status: [5xx, '404', '0', 400-499, 400-400]}, {min_duration: 0, percent: 0}]}",
    "{path: a, filters: [{flags: [any]}, {flags: [FE, 'FE:AddUser', DC, DI, DPE, DT, FI, LR, NR, OM, RL, SI]}]}",
    "{path: a, filters: [{flags: [UAEX, UC, UF, UH, UO, UPE, URX, UT], prefix: [/, /a], not_prefix: [/a/b]}]}",
]

OTHERS = {
    # metrics
    "metrics: {naming: Istio}": [
        f"{HERE}.metrics.naming: found 'Istio', expected one of istio, meshlet (did you mean \"istio\"?)"
    ],
    "metrics: {naming: envoy}": [f"{HERE}.metrics.naming: found 'envoy', expected one of istio, meshlet"],
    "metrics: {duration_buckets: []}": [
        f"{HERE}.metrics.duration_buckets: found an empty list, expected a list that is not empty"
    ],
    "metrics: {duration_buckets: [1ms, 1s, 10ms]}": [
        f"{HERE}.metrics.duration_buckets: found bounds out of order, expected each above the one before"
    ],
    "metrics: {duration_buckets: [1s, 1000ms]}": [
        f"{HERE}.metrics.duration_buckets: found bounds out of order, expected each above the one before"
    ],
    "metrics: {duration_buckets: [0, 5, 1ms]}": [
        f"{HERE}.metrics.duration_buckets[0]: found 0, expected a duration above 0",
        f"{HERE}.metrics.duration_buckets[1]: found 5, expected {DURATION_WORDS}",
    ],
    "metrics: {size_buckets: [1KiB, 0]}": [
        f"{HERE}.metrics.size_buckets: found bounds out of order, expected each above the one before"
    ],
    "metrics: {size_buckets: [-1, x]}": [
        f"{HERE}.metrics.size_buckets[0]: found -1, expected {SIZE_WORDS}",
        f"{HERE}.metrics.size_buckets[1]: found 'x', expected {SIZE_WORDS}",
    ],
    "metrics: {app: 'http://127.0.0.1:8080/metrics'}": [
        f"{HERE}.metrics.app: found no address beside it, expected `address`, where they are served"
    ],
    "metrics: {app: 'http://127.0.0.1:8080/metrics', address: 'a.example:15020'}": [
        f"{HERE}.metrics.address: found 'a.example:15020', expected an IP address, localhost or unix:/PATH to listen on"
    ],
    "metrics: {address: '127.0.0.1:8000'}": [
        f"{HERE}.metrics.address: found '127.0.0.1:8000', where listeners[0] listens too, expected an address of its "
        "own"
    ],
    "metrics: {otlp_interval: 0}": [f"{HERE}.metrics.otlp_interval: found 0, expected a duration above 0"],
    # tracing
    "tracing: {sample: 1.5}": [f"{HERE}.tracing.sample: found 1.5, expected a number from 0 to 1"],
    "tracing: {sample: -0.1}": [f"{HERE}.tracing.sample: found -0.1, expected a number from 0 to 1"],
    "tracing: {sample: 50%}": [f"{HERE}.tracing.sample: found '50%', expected a number from 0 to 1"],
    "tracing: {sample: true}": [f"{HERE}.tracing.sample: found true, expected a number from 0 to 1"],
    "tracing: {sample_errors: 'yes'}": [f"{HERE}.tracing.sample_errors: found 'yes', expected true or false"],
    "tracing: {formats: [w3c, b3_multi, jaeger]}": [
        f"{HERE}.tracing.formats[1]: found 'b3_multi', expected one of b3, b3-multi, w3c (did you mean \"b3-multi\"?)",
        f"{HERE}.tracing.formats[2]: found 'jaeger', expected one of b3, b3-multi, w3c",
    ],
    "tracing: {formats: 'w3c, b3'}": [
        f"{HERE}.tracing.formats: found 'w3c, b3', expected a list; put it in brackets: [w3c, b3]"
    ],
    "tracing: {attributes: {a: 1}}": [f'{HERE}.tracing.attributes.a: found 1, expected text; put it in quotes: "1"'],
    # the rest
    "workload: {version: 1.0}": [f'{HERE}.workload.version: found 1.0, expected text; put it in quotes: "1.0"'],
    "workload: {nmae: shop}": [
        f"{HERE}.workload.nmae: found the unknown key 'nmae', expected a known one (did you mean \"name\"?)"
    ],
    "explain: {keep: -1, max_bytes: x, slow: 0}": [
        f"{HERE}.explain.keep: found -1, expected a whole number from 0 to 100000",
        f"{HERE}.explain.max_bytes: found 'x', expected {SIZE_WORDS}",
        f"{HERE}.explain.slow: found 0, expected a duration above 0",
    ],
    "explain: {keep: 100001}": [f"{HERE}.explain.keep: found 100001, expected a whole number from 0 to 100000"],
    "tap: {redact: [x mine], max_body: -1}": [
        f"{HERE}.tap.redact[0]: found 'x mine', expected a header name, which is a token of RFC 9110 such as x-user",
        f"{HERE}.tap.max_body: found -1, expected {SIZE_WORDS}",
    ],
    "tap: {redact: x-mine}": [f"{HERE}.tap.redact: found 'x-mine', expected a list; put it in brackets: [x-mine]"],
    "accesslog: {path: a}": [
        f"{HERE}.accesslog: found the unknown key 'accesslog', expected a known one (did you mean \"access_log\"?)"
    ],
    "logs: {}": [
        f"{HERE}.logs: found the unknown key 'logs', expected one of access_log, metrics, tracing, workload, explain, "
        "tap"
    ],
}
GOOD_OTHERS = [
    "metrics: {}",
    "metrics: {naming: istio, duration_buckets: [1ms], size_buckets: [0, 1KiB, 2KiB]}",
    "metrics: {app: 'http://127.0.0.1:8080/metrics?all', address: '0.0.0.0:15020'}",
    "metrics: {otlp_endpoint: 'http://collector:4318', otlp_interval: 10s}",
    "tracing: null",
    "tracing: {}",
    "tracing: {sample: 0, formats: []}",
    "tracing: {otlp_endpoint: 'http://c:4318', sample: 1, sample_errors: true, formats: [w3c, b3, b3-multi]}",
    "tracing: {sample: 0.001, attributes: {deployment.environment.name: staging}}",
    "workload: {name: shop, namespace: default, app: shop, version: '1.0', cluster: eu}",
    "explain: {keep: 0, max_bytes: 0, slow: 5s}",
    "explain: {keep: 100000}",
    "tap: {redact: [x-customer-id, X-Mine], max_body: 0}",
]
BAD_URLS = [
    "",
    "collector:4318",
    "127.0.0.1",
    "http://",
    "http:/collector",
    "grpc://collector:4317",
    "http://collector:0",
    "http://collector:65536",
    "http://collector:a",
    "http://[::1",
    "http://me:pw@collector:4318",
    "http://collector/#a",
    "http://collector/a b",
]
URL_PLACES = {
    "access_log.otlp_endpoint": "access_log: {otlp_endpoint: '%s'}",
    "metrics.otlp_endpoint": "metrics: {otlp_endpoint: '%s'}",
    "metrics.app": "metrics: {address: '127.0.0.1:15020', app: '%s'}",
    "tracing.otlp_endpoint": "tracing: {otlp_endpoint: '%s'}",
}


@pytest.mark.parametrize("log", LOGS)
def test_mistakes_in_access_logs(log: str) -> None:
    assert mistakes_of(f"access_log: {log}") == LOGS[log]


@pytest.mark.parametrize("log", GOOD_LOGS)
def test_access_logs(log: str) -> None:
    assert mistakes_of(f"access_log: {log}") == []


@pytest.mark.parametrize("telemetry", OTHERS)
def test_other_mistakes(telemetry: str) -> None:
    assert mistakes_of(telemetry) == OTHERS[telemetry]


@pytest.mark.parametrize("telemetry", GOOD_OTHERS)
def test_others(telemetry: str) -> None:
    assert mistakes_of(telemetry) == []


@pytest.mark.parametrize("place", URL_PLACES)
@pytest.mark.parametrize("url", BAD_URLS)
def test_mistakes_in_urls(place: str, url: str) -> None:
    assert mistakes_of(URL_PLACES[place] % url) == [f"{HERE}.{place}: found '{url}', expected {URL_WORDS}"]


@pytest.mark.parametrize(
    ("key", "written"), [("format", "format: '%STATUS%'"), ("fields.status", "fields: {status: '%STATUS%'}")]
)
def test_an_unknown_placeholder_is_told_which_there_are(key: str, written: str) -> None:
    [line] = mistakes_of(f"access_log: {{path: a, {written}}}")
    assert line.startswith(f"{LOG}.{key}: found '%STATUS%', expected one of the placeholders REQ(…), RESP(…), ")
    assert line.endswith(", not %STATUS%")
    assert {"START_TIME", "RESPONSE_CODE", "RESPONSE_FLAGS", "ERROR"} <= set(line.split(", "))
