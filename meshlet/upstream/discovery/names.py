"""Host names among written endpoints: resolved in the background, never per request."""

from __future__ import annotations

import asyncio
import itertools
import socket
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from meshlet.config.schema import EndpointConfig
from meshlet.upstream.destination import Families, is_v6
from meshlet.upstream.discovery.base import RESOLUTION_DELAY, Found, Late
from meshlet.upstream.discovery.pairing import paired
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


class _Half(NamedTuple):
    """What a name has in one family, by the question with this number."""

    number: int
    addresses: tuple[Address, ...]


class Names:
    """The addresses that the host names of a list of endpoints stand for. A name that fails keeps what it last had.

    The system is asked for both families in one question, so that both are answered by the same source: /etc/hosts,
    or one search domain. Only if that takes long, each is asked for by itself, and the first that is known will do
    (RFC 8305 section 3): a server that never answers about AAAA delays nothing. The rest comes late.
    """

    def __init__(self) -> None:
        self._halves: dict[tuple[Address, bool], _Half] = {}
        self._families: dict[Address, Families] = {}
        self._asking: dict[tuple[Address, int], asyncio.Future[tuple[Address, ...]]] = {}
        self._numbers = itertools.count(1)
        self.late = Late()

    async def look_up(self, endpoints: Sequence[EndpointConfig]) -> str | None:
        """Ask for all names once, and forget all others. Return what failed."""
        names = dict.fromkeys(endpoint.address for endpoint in endpoints if is_name(endpoint.address))
        self._halves = {key: half for key, half in self._halves.items() if key[0] in names}
        self._families = {name: self._families.get(name) or Families() for name in names}
        failures = [failure for failure in await asyncio.gather(*map(self._look_up, names)) if failure]
        self.late.clear()
        return "; ".join(failures) or None

    def known(self, endpoints: Sequence[EndpointConfig]) -> list[Found]:
        """Return the endpoints by address, as far as their names are known."""
        found: list[Found] = []
        for endpoint in endpoints:
            name = endpoint.address
            if not is_name(name):
                found.append(Found(endpoint))
                continue
            halves = (self._halves.get((name, v6)) for v6 in (False, True))
            hosts = [address.host for half in halves if half is not None for address in half.addresses]
            found += paired(endpoint, hosts, self._families.get(name) or Families())
        return found

    async def _look_up(self, name: Address) -> str | None:
        whole = self._question(name, socket.AF_UNSPEC)
        await asyncio.wait([whole], timeout=RESOLUTION_DELAY)
        waiting = {whole}
        if not whole.done():
            waiting |= {self._question(name, family) for family in (socket.AF_INET, socket.AF_INET6)}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(asked.exception() is None for asked in done):
                return None
        try:
            await whole
        except OSError as error:
            return f"cannot resolve {name.host}: {(error.strerror or str(error)).lower()}"
        return None

    def _question(self, name: Address, family: socket.AddressFamily) -> asyncio.Future[tuple[Address, ...]]:
        """Ask, unless the last question has not been answered yet: of each family there is one at most."""
        asking = self._asking.get((name, family))
        if asking is None:
            asking = self._asking[name, family] = resolve(name, family)
            asking.add_done_callback(partial(self._learn, name, family, next(self._numbers)))
        return asking

    def _learn(self, name: Address, family: int, number: int, asked: asyncio.Future[tuple[Address, ...]]) -> None:
        del self._asking[name, family]
        # An exception is looked at in any case, or asyncio would report it.
        if asked.cancelled() or asked.exception() is not None or name not in self._families:
            return
        for v6 in (False, True):
            last = self._halves.get((name, v6))
            # Who was asked later knows better.
            if family != (socket.AF_INET if v6 else socket.AF_INET6) and (last is None or number > last.number):
                addresses = tuple(address for address in asked.result() if is_v6(address) == v6)
                self._halves[name, v6] = _Half(number, addresses)
        self.late.set()


class Static:
    """The endpoints that the config writes down."""

    def __init__(self, endpoints: Sequence[Address | EndpointConfig], refresh: float) -> None:
        self._endpoints = with_details(endpoints)
        self._refresh = refresh
        self._names = Names()

    async def run(self, update: Update) -> None:
        """Resolve the names, if there are any, again and again. What has none is known without that."""
        names = self._names
        clock = asyncio.get_running_loop().time
        while any(is_name(endpoint.address) for endpoint in self._endpoints):
            error = await names.look_up(self._endpoints)
            known = names.known(self._endpoints)
            update(known, error)
            # An unknown name is asked for again soon: in a Pod, DNS is often up a moment later than we are.
            due = clock() + (self._refresh if known else min(1.0, self._refresh))
            while await names.late.within(due - clock()):
                update(names.known(self._endpoints), error)
