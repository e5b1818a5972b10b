from __future__ import annotations

import pytest

from meshlet.runtime.heartbeat import BEAT, SILENT, Heart


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def heart(clock: Time) -> Heart:
    return Heart(clock)


def looks(heart: Heart, clock: Time, seconds: float, every: float = BEAT) -> float:
    """Look so often for so long; return the silence at the end."""
    silence = 0.0
    for _ in range(round(seconds / every)):
        clock.now += every
        silence = heart.look()
    return silence


@pytest.mark.parametrize("seconds", [0.5, 2, 10, 600])
def test_silence_is_as_long_as_it_is(heart: Heart, clock: Time, seconds: float) -> None:
    assert looks(heart, clock, seconds) == pytest.approx(seconds)


def test_a_sign_of_life_ends_it(heart: Heart, clock: Time) -> None:
    looks(heart, clock, 9.5)
    heart.beat()
    assert looks(heart, clock, 1) == pytest.approx(1)


@pytest.mark.parametrize("late", [0.5, 1.0, 1.4])
def test_who_beats_late_is_not_silent(heart: Heart, clock: Time, late: float) -> None:
    """On an overloaded machine each beat comes when it can."""
    for _ in range(1000):
        clock.now += BEAT + late
        assert heart.look() < SILENT
        heart.beat()


@pytest.mark.parametrize("pause", [5.0, 60.0, 86_400.0])
def test_a_supervisor_that_stood_still_blames_nobody(heart: Heart, clock: Time, pause: float) -> None:
    """Its whole machine may have: it has not heard anything because it did not listen."""
    looks(heart, clock, 1)
    clock.now += pause
    assert heart.look() <= 1 + 2 * BEAT


@pytest.mark.parametrize("every", [2.0, 5.0])
def test_whoever_looks_seldom_counts_little(heart: Heart, clock: Time, every: float) -> None:
    """A supervisor that gets so little of the machine cannot say how much the workers get."""
    assert looks(heart, clock, 10, every) == pytest.approx(10 / every * 2 * BEAT)
