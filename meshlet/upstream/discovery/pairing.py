"""The addresses of a name to endpoints, where a server may have an address of each family."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from msgspec.structs import replace

from meshlet.upstream.destination import is_v6
from meshlet.upstream.discovery.base import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.schema import EndpointConfig
    from meshlet.upstream.destination import Families


def paired(config: EndpointConfig, hosts: Sequence[str], families: Families) -> list[Found]:
    """Return an endpoint for each IPv4 address, with an IPv6 address beside it; without the one, for each of the other.

    `hosts` are all addresses of the name that `config` has, which `families` belongs to. IPv4 comes first since most
    apps listen there, and every endpoint is called the same in all Pods, whatever their routes. It is never slower
    where there is no IPv4: a connection without a route fails at once.
    """
    alone = each_alone(config, hosts, families)
    v4 = [found.config.address for found in alone if not is_v6(found.config.address)]
    v6 = [found.config.address for found in alone if is_v6(found.config.address)]
    if not (v4 and v6):
        return alone
    families.belong_to(frozenset(v4))
    # With fewer of IPv6, some stand in twice: a family that is dead takes no endpoint with it.
    return [
        Found(replace(config, address=address), other, families) for address, other in zip(v4, cycle(v6), strict=False)
    ]


def each_alone(config: EndpointConfig, hosts: Sequence[str], _: Families | None = None) -> list[Found]:
    """Return an endpoint for each address of a name, whatever its family."""
    return [Found(replace(config, address=config.address._replace(host=host))) for host in hosts]
