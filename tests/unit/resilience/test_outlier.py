"""Endpoints that fail are taken out, for how long, and never too many at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import OutlierDetection, SuccessRate
from meshlet.resilience.outlier import (
    CONSECUTIVE_5XX,
    CONSECUTIVE_GATEWAY_FAILURES,
    CONSECUTIVE_LOCAL_FAILURES,
    RETURNED,
    SUCCESS_RATE,
    Monitor,
    OutlierDetector,
)

_START = 1000.0


class Scene:
    """A detector with endpoints 0, 1, 2 …, a clock, and a log of what changed."""

    def __init__(self, endpoints: int, **config: Any) -> None:
        self.now = _START
        self.log: list[tuple[int, str, float]] = []
        self.detector = OutlierDetector[int](OutlierDetection(**config), lambda: self.now, self._changed)
        self.monitors = [self.detector.add(number) for number in range(endpoints)]

    def _changed(self, monitor: Monitor[int], reason: str, seconds: float) -> None:
        assert monitor.ejected == (reason != RETURNED)
        self.log.append((monitor.endpoint, reason, seconds))

    def fail(self, number: int, times: int = 5, status: int = 500) -> None:
        for _ in range(times):
            self.monitors[number].on_status(status)

    def fail_locally(self, number: int, times: int = 5) -> None:
        for _ in range(times):
            self.monitors[number].on_local_failure()

    def run(self, until: float) -> None:
        """Let time pass as `Timers` would."""
        while (due := self.detector.next_change()) <= until:
            self.now = max(self.now, due)
            assert self.detector.on_timer(self.now) > self.now
        self.now = until

    @property
    def out(self) -> list[int]:
        return [each.endpoint for each in self.monitors if each.ejected]


def test_5xx_in_a_row_eject() -> None:
    scene = Scene(2)
    scene.fail(0, 4)
    assert scene.out == []
    scene.fail(0, 1)
    assert scene.out == [0]
    assert scene.log == [(0, CONSECUTIVE_5XX, 30.0)]
    assert scene.detector.active == 1
    assert scene.detector.ejections_total[CONSECUTIVE_5XX] == 1


def test_a_success_starts_the_count_anew() -> None:
    scene = Scene(2, consecutive_gateway_failures=5)
    scene.fail(0, 4, 503)
    scene.fail_locally(0, 0)
    scene.monitors[0].on_status(404)
    scene.fail(0, 4, 503)
    assert scene.out == []


def test_no_response_counts_as_5xx_as_well() -> None:
    scene = Scene(2)
    scene.fail(0, 3)
    scene.fail_locally(0, 2)
    assert scene.log == [(0, CONSECUTIVE_5XX, 30.0)]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_failures_have_a_count_of_their_own(status: int) -> None:
    scene = Scene(2, consecutive_5xx=0, consecutive_gateway_failures=3)
    scene.fail(0, 2, status)
    scene.fail(0, 1, 500)  # a 5xx, but not of a gateway
    scene.fail(0, 2, status)
    assert scene.out == []
    scene.fail_locally(0, 1)
    assert scene.log == [(0, CONSECUTIVE_GATEWAY_FAILURES, 30.0)]


def test_local_failures_have_a_count_of_their_own_that_any_response_ends() -> None:
    scene = Scene(2, consecutive_5xx=0, consecutive_local_failures=3)
    scene.fail_locally(0, 2)
    scene.fail(0, 1, 503)
    scene.fail_locally(0, 2)
    assert scene.out == []
    scene.fail_locally(0, 1)
    assert scene.log == [(0, CONSECUTIVE_LOCAL_FAILURES, 30.0)]


def test_the_closest_reason_is_named_where_several_hold() -> None:
    scene = Scene(2, consecutive_gateway_failures=5)
    scene.fail_locally(0, 5)
    assert scene.log == [(0, CONSECUTIVE_LOCAL_FAILURES, 30.0)]
    assert sum(scene.detector.ejections_total.values()) == 1


def test_counts_of_0_switch_a_reason_off() -> None:
    scene = Scene(2, consecutive_5xx=0, consecutive_local_failures=0)
    scene.fail(0, 100, 503)
    scene.fail_locally(0, 100)
    assert scene.out == []


def test_an_ejection_ends_when_its_time_is_up() -> None:
    scene = Scene(2, base_ejection_time=7.0)
    scene.now = _START + 3
    scene.fail(0)
    assert scene.detector.next_change() == _START + 10
    assert scene.detector.on_timer(_START + 9.9) == _START + 10
    assert scene.out == [0]
    scene.run(_START + 10)
    assert scene.out == []
    assert scene.log[-1] == (0, RETURNED, 7.0)
    assert scene.detector.active == 0


def test_who_returns_starts_with_no_failures() -> None:
    scene = Scene(2)
    scene.fail_locally(0, 4)
    scene.fail(0, 1)
    scene.fail(0, 3)  # answers to what was sent before
    scene.run(_START + 30)
    scene.fail(0, 4)
    assert scene.out == []


def test_each_ejection_is_longer_up_to_the_maximum() -> None:
    scene = Scene(2, base_ejection_time=30.0, max_ejection_time=100.0)
    for _ in range(6):
        scene.fail(0)
        scene.run(scene.monitors[0].until)
    ejections = [seconds for _, reason, seconds in scene.log if reason != RETURNED]
    assert ejections == [30.0, 60.0, 90.0, 100.0, 100.0, 100.0]
    assert scene.monitors[0].times == 4  # so healthy intervals soon tell


def test_intervals_spent_healthy_shorten_the_next_ejection() -> None:
    scene = Scene(2, interval=10.0)
    for _ in range(3):
        scene.fail(0)
        scene.run(scene.monitors[0].until)
    returned = scene.now
    assert scene.monitors[0].times == 3
    scene.run(returned + 9.9)
    assert scene.monitors[0].times == 3
    scene.run(returned + 20)
    assert scene.monitors[0].times == 1
    scene.fail(0)
    assert scene.log[-1] == (0, CONSECUTIVE_5XX, 60.0)
    scene.run(scene.now + 60 + 30)
    assert scene.monitors[0].times == 0


def test_nothing_is_due_where_nothing_is_out() -> None:
    scene = Scene(2)
    assert scene.detector.next_change() == math.inf
    scene.fail(0)
    scene.run(_START + 10_000)
    assert scene.detector.next_change() == math.inf


@pytest.mark.parametrize(
    ("endpoints", "percent", "most"),
    [(1, 100.0, 0), (2, 50.0, 1), (2, 100.0, 2), (3, 50.0, 1), (3, 34.0, 1), (10, 10.0, 1), (9, 10.0, 0), (4, 0.0, 0)],
)
def test_so_many_are_out_at_once(endpoints: int, percent: float, most: int) -> None:
    scene = Scene(endpoints, max_ejection_percent=percent)
    for number in range(endpoints):
        scene.fail(number)
    assert len(scene.out) == most
    assert scene.detector.overflows_total == endpoints - most


@pytest.mark.parametrize("count", ["consecutive_5xx", "consecutive_gateway_failures", "consecutive_local_failures"])
def test_who_was_spared_is_ejected_when_it_fails_as_often_again(count: str) -> None:
    off = {"consecutive_5xx": 0, "consecutive_gateway_failures": 0, "consecutive_local_failures": 0}
    scene = Scene(2, **{**off, count: 5})
    scene.fail_locally(0)
    scene.fail_locally(1)
    assert (scene.out, scene.detector.overflows_total) == ([0], 1)
    scene.run(_START + 30)
    scene.fail_locally(1, 4)
    assert (scene.out, scene.detector.overflows_total) == ([], 1)
    scene.fail_locally(1, 1)
    assert scene.out == [1]


def test_the_share_holds_when_endpoints_leave() -> None:
    scene = Scene(6)
    scene.fail(2)
    scene.now += 1
    scene.fail(0)
    scene.now += 1
    scene.fail(1)
    assert scene.out == [0, 1, 2]
    scene.detector.remove(scene.monitors[5])
    assert scene.out == [0, 1]  # the one due first is back
    assert scene.log[-1] == (2, RETURNED, 2.0)
    scene.detector.remove(scene.monitors[0])
    assert scene.out == [1]
    assert scene.detector.active == 1
    for number in (2, 3, 4):
        scene.detector.remove(scene.monitors[number])
    assert scene.out == []
    assert scene.detector.active == 0


def test_who_has_left_is_not_ejected() -> None:
    scene = Scene(3)
    scene.detector.remove(scene.monitors[0])
    scene.fail(0, 20)
    assert scene.log == []
    assert scene.detector.active == 0


RATE = {"success_rate": SuccessRate(), "consecutive_5xx": 0, "consecutive_local_failures": 0}


def load(scene: Scene, *failures: int, requests: int = 100) -> None:
    """So many of each endpoint's requests fail."""
    for monitor, failed in zip(scene.monitors, failures, strict=True):
        for number in range(requests):
            monitor.on_status(500 if number < failed else 200)


def test_who_fails_much_more_often_than_the_others_is_ejected_after_the_interval() -> None:
    scene = Scene(5, **RATE)
    load(scene, 50, 0, 0, 0, 0)  # mean 0.9, deviation 0.2: below 0.52
    assert scene.detector.next_change() == _START + 10
    scene.run(_START + 10)
    assert scene.log == [(0, SUCCESS_RATE, 30.0)]


def test_who_fails_somewhat_more_often_stays() -> None:
    scene = Scene(5, success_rate=SuccessRate(deviations=2.1), consecutive_5xx=0)
    load(scene, 50, 0, 0, 0, 0)  # mean 0.9, deviation 0.2: not below 0.48
    scene.run(_START + 10)
    assert scene.log == []


def test_local_failures_lower_the_success_rate() -> None:
    scene = Scene(5, **RATE)
    load(scene, 0, 0, 0, 0, 0)
    scene.fail_locally(3, 100)
    scene.run(_START + 10)
    assert scene.log == [(3, SUCCESS_RATE, 30.0)]


def test_too_few_requests_or_endpoints_say_nothing() -> None:
    few = Scene(5, **RATE)
    load(few, 99, 0, 0, 0, 0, requests=99)
    few.run(_START + 10)
    load(few, 50, 0, 0, 0, 0, requests=60)  # an interval starts at nothing
    few.run(_START + 20)
    assert few.log == []
    small = Scene(4, **RATE)
    load(small, 50, 0, 0, 0)
    small.run(_START + 10)
    assert small.log == []


@pytest.mark.parametrize("failed", [0, 3, 7, 20, 100])  # the mean of three times 0.97 is above it by rounding
def test_equal_rates_eject_nobody(failed: int) -> None:
    scene = Scene(3, success_rate=SuccessRate(min_endpoints=3, deviations=0.0), consecutive_5xx=0)
    load(scene, *[failed] * 3)
    scene.run(_START + 10)
    assert scene.log == []


def test_the_worst_go_first_where_not_all_may() -> None:
    scene = Scene(10, success_rate=SuccessRate(deviations=1.0), consecutive_5xx=0, max_ejection_percent=10.0)
    load(scene, 80, 90, *[0] * 8)
    scene.run(_START + 10)
    assert scene.out == [1]
    assert scene.detector.overflows_total == 1


def test_who_is_out_is_not_compared() -> None:
    scene = Scene(5, success_rate=SuccessRate())
    scene.fail(0)
    load(scene, 100, 0, 0, 0, 0)
    scene.fail(1, 4)
    scene.run(_START + 10)
    assert scene.out == [0]


_STEPS = st.tuples(
    st.sampled_from(("ok", "500", "503", "local", "pass", "add", "remove")), st.integers(0, 9), st.integers(1, 12)
)


@settings(deadline=None, max_examples=200)
@given(
    endpoints=st.integers(1, 8),
    percent=st.floats(0, 100),
    rate=st.none() | st.builds(SuccessRate, min_endpoints=st.integers(1, 3), min_requests=st.integers(1, 3)),
    steps=st.lists(_STEPS, max_size=60),
)
def test_no_sequence_of_events_passes_the_share(
    endpoints: int, percent: float, rate: SuccessRate | None, steps: list[tuple[str, int, int]]
) -> None:
    scene = Scene(
        endpoints,
        max_ejection_percent=percent,
        success_rate=rate,
        consecutive_5xx=3,
        consecutive_gateway_failures=2,
        consecutive_local_failures=2,
    )
    left: list[Monitor[int]] = []
    for step, number, times in steps:
        if step == "add":
            scene.monitors.append(scene.detector.add(number))
        elif step == "pass":
            scene.run(scene.now + 5 * times)
        elif step == "remove" and number < len(scene.monitors):
            monitor = scene.monitors.pop(number)
            scene.detector.remove(monitor)
            left.append(monitor)
        else:
            for monitor in [*scene.monitors[number : number + 1], *left[:1]]:
                for _ in range(times):
                    if step == "local":
                        monitor.on_local_failure()
                    else:
                        monitor.on_status(int(step) if step.isdigit() else 200)
        out = sum(each.ejected for each in scene.monitors)
        assert out == scene.detector.active
        assert 100 * out <= percent * len(scene.monitors)
        assert out == 0 or len(scene.monitors) > 1
        assert not any(each.ejected for each in left)
        assert all(each.until > scene.now for each in scene.monitors if each.ejected)
    scene.run(scene.now + 1000)
    assert scene.detector.active == 0
    ejected = sum(reason != RETURNED for _, reason, _ in scene.log)
    assert sum(scene.detector.ejections_total.values()) == ejected


def test_the_state_can_be_read() -> None:
    scene = Scene(2)
    scene.fail(0, 2)
    assert repr(scene.monitors[0]) == "<Monitor 0 in times=0 errors=2>"
    scene.fail(0, 3)
    assert repr(scene.monitors[0]) == "<Monitor 0 ejected until 1030 times=1 errors=0>"
