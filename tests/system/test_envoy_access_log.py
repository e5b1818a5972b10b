"""The access log beside Envoy's: the same format, the same requests, the same lines.

Each request is sent to both proxies, which log it twice, as JSON with a key for each placeholder and as a line of text.
What differs by design stands in DIFFERS, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.processes import until
from tests.support.scripted_app import CLOSE, GARBAGE, OK, RESET, STALL, Act, status
from tests.support.twins import Part, Plan, Route, Side, in_parallel, twins, typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]
Rows = Mapping[str, Mapping[str, tuple[Row, str]]]
ANYTHING = object()

PLACEHOLDERS = (
    "%REQ(X-CASE)%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%RESPONSE_CODE%",
    "%RESPONSE_CODE_DETAILS%",
    "%RESPONSE_FLAGS%",
    "%RESPONSE_FLAGS_LONG%",
    "%PROTOCOL%",
    "%REQ(:METHOD)%",
    "%REQ(:PATH)%",
    "%REQ(:path):5%",
    "%REQ(X-ENVOY-ORIGINAL-PATH)%",
    "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "%REQ(:AUTHORITY)%",
    "%REQ(HOST)%",
    "%REQ(:SCHEME)%",
    "%REQ(X-FORWARDED-FOR)%",
    "%REQ(X-FORWARDED-PROTO)%",
    "%REQ(CONTENT-LENGTH)%",
    "%REQ(USER-AGENT)%",
    "%REQ(X-ONE)%",
    "%REQ(X-NONE)%",
    "%REQ(X-NONE?X-ONE)%",
    "%REQ(X-ONE?X-NONE)%",
    "%REQ(X-NONE?X-ONE):3%",
    "%REQ(X-ONE):0%",
    "%REQ(X-EMPTY)%",
    "%REQ(X-EMPTY?X-ONE)%",
    "%REQ(X-TWICE)%",
    "%REQ(X-ADDED)%",
    "%RESP(:STATUS)%",
    "%RESP(X-FROM)%",
    "%RESP(X-FROM):2%",
    "%RESP(X-NONE?X-FROM)%",
    "%RESP(CONTENT-LENGTH)%",
    "%RESP(CONTENT-TYPE)%",
    "%RESP(LOCATION)%",
    "%RESP(X-SET)%",
    "%UPSTREAM_HOST%",
    "%UPSTREAM_REMOTE_ADDRESS%",
    "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%UPSTREAM_CLUSTER%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "%DOWNSTREAM_REMOTE_ADDRESS%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%ROUTE_NAME%",
    "%HOSTNAME%",
    "%PATH%",
    "%PATH(NQ)%",
    "%PATH(WQ:PATH)%",
    "%PATH(NQ:ORIG)%",
    "%PATH(NQ:ORIG_OR_PATH):3%",
    "%QUERY_PARAM(q)%",
    "%QUERY_PARAM(q):2%",
    "%QUERY_PARAM(empty)%",
    "%QUERY_PARAM(none)%",
    "%ENVIRONMENT(HOME)%",
    "%ENVIRONMENT(HOME):3%",
    "%ENVIRONMENT(NO_SUCH_VARIABLE)%",
    "%TRACE_ID%",
    "%CONNECTION_TERMINATION_DETAILS%",
    "100%% %RESPONSE_CODE%/%REQ(X-NONE)%",
)
# Their values are each proxy's own; what they look like is compared.
SHAPES = {
    "%START_TIME%": r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "%START_TIME(%Y/%m/%dT%H:%M:%S%z)%": r"20\d\d/\d\d/\d\dT\d\d:\d\d:\d\d\+0000",
    "%START_TIME(%s.%3f)%": r"\d{10}\.\d{3}",
    "%START_TIME(%s.%9f)%": r"\d{10}\.\d{9}",
    "%START_TIME(%b %e %E3S %Ez %Z %j %%)%": r"[A-Z][a-z]{2} [ \d]\d \d\d\.\d{3} \+00:00 UTC \d{3} %",
    "%DURATION%": int,
    "%REQUEST_DURATION%": int,
    "%RESPONSE_DURATION%": int,
    "%RESPONSE_TX_DURATION%": int,
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%": r"\d+",
    "%REQ(X-REQUEST-ID)%": r"[0-9a-f-]{36}",
    "%STREAM_ID%": r"[0-9a-f-]{36}",
    "%DOWNSTREAM_REMOTE_PORT%": int,
    "%DOWNSTREAM_DIRECT_REMOTE_PORT%": int,
    "%DOWNSTREAM_LOCAL_PORT%": int,
    "%UPSTREAM_REMOTE_PORT%": int,
}
LINE = (
    '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% '
    '"%REQ(X-ONE)%" "%REQ(:AUTHORITY)%" %UPSTREAM_CLUSTER% %REQ(X-NONE)% [%REQ(X-EMPTY)%] '
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
)


class Case(NamedTuple):
    """A route, what the app does, and a request. Host and `x-case` are added."""

    route: Route
    acts: tuple[Act, ...] = (OK,)
    line: str = "GET /a/b?q=1%202&empty=&q=5 HTTP/1.1"
    fields: tuple[str, ...] = ()
    body: bytes = b""
    leave: bool = False  # the client goes without waiting for the response


def to(meshlet: Part | None = None, action: Part | None = None, **envoy: Any) -> Route:
    return Route(meshlet or {}, {"route": action or {}, **envoy})


def added(name: str, value: str) -> list[Part]:
    return [{"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


_REWRITE = {"match": {"prefix": "/old"}, "rewrite": {"prefix": "/new"}}
_REWRITTEN = {"match": {"path_separated_prefix": "/old"}}
_RETRY = to(
    {"retry": {"on": ["5xx"], "attempts": 2, "backoff": {"base": "1ms", "max": "10ms"}}},
    {"retry_policy": {"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}}},
)
_FROM = Act(fields=("x-from: app", "content-type: text/plain"), body=b"hello")

CASES = {
    "get": Case(to(), (_FROM,)),
    "named-route": Case(to({"name": "the-route"}, name="the-route")),
    "head": Case(to(), (_FROM,), "HEAD / HTTP/1.1"),
    "post": Case(to(), (_FROM,), "POST /a HTTP/1.1", ("Content-Length: 5",), b"hello"),
    "chunks": Case(to(), (OK,), "PUT /a HTTP/1.1", ("Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n\r\n"),
    "http10": Case(to(), (_FROM,), "GET /old HTTP/1.0"),
    "options": Case(to(), (OK,), "OPTIONS /x HTTP/1.1"),
    "fields": Case(to(), (_FROM,), fields=("X-One: value of one", "x-EMPTY:", "X-Twice: 1", "X-Twice: 2")),
    "user-agent": Case(to(), (_FROM,), fields=("User-Agent: curl/8.5.0", "X-One:   space around   ")),
    "long-field": Case(to(), (OK,), fields=("X-One: " + "x" * 3000,)),
    "forwarded": Case(to(), (OK,), fields=("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")),
    "long-path": Case(to(), (OK,), f"GET /{'p' * 2000}?q={'q' * 2000} HTTP/1.1"),
    "encoded-query": Case(to(), (OK,), "GET /a?%71=x+y%26z HTTP/1.1"),
    "app-404": Case(to(), (status(404, "x-from: app"),)),
    "app-503": Case(to(), (status(503),)),
    "no-content": Case(to(), (Act(status=204, body=b""),)),
    "rewrite": Case(to(_REWRITE, {"prefix_rewrite": "/new"}, **_REWRITTEN), line="GET /old/x?q=1 HTTP/1.1"),
    "rewrite-host": Case(to({"rewrite": {"host": "other.test"}}, {"host_rewrite_literal": "other.test"})),
    "header-rules": Case(
        to(
            {"request_headers": {"set": {"x-added": "yes"}}, "response_headers": {"set": {"x-set": "yes"}}},
            request_headers_to_add=added("x-added", "yes"),
            response_headers_to_add=added("x-set", "yes"),
        )
    ),
    "direct": Case(
        Route(
            {"direct_response": {"status": 418, "body": "tea\n"}},
            {"direct_response": {"status": 418, "body": {"inline_string": "tea\n"}}},
        )
    ),
    "redirect": Case(Route({"redirect": {"host": "new.test"}}, {"redirect": {"host_redirect": "new.test"}})),
    "refused": Case(
        to({"cluster": "closed"}, {"cluster": "closed"}),
    ),
    "no-endpoints": Case(to({"cluster": "empty"}, {"cluster": "empty"})),
    "retried": Case(_RETRY, (status(503), RESET, _FROM)),
    "retries-used-up": Case(_RETRY, (status(503),)),
    "timeout": Case(to({"timeout": "300ms"}, {"timeout": "0.3s"}), (STALL,)),
    "reset": Case(to({}, {}), (RESET,), "POST /x HTTP/1.1", ("Content-Length: 0",)),
    "closed-by-the-app": Case(to({}, {}), (CLOSE,), "POST /x HTTP/1.1", ("Content-Length: 0",)),
    "garbage": Case(to({}, {}), (GARBAGE,), "POST /x HTTP/1.1", ("Content-Length: 0",)),
    "client-leaves": Case(to({}, {}), (Act(after=5.0),), leave=True),
}
# Requests that no route takes.
LOST = {
    "no-route": Case(to()),
    "no-route-post": Case(to(), (), "POST /x HTTP/1.1", ("Content-Length: 2", "X-One: 1"), b"hi"),
}
ALL = {**CASES, **LOST}


class Difference(NamedTuple):
    """What meshlet logs where Envoy logs something else."""

    meshlet: Any
    reason: str


_ERROR = "meshlet tells its own error, which says more"
_FAILURES = ("refused", "no-endpoints", "timeout", "reset", "closed-by-the-app", "garbage")
_TYPE = "its own texts are UTF-8, and say so"
_BODY = "the bodies of its own responses say more"


def _own(cases: tuple[str, ...], value: Any, reason: str) -> dict[str, Difference]:
    return dict.fromkeys(cases, Difference(value, reason))


# By placeholder, and below that by case; `*` is for all that have no entry of their own.
DIFFERS: Mapping[str, Mapping[str, Difference]] = {
    "%REQ(X-FORWARDED-FOR)%": {
        "*": Difference("127.0.0.1", "for a client on the same machine Envoy writes its own address"),
        "forwarded": Difference("192.0.2.1, 127.0.0.1", "likewise, and there is no space in Envoy's list"),
    },
    "%REQ(X-FORWARDED-PROTO)%": {"forwarded": Difference("https", "the word of a trusted client counts")},
    "%REQ(:SCHEME)%": {"forwarded": Difference("https", "the word of a trusted client counts")},
    "%RESPONSE_CODE_DETAILS%": {
        "refused": Difference("connect_to_@closed:_connection_refused", _ERROR),
        "no-endpoints": Difference("no_endpoint_of_cluster_empty_is_known", _ERROR),
        "timeout": Difference("no_response_within_0.3_s", _ERROR),
        "client-leaves": Difference("the_client_closed_the_connection", _ERROR),
        **_own(("reset", "closed-by-the-app", "garbage", *LOST), ANYTHING, _ERROR),
    },
    "%UPSTREAM_TRANSPORT_FAILURE_REASON%": {"refused": Difference("connect_to_@closed:_connection_refused", _ERROR)},
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%": {
        "no-endpoints": Difference(0, "what has found no endpoint was not sent once"),
    },
    "%BYTES_SENT%": _own((*_FAILURES, *LOST), ANYTHING, _BODY),
    "%RESP(CONTENT-LENGTH)%": {
        **_own((*_FAILURES, *LOST), ANYTHING, _BODY),
        "redirect": Difference("0", "RFC 9110 section 8.6: a response without a body says so"),
    },
    "%RESP(CONTENT-TYPE)%": _own(("direct", *_FAILURES, *LOST), "text/plain; charset=utf-8", _TYPE),
    "%REQUEST_DURATION%": {
        "no-route-post": Difference(ANYTHING, "Envoy has not looked at the body when it answers"),
    },
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    """By the proxy's name and the case: the JSON object and the line of text."""
    folder = tmp_path_factory.mktemp("access-log")
    with twins(folder, _plan(folder), _script) as sides:
        found = {}
        for side in sides:
            errors = [error for error in in_parallel([_sender(side, case) for case in ALL], 4) if error is not None]
            assert not errors, errors
            found[side.name] = _read(folder, side)
        yield found


def _script(side: Side) -> None:
    for name, case in ALL.items():
        side.script(name, *case.acts)


def _sender(side: Side, name: str) -> Any:
    def send() -> None:
        case = ALL[name]
        lines = (case.line, f"Host: {name}.test", f"x-case: {name}", *case.fields, "", "")
        with side.client() as client:
            client.send("\r\n".join(lines).encode() + case.body)
            if case.leave:
                until(lambda: side.seen(name))
            else:
                client.response(case.line.split(" ")[0])

    return send


def _read(folder: Path, side: Side) -> dict[str, tuple[Row, str]]:
    def read() -> list[tuple[str, str]]:
        logs = [(folder / f"{side.name}-{kind}.log") for kind in ("json", "text")]
        both = [log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else [] for log in logs]
        return list(zip(*both, strict=True)) if len(both[0]) == len(both[1]) == len(ALL) else []

    found = {}
    for line, text in until(read):
        row = json.loads(line)
        ports = {f"127.0.0.1:{row['%DOWNSTREAM_REMOTE_PORT%']}": "@client"}
        names = {address: f"@{name}" for name, address in (*side.places.items(), *side.addresses.items())} | ports
        for address, name in names.items():
            row = {key: value.replace(address, name) if isinstance(value, str) else value for key, value in row.items()}
        found[row["%REQ(X-CASE)%"]] = (row, text)
    return found


def _plan(folder: Path) -> Plan:
    """The two logs, in the words of both."""
    fields = {text: text for text in (*PLACEHOLDERS, *SHAPES)}
    forms = {"json": {"json_format": fields}, "text": {"text_format_source": {"inline_string": LINE + "\n"}}}
    logs = [
        {
            "name": name,
            "typed_config": typed(
                "access_loggers.file.v3.FileAccessLog", path=str(folder / f"envoy-{name}.log"), log_format=form
            ),
        }
        for name, form in forms.items()
    ]
    return Plan(
        {name: case.route for name, case in CASES.items()},
        {
            "app": Route({"endpoints": ["@app"]}, {"endpoints": ["@app"]}),
            "closed": Route({"endpoints": ["@closed"]}, {"endpoints": ["@closed"]}),
            "empty": Route({"discovery": {"file": "@none"}}, {}),
        },
        listeners={"in": Route({}, {"access_log": logs, "http_protocol_options": {"accept_http_10": True}})},
        telemetry={
            "access_log": [
                {"path": str(folder / "meshlet-json.log"), "fields": fields},
                {"path": str(folder / "meshlet-text.log"), "format": LINE + "\n"},
            ]
        },
    )


def _expected(case: str, envoy: Row) -> tuple[Row, set[str]]:
    """Return what meshlet is to log where Envoy logged `envoy`, and the keys whose values do not matter."""
    row, free = {**envoy}, set()
    for key, cases in DIFFERS.items():
        difference = cases.get(case, cases.get("*"))
        if difference is not None:
            if difference.meshlet is ANYTHING:
                free.add(key)
            row[key] = difference.meshlet
    return row, free


@pytest.mark.parametrize("case", ALL)
def test_values(rows: Rows, case: str) -> None:
    expected, free = _expected(case, rows["envoy"][case][0])
    seen = rows["meshlet"][case][0]
    keys = [key for key in PLACEHOLDERS if key not in free]
    assert {key: seen[key] for key in keys} == {key: expected[key] for key in keys}


@pytest.mark.parametrize("case", ALL)
def test_shapes(rows: Rows, case: str) -> None:
    for name in ("envoy", "meshlet"):
        row = rows[name][case][0]
        for key, shape in SHAPES.items():
            if name == "meshlet" and case not in DIFFERS.get(key, ()):
                # What is absent is so in both.
                assert (row[key] is None) is (rows["envoy"][case][0][key] is None), key
            if row[key] is not None:
                assert isinstance(row[key], int) if shape is int else re.fullmatch(str(shape), row[key]), (name, key)


@pytest.mark.parametrize("case", ALL)
def test_lines_of_text(rows: Rows, case: str) -> None:
    expected = rows["envoy"][case][1]
    if case == "no-endpoints":
        expected = expected[:-1] + str(DIFFERS["%UPSTREAM_REQUEST_ATTEMPT_COUNT%"][case].meshlet)
    assert rows["meshlet"][case][1] == expected


def test_every_difference_is_there(rows: Rows) -> None:
    """What is no difference any more leaves the table."""
    for key, cases in DIFFERS.items():
        for case in cases.keys() - {"*"}:
            assert rows["meshlet"][case][0][key] != rows["envoy"][case][0][key], (key, case)
        if "*" in cases:
            assert any(rows["meshlet"][case][0][key] != rows["envoy"][case][0][key] for case in ALL), key
