"""From the config's word for a balancer to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.upstream.balancers.least_request import LeastRequest
from meshlet.upstream.balancers.peak_ewma import PeakEwma
from meshlet.upstream.balancers.turns import RandomChoice, RoundRobin

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.upstream.balancers.base import Balancer


def make_balancer(
    name: str, random: Callable[[], float], clock: Callable[[], float], in_flight: Callable[[], int]
) -> Balancer:
    """Return a new balancer. `random` gives numbers in [0, 1), `in_flight` the cluster's requests in flight."""
    match name:
        case "random":
            return RandomChoice(random)
        case "least-request":
            return LeastRequest(random)
        case "peak-ewma":
            return PeakEwma(random, clock)
        case "ring-hash" | "maglev":
            from meshlet.upstream.balancers.hashing import HashBalancer, Maglev, Ring

            return HashBalancer(Ring if name == "ring-hash" else Maglev, random, in_flight)
        case _:
            return RoundRobin(random)
