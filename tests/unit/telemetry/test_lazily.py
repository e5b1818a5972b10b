from __future__ import annotations

import errno
import os

import pytest

from meshlet.telemetry.lazily import Lazily


class Maker:
    def __init__(self) -> None:
        self.now = 100.0
        self.tries = 0
        self.fails = True

    def clock(self) -> float:
        return self.now

    def make(self) -> str:
        self.tries += 1
        if self.fails:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "otlp.py")
        return "made"


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def lazily(maker: Maker) -> Lazily[str]:
    return Lazily(maker.make, "no span can be sent", maker.clock)


def test_it_is_made_when_it_is_asked_for_and_once(maker: Maker, lazily: Lazily[str]) -> None:
    maker.fails = False
    assert (lazily.made, maker.tries) == (None, 0)
    assert [lazily.get(), lazily.get(), lazily.made] == ["made"] * 3
    assert maker.tries == 1


def test_what_fails_is_tried_again_after_a_while(maker: Maker, lazily: Lazily[str]) -> None:
    assert [lazily.get() for _ in range(100)] == [None] * 100
    assert maker.tries == 1
    maker.now += 10
    assert lazily.get() is None
    assert maker.tries == 2
    maker.fails = False
    maker.now += 10
    assert lazily.get() == "made"


def test_a_failure_is_told_of_once_and_in_a_line(
    maker: Maker, lazily: Lazily[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        lazily.get()
        maker.now += 10
    assert caplog.messages == [
        "no span can be sent: OSError: [Errno 24] Too many open files: 'otlp.py'; it is tried again every 10 s"
    ]
    assert caplog.records[0].exc_info is None
