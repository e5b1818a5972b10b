"""Schedule, quantiles, verdicts, reports and templates of the fairness run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.fairness import __main__ as command
from benchmarks.fairness import report
from benchmarks.fairness.attacks import ALL
from benchmarks.fairness.figures import Measured, Outcome, Verdict, verdict, waits_sample
from benchmarks.fairness.run import PEERS
from benchmarks.fairness.schedule import LIMIT, Schedule, slices
from benchmarks.proxies import render
from meshlet.config.load import loads

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {
    "name": "backend",
    "port": 18080,
    "relay_port": 18081,
    "admin_port": 18082,
    "victim_port": 18083,
    "app_port": 18084,
    "sink_port": 18085,
    "meshlet_protocol": "http",
    "user": "nobody",
    "workdir": "/tmp/bench",
    "nginx_modules": "/usr/lib/nginx/modules",
}
PREFIXES = {"/victim", "/app", "/sink", "/full", "/limited", "/direct", "/redirect"}


def template(name: str) -> str:
    return render((PEERS / f"{name}.tmpl").read_text(encoding="utf-8"), VALUES, ())


def sample(p99: float, **further: float) -> dict[str, float]:
    figures = ("p50_ms", "max_ms", "reply_p99_ms", "failed", "connections", "sent_mb", "received_mb", "proxy_cpu_s")
    return {**dict.fromkeys(figures, 1.0), "p99_ms": p99, "direct_p99_ms": 0.3, "loop_ms": 10.0, **further}


def outcome(**p99: list[float]) -> Outcome:
    made = Outcome()
    for proxy, values in p99.items():
        for value in values:
            made.add(proxy, Measured(sample(value), ()))
    return made


# --- schedule ---


def test_two_hundred_requests_are_due_in_a_second_whatever_became_of_them() -> None:
    schedule = Schedule(100.0, 3.0)
    assert schedule.count == 600
    assert [schedule.due(number) for number in (0, 1, 200)] == pytest.approx([100.0, 100.005, 101.0])


def test_a_wait_counts_from_the_time_the_request_was_due() -> None:
    schedule = Schedule(100.0, 3.0)
    assert schedule.wait(200, 101.25) == pytest.approx(0.25)
    assert schedule.wait(200, 101.0 + LIMIT + 5) == LIMIT
    assert schedule.expires(200) == pytest.approx(101.0 + LIMIT)


def test_proxies_stand_side_by_side_and_another_one_begins_each_round() -> None:
    assert [tuple(one) for one in slices(["none", "burst"], ["a", "b"], 2)] == [
        (0, "none", "a"),
        (0, "none", "b"),
        (0, "burst", "a"),
        (0, "burst", "b"),
        (1, "none", "b"),
        (1, "none", "a"),
        (1, "burst", "b"),
        (1, "burst", "a"),
    ]


def test_there_may_be_more_rounds_than_proxies() -> None:
    assert [one.proxy for one in slices(["none"], ["a", "b", "c"], 4)][::3] == ["a", "b", "c", "a"]


# --- figures ---


def test_quantiles_are_waits_that_were_measured_in_ms() -> None:
    waits = [number / 1000 for number in range(600, 0, -1)]
    assert waits_sample(waits) == pytest.approx({"p50_ms": 300, "p99_ms": 594, "max_ms": 600})
    assert waits_sample([0.25], "direct_") == {"direct_p50_ms": 250, "direct_p99_ms": 250, "direct_max_ms": 250}


def test_one_request_without_an_answer_shows_in_the_maximum_and_seven_in_the_p99() -> None:
    assert waits_sample([0.001] * 599 + [LIMIT])["max_ms"] == LIMIT * 1000
    assert waits_sample([0.001] * 599 + [LIMIT])["p99_ms"] == 1
    assert waits_sample([0.001] * 593 + [LIMIT] * 7)["p99_ms"] == LIMIT * 1000


@pytest.mark.parametrize(
    ("meshlet", "envoy", "bar", "text"),
    [
        ([50.0], [2.0], 50.0, "met"),
        ([50.1], [2.0], 50.0, "not met"),
        ([51.0], [17.0], 51.0, "met"),
        ([299.0], [100.0], 300.0, "met"),
        ([301.0], [100.0], 300.0, "not met"),
        ([10.0, 999.0, 20.0], [1.0, 2.0, 3.0], 50.0, "met"),  # medians over the rounds
        ([10.0, 999.0, 999.0], [1.0, 2.0, 300.0], 50.0, "not met"),
    ],
)
def test_verdict(meshlet: list[float], envoy: list[float], bar: float, text: str) -> None:
    judged = verdict(outcome(meshlet=meshlet, envoy=envoy))
    assert judged.bar == pytest.approx(bar)
    assert judged.text == text


def test_without_envoy_only_what_is_good_enough_anyway_is_judged() -> None:
    assert verdict(outcome(meshlet=[49.0])) == Verdict(49.0, None)
    assert verdict(outcome(meshlet=[49.0])).text == "met"
    assert verdict(outcome(meshlet=[51.0])).text == "not measured"
    assert verdict(outcome(envoy=[1.0])).text == "not measured"


# --- what is told ---


def test_tables() -> None:
    made = outcome(meshlet=[1.0, 9.0, 2.0], envoy=[3.0])
    made.add("nginx", Measured(sample(1.0, loop_ms=20.0), ["400"]))
    made.failures["before"] = "it ended with status 1"
    lines = report.waits_text({"empty-lines": made}).splitlines()
    assert lines[0].split()[:2] == ["attack", "proxy"]
    assert lines[2].split()[:5] == ["empty-lines", "meshlet", "1.0", "2.0", "1.0"]
    assert lines[-3:] == [
        "empty-lines: before not measured: it ended with status 1",
        "empty-lines: nginx gave the attacker 400 where no answer or 400 was meant",
        "host disturbed beside 1 of 5 slices",
    ]
    assert report.verdicts_text({"none": made}).splitlines()[-1].split() == ["no", "attack", "2.0", "50.0", "met"]


def test_document_has_everything() -> None:
    made = outcome(meshlet=[1.0, 3.0], envoy=[20.0, 30.0])
    document = json.loads(json.dumps(report.document({"burst": made}, {"rounds": 2})))
    attack = document["attacks"]["burst"]
    assert document["rounds"] == 2
    assert attack["title"] == ALL["burst"].title
    assert attack["medians"]["envoy"]["p99_ms"] == 25.0
    assert (attack["meshlet_p99_ms"], attack["at_most_ms"], attack["verdict"]) == (2.0, 75.0, "met")
    assert [one["p99_ms"] for one in attack["samples"]["meshlet"]] == [1.0, 3.0]


# --- command line ---


def test_a_part_does_not_take_the_place_of_a_whole_run() -> None:
    parse = command._parse
    assert parse([]).output.name == "fairness.json"
    for part in (["--rounds", "1"], ["--seconds", "1"], ["--attack", "none"], ["--proxy", "meshlet,envoy"]):
        assert parse(part).output.name == "part.json"
    assert parse(["--against", "/tmp"]).output.name == "part.json"


def test_the_example_in_the_help_can_be_parsed() -> None:
    example = command._EPILOG.splitlines()[0].partition("benchmarks.fairness ")[2]
    options = command._parse(example.split())
    assert (options.attack, options.proxy, options.rounds) == (["none", "upload-chunks"], ["meshlet"], 1)
    assert all(attack.title in command._EPILOG for attack in ALL.values())


def test_another_checkout_is_run_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "meshlet").mkdir()
    (tmp_path / "meshlet" / "__main__.py").touch()
    before = command._before(tmp_path)
    line = list(before.command(tmp_path / "meshlet.yaml"))
    assert (before.name, before.config) == ("before", "meshlet.yaml")
    assert line[1:3] == ["-C", str(tmp_path)]
    assert line[4:] == ["-m", "meshlet", "run", "--config", str(tmp_path / "meshlet.yaml")]


def test_a_folder_without_meshlet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="is no checkout of meshlet"):
        command._before(tmp_path)


# --- templates ---


@pytest.mark.parametrize("path", sorted(PEERS.glob("*.tmpl")), ids=lambda path: path.stem)
def test_every_template_is_filled_completely(path: Path) -> None:
    assert "@@" not in template(path.stem)


def test_meshlet_has_every_kind_of_answer() -> None:
    config = loads(template("meshlet.yaml"), "meshlet.yaml")
    http, relay = config.listeners
    assert {route.match.prefix for route in http.routes} == PREFIXES
    assert (relay.protocol, relay.cluster) == ("tcp", "sink")
    limited = next(route for route in http.routes if route.rate_limit)
    assert limited.match.prefix == "/limited"
    assert {cluster.name: cluster.circuit_breaker.max_requests for cluster in config.clusters}["full"] == 1


def test_envoy_has_the_same() -> None:
    parts = yaml.safe_load(template("envoy.yaml"))["static_resources"]
    manager = parts["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert {route["match"]["prefix"] for route in routes} == PREFIXES
    breakers = {cluster["name"]: cluster.get("circuit_breakers") for cluster in parts["clusters"]}
    assert breakers["full"] == {"thresholds": [{"max_requests": 1}]}
    assert sorted(breakers) == ["app", "full", "sink", "victim"]


def test_nginx_has_the_same() -> None:
    text = template("nginx.conf")
    assert all(f"location {prefix} {{" in text for prefix in PREFIXES)
    assert text.count("{") == text.count("}")


def test_what_an_attack_asks_for_has_a_route() -> None:
    for attack in ALL.values():
        sent = attack.opening + attack.script().prefix[:2000] + attack.script().cycle[:2000]
        lines = [line for line in sent.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
        targets = {line.split(b" ")[1].decode() for line in lines}
        assert all("/" + target.split("/")[1] in PREFIXES | {"/nowhere"} for target in targets), attack.name


def test_attacks_have_names_and_titles_of_their_own() -> None:
    titles = [attack.title for attack in ALL.values()]
    assert next(iter(ALL)) == "none"
    assert len(set(titles)) == len(titles)
