from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from benchmarks.chaos import figures, report
from benchmarks.chaos.apps import Ledger
from benchmarks.chaos.load import Result
from benchmarks.chaos.run import COUNTERS, PEERS, Outcome, Phase, Resources, counters
from benchmarks.chaos.schedule import APPS, Kind
from benchmarks.proxies import ALL, render
from meshlet.config.load import loads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

VALUES = {"port": 18080, "admin_port": 18082, **{f"app{number}": 18090 + number for number in range(APPS)}}
DOCS = Path(__file__).parents[3] / "docs" / "resilience.md"


def phase(*results: tuple[Kind, str], ledger: Ledger | None = None) -> Phase:
    made = [Result(number, kind, number / 1000, 1, problem) for number, (kind, problem) in enumerate(results)]
    return Phase(made, ledger or Ledger(), 1.0)


def outcome(chaos: Phase, descriptors: Sequence[int] = (10, 10, 10)) -> Outcome:
    fresh, before, after = (Resources(count, 1_000_000) for count in descriptors)
    return Outcome(phase((Kind.GET, "")), chaos, fresh, before, after, {"retries": 2.0})


def unmet(found: Outcome) -> list[str]:
    return [check.title for check in figures.checks(found) if not check.met]


def test_what_was_cut_off_does_not_count_among_what_may_be_sent_again() -> None:
    broken = phase((Kind.GET, ""), (Kind.GET, "IncompleteReadError"), (Kind.PLAIN, "reset"), ledger=Ledger(cut={1, 2}))
    assert figures.success_of(broken, Kind.GET) == 1.0
    assert figures.success_of(broken, Kind.PLAIN) == 0.0
    assert figures.kinds(broken)[Kind.GET]["cut"] == 1


def test_success_of_kinds_together() -> None:
    mixed = phase((Kind.GET, ""), (Kind.GET, "503"), (Kind.KEYED, ""), (Kind.KEYED, ""), (Kind.PLAIN, "503"))
    assert figures.success_of(mixed, *figures.REPEATABLE) == 0.75


def test_a_plain_post_executed_twice_is_found() -> None:
    ledger = Ledger()
    ledger.executions.update({0: 2, 1: 2, 2: 1})
    twice = phase((Kind.GET, ""), (Kind.PLAIN, ""), (Kind.PLAIN, ""), ledger=ledger)
    assert figures.kinds(twice)[Kind.GET]["executed_twice"] == 1
    assert figures.kinds(twice)[Kind.PLAIN]["executed_twice"] == 1
    assert unmet(outcome(twice)) == ["plain POST executed twice"]


def test_what_an_app_executed_for_a_failed_request() -> None:
    ledger = Ledger()
    ledger.executions.update({1: 1})
    failed = phase((Kind.PLAIN, "503"), (Kind.PLAIN, "504"), ledger=ledger)
    assert figures.kinds(failed)[Kind.PLAIN]["failed_but_executed"] == 1


def test_tries_are_counted_by_whoever_saw_more() -> None:
    seen = Ledger(attempts={0: 2, 1: 1})
    results = [Result(0, Kind.GET, 0.1, 1, "reset"), Result(1, Kind.GET, 0.1, 3, ""), Result(2, Kind.GET, 0.1, 1, "")]
    assert figures.attempts_per_request(Phase(results, seen, 1.0)) == 2.0


def test_a_spent_budget_and_a_leak_are_found() -> None:
    ledger = Ledger(most_retries=figures.MOST_RETRIES + 1, wrong=["a body"])
    found = outcome(phase((Kind.GET, ""), ledger=ledger), descriptors=(10, 10, 11))
    assert unmet(found) == [
        "most retries in flight at the apps",
        "requests that came in changed",
        "descriptors at rest",
    ]


def test_problems_are_told_apart_by_status() -> None:
    found = figures.problems(
        phase((Kind.GET, "503 after 12 ms"), (Kind.GET, "503 after 13 ms"), (Kind.GET, "504 late"), (Kind.GET, ""))
    )
    assert found == {"GET: 503 after # ms": 2, "GET: 504 late": 1}


def test_tables_and_document_hold_what_was_found() -> None:
    found = {"meshlet": outcome(phase((Kind.GET, ""), (Kind.PLAIN, "503 not now")))}
    assert "0 of 1" in report.figures_text(found)
    assert "its own count: retries" in report.figures_text(found)
    assert "0 (!)" in report.checks_text(found)
    assert "1  plain POST: 503 not now" in report.problems_text("meshlet", found["meshlet"])
    document = figures.document(found["meshlet"])
    assert document["success_plain"] == 0.0
    assert document["problems"] == {"plain POST: 503 not now": 1}


def test_counters_are_summed_over_their_labels() -> None:
    text = '# TYPE a counter\na{cluster="x"} 2\na{cluster="y"} 3.5\nab 7\nb 1\n'
    assert counters(text, {"all": "a", "none": "c"}) == {"all": 5.5}


def test_what_meshlet_counts_envoy_counts_too() -> None:
    assert COUNTERS["meshlet"].keys() <= COUNTERS["envoy"].keys()


def template(name: str) -> str:
    return (PEERS / f"{ALL[name].config}.tmpl").read_text(encoding="utf-8")


def test_envoy_is_told_the_same_as_meshlet() -> None:
    ours = loads(render(template("meshlet"), VALUES, ()), "meshlet.yaml")
    theirs: Any = yaml.safe_load(render(template("envoy"), VALUES, ()))["static_resources"]
    cluster, retry = ours.clusters[0], ours.listeners[0].routes[0].retry
    assert retry is not None
    assert cluster.outlier_detection is not None

    manager = theirs["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    for route in (route["route"] for route in routes):
        policy = route["retry_policy"]
        assert policy["num_retries"] == retry.attempts
        assert seconds(policy["per_try_timeout"]) == retry.per_try_timeout
        assert seconds(policy["retry_back_off"]["base_interval"]) == retry.backoff.base
        assert seconds(policy["retry_back_off"]["max_interval"]) == retry.backoff.max
        assert seconds(route["timeout"]) == ours.listeners[0].routes[0].timeout

    upstream = theirs["clusters"][0]
    assert upstream["common_lb_config"]["healthy_panic_threshold"]["value"] == cluster.panic_threshold
    budget = upstream["circuit_breakers"]["thresholds"][0]["retry_budget"]
    assert budget["budget_percent"]["value"] == cluster.retry_budget.percent == figures.BUDGET_SHARE * 100
    assert budget["min_retry_concurrency"] == cluster.retry_budget.min_concurrency == figures.BUDGET_LEAST
    outliers, detection = upstream["outlier_detection"], cluster.outlier_detection
    assert outliers["consecutive_5xx"] == detection.consecutive_5xx
    assert outliers["consecutive_local_origin_failure"] == detection.consecutive_local_failures
    assert outliers["max_ejection_percent"] == detection.max_ejection_percent
    for name in ("interval", "base_ejection_time", "max_ejection_time"):
        assert seconds(outliers[name]) == getattr(detection, name)
    assert len(upstream["load_assignment"]["endpoints"][0]["lb_endpoints"]) == len(cluster.endpoints) == APPS


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


@pytest.mark.parametrize(("first_line", "line_after"), [("    routes:", "    endpoints:"), ("    balancer:", "admin:")])
def test_the_docs_quote_the_policy_that_is_run(first_line: str, line_after: str) -> None:
    text = template("meshlet")
    begin = text.index(first_line)
    assert text[begin : text.index(line_after, begin)] in DOCS.read_text(encoding="utf-8")
