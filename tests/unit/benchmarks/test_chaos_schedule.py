from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from benchmarks.chaos.schedule import APPS, RATES, STALL, Fault, Kind, content, deaths, fault, requests


def test_the_same_seed_gives_the_same_chaos() -> None:
    assert requests(3, 50) == requests(3, 50)
    assert list(islice(deaths(3), 10)) == list(islice(deaths(3), 10))
    assert [fault(3, number, 0) for number in range(500)] == [fault(3, number, 0) for number in range(500)]


def test_another_seed_gives_another() -> None:
    assert requests(3, 50) != requests(4, 50)
    assert list(islice(deaths(3), 10)) != list(islice(deaths(4), 10))
    assert [fault(3, number, 0) for number in range(500)] != [fault(4, number, 0) for number in range(500)]


def test_a_longer_load_begins_as_the_shorter_one() -> None:
    assert requests(3, 100)[:50] == requests(3, 50)


def test_the_mix() -> None:
    load = requests(1, 5000)
    shares = {kind: count / len(load) for kind, count in Counter(request.kind for request in load).items()}
    assert shares == pytest.approx({Kind.GET: 0.6, Kind.KEYED: 0.2, Kind.PLAIN: 0.2}, abs=0.03)
    assert all(request.body == 0 for request in load if request.kind is Kind.GET)
    assert min(request.body for request in load if request.kind is not Kind.GET) > 0
    assert any(request.body > 16_000 for request in load)
    assert max(request.body for request in load) < 65_536  # what a proxy keeps to send it again
    assert max(request.service for request in load) < 0.1 < STALL


def test_faults_come_as_often_as_they_should() -> None:
    drawn = Counter(fault(1, number, 0) for number in range(40_000))
    for kind in Fault:
        assert drawn[kind] / 40_000 == pytest.approx(RATES[kind], rel=0.25)


def test_a_second_try_has_a_fate_of_its_own() -> None:
    failed = [number for number in range(20_000) if fault(1, number, 0)]
    again = sum(fault(1, number, 1) is not None for number in failed)
    assert again / len(failed) < 0.08


def test_deaths_hit_all_apps_and_end() -> None:
    drawn = list(islice(deaths(1), 200))
    assert {death.app for death in drawn} == set(range(APPS))
    assert all(death.seconds > 0 and death.after > 0 for death in drawn)


def test_only_the_plain_post_may_not_be_sent_again() -> None:
    assert [kind for kind in Kind if not kind.repeatable] == [Kind.PLAIN]


@pytest.mark.parametrize("size", [0, 1, 8, 17, 1000])
def test_content_belongs_to_its_request(size: int) -> None:
    assert len(content(7, size)) == size
    assert size < 8 or content(7, size) != content(8, size)
