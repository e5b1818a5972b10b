"""Host names among written endpoints: resolved in the background, never per request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from meshlet.config.schema import EndpointConfig
from meshlet.upstream.resolver import is_name, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.units import Address
    from meshlet.upstream.discovery.base import Update


def with_details(endpoints: Sequence[Address | EndpointConfig]) -> list[EndpointConfig]:
    """Return all endpoints as structs."""
    return [
        endpoint if isinstance(endpoint, EndpointConfig) else EndpointConfig(address=endpoint) for endpoint in endpoints
    ]


class Names:
    """The addresses that the host names of a list of endpoints stand for. A name that fails keeps what it last had."""

    def __init__(self) -> None:
        self._known: dict[Address, tuple[Address, ...]] = {}

    async def look_up(self, endpoints: Sequence[EndpointConfig]) -> str | None:
        """Ask for all names once. Return what failed."""
        names = list(dict.fromkeys(endpoint.address for endpoint in endpoints if is_name(endpoint.address)))
        results = await asyncio.gather(*(resolve(name) for name in names), return_exceptions=True)
        failures = []
        for name, result in zip(names, results, strict=True):
            if isinstance(result, OSError):
                failures.append(f"cannot resolve {name.host}: {(result.strerror or str(result)).lower()}")
            elif isinstance(result, BaseException):
                raise result
            else:
                self._known[name] = result
        return "; ".join(failures) or None

    def known(self, endpoints: Sequence[EndpointConfig]) -> list[EndpointConfig]:
        """Return the endpoints by address, as far as their names are known."""
        return [
            endpoint if address is endpoint.address else replace(endpoint, address=address)
            for endpoint in endpoints
            for address in (self._known.get(endpoint.address, ()) if is_name(endpoint.address) else (endpoint.address,))
        ]


class Static:
    """The endpoints that the config writes down."""

    def __init__(self, endpoints: Sequence[Address | EndpointConfig], refresh: float) -> None:
        self._endpoints = with_details(endpoints)
        self._refresh = refresh
        self._names = Names()

    async def run(self, update: Update) -> None:
        """Resolve the names, if there are any, again and again. What has none is known without that."""
        names = self._names
        while any(is_name(endpoint.address) for endpoint in self._endpoints):
            error = await names.look_up(self._endpoints)
            known = names.known(self._endpoints)
            update(known, error)
            # An unknown name is asked for again soon: in a Pod, DNS is often up a moment later than we are.
            await asyncio.sleep(self._refresh if known else min(1.0, self._refresh))
