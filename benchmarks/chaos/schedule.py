"""What is asked and what goes wrong, drawn from a seed: pure, so that every proxy meets the same.

Whether a try fails hangs on the seed, the request and how many tries of it the apps have seen, and on nothing else:
neither on the app that a proxy chooses nor on the time. Only the deaths follow a clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

APPS = 5
# Seconds. A proxy gives a try half a second (see the configs), so a stall is always one of its timeouts.
STALL = 3.0


class Kind(StrEnum):
    """Of a request: what may be done about its failure depends on it."""

    GET = "GET"
    KEYED = "POST with Idempotency-Key"
    PLAIN = "plain POST"

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again although an app may have executed it."""
        return self is not Kind.PLAIN


class Fault(StrEnum):
    """What an app does to a try instead of answering it."""

    RESET_BEFORE = "reset before the body is read"
    RESET_AFTER = "reset after the execution"
    STALL = "stall after the execution"
    UNAVAILABLE = "503 without execution"
    CUT = "reset within the response body"


# Shares of all tries, some 2.3 % together. CUT is rare: nothing can be sent again once the client has a byte.
RATES = {
    Fault.RESET_BEFORE: 0.005,
    Fault.RESET_AFTER: 0.005,
    Fault.STALL: 0.004,
    Fault.UNAVAILABLE: 0.008,
    Fault.CUT: 0.001,
}
_SHARES = {Kind.GET: 60, Kind.KEYED: 20, Kind.PLAIN: 20}


@dataclass(frozen=True)
class Request:
    """One request of the load; sizes in bytes, times in seconds."""

    number: int
    kind: Kind
    body: int
    answer: int
    service: float
    """How long an app takes for it."""
    think: float
    """How long the client pauses before it."""


@dataclass(frozen=True)
class Death:
    """An app dies, and comes back."""

    after: float
    """Seconds since the death before."""
    app: int
    seconds: float


def requests(seed: int, count: int) -> list[Request]:
    """The load: most answers and bodies small, one of twenty tens of kilobytes."""
    dice = random.Random(f"{seed}/requests")
    made = []
    for number in range(count):
        kind = dice.choices(list(_SHARES), list(_SHARES.values()))[0]
        body, answer = _size(dice, 48_000), _size(dice, 96_000)
        service, think = dice.uniform(0.002, 0.03), min(dice.expovariate(1 / 0.06), 0.3)
        made.append(Request(number, kind, 0 if kind is Kind.GET else body, answer, service, think))
    return made


def _size(dice: random.Random, largest: int) -> int:
    return dice.randrange(16_000, largest) if dice.random() < 0.05 else dice.randrange(16, 1500)


def fault(seed: int, number: int, earlier: int) -> Fault | None:
    """The fate of a try of request `number` after so many `earlier` ones."""
    drawn = random.Random(f"{seed}/{number}/{earlier}").random()
    for kind, rate in RATES.items():
        drawn -= rate
        if drawn < 0:
            return kind
    return None


def deaths(seed: int) -> Iterator[Death]:
    """Without end; two apps may be dead at once."""
    dice = random.Random(f"{seed}/deaths")
    while True:
        yield Death(dice.uniform(0.8, 2.8), dice.randrange(APPS), dice.uniform(0.4, 1.4))


def content(number: int, size: int) -> bytes:
    """A body that belongs to one request alone, so that a mixed-up or half repeated one is noticed."""
    return (b"%07d " % number * (size // 8 + 1))[:size]
