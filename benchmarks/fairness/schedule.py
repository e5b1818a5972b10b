"""When the victim asks, what counts as its wait, and in which order everything is measured: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Seconds from one request of the victim to the next.
INTERVAL = 0.005
# Seconds. What is not answered within them, or not with the right answer, counts as this long.
LIMIT = 10.0


@dataclass(frozen=True)
class Schedule:
    """The requests of one asker. They are due at fixed times, whatever became of the earlier ones."""

    start: float
    """When the first one is due, by the monotonic clock."""
    seconds: float

    @property
    def count(self) -> int:
        """How many requests there are."""
        return round(self.seconds / INTERVAL)

    def due(self, number: int) -> float:
        """When that request should leave."""
        return self.start + number * INTERVAL

    def wait(self, number: int, answered: float) -> float:
        """Seconds that its answer took, from the time it was due."""
        return min(answered - self.due(number), LIMIT)

    def expires(self, number: int) -> float:
        """When it is waited for no longer."""
        return self.due(number) + LIMIT


class Slice(NamedTuple):
    """One attack on one proxy."""

    round: int
    attack: str
    proxy: str


def slices(attacks: Sequence[str], proxies: Sequence[str], rounds: int) -> Iterator[Slice]:
    """All attacks in each round; the proxies side by side, and another one first in each round."""
    for number in range(rounds):
        first = number % len(proxies)
        for attack in attacks:
            for proxy in (*proxies[first:], *proxies[:first]):
                yield Slice(number, attack, proxy)
