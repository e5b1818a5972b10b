"""From a config to route actions, and what of them outlives the next config."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from meshlet.config.load import loads
from meshlet.filters.compression import Compression
from meshlet.http.answer import Answer
from meshlet.http.head import HeadLimits
from meshlet.http.request import parse_request
from meshlet.proxy.exchange import Exchange
from meshlet.proxy.filtered import FilteredExchange
from meshlet.resilience.retry import DEFAULT_POLICY
from meshlet.runtime.compile import Compiler
from meshlet.runtime.recorders import Recorders
from meshlet.timers import NEVER, Timers
from tests.support.fakes import FakeLoop

if TYPE_CHECKING:
    from meshlet.proxy.settings import ListenerSettings, RouteAction, Step
    from meshlet.runtime.compile import Snapshot

Config = dict[str, Any]


def config_of(*routes: Config, clusters: Config | None = None, zone: str | None = None, **listener: Any) -> Config:
    """A config with these routes; `clusters` are further keys by name."""
    further = clusters or {}
    return {
        "listeners": [{"name": "in", "address": "127.0.0.1:0", "protocol": "http", "routes": list(routes), **listener}],
        "clusters": [
            {"name": name, "endpoints": ["10.0.0.1:80"], **further.get(name, {})} for name in ("app", "canary")
        ],
        "zone": zone,
    }


class Bench:
    """Compiles configs one after another, as reloads do."""

    def __init__(self) -> None:
        loop = FakeLoop()
        self.now = 100.0
        self._compiler = Compiler(Timers(loop.time, loop.call_later), lambda: self.now)
        self.snapshot: Snapshot | None = None

    def load(self, config: Config) -> ListenerSettings:
        loaded = loads(json.dumps(config), "c.yaml")
        self.snapshot = self._compiler.compile(loaded, self.snapshot, Recorders(loaded.telemetry))
        return self.snapshot.listeners["in"]

    def actions(self, *routes: Config, **parts: Any) -> list[RouteAction]:
        settings = self.load(config_of(*routes, **parts))
        return [action for _, action in settings.routes._routes]

    def action(self, route: Config, **parts: Any) -> RouteAction:
        [action] = self.actions(route, **parts)
        return action


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Asked:
    """As much of an exchange as steps look at."""

    def __init__(self, text: str = "GET /a?b HTTP/1.1\r\nHost: app") -> None:
        self.head = parse_request(text.encode(), HeadLimits())
        self.scheme = b"http"
        self.remote_host = "192.0.2.1"
        self.extra_response = b""

    def keep_asked(self) -> None:
        """Do nothing: steps are not told what was remembered."""


def play(steps: tuple[Step, ...], asked: Asked, now: float = 100.0) -> Any:
    """What the first step says that says something."""
    for step in steps:
        verdict = step(cast("Exchange", asked), now)
        if verdict is not None:
            return verdict
    return None


# --- what an action says ---


def test_a_route_that_asks_for_nothing_pays_for_nothing(bench: Bench) -> None:
    action = bench.action({"cluster": "app"})
    assert action.target is not None
    assert action.target.cluster.name == "app"
    assert (action.steps, action.last_steps, action.chain, action.split) == ((), (), None, None)
    assert (action.hedge, action.mirror, action.attempt_rules, action.response_rules) == (None, None, None, None)
    assert (action.annotates, action.decorates) == (False, False)
    assert action.policy is DEFAULT_POLICY
    assert (action.timeout, action.soonest) == (15.0, 15.0)


def test_times(bench: Bench) -> None:
    action = bench.action({"cluster": "app", "timeout": 0, "idle_timeout": "7s", "retry": {"per_try_timeout": "2s"}})
    assert (action.timeout, action.soonest, action.idle_timeout) == (NEVER, 2.0, 7.0)
    assert all(type(span) is float for span in (action.timeout, action.soonest, action.idle_timeout))
    other = bench.action({"cluster": "app", "timeout": "1s", "retry": {"per_try_timeout": "2s"}})
    assert (other.soonest, other.idle_timeout) == (1.0, 300.0)


def test_priority_chooses_the_breaker(bench: Bench) -> None:
    high, default = bench.actions({"cluster": "app", "priority": "high"}, {"cluster": "app"})
    assert high.target is not None
    assert default.target is not None
    assert high.target.breaker is high.target.cluster.breakers["high"]
    assert default.target.breaker is default.target.cluster.breakers["default"]
    assert high.stats is default.stats  # one series for both


def test_a_redirect(bench: Bench) -> None:
    action = bench.action({"redirect": {"host": "b", "status": 308}})
    assert action.target is None
    assert play(action.steps, Asked()) == Answer(308, (b"location: http://b/a?b",))


def test_a_direct_response(bench: Bench) -> None:
    action = bench.action({"direct_response": {"status": 404, "body": "no\n"}})
    assert play(action.steps, Asked()) == Answer(404, (b"content-type: text/plain; charset=utf-8",), b"no\n")
    assert play(bench.action({"direct_response": {"status": 204}}).steps, Asked()) == Answer(204, ())


def test_rules_see_what_was_asked_and_the_app_what_is_rewritten(bench: Bench) -> None:
    action = bench.action(
        {
            "cluster": "app",
            "request_headers": {"set": {"x-asked": "%REQ(:path)%"}},
            "rewrite": {"path": "/new"},
        }
    )
    asked = Asked()
    assert play(action.steps, asked) is None
    assert asked.head.lines[0] == b"GET /new?b HTTP/1.1"
    assert b"x-asked: /a?b" in asked.head.lines


def test_what_comes_last_stands_behind_the_filters(bench: Bench) -> None:
    """A filter sees the path that the client asked for, and can stand in front of a redirect."""
    action = bench.action(
        {"redirect": {"path": "/new"}, "filters": [{"buffer": {}}], "fault": {"abort": {"status": 500}}}
    )
    assert action.chain is not None
    assert (len(action.steps), len(action.last_steps)) == (1, 1)


def test_a_listener_with_a_filter_somewhere_has_another_kind_of_exchange(bench: Bench) -> None:
    assert bench.load(config_of({"cluster": "app"})).exchange is Exchange
    assert bench.load(config_of({"cluster": "app"}, filters=[{"buffer": {}}])).exchange is FilteredExchange


def test_what_is_in_front_of_the_app_is_cors_then_limits_then_faults(bench: Bench) -> None:
    action = bench.action(
        {
            "cluster": "app",
            "cors": {"allow_origins": ["*"]},
            "rate_limit": {"requests": 1, "per": "1h"},
            "fault": {"abort": {"status": 503}},
        },
        rate_limit={"requests": 2, "per": "1h"},
    )
    assert len(action.steps) == 4
    preflight = Asked("OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET")
    assert isinstance(play(action.steps, preflight), Answer)
    first, second = (type(play(action.steps, Asked())).__name__ for _ in range(2))
    assert (first, second) == ("FaultAborted", "RateLimited")


def test_hedges_know_the_latency_of_every_cluster_of_a_split(bench: Bench) -> None:
    shares = [{"cluster": "app", "weight": 1}, {"cluster": "canary", "weight": 1}]
    action = bench.action({"split": shares, "hedge": {"percentile": 95}})
    assert action.hedge is not None
    assert action.hedge.latency.keys() == {"app", "canary"}
    fixed = bench.action({"cluster": "app", "hedge": {"after": "50ms"}}).hedge
    assert fixed is not None
    assert (fixed.after, type(fixed.after), fixed.latency) == (0.05, float, {})


def test_a_mirror(bench: Bench) -> None:
    mirror = bench.action({"cluster": "app", "mirror": {"cluster": "canary", "percent": 25}}).mirror
    assert mirror is not None
    assert (mirror.target.cluster.name, mirror.share) == ("canary", 0.25)


# --- what outlives a reload ---

LIMIT = {"requests": 1, "per": "1h"}


def limited(action: RouteAction) -> bool:
    return play(action.steps, Asked()) is not None


def test_a_spent_bucket_stays_spent(bench: Bench) -> None:
    route = {"cluster": "app", "rate_limit": LIMIT}
    action = bench.action(route)
    assert [limited(action), limited(action)] == [False, True]
    assert limited(bench.action(route | {"timeout": "1s"}))
    assert limited(bench.actions({"match": {"path": "/new"}, "cluster": "canary"}, route)[1])
    assert not limited(bench.action(route | {"rate_limit": LIMIT | {"burst": 1}}))


def test_the_bucket_of_a_listener_stays_spent(bench: Bench) -> None:
    action = bench.action({"cluster": "app"}, rate_limit=LIMIT)
    assert [limited(action), limited(action)] == [False, True]
    assert limited(bench.action({"cluster": "canary", "match": {"prefix": "/a"}}, rate_limit=LIMIT))


def test_a_route_is_known_by_its_name_or_else_by_its_match(bench: Bench) -> None:
    named = {"name": "a", "cluster": "app", "rate_limit": LIMIT}
    assert not limited(bench.action(named | {"match": {"path": "/a"}}))
    assert limited(bench.action(named | {"match": {"path": "/b"}}))
    unnamed = {"cluster": "app", "rate_limit": LIMIT}
    assert not limited(bench.action(unnamed | {"match": {"path": "/a"}}))
    assert not limited(bench.action(unnamed | {"match": {"path": "/b"}}))


def test_routes_of_one_name_have_buckets_of_their_own(bench: Bench) -> None:
    routes = [{"name": "a", "match": {"path": path}, "cluster": "app", "rate_limit": LIMIT} for path in ("/a", "/b")]
    first, second = bench.actions(*routes)
    assert [limited(first), limited(first), limited(second)] == [False, True, False]
    first, second = bench.actions(*routes)
    bench.now += 3600.0
    assert [play(action.steps, Asked(), bench.now) is None for action in (first, second)] == [True, True]


def test_filters_outlive_what_does_not_concern_them(bench: Bench) -> None:
    def filters(*written: Config) -> list[Any]:
        chain = bench.action({"cluster": "app", "filters": list(written)}).chain
        assert chain is not None
        return list(chain.filters)

    buffer: Config = {"buffer": {}}
    compression: Config = {"compression": {}}
    other: Config = {"compression": {"min_bytes": "2KiB"}}
    before = filters(buffer, compression)
    assert isinstance(before[1], Compression)
    assert filters(buffer, compression) == before
    assert filters(other, buffer, compression)[1:] == before
    changed = filters(buffer, other)
    assert changed[0] is before[0]
    assert changed[1] is not before[1]


def test_new_weights_are_those_of_the_next_request(bench: Bench) -> None:
    def chosen(app: int, canary: int) -> set[str]:
        shares = [{"cluster": "app", "weight": app}, {"cluster": "canary", "weight": canary}]
        split = bench.action({"split": shares}).split
        assert split is not None
        return {split.choose(str(key).encode()).cluster.name for key in range(100)}

    assert chosen(1, 0) == {"app"}
    assert chosen(1, 1) == {"app", "canary"}
    assert chosen(0, 1) == {"canary"}


def test_an_unchanged_cluster_is_the_same_cluster(bench: Bench) -> None:
    """With all it knows: who is ejected, who is healthy, what is in flight."""
    details: Config = {"app": {"outlier_detection": {}}}
    before = bench.action({"cluster": "app"}, clusters=details).target
    after = bench.action(
        {"cluster": "app", "timeout": "1s"}, clusters=details | {"canary": {"slow_start": "5s"}}
    ).target
    assert before is not None
    assert after is not None
    assert after.cluster is before.cluster
    assert after.stats is before.stats
    changed = bench.action({"cluster": "app"}, clusters={"app": {"outlier_detection": {"consecutive_5xx": 1}}}).target
    assert changed is not None
    assert changed.cluster is not before.cluster
    assert changed.stats is before.stats


def test_in_another_zone_a_cluster_chooses_anew(bench: Bench) -> None:
    before = bench.action({"cluster": "app"}, zone="a").target
    after = bench.action({"cluster": "app"}, zone="b").target
    assert before is not None
    assert after is not None
    assert after.cluster is not before.cluster
