"""What routes match, where redirects lead and what rewrites make: meshlet's decisions beside those of the real Envoy.

Every case is a virtual host of one Envoy, so all of them together cost one start.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.processes import free_port
from benchmarks.proxies import ALL
from meshlet.config.schema import Match, Redirect, RegexRewrite, Rewrite, ValueMatch
from meshlet.http.head import HeadLimits, RequestHead
from meshlet.http.request import parse_request
from meshlet.routing.redirect import compile_redirect
from meshlet.routing.rewrite import compile_rewrite
from meshlet.routing.table import RouteTable, compile_match
from tests.support.http1 import Client
from tests.support.processes import Process, running, until
from tests.support.servers import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = "type.googleapis.com/envoy.extensions"


class Case(NamedTuple):
    """One route and one request to it; `@` stands for the host of the case."""

    match: Match
    target: str = "/"
    fields: tuple[str, ...] = ()
    host: str = "@"
    method: str = "GET"
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    differs: str = ""  # why Envoy decides otherwise


def header(name: str, *fields: str, differs: str = "", **match: Any) -> Case:
    return Case(Match(headers={name: ValueMatch(**match)}), fields=fields, differs=differs)


def query(name: str, target: str, *, differs: str = "", **match: Any) -> Case:
    return Case(Match(query={name: ValueMatch(**match)}), target, differs=differs)


_DECODED = "meshlet decodes what is percent-encoded in names and values of the query"

MATCHES = {
    "exact": header("x-a", "x-a: 1", exact="1"),
    "name-in-another-case": header("X-A", "x-A: 1", exact="1"),
    "value-in-another-case": header("x-a", "x-a: ab", exact="Ab"),
    "white-space-around": header("x-a", "x-a:   1  ", exact="1"),
    "empty": header("x-a", "x-a:", exact=""),
    "absent-is-not-empty": header("x-a", exact=""),
    "absent": header("x-a", exact="1"),
    "absent-not-exact": header("x-a", exact="1", invert=True),
    "absent-not-prefix": header("x-a", prefix="1", invert=True),
    "absent-not-regex": header("x-a", regex="1", invert=True),
    "another-not-exact": header("x-a", "x-a: 2", exact="1", invert=True),
    "same-not-exact": header("x-a", "x-a: 1", exact="1", invert=True),
    "twice-first": header("x-a", "x-a: 1", "x-a: 2", exact="1"),
    "twice-second": header("x-a", "x-a: 1", "x-a: 2", exact="2"),
    "twice-joined": header("x-a", "x-a: 1", "x-a: 2", exact="1,2"),
    "twice-joined-by-regex": header("x-a", "x-a: 1", "x-a: 2", regex="1,2"),
    "twice-prefix": header("x-a", "x-a: 1", "x-a: 2", prefix="2"),
    "twice-not-first": header("x-a", "x-a: 1", "x-a: 2", exact="1", invert=True),
    "twice-not-second": header("x-a", "x-a: 1", "x-a: 2", exact="2", invert=True),
    "twice-neither": header("x-a", "x-a: 1", "x-a: 2", exact="3", invert=True),
    "list-is-one-value": header("x-a", "x-a: 1, 2", exact="1"),
    "twice-accept": header(
        "accept", "accept: 1", "accept: 2", exact="2", differs="Envoy joins the fields that it has a slot for"
    ),
    "two-cookies": header("cookie", "cookie: a=1", "cookie: b=2", exact="b=2"),
    "regex-of-a-part": header("x-a", "x-a: abc", regex="b"),
    "regex-of-all": header("x-a", "x-a: abc", regex=".b."),
    "prefix": header("x-a", "x-a: abc", prefix="ab"),
    "present": header("x-a", "x-a: 1", present=True),
    "present-and-empty": header("x-a", "x-a:", present=True),
    "present-absent": header("x-a", present=True),
    "not-there": header("x-a", present=False),
    "not-there-but-is": header("x-a", "x-a: 1", present=False),
    "inverted-present": header("x-a", present=True, invert=True),
    "inverted-absent": header("x-a", present=False, invert=True),
    "inverted-absent-but-is": header("x-a", "x-a: 1", present=False, invert=True),
    "host": header("host", exact="@"),
    "host-has-its-port": Case(Match(headers={"host": "@"}), host="@:80"),
    "request-id-of-the-proxy": header("x-request-id", present=True),
    "both-conditions": Case(Match(headers={"x-a": "1", "x-b": "2"}), fields=("x-a: 1", "x-b: 2")),
    "one-of-two-conditions": Case(Match(headers={"x-a": "1", "x-b": "2"}), fields=("x-a: 1",)),
    "query": query("a", "/?a=1", exact="1"),
    "query-absent": query("a", "/", exact="1"),
    "query-second": query("b", "/?a=2&b=1", exact="1"),
    "query-twice-first": query("a", "/?a=1&a=2", exact="1"),
    "query-twice-last": query("a", "/?a=1&a=2", exact="2"),
    "query-without-equals": query("a", "/?a", exact=""),
    "query-without-equals-present": query("a", "/?a", present=True),
    "query-empty": query("a", "/?a=", exact=""),
    "query-absent-is-not-empty": query("a", "/?b", exact=""),
    "query-encoded-value": query("a", "/?a=x%20y", exact="x y", differs=_DECODED),
    "query-encoded-value-as-it-is": query("a", "/?a=x%20y", exact="x%20y", differs=_DECODED),
    "query-encoded-name": query("a b", "/?a%20b=1", exact="1", differs=_DECODED),
    "query-plus": query("a", "/?a=x+y", exact="x y"),
    "query-name-in-another-case": query("A", "/?a=1", exact="1"),
    "query-two-equals": query("a", "/?a=1=2", exact="1=2"),
    "query-semicolon": query("b", "/?a=1;b=2", exact="2"),
    "query-second-question-mark": query("b", "/?a=1?b=2", exact="2"),
    "query-empty-pairs": query("b", "/?&&b=2", exact="2"),
    "query-not-there": query("b", "/?a=1", present=False),
    "query-not-there-but-is": query("a", "/?a=1", present=False),
    "query-regex-of-a-part": query("a", "/?a=abc", regex="b"),
    "query-prefix": query("a", "/?a=abc", prefix="ab"),
    "path": Case(Match(path="/a"), "/a?x"),
    "path-below": Case(Match(path="/a"), "/a/"),
    "path-encoded": Case(Match(path="/a%20b"), "/a%20b"),
    "path-in-another-case": Case(Match(path="/A"), "/a"),
    "path-of-an-absolute-target": Case(Match(path="/a"), "http://@/a?x"),
    "path-with-dots": Case(Match(path="/b"), "/a/../b"),
    "path-with-two-slashes": Case(Match(path="/a/b"), "/a//b"),
    "prefix-itself": Case(Match(prefix="/a"), "/a"),
    "prefix-and-query": Case(Match(prefix="/a"), "/a?x"),
    "prefix-and-slash": Case(Match(prefix="/a"), "/a/"),
    "prefix-below": Case(Match(prefix="/a"), "/a//b"),
    "prefix-not-at-a-border": Case(Match(prefix="/a"), "/ab"),
    "prefix-with-slash": Case(Match(prefix="/a/"), "/a/b"),
    "prefix-with-slash-but-without": Case(Match(prefix="/a/"), "/a"),
    "regex": Case(Match(regex="/a[0-9]+"), "/a12?x"),
    "regex-of-the-beginning": Case(Match(regex="/a[0-9]+"), "/a12/b"),
    "method": Case(Match(method="PUT"), method="PUT"),
    "another-method": Case(Match(method=("PUT", "POST"))),
    "one-of-two-methods": Case(Match(method=("PUT", "POST")), method="POST"),
    "second-host": Case(Match(host=("other.@", "@"))),
    "host-below": Case(Match(host="*.@"), host="a.b.@"),
    "host-below-is-not-itself": Case(Match(host="*.@")),
    "host-in-another-case": Case(Match(host="A.@"), host="a.@"),
    "host-and-port": Case(Match(host="@"), host="@:8080"),
}


def redirect(
    host: str = "@", target: str = "/a/x?q=1", match: Match | None = None, differs: str = "", **keys: Any
) -> Case:
    return Case(match or Match(), target, host=host, redirect=Redirect(**keys), differs=differs)


_DEFAULT_PORT = "Envoy writes a port that is given even where the scheme implies it"
_SLASHES = "Envoy puts the new prefix in the place of the old one, letter by letter"

REDIRECTS = {
    "nothing": redirect(),
    "host": Case(Match(), "/a", host="@:8080", redirect=Redirect(host="new.test")),
    "path-and-port-of-the-request": redirect("@:8080", path="/n"),
    "port": redirect(port=99),
    "port-and-port-of-the-request": redirect("@:8080", port=99),
    "default-port": redirect("@:8080", port=80, differs=_DEFAULT_PORT),
    "https": redirect(scheme="https"),
    "https-and-port-of-the-request": redirect("@:8080", scheme="https"),
    "https-and-old-default-port": redirect("@:80", scheme="https"),
    "https-and-new-default-port": redirect("@:8080", scheme="https", port=443, differs=_DEFAULT_PORT),
    "https-and-port-80": redirect("@:8080", scheme="https", port=80),
    "https-and-port": redirect(scheme="https", port=8443),
    "http-and-port-443": redirect("@:443", scheme="http"),
    "http-and-port-80": redirect("@:80", scheme="http", differs=_DEFAULT_PORT),
    "path": redirect(path="/n"),
    "path-strip": redirect(path="/n", strip_query=True),
    "strip": redirect(strip_query=True),
    "prefix": redirect(prefix="/b", match=Match(prefix="/a")),
    "prefix-itself": redirect(prefix="/b", match=Match(prefix="/a"), target="/a"),
    "prefix-slash": redirect(prefix="/", match=Match(prefix="/a"), differs=_SLASHES),
    "prefix-of-path": redirect(prefix="/b", match=Match(path="/a"), target="/a?q"),
    "prefix-of-regex": redirect(prefix="/b", match=Match(regex="/a.*")),
}


def rewrite(target: str, match: Match | None = None, differs: str = "", **keys: Any) -> Case:
    return Case(match or Match(), target, rewrite=Rewrite(**keys), differs=differs)


def replace(pattern: str, substitution: str, target: str, differs: str = "") -> Case:
    return rewrite(target, regex=RegexRewrite(pattern=pattern, substitution=substitution), differs=differs)


_A = Match(prefix="/a")

REWRITES = {
    "prefix": rewrite("/a/x?q=1", _A, prefix="/b"),
    "prefix-itself": rewrite("/a?q", _A, prefix="/b"),
    "prefix-itself-to-slash": rewrite("/a?q", _A, prefix="/"),
    "prefix-itself-with-slash": rewrite("/a?q", _A, prefix="/b/"),
    "prefix-to-slash": rewrite("/a/x", _A, prefix="/", differs=_SLASHES),
    "prefix-with-slash": rewrite("/a/x", _A, prefix="/b/", differs=_SLASHES),
    "prefix-from-slash": rewrite("/a/x", Match(prefix="/a/"), prefix="/b", differs=_SLASHES),
    "prefix-from-slash-to-slash": rewrite("/a/x", Match(prefix="/a/"), prefix="/"),
    "prefix-of-all": rewrite("/a/x", prefix="/b", differs=_SLASHES),
    "prefix-of-all-with-slash": rewrite("/a/x", prefix="/b/"),
    "prefix-of-path": rewrite("/a?q", Match(path="/a"), prefix="/b"),
    "prefix-of-regex": rewrite("/a/x?q", Match(regex="/a.*"), prefix="/b"),
    "regex-everywhere": replace("x", "z", "/a/xx/x?x"),
    "regex-group": replace("^/a/(.*)$", r"/b/\1", "/a/xx/x?x"),
    "regex-whole": replace("x", r"<\0>", "/a/x"),
    "regex-backslash": replace("x", r"\\1", "/a/x"),
    "regex-digit-behind-group": replace("(x)", r"\11", "/a/x"),
    "regex-empty-matches": replace("(?:/z)*", "/-", "/a/z/z"),
    "regex-empty-behind-a-match": replace(".*", "/b", "/a/x"),
    "regex-group-that-took-no-part": replace("^/(a)/(x)?", r"/\2\1", "/a/z"),
    "regex-to-nothing": replace(".*", "", "/a/x", differs="Envoy takes an empty path for none"),
    "regex-without-slash": replace("^/a/", "", "/a/x", differs="Envoy sends a target without a slash"),
    "host": rewrite("/a", host="New.test:81"),
}

CASES = {
    **{f"match-{name}": case for name, case in MATCHES.items()},
    **{f"redirect-{name}": case for name, case in REDIRECTS.items()},
    **{f"rewrite-{name}": case for name, case in REWRITES.items()},
}


def host_of(name: str) -> str:
    return f"{name}.test"


def head_of(name: str) -> list[str]:
    case = CASES[name]
    target, host = (text.replace("@", host_of(name)) for text in (case.target, case.host))
    return [f"{case.method} {target} HTTP/1.1", f"Host: {host}", *case.fields]


# --- what meshlet decides ---


def meshlet(name: str) -> str:
    """The outcome in words: yes or no, the Location, or the request line and Host that the app gets."""
    case = CASES[name]
    match = own(case.match, name)
    head: RequestHead = parse_request("\r\n".join(head_of(name)).encode(), HeadLimits())
    head.request_id = head.request_id or b"given"
    if RouteTable([(compile_match(match), True)]).match(head) is None:
        return "no"
    if case.redirect is not None:
        return compile_redirect(case.redirect, match)(head, b"http").decode()
    if case.rewrite is not None:
        compile_rewrite(case.rewrite, match)(head)
        return f"{head.lines[0].decode()} {head.lines[1].decode()[6:]}"
    return "yes"


def own(match: Match, name: str) -> Match:
    """The match with the host of its case."""
    hosts = (match.host,) if isinstance(match.host, str) else match.host
    return Match(
        host=tuple(host.replace("@", host_of(name)) for host in hosts) if hosts is not None else None,
        prefix=match.prefix,
        path=match.path,
        regex=match.regex,
        method=match.method,
        headers={
            key: ValueMatch(exact=host_of(name)) if value == "@" or value == ValueMatch(exact="@") else value
            for key, value in match.headers.items()
        },
        query=match.query,
    )


# --- what Envoy decides ---


def envoy_match(match: Match) -> dict[str, Any]:
    made: dict[str, Any] = {"headers": [], "query_parameters": []}
    if match.path is not None:
        made["path"] = match.path
    elif match.regex is not None:
        made["safe_regex"] = {"regex": match.regex}
    elif match.prefix is None or match.prefix.endswith("/"):
        made["prefix"] = match.prefix or "/"
    else:
        made["path_separated_prefix"] = match.prefix
    for key, conditions in (("headers", match.headers), ("query_parameters", match.query)):
        made[key] = [{"name": name, **envoy_value(value)} for name, value in conditions.items()]
    if match.method is not None:
        methods = [match.method] if isinstance(match.method, str) else match.method
        made["headers"].append({"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(methods)}}})
    return made


def envoy_value(value: str | ValueMatch) -> dict[str, Any]:
    match = ValueMatch(exact=value) if isinstance(value, str) else value
    made: dict[str, Any] = {"invert_match": True} if match.invert else {}
    if match.present is not None:
        return {**made, "present_match": match.present}
    if match.regex is not None:
        return {**made, "string_match": {"safe_regex": {"regex": match.regex}}}
    return {**made, "string_match": {"prefix": match.prefix} if match.prefix is not None else {"exact": match.exact}}


def envoy_action(case: Case) -> dict[str, Any]:
    if case.redirect is not None:
        names = {
            "scheme": "scheme_redirect",
            "host": "host_redirect",
            "port": "port_redirect",
            "path": "path_redirect",
            "prefix": "prefix_rewrite",
            "strip_query": "strip_query",
        }
        return {"redirect": {to: value for name, to in names.items() if (value := getattr(case.redirect, name))}}
    if case.rewrite is not None:
        action: dict[str, Any] = {"cluster": "app"}
        if case.rewrite.prefix is not None:
            action["prefix_rewrite"] = case.rewrite.prefix
        if case.rewrite.regex is not None:
            pattern = {"regex": case.rewrite.regex.pattern}
            action["regex_rewrite"] = {"pattern": pattern, "substitution": case.rewrite.regex.substitution}
        if case.rewrite.host is not None:
            action["host_rewrite_literal"] = case.rewrite.host
        return {"route": action}
    return {"direct_response": {"status": 200}}


def virtual_host(name: str) -> dict[str, Any]:
    case = CASES[name]
    match = own(case.match, name)
    domains = match.host if match.host is not None else [host_of(name)]
    return {"name": name, "domains": list(domains), "routes": [{"match": envoy_match(match), **envoy_action(case)}]}


def config(port: int, app: int) -> dict[str, Any]:
    manager = {
        "@type": f"{_PACKAGE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [virtual_host(name) for name in CASES], "ignore_port_in_host_matching": True},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_PACKAGE}.filters.http.router.v3.Router"},
            }
        ],
    }
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": app}}}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    assignment = {"cluster_name": "app", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}
    return {
        "static_resources": {
            "listeners": [{"name": "in", "address": address, "filter_chains": [chain]}],
            "clusters": [{"name": "app", "type": "STATIC", "load_assignment": assignment}],
        }
    }


@pytest.fixture(scope="module")
def app() -> Iterator[Recorder]:
    with Recorder() as server:
        yield server


@pytest.fixture(scope="module")
def address(app: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = ALL["envoy"].missing()
    if missing is not None:
        pytest.fail(missing, pytrace=False)
    folder = tmp_path_factory.mktemp("envoy")
    port = free_port()
    file = folder / "envoy.json"
    file.write_text(json.dumps(config(port, app.port)), encoding="utf-8")
    process = Process(ALL["envoy"].command(file), folder / "output")
    with running(process):
        until(lambda: accepts(port) or not process.running, 20)
        assert process.running, process.stderr[-2000:]
        yield f"127.0.0.1:{port}"


def accepts(port: int) -> bool:
    try:
        Client(f"127.0.0.1:{port}").close()
    except ConnectionRefusedError:
        return False
    return True


def envoy(name: str, address: str, app: Recorder) -> str:
    app.forget()
    with Client(address) as client:
        client.send(("\r\n".join(head_of(name)) + "\r\n\r\n").encode())
        response = client.response(CASES[name].method)
    if response.status == 404:
        return "no"
    if CASES[name].redirect is not None:
        return response.field("location") or ""
    if CASES[name].rewrite is not None:
        (received,) = app.received
        line, *fields = received.decode().split("\r\n")
        (host,) = (field[6:] for field in fields if field.lower().startswith("host: "))
        return f"{line} {host}"
    assert response.status == 200
    return "yes"


@pytest.mark.parametrize("name", CASES)
def test_second_opinion(name: str, address: str, app: Recorder) -> None:
    """meshlet and Envoy agree, but where `differs` says why not."""
    assert (meshlet(name) == envoy(name, address, app)) is not bool(CASES[name].differs)
