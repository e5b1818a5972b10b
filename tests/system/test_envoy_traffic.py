"""What becomes of a request and its response on the way: rewrites, header rules, faults, limits, CORS, compression.

Every case is a route of both proxies and a request. What is compared are facts about what app and client got, by name:

- `status`, `body` and `flags` of the response, and any of its fields by its name
- `requests`: how many the app got; of the last one `app-line`, `app-body`, and fields as `app-NAME`
"""

from __future__ import annotations

import gzip
import time
from collections import Counter
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.processes import until
from tests.support.scripted_app import OK, Act, status
from tests.support.twins import GET, Ask, Part, Plan, Route, Side, in_parallel, twins, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOTH = pytest.mark.parametrize("name", ["meshlet", "envoy"])
Facts = dict[str, Any]


class Case(NamedTuple):
    """What meshlet makes of a request, and Envoy as well but for what `envoy` says, for the reason in `differs`."""

    route: Route
    facts: Facts
    ask: Ask = GET
    act: Act = OK
    envoy: Mapping[str, Any] = MappingProxyType({})
    differs: str = ""


def made(meshlet: Part, action: Part | None = None, **envoy: Any) -> Route:
    """A route: meshlet's keys, Envoy's action, and keys beside that."""
    return Route(meshlet, {"route": action or {}, **envoy})


# --- rewrites ---


def ask(target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Ask:
    return Ask(method, target, fields, body)


REWRITES = {
    "rewrite-prefix": Case(
        made(
            {"match": {"prefix": "/old"}, "rewrite": {"prefix": "/new"}},
            {"prefix_rewrite": "/new"},
            match={"path_separated_prefix": "/old"},
        ),
        {"status": 200, "app-line": "GET /new/x?q=1 HTTP/1.1", "app-x-envoy-original-path": None},
        ask("/old/x?q=1"),
        envoy={"app-x-envoy-original-path": "/old/x?q=1"},
        differs="where an app wants it, a rule adds it: `%REQ(:path)%`",
    ),
    "rewrite-regex": Case(
        made(
            {"rewrite": {"regex": {"pattern": "^/u/([0-9]+)", "substitution": r"/users/\1"}}},
            {"regex_rewrite": {"pattern": {"regex": "^/u/([0-9]+)"}, "substitution": r"/users/\1"}},
        ),
        {"app-line": "GET /users/7/x?u=/u/8 HTTP/1.1"},
        ask("/u/7/x?u=/u/8"),
    ),
    "rewrite-host": Case(
        made({"rewrite": {"host": "rewrite-host.test:81"}}, {"host_rewrite_literal": "rewrite-host.test:81"}),
        {"app-host": "rewrite-host.test:81", "app-line": "GET /x HTTP/1.1"},
        ask("/x"),
    ),
    "redirect": Case(
        Route(
            {"redirect": {"host": "new.test", "status": 308}},
            {"redirect": {"host_redirect": "new.test", "response_code": "PERMANENT_REDIRECT"}},
        ),
        {"status": 308, "location": "http://new.test/x?q", "body": "", "requests": 0, "flags": "-"},
        ask("/x?q", method="POST", body=b"x"),
    ),
    "direct-response": Case(
        Route(
            {"direct_response": {"status": 418, "body": "tea\n", "content_type": "text/plain"}},
            {"direct_response": {"status": 418, "body": {"inline_string": "tea\n"}}},
        ),
        {
            "status": 418,
            "body": "tea\n",
            "content-type": "text/plain",
            "content-length": "4",
            "requests": 0,
            "flags": "-",
        },
    ),
    "direct-response-head": Case(
        Route(
            {"direct_response": {"status": 200, "body": "tea\n"}},
            {"direct_response": {"status": 200, "body": {"inline_string": "tea\n"}}},
        ),
        {"status": 200, "body": "", "content-length": "4"},
        ask("/", method="HEAD"),
    ),
}


# --- header rules ---


def _mutations(rules: Part) -> Part:
    actions = {"set": "OVERWRITE_IF_EXISTS_OR_ADD", "add": "APPEND_IF_EXISTS_OR_ADD"}
    return {
        "add": [
            {"header": {"key": key, "value": value}, "append_action": action}
            for rule, action in actions.items()
            for key, value in rules.get(rule, {}).items()
        ],
        "remove": list(rules.get("remove", ())),
    }


def headers(request: Part | None = None, response: Part | None = None, meshlet: Part | None = None) -> Route:
    """Header rules; `set` and `add` are Envoy's OVERWRITE and APPEND."""
    route: Part = {"route": {}}
    keys: Part = {}
    for side, rules in (("request", request), ("response", response)):
        if rules is not None:
            keys[f"{side}_headers"] = rules
            mutations = _mutations(rules)
            route[f"{side}_headers_to_add"] = mutations["add"]
            route[f"{side}_headers_to_remove"] = mutations["remove"]
    return Route({**keys, **(meshlet or {})}, route)


def placed(value: str, *, name: str = "x-out") -> Route:
    return headers({"set": {name: value}})


def answered(value: str) -> Route:
    return headers(None, {"set": {"x-out": value}})


_USER = ask("/p?q=1", "x-user: carol", "x-out: old")
_TOLD = status(201, "x-from: app", "x-out: old")

HEADERS = {
    "set-over-one": Case(placed("new"), {"app-x-out": "new"}, _USER),
    "set-over-two": Case(placed("new"), {"app-x-out": "new"}, ask("/", "x-out: 1", "x-out: 2")),
    "set-where-none-is": Case(placed("new"), {"app-x-out": "new"}),
    "add-to-one": Case(headers({"add": {"x-out": "new"}}), {"app-x-out": "old, new"}, _USER),
    "remove": Case(headers({"remove": ["X-User"]}), {"app-x-user": None, "app-x-out": "old"}, _USER),
    "remove-and-add": Case(headers({"remove": ["x-out"], "add": {"x-out": "new"}}), {"app-x-out": "new"}, _USER),
    "set-and-add": Case(headers({"set": {"x-out": "1"}, "add": {"x-out": "2"}}), {"app-x-out": "1, 2"}, _USER),
    "value-of-a-field": Case(placed("<%REQ(x-user)%>"), {"app-x-out": "<carol>"}, _USER),
    "value-of-an-absent-field": Case(
        placed("<%REQ(x-none)%>"),
        {"app-x-out": "<>"},
        _USER,
    ),
    "only-an-absent-field": Case(
        placed("%REQ(x-none)%"),
        {"app-x-out": "old"},
        _USER,
    ),
    "other-field": Case(placed("%REQ(x-none?x-user)%"), {"app-x-out": "carol"}, _USER),
    "part-of-a-field": Case(placed("%REQ(x-user):3%"), {"app-x-out": "car"}, _USER),
    "path": Case(placed("%REQ(:path)%"), {"app-x-out": "/p?q=1"}, _USER),
    "method": Case(placed("%REQ(:method)%"), {"app-x-out": "GET"}, _USER),
    "authority": Case(placed("%REQ(:authority)%"), {"app-x-out": "authority.test"}, _USER),
    "protocol": Case(placed("%PROTOCOL%"), {"app-x-out": "HTTP/1.1"}, _USER),
    "remote": Case(placed("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), {"app-x-out": "127.0.0.1"}, _USER),
    "cluster": Case(placed("%UPSTREAM_CLUSTER%"), {"app-x-out": "app"}, _USER),
    "percent": Case(placed("100%%"), {"app-x-out": "100%"}, _USER),
    "response-set": Case(answered("new"), {"x-out": "new", "status": 201}, _USER, _TOLD),
    "response-add": Case(headers(None, {"add": {"x-out": "new"}}), {"x-out": "old, new"}, _USER, _TOLD),
    "response-remove": Case(headers(None, {"remove": ["x-from"]}), {"x-from": None, "x-out": "old"}, _USER, _TOLD),
    "response-status": Case(answered("%RESPONSE_CODE%"), {"x-out": "201"}, _USER, _TOLD),
    "response-field": Case(answered("%RESP(x-from)%"), {"x-out": "app"}, _USER, _TOLD),
    "response-from-request": Case(answered("%REQ(x-user)%"), {"x-out": "carol"}, _USER, _TOLD),
    "response-cluster": Case(answered("%UPSTREAM_CLUSTER%"), {"x-out": "app"}, _USER, _TOLD),
    "response-attempts": Case(answered("%UPSTREAM_REQUEST_ATTEMPT_COUNT%"), {"x-out": "1"}, _USER, _TOLD),
    "response-of-a-direct-one": Case(
        Route(
            {"direct_response": {"status": 200}, "response_headers": {"set": {"x-out": "new"}}},
            {
                "direct_response": {"status": 200},
                "response_headers_to_add": _mutations({"set": {"x-out": "new"}})["add"],
            },
        ),
        {"x-out": "new"},
    ),
    "response-of-a-redirect": Case(
        Route(
            {"redirect": {"path": "/n"}, "response_headers": {"set": {"x-out": "new"}}},
            {
                "redirect": {"path_redirect": "/n"},
                "response_headers_to_add": _mutations({"set": {"x-out": "new"}})["add"],
            },
        ),
        {"status": 301, "x-out": "new"},
    ),
    "response-of-a-failure": Case(
        Route(
            {"cluster": "closed", "response_headers": {"set": {"x-out": "new"}}},
            {"route": {"cluster": "closed"}, "response_headers_to_add": _mutations({"set": {"x-out": "new"}})["add"]},
        ),
        {"status": 503, "x-out": "new", "flags": "UF"},
    ),
    "path-and-rewrite": Case(
        made(
            {
                "rewrite": {"prefix": "/new"},
                "match": {"prefix": "/p"},
                "request_headers": {"set": {"x-out": "%REQ(:path)%"}},
            },
            {"prefix_rewrite": "/new"},
            match={"path_separated_prefix": "/p"},
            request_headers_to_add=_mutations({"set": {"x-out": "%REQ(:path)%"}})["add"],
        ),
        {"app-line": "GET /new?q=1 HTTP/1.1", "app-x-out": "/p?q=1"},
        _USER,
    ),
    "attempt-count": Case(
        made(
            {"attempt_count": True, "retry": {"on": ["5xx"]}},
            {"retry_policy": {"retry_on": "5xx", "num_retries": 2}},
        ),
        {"app-x-envoy-attempt-count": "3", "x-envoy-attempt-count": "3", "status": 503, "requests": 3, "flags": "URX"},
        ask("/", "x-envoy-attempt-count: 9"),
        status(503),
    ),
}


# --- faults ---


def fault(meshlet: Part, **envoy: Any) -> Route:
    return made(
        {"fault": meshlet}, typed_per_filter_config={"fault": typed("filters.http.fault.v3.HTTPFault", **envoy)}
    )


def _percent(value: int) -> Part:
    return {"percentage": {"numerator": value, "denominator": "HUNDRED"}}


def _abort(percent: int) -> Part:
    return {"http_status": 418, **_percent(percent)}


def _delay(percent: int) -> Part:
    return {"fixed_delay": "0.3s", **_percent(percent)}


_ONLY = [{"name": "x-chaos", "string_match": {"exact": "yes"}}]
_ABORT = {"status": 418}
_DELAY = {"duration": "300ms"}

FAULTS = {
    "abort": Case(fault({"abort": _ABORT}, abort=_abort(100)), {"status": 418, "flags": "FI", "requests": 0}),
    "abort-never": Case(
        fault({"abort": {**_ABORT, "percent": 0}}, abort=_abort(0)), {"status": 200, "flags": "-", "requests": 1}
    ),
    "abort-with-the-header": Case(
        fault({"abort": _ABORT, "headers": {"x-chaos": "yes"}}, abort=_abort(100), headers=_ONLY),
        {"status": 418, "flags": "FI"},
        ask("/", "x-chaos: yes"),
    ),
    "abort-without-the-header": Case(
        fault({"abort": _ABORT, "headers": {"x-chaos": "yes"}}, abort=_abort(100), headers=_ONLY),
        {"status": 200, "flags": "-"},
        ask("/", "x-chaos: no"),
    ),
    "delay": Case(
        fault({"delay": _DELAY}, delay=_delay(100)), {"status": 200, "flags": "DI", "requests": 1, "late": True}
    ),
    "delay-never": Case(
        fault({"delay": {**_DELAY, "percent": 0}}, delay=_delay(0)), {"status": 200, "flags": "-", "late": False}
    ),
    "delay-and-abort": Case(
        fault({"delay": _DELAY, "abort": _ABORT}, delay=_delay(100), abort=_abort(100)),
        {"status": 418, "flags": "DI,FI", "requests": 0, "late": True},
    ),
    "delay-of-a-post": Case(
        fault({"delay": _DELAY}, delay=_delay(100)),
        {"status": 200, "flags": "DI", "app-body": b"hello", "late": True},
        ask("/", method="POST", body=b"hello"),
    ),
}


# --- CORS ---


def cors(origin: str = "exact", **keys: Any) -> Route:
    """`origin`: the kind of condition that Envoy is given."""
    allowed = keys.pop("origins", ["https://app.test"])
    match = {"exact": {"exact": "https://app.test"}, "below": {"safe_regex": {"regex": r"https://[a-z.]+\.app\.test"}}}
    policy: Part = {"allow_origin_string_match": [match.get(origin, {"exact": "*"})]}
    for key, value in keys.items():
        policy[key] = ", ".join(value) if isinstance(value, list) else value
    if "max_age" in policy:
        policy["max_age"] = policy["max_age"].removesuffix("s")
    return made(
        {"cors": {"allow_origins": allowed, **keys}},
        typed_per_filter_config={"cors": typed("filters.http.cors.v3.CorsPolicy", **policy)},
    )


_FULL: Part = {
    "allow_methods": ["GET", "PUT"],
    "allow_headers": ["x-a", "x-b"],
    "expose_headers": ["x-c"],
    "allow_credentials": True,
    "max_age": "60s",
}
_PREFLIGHT = ("origin: https://app.test", "access-control-request-method: PUT")
_ALLOW = "access-control-allow-"
_STAR = "Envoy names the origin where all are allowed, so its answers would have to vary by it"

CORS = {
    "preflight": Case(
        cors(**_FULL),
        {
            "status": 200,
            "requests": 0,
            "body": "",
            f"{_ALLOW}origin": "https://app.test",
            f"{_ALLOW}methods": "GET, PUT",
            f"{_ALLOW}headers": "x-a, x-b",
            f"{_ALLOW}credentials": "true",
            "access-control-max-age": "60",
            "access-control-expose-headers": None,
            "flags": "-",
        },
        ask("/", *_PREFLIGHT, method="OPTIONS"),
        envoy={"access-control-expose-headers": "x-c"},
        differs="the field is about responses to read, which a preflight is not",
    ),
    "preflight-from-elsewhere": Case(
        cors(**_FULL),
        {"status": 204, "requests": 1, f"{_ALLOW}origin": None},
        ask("/", "origin: https://evil.test", _PREFLIGHT[1], method="OPTIONS"),
        Act(status=204, body=b""),
    ),
    "options-that-is-no-preflight": Case(
        cors(**_FULL),
        {"status": 200, "requests": 1, f"{_ALLOW}origin": "https://app.test", f"{_ALLOW}methods": None},
        ask("/", _PREFLIGHT[0], method="OPTIONS"),
    ),
    "simple": Case(
        cors(**_FULL),
        {
            "status": 200,
            "body": "ok",
            f"{_ALLOW}origin": "https://app.test",
            f"{_ALLOW}credentials": "true",
            "access-control-expose-headers": "x-c",
            f"{_ALLOW}methods": None,
        },
        ask("/", _PREFLIGHT[0]),
    ),
    "simple-the-app-s-own": Case(
        cors(**_FULL),
        {f"{_ALLOW}origin": "https://app.test"},
        ask("/", _PREFLIGHT[0]),
        status(200, "access-control-allow-origin: *"),
    ),
    "simple-from-elsewhere": Case(
        cors(**_FULL), {"status": 200, f"{_ALLOW}origin": None}, ask("/", "origin: https://evil.test")
    ),
    "simple-without-origin": Case(cors(**_FULL), {"status": 200, f"{_ALLOW}origin": None}),
    "simple-vary": Case(
        cors(**_FULL),
        {"vary": "origin"},
        ask("/", _PREFLIGHT[0]),
        envoy={"vary": None},
        differs="without it a cache gives one origin's answer to another",
    ),
    "star": Case(
        cors("any", origins=["*"]),
        {f"{_ALLOW}origin": "*"},
        ask("/", _PREFLIGHT[0]),
        envoy={f"{_ALLOW}origin": "https://app.test"},
        differs=_STAR,
    ),
    "below": Case(
        cors("below", origins=["https://*.app.test"]),
        {f"{_ALLOW}origin": "https://a.b.app.test"},
        ask("/", "origin: https://a.b.app.test"),
    ),
    "not-below": Case(
        cors("below", origins=["https://*.app.test"]), {f"{_ALLOW}origin": None}, ask("/", "origin: https://app.test")
    ),
}


# --- buffer and compression ---


def filtered(name: str, meshlet: Part) -> Route:
    """One of the filters that Envoy has, switched off until a route asks for it."""
    enabled = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
    return made({"filters": [meshlet]}, typed_per_filter_config={name: enabled})


_BUFFER = filtered("buffer", {"buffer": {"max_bytes": 1000}})
_COMPRESS = filtered("compressor", {"compression": {"min_bytes": 100}})
_TEXT = b"compress me " * 100
_ACCEPT = ask("/", "accept-encoding: gzip")


def text(*fields: str, body: bytes = _TEXT) -> Act:
    return Act(fields=fields or ("content-type: text/plain",), body=body)


_PLAIN: Facts = {"status": 200, "content-encoding": None, "length": len(_TEXT)}

FILTERS = {
    "buffer": Case(
        _BUFFER,
        {"status": 200, "app-body": b"x" * 1000, "app-content-length": "1000"},
        ask("/", method="POST", body=b"x" * 1000),
    ),
    "buffer-chunks": Case(
        _BUFFER,
        {"status": 200, "app-body": b"hello", "app-content-length": "5", "app-transfer-encoding": None},
        ask("/", "Transfer-Encoding: chunked", method="POST", body=b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    "buffer-too-small-for-chunks": Case(
        _BUFFER,
        {"status": 413, "requests": 0},
        ask("/", "Transfer-Encoding: chunked", method="POST", body=b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
    ),
    "buffer-too-small": Case(_BUFFER, {"status": 413, "requests": 0}, ask("/", method="POST", body=b"x" * 1001)),
    "compress": Case(
        _COMPRESS,
        {
            "status": 200,
            "content-encoding": "gzip",
            "unzipped": _TEXT,
            "vary": "accept-encoding",
            "content-length": None,
            "app-accept-encoding": "gzip",
        },
        _ACCEPT,
        text(),
    ),
    "compress-for-nobody": Case(_COMPRESS, {**_PLAIN, "vary": "accept-encoding"}, GET, text()),
    "compress-not-with-weight-0": Case(_COMPRESS, _PLAIN, ask("/", "accept-encoding: gzip;q=0"), text()),
    "compress-any": Case(_COMPRESS, {"content-encoding": "gzip"}, ask("/", "accept-encoding: *"), text()),
    "compress-other": Case(_COMPRESS, _PLAIN, ask("/", "accept-encoding: deflate"), text()),
    "compress-identity-rather": Case(
        _COMPRESS,
        _PLAIN,
        ask("/", "accept-encoding: gzip;q=0.5, identity"),
        text(),
    ),
    "compress-short": Case(
        _COMPRESS, {"content-encoding": None, "body": "short", "vary": None}, _ACCEPT, text(body=b"short")
    ),
    "compress-image": Case(_COMPRESS, {**_PLAIN, "vary": None}, _ACCEPT, text("content-type: image/png")),
    "compress-without-type": Case(
        _COMPRESS,
        _PLAIN,
        _ACCEPT,
        text("x-a: b"),
        envoy={"content-encoding": "gzip", "length": 53},
        differs="what is not known to be text may be compressed already",
    ),
    "compress-already": Case(
        _COMPRESS,
        {"content-encoding": "br", "length": len(_TEXT)},
        _ACCEPT,
        text("content-type: text/plain", "content-encoding: br"),
    ),
    "compress-no-transform": Case(
        _COMPRESS, _PLAIN, _ACCEPT, text("content-type: text/plain", "cache-control: no-transform")
    ),
    "compress-strong-etag": Case(
        _COMPRESS,
        {"content-encoding": "gzip", "etag": 'W/"1"'},
        _ACCEPT,
        text("content-type: text/plain", 'etag: "1"'),
        envoy={"etag": None},
        differs="Envoy takes a strong validator away, and the client's cache with it; a weak one still holds",
    ),
    "compress-weak-etag": Case(
        _COMPRESS,
        {"content-encoding": "gzip", "etag": 'W/"1"'},
        _ACCEPT,
        text("content-type: text/plain", 'etag: W/"1"'),
    ),
    "compress-error": Case(
        _COMPRESS,
        {"status": 404, "content-encoding": "gzip"},
        _ACCEPT,
        Act(status=404, fields=("content-type: text/plain",), body=_TEXT),
    ),
    "compress-vary-kept": Case(
        _COMPRESS,
        {"vary": "origin, accept-encoding"},
        _ACCEPT,
        text("content-type: text/plain", "vary: origin"),
    ),
}

CASES = {**REWRITES, **HEADERS, **FAULTS, **CORS, **FILTERS}

_BUCKET = {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "60s"}
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
OTHERS = {
    "limited": made(
        {"rate_limit": {"requests": 3, "per": "60s"}},
        typed_per_filter_config={
            "local_ratelimit": typed(
                "filters.http.local_ratelimit.v3.LocalRateLimit",
                stat_prefix="limit",
                token_bucket=_BUCKET,
                filter_enabled=_ALWAYS,
                filter_enforced=_ALWAYS,
                enable_x_ratelimit_headers="DRAFT_VERSION_03",
            )
        },
    ),
    "mirrored": made({"mirror": {"cluster": "shadow"}}, {"request_mirror_policies": [{"cluster": "shadow"}]}),
    "mirrored-never": made(
        {"mirror": {"cluster": "shadow", "percent": 0}},
        {"request_mirror_policies": [{"cluster": "shadow", "runtime_fraction": {"default_value": {"numerator": 0}}}]},
    ),
    "mirrored-in-vain": made({"mirror": {"cluster": "closed"}}, {"request_mirror_policies": [{"cluster": "closed"}]}),
    "plain": made({}),
}


def _off(name: str, config: Part) -> Part:
    return {"name": name, "typed_config": config, "disabled": True}


PLAN = Plan(
    routes={**{name: case.route for name, case in CASES.items()}, **OTHERS},
    clusters={
        "app": Route({"endpoints": ["@app"]}, {"endpoints": ["@app"]}),
        "shadow": Route({"endpoints": ["@shadow"]}, {"endpoints": ["@shadow"]}),
        "closed": Route({"endpoints": ["@closed"]}, {"endpoints": ["@closed"]}),
    },
    apps=("app", "shadow"),
    filters=[
        {"name": "fault", "typed_config": typed("filters.http.fault.v3.HTTPFault")},
        {"name": "cors", "typed_config": typed("filters.http.cors.v3.Cors")},
        {
            "name": "local_ratelimit",
            "typed_config": typed("filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="limit"),
        },
        _off("buffer", typed("filters.http.buffer.v3.Buffer", max_request_bytes=1000)),
        _off(
            "compressor",
            typed(
                "filters.http.compressor.v3.Compressor",
                response_direction_config={"common_config": {"min_content_length": 100}},
                compressor_library={"name": "gzip", "typed_config": typed("compression.gzip.compressor.v3.Gzip")},
            ),
        ),
    ],
    virtual_host={"include_request_attempt_count": True, "include_attempt_count_in_response": True},
)


def play(side: Side, name: str, case: Case) -> Facts:
    """Return all that the case might want to know."""
    side.script(name, case.act)
    began = time.monotonic()
    response = side.ask(name, case.ask)
    late = time.monotonic() - began > 0.28  # 0.3, less what a timer may be early
    (logged,) = side.logged(name)
    seen = side.seen(name)
    facts: Facts = {"status": response.status, "requests": len(seen), "late": late, "flags": logged.flags}
    facts["length"] = len(response.body)
    for wanted in case.facts:
        if wanted in facts:
            continue
        if wanted == "body":
            facts[wanted] = response.text
        elif wanted == "unzipped":
            facts[wanted] = gzip.decompress(response.body)
        elif wanted == "app-line":
            facts[wanted] = seen[-1].line
        elif wanted == "app-body":
            facts[wanted] = seen[-1].body
        elif wanted.startswith("app-"):
            facts[wanted] = seen[-1].field(wanted[4:])
        else:
            value = ", ".join(response.fields(wanted)) if response.fields(wanted) else None
            facts[wanted] = value.lower() if value is not None and wanted == "vary" else value
    return {wanted: facts[wanted] for wanted in case.facts}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    with twins(tmp_path_factory.mktemp("twins"), PLAN) as found:
        yield {side.name: side for side in found}


@pytest.fixture(scope="module")
def played(sides: dict[str, Side]) -> dict[tuple[str, str], Any]:
    todo = [(side, name, case) for name, case in CASES.items() for side in sides.values()]
    results = in_parallel([partial(play, *each) for each in todo], 4)
    return {(side.name, name): result for (side, name, _), result in zip(todo, results, strict=True)}


def facts(played: dict[tuple[str, str], Any], side: str, name: str) -> Facts:
    found = played[side, name]
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", CASES)
def test_meshlet(played: dict[tuple[str, str], Any], name: str) -> None:
    assert facts(played, "meshlet", name) == CASES[name].facts


@pytest.mark.parametrize("name", CASES)
def test_envoy(played: dict[tuple[str, str], Any], name: str) -> None:
    assert facts(played, "envoy", name) == {**CASES[name].facts, **CASES[name].envoy}


@pytest.mark.parametrize("name", CASES)
def test_differences_have_reasons(name: str) -> None:
    case = CASES[name]
    assert bool(case.envoy) is bool(case.differs)
    assert all(case.facts[fact] != value for fact, value in case.envoy.items())


# --- limits and mirrors ---


@BOTH
def test_a_burst_beyond_the_limit(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    responses = [side.ask("limited") for _ in range(10)]
    assert Counter(response.status for response in responses) == {200: 3, 429: 7}
    assert Counter(logged.flags for logged in side.logged("limited", 10)) == {"-": 3, "RL": 7}
    assert len(side.seen("limited")) == 3
    last = responses[-1]
    assert (last.field("x-ratelimit-limit"), last.field("x-ratelimit-remaining")) == ("3", "0")
    assert last.field("x-ratelimit-reset") == "20"  # seconds, until one more is let through
    # Only meshlet says when to come again.
    assert (last.field("retry-after") is not None) is (name == "meshlet")


@BOTH
def test_a_mirror(sides: dict[str, Side], name: str) -> None:
    """Envoy marks the copy's host; to meshlet the copy should be what the app gets."""
    side = sides[name]
    assert side.ask("mirrored", ask("/m?q", "x-user: carol", method="POST", body=b"hello")).status == 200
    until(lambda: side.apps["shadow"].seen("mirrored"))
    (copy,), (original,) = side.apps["shadow"].seen("mirrored"), side.apps["app"].seen("mirrored")
    assert (copy.line, copy.body, copy.field("x-user")) == ("POST /m?q HTTP/1.1", b"hello", "carol")
    assert copy.field("x-request-id") == original.field("x-request-id")
    assert copy.field("host") == {"meshlet": "mirrored.test", "envoy": "mirrored.test-shadow"}[name]


@BOTH
def test_a_mirror_does_no_harm(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert side.ask("mirrored-never").status == 200
    assert side.ask("mirrored-in-vain").status == 200
    assert len(side.seen("mirrored-never")) == 1
    assert [logged.flags for logged in side.logged("mirrored-in-vain")] == ["-"]


# --- what both add by themselves ---


def test_what_the_app_gets_besides(sides: dict[str, Side]) -> None:
    names = {}
    for side in sides.values():
        side.ask("plain")
        names[side.name] = {name for name, _ in side.seen("plain")[0].fields}
    assert names["envoy"] - names["meshlet"] == {
        "x-envoy-attempt-count",  # meshlet: `attempt_count`
        "x-envoy-expected-rq-timeout-ms",  # meshlet: `deadline_header`
        "x-envoy-internal",
    }
    assert names["meshlet"] - names["envoy"] == set()


def test_what_the_client_gets_besides(sides: dict[str, Side]) -> None:
    names = {}
    for side in sides.values():
        head = side.ask("plain").head
        names[side.name] = {line.partition(":")[0].lower() for line in head.splitlines()[1:]}
    assert names["envoy"] - names["meshlet"] == {"x-envoy-attempt-count", "server"}  # meshlet: `server_header`
    assert names["meshlet"] - names["envoy"] == set()
