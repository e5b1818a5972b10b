"""Which endpoint a request goes to, and when to none: circuit breakers, outlier detection, health checks, balancers.

Each test plays a scenario with meshlet and with the real Envoy; where they differ, both outcomes are written down.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import until
from tests.support.scripted_app import OK, Act, status
from tests.support.twins import GET, Ask, Part, Plan, Route, Side, in_parallel, twins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.http1 import Response

BOTH = pytest.mark.parametrize("name", ["meshlet", "envoy"])

_SLOW = Act(after=0.5)
_FEW = ("@a", "@b", "@c")


def cluster(endpoints: Sequence[str], meshlet: Part | None = None, envoy: Part | None = None) -> Route:
    """A cluster in the words of both. Envoy is told to act on what it learns at once, as meshlet does."""
    more = {**(envoy or {})}
    common = {"update_merge_window": "0s", **more.pop("common_lb_config", {})}
    return Route(
        {"endpoints": list(endpoints), **(meshlet or {})},
        {"endpoints": list(endpoints), "common_lb_config": common, **more},
    )


# --- circuit breakers ---

_ENVOY_LIMITS = {"max_pending": "max_pending_requests"}


def limited(endpoint: str = "@a", **limits: int) -> Route:
    thresholds = {_ENVOY_LIMITS.get(key, key): value for key, value in limits.items()}
    return cluster([endpoint], {"circuit_breaker": limits}, {"circuit_breakers": {"thresholds": [thresholds]}})


def watched_queue() -> Route:
    """One connection for two endpoints, of which one local failure would eject the one that is waited for."""
    return cluster(
        ["@a", "@b"],
        {
            "circuit_breaker": {"max_connections": 1},
            "outlier_detection": {"consecutive_local_failures": 1, "max_ejection_percent": 100},
            "panic_threshold": 0,
        },
    )


def budgeted(percent: int, least: int) -> Route:
    threshold = {"retry_budget": {"budget_percent": {"value": percent}, "min_retry_concurrency": least}}
    return cluster(
        ["@a"],
        {"retry_budget": {"percent": percent, "min_concurrency": least}},
        {"circuit_breakers": {"thresholds": [threshold]}},
    )


# --- outlier detection, panic, health checks ---


def watched(endpoints: Sequence[str], share: int, panic: int | None = None, after: int = 3) -> Route:
    """A cluster that ejects at most so many per cent of its endpoints, for a second."""
    detection = {
        "consecutive_5xx": after,
        "interval": "0.1s",
        "base_ejection_time": "1s",
        "max_ejection_percent": share,
    }
    only = {f"enforcing_{rule}": 0 for rule in ("success_rate", "consecutive_gateway_failure")}
    return cluster(
        endpoints,
        {
            "outlier_detection": {**detection, "interval": "100ms", "consecutive_local_failures": 0},
            **({} if panic is None else {"panic_threshold": panic}),
        },
        {
            "outlier_detection": {**detection, **only},
            "common_lb_config": {} if panic is None else {"healthy_panic_threshold": {"value": panic}},
        },
    )


def checked(endpoints: Sequence[str], panic: int) -> Route:
    """A cluster whose endpoints are asked for /healthz."""
    return cluster(
        endpoints,
        {
            "health_check": {
                "path": "/healthz",
                "interval": "100ms",
                "timeout": "2s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
            },
            "panic_threshold": panic,
        },
        {
            "health_checks": [
                {
                    "http_health_check": {"path": "/healthz"},
                    "interval": "0.1s",
                    "no_traffic_interval": "0.1s",
                    "unhealthy_interval": "0.1s",
                    "timeout": "2s",
                    "unhealthy_threshold": 1,
                    "healthy_threshold": 1,
                }
            ],
            "common_lb_config": {"healthy_panic_threshold": {"value": panic}},
        },
    )


# --- balancers ---


def hashing(balancer: str, on: Part) -> Route:
    policy = "MAGLEV" if balancer == "maglev" else "RING_HASH"
    return cluster(_FEW, {"balancer": balancer, "hash_on": on}, {"lb_policy": policy})


def to(name: str, meshlet: Part | None = None, envoy: Part | None = None) -> Route:
    return Route({"cluster": name, **(meshlet or {})}, {"route": {"cluster": name, **(envoy or {})}})


def hashed(name: str, policy: Part) -> Route:
    return to(name, None, {"hash_policy": [policy]})


_HEADER = {"header": {"header_name": "x-user"}}
_COOKIE = {"cookie": {"name": "session"}}
_SOURCE = {"connection_properties": {"source_ip": True}}
_RETRY_503 = {"retry_policy": {"retry_on": "5xx", "num_retries": 2}}

CLUSTERS = {
    "queue-timeout": limited(max_connections=1),
    "queue-per-try": limited(max_connections=1),
    "queue-no-blame": watched_queue(),
    "one-request-again": limited(max_requests=1),
    "narrow": limited(max_connections=1, max_pending=1),
    "no-queue": limited(max_connections=1, max_pending=0),
    "one-request": limited(max_requests=1),
    "no-retries": limited(max_retries=0),
    "no-budget": budgeted(0, 0),
    "all-budget": budgeted(100, 0),
    "two-classes": cluster(
        ["@a"],
        {"circuit_breaker": {"max_requests": 1, "high": {"max_requests": 2}}},
        {"circuit_breakers": {"thresholds": [{"max_requests": 1}, {"priority": "HIGH", "max_requests": 2}]}},
    ),
    "one-bad": watched(_FEW, 50),
    "one-dead": watched(["@a", "@b", "@closed"], 50),
    "all-bad-but-few-out": watched(_FEW, 50, panic=0),
    "all-bad-all-out": watched(_FEW, 100, panic=0),
    "all-bad-panic": watched(_FEW, 100, panic=50),
    "one-sick": checked(["@a", "@b", "@sick"], 0),
    "all-sick": checked(["@sick"], 0),
    "all-sick-panic": checked(["@sick"], 50),
    "recovers": checked(["@a", "@patient"], 0),
    "ring-header": hashing("ring-hash", {"header": "x-user"}),
    "maglev-header": hashing("maglev", {"header": "x-user"}),
    "ring-cookie": hashing("ring-hash", {"cookie": "session"}),
    "maglev-source": hashing("maglev", {"source": True}),
    "least": cluster(_FEW, {"balancer": "least-request"}, {"lb_policy": "LEAST_REQUEST"}),
    "turns": cluster(_FEW, {"balancer": "round-robin"}, {"lb_policy": "ROUND_ROBIN"}),
    "random": cluster(_FEW, {"balancer": "random"}, {"lb_policy": "RANDOM"}),
    "only-a": cluster(["@a"]),
    "only-b": cluster(["@b"]),
}
ROUTES = {
    **{name: to(name) for name in CLUSTERS},
    "no-retries": to("no-retries", {"retry": {"on": ["5xx"], "attempts": 2}}, _RETRY_503),
    "no-budget": to("no-budget", {"retry": {"on": ["5xx"], "attempts": 2}}, _RETRY_503),
    "all-budget": to("all-budget", {"retry": {"on": ["5xx"], "attempts": 2}}, _RETRY_503),
    "queue-timeout": to("queue-timeout", {"timeout": "200ms"}, {"timeout": "0.2s"}),
    "queue-timeout-holder": to("queue-timeout"),
    "queue-per-try": to(
        "queue-per-try",
        {"retry": {"on": ["reset"], "attempts": 1, "per_try_timeout": "200ms"}},
        {"retry_policy": {"retry_on": "reset", "num_retries": 1, "per_try_timeout": "0.2s"}},
    ),
    "queue-per-try-holder": to("queue-per-try"),
    "queue-no-blame": to("queue-no-blame", {"timeout": "100ms"}),
    "queue-no-blame-holder": to("queue-no-blame"),
    "one-request-again": to("one-request-again", {"retry": {"on": ["5xx"], "attempts": 2}}, _RETRY_503),
    "two-classes-high": to("two-classes", {"priority": "high"}, {"priority": "HIGH"}),
    "ring-header": hashed("ring-header", _HEADER),
    "maglev-header": hashed("maglev-header", _HEADER),
    "ring-cookie": hashed("ring-cookie", _COOKIE),
    "maglev-source": hashed("maglev-source", _SOURCE),
    "elsewhere": to(
        "turns",
        {"retry": {"on": ["5xx"], "attempts": 2}},
        {
            "retry_policy": {
                "retry_on": "5xx",
                "num_retries": 2,
                "retry_host_predicate": [
                    {
                        "name": "previous",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                            ".PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 10,
            }
        },
    ),
    "split": Route(
        {"split": [{"cluster": "only-a", "weight": 80}, {"cluster": "only-b", "weight": 20}]},
        {
            "route": {
                "weighted_clusters": {"clusters": [{"name": "only-a", "weight": 80}, {"name": "only-b", "weight": 20}]}
            }
        },
    ),
    "split-all-or-nothing": Route(
        {"split": [{"cluster": "only-a", "weight": 0}, {"cluster": "only-b", "weight": 1}]},
        {
            "route": {
                "weighted_clusters": {"clusters": [{"name": "only-a", "weight": 0}, {"name": "only-b", "weight": 1}]}
            }
        },
    ),
}

PLAN = Plan(ROUTES, CLUSTERS, apps=("a", "b", "c", "sick", "patient"))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    folder = tmp_path_factory.mktemp("twins")

    def ill(side: Side) -> None:
        for app in ("sick", "patient"):
            side.apps[app].script("", status(500))  # health checks belong to no case

    with twins(folder, PLAN, ill) as found:
        yield {side.name: side for side in found}


def several(side: Side, case: str, count: int, ask: Ask = GET, threads: int = 1) -> Counter[int]:
    """The statuses of so many requests."""
    asks = [partial(side.ask, case, ask) for _ in range(count)]
    found = Counter[int]()
    for response in in_parallel(asks, threads):
        if isinstance(response, Exception):
            raise response
        found[response.status] += 1  # type: ignore[attr-defined]
    return found


def shares(side: Side, case: str) -> Counter[str]:
    """How many requests of a case each app got."""
    return Counter(seen.app for seen in side.seen(case))


# --- circuit breakers ---


def one_by_one(side: Side, cases: Sequence[str], *, all_slow: bool = False) -> list[int]:
    """The statuses of `asked_one_by_one`."""
    return [response.status for response in asked_one_by_one(side, cases, all_slow=all_slow)]


def asked_one_by_one(side: Side, cases: Sequence[str], *, all_slow: bool = False) -> list[Response]:
    """Send one request after the other without waiting for answers; return the answers
    by their status.

    What is sent next finds the one before at the app, in the queue, or refused. The first one takes its time, or all.
    """
    clients = [side.client() for _ in cases]
    try:
        for number, (client, case) in enumerate(zip(clients, cases, strict=True)):
            if all_slow:
                side.script(case, *[_SLOW] * len(cases))
            else:
                side.script(case, _SLOW, OK) if not number else side.script(case, OK)
            side.send(client, case, GET)
            if not number:
                until(lambda: side.seen(cases[0]))
        return sorted((client.response() for client in clients), key=lambda response: response.status)
    finally:
        for client in clients:
            client.close()


@BOTH
def test_the_queue_is_bounded(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert one_by_one(side, ["narrow"] * 3) == [200, 200, 503]
    assert Counter(logged.flags for logged in side.logged("narrow", 3)) == {"-": 2, "UO": 1}
    assert len(side.seen("narrow")) == 2


def test_no_queue(sides: dict[str, Side]) -> None:
    """With Envoy a request whose connection is being opened waits as well: without a queue none gets that far."""
    assert one_by_one(sides["meshlet"], ["no-queue"] * 2) == [200, 503]
    assert {logged.flags for logged in sides["meshlet"].logged("no-queue", 2)} == {"-", "UO"}
    assert several(sides["envoy"], "no-queue", 2) == {503: 2}
    assert {logged.flags for logged in sides["envoy"].logged("no-queue", 2)} == {"UO"}


@BOTH
def test_requests_are_bounded(sides: dict[str, Side], name: str) -> None:
    """Envoy tells callers, other Envoys above all, with `x-envoy-overloaded` as well."""
    side = sides[name]
    well, refused = asked_one_by_one(side, ["one-request"] * 2)
    assert (well.status, refused.status) == (200, 503)
    assert refused.field("x-envoy-overloaded") == "true"
    assert Counter(logged.flags for logged in side.logged("one-request", 2)) == {"-": 1, "UO": 1}


@BOTH
def test_what_is_too_much_is_not_tried_again(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert one_by_one(side, ["one-request-again"] * 2) == [200, 503]
    assert Counter(logged.flags for logged in side.logged("one-request-again", 2)) == {"-": 1, "UO": 1}


@BOTH
def test_the_timeout_runs_in_the_queue(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert one_by_one(side, ["queue-timeout-holder", "queue-timeout"]) == [200, 504]
    assert [logged.flags for logged in side.logged("queue-timeout")] == ["UT"]
    assert side.seen("queue-timeout") == []


@BOTH
def test_the_timeout_of_a_try_does_not(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.script("queue-per-try", OK)
    assert one_by_one(side, ["queue-per-try-holder", "queue-per-try"]) == [200, 200]


def test_waiting_in_our_queue_is_not_the_endpoint_s_fault(sides: dict[str, Side]) -> None:
    side = sides["meshlet"]
    assert one_by_one(side, ["queue-no-blame-holder", *["queue-no-blame"] * 4]) == [200, 504, 504, 504, 504]
    assert several(side, "queue-no-blame", 4) == {200: 4}
    assert set(shares(side, "queue-no-blame")) == {"a", "b"}


@BOTH
def test_priorities_are_counted_apart(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    cases = ["two-classes", "two-classes", "two-classes-high", "two-classes-high", "two-classes-high"]
    assert one_by_one(side, cases, all_slow=True) == [200, 200, 200, 503, 503]
    assert len(side.seen("two-classes")) == 1
    assert len(side.seen("two-classes-high")) == 2


@BOTH
@pytest.mark.parametrize(
    ("case", "requests", "flags"), [("no-retries", 1, {"UO"}), ("no-budget", 1, {"UO"}), ("all-budget", 3, {"URX"})]
)
def test_retries_are_bounded(sides: dict[str, Side], name: str, case: str, requests: int, flags: set[str]) -> None:
    side = sides[name]
    side.script(case, status(503))
    assert side.ask(case).status == 503
    assert len(side.seen(case)) == requests
    assert {logged.flags for logged in side.logged(case)} == flags


# --- outlier detection ---


@BOTH
def test_an_endpoint_that_fails_is_out_for_a_while(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.apps["c"].script("one-bad", status(503), status(503), status(503), OK)
    assert several(side, "one-bad", 30) == {200: 27, 503: 3}
    assert shares(side, "one-bad")["c"] == 3
    until(lambda: side.ask("one-bad").status == 200 and shares(side, "one-bad")["c"] > 3)
    times = [seen.when for seen in side.apps["c"].seen("one-bad")]
    assert 0.9 < times[3] - times[2] < 4


@BOTH
def test_connect_failures_count(sides: dict[str, Side], name: str) -> None:
    """meshlet's default sends on to another endpoint what Envoy without a policy fails."""
    side = sides[name]
    statuses = several(side, "one-dead", 30)
    assert statuses == ({200: 30} if name == "meshlet" else {200: 27, 503: 3})


@BOTH
def test_no_more_are_out_than_allowed(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.script("all-bad-but-few-out", status(503))
    assert several(side, "all-bad-but-few-out", 9) == {503: 9}
    before = shares(side, "all-bad-but-few-out")
    assert several(side, "all-bad-but-few-out", 12) == {503: 12}
    grown = [app for app, count in shares(side, "all-bad-but-few-out").items() if count > before[app]]
    assert len(grown) == {"meshlet": 2, "envoy": 2}[name]
    assert {logged.flags for logged in side.logged("all-bad-but-few-out", 21)} == {"-"}


@BOTH
def test_all_are_out(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.script("all-bad-all-out", status(503))
    assert several(side, "all-bad-all-out", 12) == {503: 12}
    assert len(side.seen("all-bad-all-out")) == 9
    assert Counter(logged.flags for logged in side.logged("all-bad-all-out", 12)) == {"-": 9, "UH": 3}


@BOTH
def test_panic_sends_to_all(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.script("all-bad-panic", status(503))
    assert several(side, "all-bad-panic", 24) == {503: 24}
    assert len(side.seen("all-bad-panic")) == 24
    assert min(shares(side, "all-bad-panic").values()) > 3


# --- health checks ---


@BOTH
def test_an_unhealthy_endpoint_gets_nothing(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    until(lambda: side.ask("one-sick").status == 200)
    until(lambda: {"a", "b"} <= set(shares(side, "one-sick")) or side.ask("one-sick") is None)
    assert several(side, "one-sick", 12) == {200: 12}
    assert set(shares(side, "one-sick")) == {"a", "b"}


@BOTH
def test_all_are_unhealthy(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    until(lambda: side.apps["sick"].seen(""))
    assert side.ask("all-sick").status == 503
    assert [logged.flags for logged in side.logged("all-sick")] == ["UH"]


@BOTH
def test_all_are_unhealthy_and_panic(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    until(lambda: side.apps["sick"].seen(""))
    assert side.ask("all-sick-panic").status == 200
    assert shares(side, "all-sick-panic") == {"sick": 1}


@BOTH
def test_an_endpoint_recovers(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    until(lambda: side.ask("recovers").status == 200)
    assert several(side, "recovers", 6) == {200: 6}
    assert set(shares(side, "recovers")) == {"a"}
    side.apps["patient"].script("", OK)
    until(lambda: side.ask("recovers").status == 200 and "patient" in shares(side, "recovers"))
    checks = side.apps["patient"].seen("")
    assert {seen.line for seen in checks} == {"GET /healthz HTTP/1.1"}
    assert {seen.field("host") for seen in checks} == {"recovers"}


# --- balancers ---


@BOTH
@pytest.mark.parametrize(
    ("case", "field"),
    [("ring-header", "x-user: {}"), ("maglev-header", "x-user: {}"), ("ring-cookie", "cookie: a=b; session={}; c=d")],
)
def test_the_same_key_goes_to_the_same_endpoint(sides: dict[str, Side], name: str, case: str, field: str) -> None:
    side = sides[name]
    for key in range(24):
        for _ in range(2):
            assert side.ask(case, Ask(fields=(field.format(key), f"x-key: {key}"))).status == 200
    places: dict[str | None, set[str]] = {}
    for seen in side.seen(case):
        places.setdefault(seen.field("x-key"), set()).add(seen.app)
    assert len(places) == 24
    assert {len(apps) for apps in places.values()} == {1}
    assert set(shares(side, case)) == {"a", "b", "c"}


@BOTH
def test_without_a_key_anywhere(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    before = shares(side, "maglev-header")
    several(side, "maglev-header", 40)
    assert {app for app, count in shares(side, "maglev-header").items() if count > before[app]} == {"a", "b", "c"}


@BOTH
def test_the_same_source_goes_to_the_same_endpoint(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert several(side, "maglev-source", 12) == {200: 12}
    assert sorted(shares(side, "maglev-source").values()) == [12]


@BOTH
def test_the_slow_one_gets_less(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    side.apps["a"].script("least", Act(after=0.3))
    assert several(side, "least", 200, threads=8) == {200: 200}
    found = shares(side, "least")
    assert found["a"] < 0.75 * min(found["b"], found["c"])  # mostly it is half; two random ones are compared


@BOTH
def test_turns(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert several(side, "turns", 12) == {200: 12}
    assert shares(side, "turns") == {"a": 4, "b": 4, "c": 4}


@BOTH
def test_random(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert several(side, "random", 90) == {200: 90}
    assert all(10 <= count <= 55 for count in shares(side, "random").values())  # 4.5 standard deviations


@BOTH
def test_the_next_try_goes_elsewhere(sides: dict[str, Side], name: str) -> None:
    """meshlet does so by itself; Envoy has to be told."""
    side = sides[name]
    side.script("elsewhere", status(503))
    assert side.ask("elsewhere").status == 503
    assert shares(side, "elsewhere") == {"a": 1, "b": 1, "c": 1}


# --- splits ---


@BOTH
def test_split(sides: dict[str, Side], name: str) -> None:
    side = sides[name]
    assert several(side, "split", 200) == {200: 200}
    assert 15 <= shares(side, "split")["b"] <= 65  # of 40; 4.5 standard deviations
    assert several(side, "split-all-or-nothing", 20) == {200: 20}
    assert shares(side, "split-all-or-nothing") == {"b": 20}


def test_a_split_goes_by_the_request_id(sides: dict[str, Side]) -> None:
    """Envoy draws anew for each request; meshlet sends one that is made again where it went before."""
    side = sides["meshlet"]
    before = len(side.seen("split"))
    for number in range(20):
        for _ in range(2):
            side.ask("split", Ask(fields=(f"x-request-id: {number}",)))
    places: dict[str | None, set[str]] = {}
    for seen in side.seen("split")[before:]:
        places.setdefault(seen.field("x-request-id"), set()).add(seen.app)
    assert {len(apps) for apps in places.values()} == {1}
