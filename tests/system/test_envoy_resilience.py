"""Retries, timeouts and what clients may ask of them: meshlet beside the real Envoy, on real sockets.

Every case is a route of both and a script for the app. What is compared: how many requests the app saw, the client's
status, and the response flags. All cases are played once, some at a time, and then looked at one by one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.scripted_app import (
    CLOSE,
    GARBAGE,
    HALF,
    HALF_STALL,
    OK,
    PARTIAL,
    RESET,
    RESET_EARLY,
    STALL,
    Act,
    Seen,
    status,
)
from tests.support.twins import Ask, Logged, Part, Plan, Route, Side, in_parallel, twins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.http1 import Response


class Outcome(NamedTuple):
    """What app, client and operator see."""

    requests: int
    status: int
    flags: str = "-"
    cut: bool = False  # the client's connection ended within the response


class Case(NamedTuple):
    """One route, what the app does, what the client asks for, and what comes of it."""

    route: Route
    acts: tuple[Act, ...]
    outcome: Outcome
    ask: Ask = Ask()


# --- the two ways to write a retry policy ---

_ENVOY_ON = {"refused": "reset-before-request,refused-stream"}


def retry(*on: str | int, attempts: int = 2, per_try: float = 0.0, **others: Any) -> Route:
    """A route that retries, with pauses that cost no time; `others` are of meshlet alone."""
    statuses = [each for each in on if isinstance(each, int)]
    names = [_ENVOY_ON.get(each, each) for each in on if isinstance(each, str)]
    envoy: Part = {
        "retry_on": ",".join([*names, *(["retriable-status-codes"] if statuses else [])]),
        "retriable_status_codes": statuses,
        "num_retries": attempts,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
    }
    meshlet: Part = {"attempts": attempts, "on": list(on), "backoff": {"base": "1ms", "max": "2ms"}, **others}
    if per_try:
        envoy["per_try_timeout"] = f"{per_try:g}s"
        meshlet["per_try_timeout"] = f"{int(per_try * 1000)}ms"
    return Route({"retry": meshlet}, {"route": {"retry_policy": envoy}})


PLAIN = Route({}, {"route": {}})


def _with(route: Route, meshlet: Part, envoy: Part) -> Route:
    """The route with more keys, those of Envoy in its action."""
    return Route({**route.meshlet, **meshlet}, {**route.envoy, "route": {**route.envoy["route"], **envoy}})


def within(seconds: float, route: Route = PLAIN) -> Route:
    """The route with a timeout."""
    return _with(route, {"timeout": f"{int(seconds * 1000)}ms"}, {"timeout": f"{seconds:g}s"})


def idle(seconds: float, route: Route = PLAIN) -> Route:
    """The route with a limit to silence."""
    return _with(route, {"idle_timeout": f"{int(seconds * 1000)}ms"}, {"idle_timeout": f"{seconds:g}s"})


def at(cluster: str, route: Route = PLAIN) -> Route:
    """The route to another cluster."""
    return _with(route, {"cluster": cluster}, {"cluster": cluster})


def buffering(size: int, route: Route) -> Route:
    """The route with so many bytes of a request body kept for further tries."""
    meshlet = {**route.meshlet, "retry": {**route.meshlet["retry"], "max_body": size}}
    return Route(meshlet, {**route.envoy, "request_body_buffer_limit": size})


_TRY = 0.3  # seconds; what answers does so at once, what stalls does so for ever


# --- which condition covers which failure ---


class Failure(NamedTuple):
    act: Act
    status: int
    flag: str = ""
    cluster: str = "app"
    seen: bool = True  # by the app


FAILURES = {
    "409": Failure(status(409), 409),
    "500": Failure(status(500), 500),
    "502": Failure(status(502), 502),
    "503": Failure(status(503), 503),
    "reset": Failure(RESET, 503, "UC"),
    "close": Failure(CLOSE, 503, "UC"),
    "partial": Failure(PARTIAL, 503, "UC"),
    "garbage": Failure(GARBAGE, 502, "UPE"),
    "stall": Failure(STALL, 504, "UT"),
    "closed-port": Failure(OK, 503, "UF", "closed", seen=False),
}
_NO_RESPONSE = "reset close partial garbage stall closed-port"
CONDITIONS: dict[str | int, str] = {
    "connect-failure": "closed-port",
    "refused": "closed-port",
    "reset": _NO_RESPONSE,
    "5xx": f"500 502 503 {_NO_RESPONSE}",
    "gateway-error": f"502 503 {_NO_RESPONSE}",
    "retriable-4xx": "409",
    502: "502",
}


def matrix() -> Iterator[tuple[str, Case]]:
    for on, covered in CONDITIONS.items():
        for name, failure in FAILURES.items():
            again = name in covered.split()
            flags = [*([failure.flag] if failure.flag else []), *(["URX"] if again else [])]
            requests = (3 if again else 1) if failure.seen else 0
            outcome = Outcome(requests, failure.status, ",".join(sorted(flags)) or "-")
            route = at(failure.cluster, retry(on, per_try=_TRY))
            yield f"on-{on}-{name}", Case(route, (failure.act,), outcome)


# --- what else there is to say ---

_CHUNKED = Ask("PUT", fields=("Transfer-Encoding: chunked",), body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

CASES = {
    **dict(matrix()),
    # a second try that goes well
    **{
        f"then-well-{name}": Case(retry("5xx", "retriable-4xx", per_try=_TRY), (failure.act, OK), Outcome(2, 200))
        for name, failure in FAILURES.items()
        if failure.seen
    },
    "then-well-at-the-last": Case(retry("5xx", attempts=3), (status(503),) * 3 + (OK,), Outcome(4, 200)),
    "then-another-failure": Case(retry("5xx", attempts=1), (status(503), RESET), Outcome(2, 503, "UC,URX")),
    "then-what-is-not-covered": Case(retry(503, attempts=5), (status(503), status(500)), Outcome(2, 500)),
    "no-attempts": Case(retry("5xx", attempts=0), (status(503),), Outcome(1, 503, "URX")),
    # without a policy
    **{
        f"no-policy-{name}": Case(PLAIN, (failure.act,), Outcome(1, failure.status, failure.flag or "-"))
        for name, failure in FAILURES.items()
        if failure.seen and name != "stall"
    },
    "no-policy-closed-port": Case(at("closed"), (), Outcome(0, 503, "UF")),
    "no-endpoint": Case(at("none"), (), Outcome(0, 503, "UH")),
    "no-endpoint-is-not-tried-again": Case(at("none", retry("5xx")), (), Outcome(0, 503, "UH")),
    "other-methods-head": Case(retry("5xx"), (status(503), OK), Outcome(2, 200), Ask("HEAD")),
    "other-methods-delete": Case(retry("5xx"), (RESET, OK), Outcome(2, 200), Ask("DELETE")),
    "other-methods-put": Case(retry("5xx"), (RESET, OK), Outcome(2, 200), Ask("PUT", body=b"x" * 1000)),
    "put-reset-before-its-body-is-read": Case(
        retry("5xx"), (RESET_EARLY, OK), Outcome(2, 200), Ask("PUT", body=b"x" * 1000)
    ),
    "put-in-chunks": Case(retry("reset"), (RESET, OK), Outcome(2, 200), _CHUNKED),
    "put-in-chunks-503": Case(retry("5xx"), (status(503), OK), Outcome(2, 200), _CHUNKED),
    "body-beyond-what-is-kept": Case(
        buffering(1024, retry("5xx")), (RESET, OK), Outcome(1, 503, "UC"), Ask("PUT", body=b"x" * 5000)
    ),
    "body-within-what-is-kept": Case(
        buffering(8192, retry("5xx")), (RESET, OK), Outcome(2, 200), Ask("PUT", body=b"x" * 5000)
    ),
    "kept-connection-503": Case(retry("5xx"), (status(503, keep=True), Act(keep=True)), Outcome(2, 200)),
    "upload-that-the-app-resets": Case(PLAIN, (RESET_EARLY,), Outcome(1, 503, "UC"), Ask("POST", body=b"x" * 3000)),
    "answer-before-the-body-is-read": Case(
        PLAIN, (status(403, early=True),), Outcome(1, 403), Ask("POST", body=b"x" * 3000)
    ),
    # timeouts
    "timeout": Case(within(_TRY), (STALL,), Outcome(1, 504, "UT")),
    "timeout-of-a-post": Case(within(_TRY), (STALL,), Outcome(1, 504, "UT"), Ask("POST", body=b"x")),
    "timeout-is-not-retried": Case(within(_TRY, retry("5xx")), (STALL,), Outcome(1, 504, "UT")),
    "timeout-before-the-last-try": Case(
        within(_TRY * 1.5, retry("5xx", per_try=_TRY, attempts=5)), (STALL,), Outcome(2, 504, "UT")
    ),
    "per-try-beyond-the-timeout": Case(within(_TRY, retry("5xx", per_try=9)), (STALL,), Outcome(1, 504, "UT")),
    "slow-but-in-time": Case(within(9), (Act(after=0.2),), Outcome(1, 200)),
    "no-timeout": Case(within(0), (Act(after=0.2),), Outcome(1, 200)),
    "idle-within-the-response": Case(idle(_TRY), (HALF_STALL,), Outcome(1, 200, "SI", cut=True)),
    "idle-before-the-response": Case(within(0, idle(_TRY)), (STALL,), Outcome(1, 504, "SI")),
    "idle-before-the-timeout": Case(within(9, idle(_TRY)), (STALL,), Outcome(1, 504, "SI")),
    "idle-is-not-retried": Case(within(0, idle(_TRY, retry("5xx", "reset"))), (STALL,), Outcome(1, 504, "SI")),
    # never after the first byte
    "half-a-response": Case(retry("5xx", "reset"), (HALF, OK), Outcome(1, 200, "UC", cut=True)),
    # what a client may ask for
    "asks-for-retries": Case(
        PLAIN, (status(503), OK), Outcome(2, 200), Ask(fields=("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 1"))
    ),
    "asks-for-one-kind": Case(
        PLAIN, (status(503), status(503), OK), Outcome(2, 503, "URX"), Ask(fields=("x-envoy-retry-on: 5xx",))
    ),
    "asks-for-more-tries": Case(
        retry("5xx", attempts=1), (status(503),), Outcome(4, 503, "URX"), Ask(fields=("x-envoy-max-retries: 3",))
    ),
    "asks-for-no-tries": Case(
        retry("5xx"), (status(503),), Outcome(1, 503, "URX"), Ask(fields=("x-envoy-max-retries: 0",))
    ),
    "asks-for-another-kind": Case(
        retry("connect-failure"), (status(409), OK), Outcome(2, 200), Ask(fields=("x-envoy-retry-on: retriable-4xx",))
    ),
    "asks-for-a-status": Case(
        PLAIN,
        (status(418), OK),
        Outcome(2, 200),
        Ask(fields=("x-envoy-retry-on: retriable-status-codes", "x-envoy-retriable-status-codes: 418,599")),
    ),
    "asks-for-a-timeout": Case(
        within(9), (STALL,), Outcome(1, 504, "UT"), Ask(fields=("x-envoy-upstream-rq-timeout-ms: 200",))
    ),
    "asks-for-a-longer-timeout": Case(
        within(0.05), (Act(after=0.3),), Outcome(1, 200), Ask(fields=("x-envoy-upstream-rq-timeout-ms: 9000",))
    ),
    "asks-for-no-timeout": Case(
        within(0.05), (Act(after=0.3),), Outcome(1, 200), Ask(fields=("x-envoy-upstream-rq-timeout-ms: 0",))
    ),
    "asks-for-another-status": Case(
        within(_TRY), (STALL,), Outcome(1, 504, "UT"), Ask(fields=("x-envoy-upstream-rq-timeout-alt-response: 1",))
    ),
    "asks-for-grpc-retries": Case(
        PLAIN, (status(503), OK), Outcome(1, 503), Ask(fields=("x-envoy-retry-grpc-on: unavailable",))
    ),
    "asks-for-far-too-many": Case(
        retry(503, attempts=1),
        (*[status(503)] * 5, OK),
        Outcome(6, 200),
        Ask(fields=("x-envoy-max-retries: 4000000000",)),
    ),
    "asks-for-a-per-try-timeout": Case(
        retry("5xx"), (STALL, OK), Outcome(2, 200), Ask(fields=("x-envoy-upstream-rq-per-try-timeout-ms: 300",))
    ),
    "asks-nonsense": Case(
        retry("5xx"),
        (status(503), OK),
        Outcome(2, 200),
        Ask(fields=("x-envoy-max-retries: many", "x-envoy-retry-on: luck", "x-envoy-upstream-rq-timeout-ms: -1")),
    ),
    "not-trusted-retries": Case(
        PLAIN,
        (status(503), OK),
        Outcome(1, 503),
        Ask(fields=("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 1"), listener="outside"),
    ),
    "not-trusted-fewer-retries": Case(
        retry("5xx"),
        (status(503),),
        Outcome(3, 503, "URX"),
        Ask(fields=("x-envoy-max-retries: 0",), listener="outside"),
    ),
    "not-trusted-timeout": Case(
        within(9),
        (Act(after=0.3),),
        Outcome(1, 200),
        Ask(fields=("x-envoy-upstream-rq-timeout-ms: 50",), listener="outside"),
    ),
}

# Where Envoy does otherwise: why, and what. Flags are compared in alphabetical order: Envoy writes them as they come.
_CUT_HEAD = "half a response head is malformed to Envoy; to meshlet it is a connection that ended too early"
DIFFERS: dict[str, dict[str, Outcome]] = {
    _CUT_HEAD: {
        name: Outcome(case.outcome.requests, 502, case.outcome.flags.replace("UC", "UPE"))
        for name, case in CASES.items()
        if name.endswith("-partial") and case.outcome.status != 200
    },
    "and so is half a body": {"half-a-response": Outcome(1, 200, "UPE", cut=True)},
    "meshlet makes no success of a timeout": {"asks-for-another-status": Outcome(1, 204, "UT")},
}
ENVOY = {name: outcome for cases in DIFFERS.values() for name, outcome in cases.items()}

# meshlet alone: Envoy's retry policy does not look at the method, so a POST may be executed twice.
_POST = Ask("POST", body=b"x" * 1000)
_KEYED = Ask("POST", fields=("Idempotency-Key: 1",), body=b"x" * 1000)
ALONE: dict[str, Case] = {
    "post-503": Case(retry("5xx"), (status(503), OK), Outcome(1, 503), _POST),
    "post-reset": Case(retry("5xx", "reset"), (RESET, OK), Outcome(1, 503, "UC"), _POST),
    "post-close": Case(retry("5xx", "reset"), (CLOSE, OK), Outcome(1, 503, "UC"), _POST),
    "post-per-try-timeout": Case(retry("5xx", per_try=_TRY), (STALL, OK), Outcome(1, 504, "UT"), _POST),
    "post-garbage": Case(retry("5xx"), (GARBAGE, OK), Outcome(1, 502, "UPE"), _POST),
    "post-409": Case(retry("retriable-4xx"), (status(409), OK), Outcome(1, 409), _POST),
    "patch-503": Case(retry("5xx"), (status(503), OK), Outcome(1, 503), Ask("PATCH", body=b"x")),
    "post-asks-for-retries": Case(
        PLAIN,
        (status(503), OK),
        Outcome(1, 503),
        Ask("POST", fields=("x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3"), body=b"x"),
    ),
    "post-connect-failure": Case(at("closed", retry("5xx")), (), Outcome(0, 503, "UF,URX"), _POST),
    "post-with-key-503": Case(retry("5xx"), (status(503), OK), Outcome(2, 200), _KEYED),
    "post-with-key-reset": Case(retry("reset"), (RESET, OK), Outcome(2, 200), _KEYED),
    "post-allowed-503": Case(retry("5xx", non_idempotent=True), (status(503), OK), Outcome(2, 200), _POST),
    "post-allowed-reset": Case(retry("reset", non_idempotent=True), (RESET, OK), Outcome(2, 200), _POST),
    "reset-before-response": Case(retry("reset-before-response"), (RESET, OK), Outcome(2, 200)),
    "reset-before-response-partial": Case(retry("reset-before-response"), (PARTIAL, OK), Outcome(1, 503, "UC")),
    # one endpoint of two is down, and nobody has configured anything
    "default-goes-elsewhere": Case(at("half"), (OK,), Outcome(1, 200)),
    "default-goes-elsewhere-post": Case(at("half"), (OK,), Outcome(1, 200), _POST),
}


def obedient(route: Route, most: float) -> Route:
    """The route with `Retry-After` obeyed; Envoy has to be told to."""
    policy = {
        **route.envoy["route"]["retry_policy"],
        "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "Retry-After", "format": "SECONDS"}],
            "max_interval": f"{most:g}s",
        },
    }
    retry = {**route.meshlet["retry"], "max_retry_after": f"{int(most * 1000)}ms"}
    return Route({"retry": retry}, {"route": {"retry_policy": policy}})


OTHERS = {
    "retry-after": obedient(retry(503), 5),
    "retry-after-too-long": obedient(retry(503), _TRY),
    "slow-upload": idle(_TRY),
    "kept": at("kept"),
    "kept-and-policy": at("kept", retry("reset")),
    "kept-post": at("kept"),
}

_NOBODY = {"address_prefix": "192.0.2.0", "prefix_len": 24}  # RFC 5737: addresses for examples

PLAN = Plan(
    routes={**{name: case.route for name, case in {**CASES, **ALONE}.items()}, **OTHERS},
    clusters={
        "app": Route({"endpoints": ["@app"], "retry_budget": {"min_concurrency": 1000}}, {"endpoints": ["@app"]}),
        "closed": Route(
            {"endpoints": ["@closed"], "retry_budget": {"min_concurrency": 1000}}, {"endpoints": ["@closed"]}
        ),
        "half": Route({"endpoints": ["@closed", "@app"]}, {"endpoints": ["@closed", "@app"]}),
        "kept": Route({"endpoints": ["@kept"]}, {"endpoints": ["@kept"]}),
        "none": Route({"discovery": {"file": "@none"}}, {}),
    },
    apps=("app", "kept"),
    listeners={
        "in": Route({}, {}),
        "outside": Route({"trusted_peers": []}, {"internal_address_config": {"cidr_ranges": [_NOBODY]}}),
    },
)


class Played(NamedTuple):
    outcome: Outcome
    response: Response | None
    seen: list[Seen]
    logged: Logged


def play(side: Side, name: str, case: Case) -> Played:
    side.script(name, *case.acts)
    try:
        response = side.ask(name, case.ask)
    except (EOFError, ConnectionResetError):
        response = None
    (logged,) = side.logged(name)
    assert response is None or response.status == logged.status
    seen = side.seen(name)
    flags = ",".join(sorted(logged.flags.split(",")))
    return Played(Outcome(len(seen), logged.status, flags, response is None), response, seen, logged)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    with twins(tmp_path_factory.mktemp("twins"), PLAN) as found:
        yield {side.name: side for side in found}


@pytest.fixture(scope="module")
def played(sides: dict[str, Side]) -> dict[tuple[str, str], Any]:
    todo = [(side, name, case) for name, case in CASES.items() for side in sides.values()]
    todo += [(sides["meshlet"], name, case) for name, case in ALONE.items()]
    results = in_parallel([partial(play, *each) for each in todo])
    return {(side.name, name): result for (side, name, _), result in zip(todo, results, strict=True)}


def outcome(played: dict[tuple[str, str], Any], side: str, name: str) -> Outcome:
    found = played[side, name]
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, Played)
    return found.outcome


@pytest.mark.parametrize("name", [*CASES, *ALONE])
def test_meshlet(played: dict[tuple[str, str], Any], name: str) -> None:
    assert outcome(played, "meshlet", name) == {**CASES, **ALONE}[name].outcome


@pytest.mark.parametrize("name", CASES)
def test_envoy(played: dict[tuple[str, str], Any], name: str) -> None:
    assert outcome(played, "envoy", name) == ENVOY.get(name, CASES[name].outcome)


def test_every_difference_is_one() -> None:
    assert {name for name, found in ENVOY.items() if found == CASES[name].outcome} == set()


# --- more than the outcome ---

_ABOUT_RETRIES = (
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
)
_ABOUT_TIMEOUTS = (
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
)


@pytest.mark.parametrize("side", ["meshlet", "envoy"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("asks-", "not-trusted-"))])
def test_what_the_proxy_is_asked_the_app_does_not_see(played: dict[tuple[str, str], Any], side: str, name: str) -> None:
    for seen in played[side, name].seen:
        assert [field for field in (*_ABOUT_RETRIES, *_ABOUT_TIMEOUTS) if seen.field(field) is not None] == []


@pytest.mark.parametrize("side", ["meshlet", "envoy"])
@pytest.mark.parametrize("name", ["other-methods-put", "body-within-what-is-kept", "put-in-chunks"])
def test_every_try_has_the_whole_body(played: dict[tuple[str, str], Any], side: str, name: str) -> None:
    found = played[side, name]
    assert {seen.body for seen in found.seen} == {b"abcde" if "chunks" in name else CASES[name].ask.body}
    assert len({seen.field("x-request-id") for seen in found.seen}) == 1


@pytest.mark.parametrize("side", ["meshlet", "envoy"])
def test_attempts_are_logged(played: dict[tuple[str, str], Any], side: str) -> None:
    assert played[side, "on-5xx-503"].logged.attempts == 3
    assert played[side, "then-well-reset"].logged.attempts == 2
    assert played[side, "no-policy-reset"].logged.attempts == 1


def test_the_local_answer_tells_of_every_try(played: dict[tuple[str, str], Any]) -> None:
    text = played["meshlet", "then-another-failure"].response.text
    assert "cluster app, endpoint 127.0.0.1:" in text
    assert "2 attempts (1: 127.0.0.1:" in text
    assert "answered 503; 2: 127.0.0.1:" in text


BOTH = pytest.mark.parametrize("name", ["meshlet", "envoy"])


@BOTH
def test_retry_after(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.script("retry-after", status(503, "Retry-After: 1"), OK)
    assert side.ask("retry-after").status == 200
    first, second = side.seen("retry-after")
    assert 1 <= second.when - first.when < 4


@BOTH
def test_a_retry_after_beyond_the_limit(sides: dict[str, Side], name: str) -> None:
    """meshlet waits as long as it may; Envoy takes the field for none."""
    side = sides[name]
    side.script("retry-after-too-long", status(503, "Retry-After: 60"), OK)
    assert side.ask("retry-after-too-long").status == 200
    first, second = side.seen("retry-after-too-long")
    assert (second.when - first.when >= _TRY) is (name == "meshlet")


@BOTH
def test_a_client_that_stops_within_its_request(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    with side.client() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: slow-upload.test\r\nx-case: slow-upload\r\nContent-Length: 10\r\n\r\nhello"
        )
        response = client.response()
    (logged,) = side.logged("slow-upload")
    assert (response.status, logged.flags) == (408, "SI")


@BOTH
@pytest.mark.parametrize(
    ("case", "method", "statuses", "requests"),
    [
        ("kept", "GET", {"meshlet": 200, "envoy": 503}, {"meshlet": 3, "envoy": 2}),
        ("kept-and-policy", "GET", {"meshlet": 200, "envoy": 200}, {"meshlet": 3, "envoy": 3}),
        ("kept-post", "POST", {"meshlet": 503, "envoy": 503}, {"meshlet": 2, "envoy": 2}),
    ],
)
def test_a_kept_connection_that_ends_with_the_next_request(
    sides: dict[str, Side], name: str, case: str, method: str, statuses: dict[str, int], requests: dict[str, int]
) -> None:
    """Without a policy meshlet sends what is idempotent once more; Envoy's users get the app's idle timeout as 503."""
    side = sides[name]
    side.script(case, Act(keep=True), CLOSE, OK)
    with side.client() as client:
        side.send(client, case, Ask())
        assert client.response().status == 200
        side.send(client, case, Ask(method, body=b"x" if method == "POST" else b""))
        assert client.response().status == statuses[name]
    seen = side.seen(case)
    assert len(seen) == requests[name]
    assert seen[0].connection == seen[1].connection
