"""The choice among a cluster's endpoints: tiers, panic, endpoints that were tried, membership, slow start."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from meshlet.errors import ConnectFailure, NoEndpoint, Overflow
from meshlet.http.head import RequestHead
from meshlet.upstream.cluster import Cluster
from tests.unit.upstream.support import Bench, config

FILE: dict[str, Any] = {"discovery": {"file": "/nowhere"}}


def five(**details: Any) -> Bench:
    return Bench(*(f"10.0.0.{number}:80" for number in range(1, 6)), **details)


def set_health(bench: Bench, *healthy: bool) -> None:
    for endpoint, state in zip(bench.cluster.endpoints, healthy, strict=True):
        endpoint.healthy = state
    bench.cluster._arrange()


def picked(bench: Bench, count: int = 100) -> str:
    return "".join(sorted(bench.picks(count)))


# --- one tier ---


def test_one_endpoint_needs_no_balancer() -> None:
    with Bench("10.0.0.1:80") as bench:
        bench.cluster._balancers.clear()
        bench.cluster._usual = None
        assert bench.cluster.pick() is bench[0]


def test_turns() -> None:
    with five() as bench:
        assert bench.picks(10) == dict.fromkeys("12345", 2)


def test_unhealthy_ones_are_left_out() -> None:
    with five() as bench:
        set_health(bench, True, False, True, True, False)
        assert bench.picks(9) == {"1": 3, "3": 3, "4": 3}
        set_health(bench, True, True, True, True, True)
        assert picked(bench) == "12345"


def test_panic() -> None:
    with five() as bench:
        set_health(bench, True, True, True, False, False)
        assert picked(bench) == "123"
        assert bench.cluster.panics_total == 0
        set_health(bench, True, True, False, False, False)  # 40 %
        assert picked(bench) == "12345"
        assert bench.cluster.panics_total == 100
        set_health(bench, False, False, False, False, False)
        assert picked(bench) == "12345"


def test_panic_of_a_single_endpoint_is_counted() -> None:
    with Bench("10.0.0.1:80") as bench:
        set_health(bench, False)
        assert bench.cluster.pick() is bench[0]
        assert bench.cluster.panics_total == 1


def test_without_panic_there_may_be_none() -> None:
    with five(panic_threshold=0) as bench:
        set_health(bench, False, True, False, False, False)
        assert picked(bench) == "2"
        set_health(bench, False, False, False, False, False)
        with pytest.raises(NoEndpoint, match="none of the 5 endpoints of cluster app is available: 5 unhealthy, 0 ej"):
            bench.cluster.pick()
        with pytest.raises(NoEndpoint):
            bench.cluster.pick(None, [bench[0]])
        assert not bench.cluster.has_other([])


def test_nobody_is_known() -> None:
    with Bench(**FILE) as bench:
        bench.finds(error="the file is not there")
        with pytest.raises(NoEndpoint, match="no endpoint of cluster app is known: the file is not there"):
            bench.cluster.pick()


# --- tiers ---


def test_spill_over_to_the_next_priority() -> None:
    details = [{"address": f"10.0.0.{number}:80", "priority": int(number > 4)} for number in range(1, 9)]
    with Bench(*details, panic_threshold=0) as bench:
        assert picked(bench) == "1234"
        set_health(bench, True, True, True, False, True, True, True, True)  # 1.4 * 3/4 is more than all
        assert picked(bench) == "123"
        set_health(bench, True, True, False, False, True, True, True, True)
        found = bench.picks(4000)
        assert (found["1"] + found["2"]) / 4000 == pytest.approx(0.7, abs=0.04)
        assert found["1"] == pytest.approx(found["2"], abs=1)
        set_health(bench, False, False, False, False, True, True, True, True)
        assert picked(bench) == "5678"


def test_our_zone_comes_first() -> None:
    details = [{"address": f"10.0.0.{number}:80", "zone": "ab"[number % 2]} for number in range(4)]
    with Bench(*details, zone="b") as bench:
        assert picked(bench) == "13"
        set_health(bench, True, False, True, False)
        assert picked(bench) == "02"
    with Bench(*details) as bench:
        assert picked(bench) == "0123"
    with Bench(*details, zone="c") as bench:
        assert picked(bench) == "0123"


def test_panic_uses_the_tiers_that_would_be_used_anyway() -> None:
    details = [{"address": f"10.0.0.{number}:80", "priority": int(number > 2)} for number in range(1, 7)]
    with Bench(*details) as bench:
        set_health(bench, False, False, False, False, True, False)  # 2 of 6, and none of the first tier
        assert picked(bench) == "3456"
        assert bench.cluster.panics_total == 100


# --- another one than those tried ---


def test_another_than_tried() -> None:
    with five() as bench:
        tried = bench.cluster.endpoints[:3]
        assert {bench.cluster.pick(None, tried).name for _ in range(50)} == {"10.0.0.4:80", "10.0.0.5:80"}
        assert bench.cluster.has_other(tried)


def test_the_less_busy_of_the_others() -> None:
    with five() as bench:
        bench[3].active = 5
        assert {bench.cluster.pick(None, bench.cluster.endpoints[:3]) for _ in range(50)} == {bench[4]}


def test_all_were_tried() -> None:
    with five() as bench:
        assert not bench.cluster.has_other(bench.cluster.endpoints)
        names = {bench.cluster.pick(None, bench.cluster.endpoints) for _ in range(50)}
        assert len(names) == 5


def test_unavailable_ones_are_no_others() -> None:
    with five() as bench:
        set_health(bench, True, True, True, False, False)
        assert not bench.cluster.has_other(bench.cluster.endpoints[:3])
        assert bench.cluster.pick(None, bench.cluster.endpoints[:2]) is bench[2]
        set_health(bench, True, True, False, False, False)  # panic
        assert bench.cluster.has_other(bench.cluster.endpoints[:3])


def test_others_may_be_in_another_tier() -> None:
    with Bench({"address": "10.0.0.1:80"}, {"address": "10.0.0.2:80", "priority": 1}) as bench:
        assert bench.cluster.pick(None, (bench[0],)) is bench[1]


# --- keys ---


def test_the_same_key_goes_to_the_same_endpoint() -> None:
    with five(balancer="ring-hash", hash_on={"header": "x-user"}) as bench:
        cluster = bench.cluster
        assert cluster.hashes
        head = RequestHead(b"GET", b"/", 1, [b"GET / HTTP/1.1", b"X-User: ann"])
        key = cluster.key_of(head, "10.9.9.9")
        chosen = cluster.pick(key)
        assert {cluster.pick(key) for _ in range(50)} == {chosen}
        chosen.healthy = False
        cluster._arrange()
        (instead,) = {cluster.pick(key) for _ in range(50)}
        assert instead is not chosen
        chosen.healthy = True
        cluster._arrange()
        assert cluster.pick(key) is chosen


def test_key_of_the_source() -> None:
    with five(balancer="maglev", hash_on={"source": True}) as bench:
        head = RequestHead(b"GET", b"/", 1, [b"GET / HTTP/1.1"])
        keys = {bench.cluster.key_of(head, f"10.9.9.{number}") for number in range(50)}
        assert len(keys) == 50
        assert {bench.cluster.pick(key) for key in keys} == set(bench.cluster.endpoints)


def test_the_bound_of_load_counts_what_the_breakers_count() -> None:
    with five(balancer="ring-hash", hash_on={"source": True}) as bench:
        owner = bench.cluster.pick(12345)
        owner.active = 10
        for breaker in bench.cluster.breakers.values():
            for _ in range(25):
                breaker.enter()
        assert bench.cluster.pick(12345) is owner  # the bound is 12.5
        owner.active = 13
        assert bench.cluster.pick(12345) is not owner


# --- membership ---


def test_those_that_stay_keep_their_state() -> None:
    with Bench(**FILE) as bench:
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        first, second = bench.cluster.endpoints
        first.active = 3
        bench.finds(config("10.0.0.3:80"), config("10.0.0.1:80", weight=7, zone="z", priority=2))
        assert bench[1] is first
        assert (first.weight, first.share, first.zone, first.priority, first.active) == (7, 7.0, "z", 2, 3)
        assert second not in bench.cluster.endpoints
        assert second.pool not in bench.cluster.connections.pools
        bench.finds()
        assert bench.cluster.endpoints == ()


def test_failures_keep_the_last_good_endpoints(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="meshlet.upstream")
    with Bench(**FILE) as bench:
        cluster = bench.cluster
        bench.finds(config("10.0.0.1:80"))
        for _ in range(3):
            cluster._update(None, "no answer")
        assert len(cluster.endpoints) == 1
        errors = [cluster.last_error]
        bench.finds(config("10.0.0.1:80"))
        assert [*errors, cluster.last_error] == ["no answer", None]
        assert (cluster.updates_total, cluster.update_failures_total) == (5, 3)
    assert caplog.messages == ["cluster app: no answer", "cluster app: endpoints are known again"]


def test_an_address_counts_once() -> None:
    with Bench("10.0.0.1:80", {"address": "10.0.0.1:80", "weight": 5}) as bench:
        assert len(bench.cluster.endpoints) == 1
        assert bench[0].weight == 1


def test_settled_by_the_first_answer_or_failure() -> None:
    with Bench("10.0.0.1:80") as bench:
        bench.cluster.start()
        assert bench.cluster.settled.is_set()
    with Bench(**FILE) as bench:
        bench.cluster.start()
        settled = [bench.cluster.settled.is_set()]
        bench.loop.run()
        assert [*settled, bench.cluster.settled.is_set()] == [False, True]
        assert bench.cluster.last_error == (
            "/nowhere: (top level): found no such file, expected a list of endpoints; check the path"
        )


def test_a_bug_in_discovery_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    class Buggy:
        def __init__(self) -> None:
            self.runs = 0

        async def run(self, update: object) -> None:
            self.runs += 1
            if self.runs == 1:
                raise RuntimeError("oops")

    with Bench(**FILE) as bench:
        buggy = Buggy()
        bench.cluster._discovery = buggy
        bench.cluster.start()
        bench.loop.run()
        assert bench.cluster.settled.is_set()
        assert bench.cluster.last_error == "discovery failed"
        assert "oops" in caplog.text
        bench.loop.advance(11)
        assert buggy.runs == 2


# --- slow start ---


def share(bench: Bench, number: str, count: int = 4000) -> float:
    return bench.picks(count).get(number, 0) / count


@pytest.mark.parametrize("balancer", ["round-robin", "random"])
def test_a_new_endpoint_gets_its_share_little_by_little(balancer: str) -> None:
    with Bench(**FILE, slow_start="60s", balancer=balancer) as bench:
        bench.finds(config("10.0.0.1:80"))
        bench.loop.advance(100)
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        assert share(bench, "2") == pytest.approx(0.1 / 1.1, abs=0.02)
        bench.loop.advance(30)
        assert share(bench, "2") == pytest.approx(0.55 / 1.55, abs=0.03)
        bench.loop.advance(31)
        assert share(bench, "2") == pytest.approx(0.5, abs=0.03)
        assert bench[1].share == 1.0


def test_the_first_endpoints_begin_at_once() -> None:
    with five(slow_start="60s") as bench:
        bench.cluster.start()
        assert {endpoint.share for endpoint in bench.cluster.endpoints} == {1.0}
    with Bench(**FILE, slow_start="60s") as bench:
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80", weight=3))
        assert [endpoint.share for endpoint in bench.cluster.endpoints] == [1.0, 3.0]


def test_after_an_illness_it_begins_slowly_too() -> None:
    with five(slow_start="60s") as bench:
        bench.cluster.start()
        set_health(bench, True, True, True, True, False)
        set_health(bench, True, True, True, True, True)
        assert share(bench, "5") == pytest.approx(0.1 / 4.1, abs=0.01)
        bench.loop.advance(61)
        assert share(bench, "5") == pytest.approx(0.2, abs=0.01)


def test_the_first_health_check_starts_nothing_slowly() -> None:
    with five(slow_start="60s", health_check={}) as bench:
        bench.cluster.settled.set()
        set_health(bench, True, True, True, True, True)
        assert {endpoint.share for endpoint in bench.cluster.endpoints} == {1.0}


@pytest.mark.usefixtures("only_by_cost")
@pytest.mark.parametrize("balancer", ["least-request", "peak-ewma"])
def test_comparing_balancers_start_slowly_too(balancer: str) -> None:
    with Bench(**FILE, slow_start="60s", balancer=balancer) as bench:
        bench.finds(config("10.0.0.1:80"))
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        for endpoint in bench.cluster.endpoints:
            endpoint.active = 2
        assert share(bench, "2", 200) == 0
        bench[0].active = 40
        assert share(bench, "2", 200) == 1


# --- who watches ---


def test_nobody_watches_unless_somebody_wants_to_know() -> None:
    with five() as bench:
        assert {endpoint.watch for endpoint in bench.cluster.endpoints} == {None}


def test_latency_is_measured_once_asked_for() -> None:
    with Bench(**FILE) as bench:
        cluster = bench.cluster
        bench.finds(config("10.0.0.1:80"))
        latency = cluster.measure(95)
        assert cluster.measure(99) is not latency
        assert cluster.measure(95) is latency
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        for endpoint in cluster.endpoints:
            assert endpoint.watch is not None
            for _ in range(100):
                endpoint.watch.responded(200, 0.5)
        assert latency.value == pytest.approx(0.5, rel=0.03)


@pytest.mark.usefixtures("only_by_cost")
def test_peak_ewma_learns() -> None:
    with five(balancer="peak-ewma") as bench:
        for endpoint in bench.cluster.endpoints:
            assert endpoint.watch is not None
            endpoint.watch.responded(200, 0.01)
        watch = bench[0].watch
        assert watch is not None
        watch.responded(200, 0.3)
        assert picked(bench) == "2345"
        watch = bench[1].watch
        assert watch is not None
        watch.failed(ConnectFailure("refused"), 0.0)
        assert picked(bench) == "1345"  # the first one is still better than a failure


def test_ejection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="meshlet.upstream")
    outlier = {"consecutive_5xx": 3, "base_ejection_time": "30s", "max_ejection_percent": 50}
    with five(outlier_detection=outlier) as bench:
        ill = bench[1]
        assert ill.watch is not None
        for _ in range(3):
            ill.failed(Overflow("ours"), 0.0)  # says nothing about the endpoint
        assert ill.available
        for _ in range(2):
            ill.watch.responded(500, 0.1)
        ill.watch.failed(ConnectFailure("refused"), 0.1)
        assert repr(ill) == "<Endpoint 10.0.0.2:80 ejected active=0>"
        assert picked(bench) == "1345"
        assert bench.cluster.ejections_total["consecutive-5xx"] == 1
        bench.loop.advance(31)
        assert picked(bench) == "12345"
    assert caplog.messages == [
        "cluster app: endpoint 10.0.0.2:80 is ejected for 30 s: consecutive-5xx",
        "cluster app: endpoint 10.0.0.2:80 is back after 30 s",
    ]


def test_those_that_leave_do_not_stay_ejected() -> None:
    with Bench(**FILE, outlier_detection={"consecutive_5xx": 1}) as bench:
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        gone = bench[0]
        assert gone.watch is not None
        gone.watch.responded(500, 0.1)
        assert gone.ejected
        bench.finds(config("10.0.0.2:80"))
        gone.watch.responded(500, 0.1)
        bench.finds(config("10.0.0.1:80"), config("10.0.0.2:80"))
        assert bench[0] is not gone
        assert bench[0].available


def test_everything_ends_with_the_cluster() -> None:
    with five(slow_start="60s", health_check={}, outlier_detection={"success_rate": {}}) as bench:
        bench.cluster.start()
        bench.cluster.start()
        bench.cluster.close()
        bench.loop.run()
        assert not bench.timers._slots
        assert isinstance(bench.cluster, Cluster)
