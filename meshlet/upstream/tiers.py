"""How a cluster's requests are shared out among its tiers: endpoints of one priority, ours or another zone.

The rule is Envoy's for priority levels: a tier can take 1.4 times its available share of the load, so the first one
keeps all of it until less than 72 % of its endpoints are available; the rest spills over to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meshlet.upstream.endpoint import Endpoint

# Envoy's overprovisioning factor.
_SPARE = 1.4


class Tier(NamedTuple):
    """The endpoints that come into question together."""

    rank: tuple[int, bool]  # priority, and whether they are in another zone; the least comes first
    members: tuple[Endpoint, ...]
    available: tuple[Endpoint, ...]


def tiers_of(endpoints: Iterable[Endpoint], zone: str | None) -> list[Tier]:
    """Return the tiers in their order. `zone` is ours; where it is not known, all zones are one."""
    members: dict[tuple[int, bool], list[Endpoint]] = {}
    for endpoint in endpoints:
        rank = (endpoint.priority, zone is not None and endpoint.zone != zone)
        members.setdefault(rank, []).append(endpoint)
    return [
        Tier(rank, tuple(found), tuple(endpoint for endpoint in found if endpoint.available))
        for rank, found in sorted(members.items(), key=lambda item: item[0])
    ]


def loads(tiers: Sequence[Tier]) -> list[float]:
    """Return the part of the load that each tier gets; together 1.

    Where none of the endpoints is available (it matters in panic only), each tier counts by its size.
    """
    fitness = [min(1.0, _SPARE * len(tier.available) / len(tier.members)) for tier in tiers]
    total = min(1.0, sum(fitness))
    if not total:
        size = sum(len(tier.members) for tier in tiers)
        return [len(tier.members) / size for tier in tiers]
    left = 1.0
    result = []
    for fit in fitness:
        share = min(left, fit / total)
        # What is left by rounding must not send a request in 10^16 elsewhere.
        left = left - share if left - share > 1e-9 else 0.0
        result.append(share)
    return result
