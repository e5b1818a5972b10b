from __future__ import annotations

import logging
import sys

import pytest

from meshlet.telemetry import repeats
from meshlet.telemetry.repeats import LIMIT, WINDOW, Repeats


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def found(clock: Clock) -> Repeats:
    return Repeats(clock)


def record(
    message: str = "filter %s failed",
    *args: object,
    name: str = "meshlet.test",
    level: int = logging.ERROR,
    line: int = 1,
    error: BaseException | None = None,
) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord(name, level, "/a.py", line, message, args, trace)


def admitted(found: Repeats, count: int, *args: object) -> int:
    return sum(found.admit(record("filter %s failed", *(args or (number,)))) for number in range(count))


def told(found: Repeats) -> list[str]:
    return [each.getMessage() for each in found.due()]


def test_a_kind_of_line_is_written_so_often_and_no_more(found: Repeats) -> None:
    assert admitted(found, LIMIT) == LIMIT
    assert found.next_due is None
    assert admitted(found, 1000) == 0
    assert found.held == 1000


def test_what_was_held_back_is_told_when_its_window_ends(found: Repeats, clock: Clock) -> None:
    admitted(found, LIMIT + 990, "Bad")
    clock.now += WINDOW - 1
    assert (told(found), found.next_due) == ([], 1)
    clock.now += 1
    assert found.next_due == 0
    (line,) = found.due()
    assert line.getMessage() == f"held back 990 more within {WINDOW:g} s: filter Bad failed"
    assert (line.name, line.levelname) == ("meshlet.test", "ERROR")
    assert told(found) == []
    assert found.next_due is None


def test_the_next_window_begins_anew(found: Repeats, clock: Clock) -> None:
    admitted(found, LIMIT + 1)
    clock.now += WINDOW
    assert len(told(found)) == 1
    assert admitted(found, LIMIT + 1) == LIMIT


def test_few_lines_are_never_told_of(found: Repeats, clock: Clock) -> None:
    for _ in range(10):
        assert admitted(found, LIMIT) == LIMIT
        clock.now += WINDOW
        assert told(found) == []
    assert found.held == 0


@pytest.mark.parametrize(
    "other",
    [
        record("filter %s is slow", "Bad"),
        record(name="meshlet.other"),
        record(line=2),
        record(level=logging.WARNING),
        record(error=ValueError("x")),
    ],
    ids=["message", "logger", "place", "level", "error"],
)
def test_another_kind_is_not_held_back(found: Repeats, other: logging.LogRecord) -> None:
    admitted(found, LIMIT + 1)
    assert found.admit(other)


def raised(message: str, *, elsewhere: bool = False) -> ValueError:
    def one() -> None:
        raise ValueError(message)

    def two() -> None:
        raise ValueError(message)

    try:
        two() if elsewhere else one()
    except ValueError as error:
        return error
    raise AssertionError


def test_an_exception_is_known_by_where_it_was_raised(found: Repeats) -> None:
    lines = [found.admit(record("failed", error=raised(str(number)))) for number in range(LIMIT + 1)]
    assert lines.count(False) == 1
    assert found.admit(record("failed", error=raised("x", elsewhere=True)))


def test_a_message_that_was_put_together_is_known_by_its_exception(found: Repeats) -> None:
    """As asyncio's are, with an address in each."""
    lines = [found.admit(record(f"handle: <{number}>", error=raised("x"))) for number in range(LIMIT + 1)]
    assert lines.count(False) == 1


def test_a_message_is_cut(found: Repeats, clock: Clock) -> None:
    admitted(found, LIMIT + 1, "x" * 10_000)
    clock.now += WINDOW
    assert len(told(found)[0]) < 300


def test_the_table_is_bounded_and_what_leaves_it_is_told(
    found: Repeats, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_KINDS", 3)
    admitted(found, LIMIT + 5)
    messages = []
    for number in range(100):
        messages += told(found)
        found.admit(record(f"kind {number}"))
        assert len(found._kinds) <= 3
    assert messages == [f"held back 5 more within {WINDOW:g} s: filter {LIMIT} failed"]
    assert found.next_due is None


def test_the_rest_is_told_at_the_end(found: Repeats) -> None:
    admitted(found, LIMIT + 5)
    assert [each.getMessage() for each in found.rest()] == [
        f"held back 5 more within {WINDOW:g} s: filter {LIMIT} failed"
    ]
    assert list(found.rest()) == []


def test_no_frame_is_kept(found: Repeats) -> None:
    """A traceback would keep a request with all its buffers."""
    error = raised("x")
    before = sys.getrefcount(error)
    for _ in range(LIMIT + 1):
        found.admit(record("failed", error=error))
    assert sys.getrefcount(error) == before
