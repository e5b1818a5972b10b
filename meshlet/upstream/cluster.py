"""A cluster at run time: its endpoints as they are now, and the choice among them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from meshlet.config.units import Address
from meshlet.errors import NoEndpoint
from meshlet.http.head import HeadLimits
from meshlet.upstream.balancer import BALANCERS, Balancer
from meshlet.upstream.pool import Pool, PoolSettings
from meshlet.upstream.resolver import is_name, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import Cluster as ClusterConfig
    from meshlet.timers import Timers

logger = logging.getLogger("meshlet.upstream")


class Endpoint:
    """One address of a cluster."""

    __slots__ = ("active", "address", "name", "pool", "requests_total")

    def __init__(self, address: Address, pool: Pool) -> None:
        self.address = address
        self.name = str(address)
        self.pool = pool
        self.active = 0  # exchanges in flight
        self.requests_total = 0


class Cluster:
    """The endpoints of one cluster. Host names are resolved by a background task, never per request."""

    def __init__(self, config: ClusterConfig, timers: Timers, clock: Callable[[], float]) -> None:
        self.config = config
        self.name = config.name
        self._timers = timers
        self._clock = clock
        self._settings = PoolSettings(
            max_connections=config.circuit_breaker.max_connections,
            max_pending=config.circuit_breaker.max_pending,
            connect_timeout=config.connect_timeout,
            pending_timeout=config.pending_timeout,
            idle_timeout=config.idle_timeout,
            limits=HeadLimits(config.max_header_bytes, config.max_headers),
        )
        self._balancer: Balancer = BALANCERS[config.balancer]()
        #: the addresses that each written endpoint stands for; a name's are kept while it cannot be resolved
        self._resolved: dict[Address, tuple[Address, ...]] = {
            address: () if is_name(address) else (address,) for address in config.endpoints
        }
        self.endpoints: tuple[Endpoint, ...] = ()
        self.last_error: str | None = None
        self.settled = asyncio.Event()  # its host names, if any, have been asked for once
        self._refresher: asyncio.Task[None] | None = None
        self._update()

    def pick(self) -> Endpoint:
        """Return the endpoint for the next request. Raises NoEndpoint."""
        endpoints = self.endpoints
        if len(endpoints) == 1:
            return endpoints[0]
        if not endpoints:
            reason = f": {self.last_error}" if self.last_error else ""
            raise NoEndpoint(f"no endpoint of cluster {self.name} is known{reason}")
        return self._balancer.pick(endpoints)

    @property
    def connect_timeout(self) -> float:
        """Seconds."""
        return self._settings.connect_timeout

    def start(self) -> None:
        """Begin to resolve host names, if there are any."""
        if not any(is_name(address) for address in self.config.endpoints):
            self.settled.set()
        elif self._refresher is None:
            self._refresher = asyncio.get_running_loop().create_task(self._refresh())

    def close(self) -> None:
        """End the background task and idle connections; exchanges in flight end by themselves."""
        if self._refresher is not None:
            self._refresher.cancel()
        for endpoint in self.endpoints:
            endpoint.pool.close()

    async def resolve(self) -> None:
        """Resolve all host names once. A name that fails keeps its last good addresses."""
        names = [address for address in self.config.endpoints if is_name(address)]
        results = await asyncio.gather(*(resolve(name) for name in names), return_exceptions=True)
        failures = []
        for name, result in zip(names, results, strict=True):
            if isinstance(result, OSError):
                failures.append(f"{name.host}: {result.strerror or result}")
            elif isinstance(result, BaseException):
                raise result
            else:
                self._resolved[name] = result
        error = "; ".join(failures) or None
        if error is not None and error != self.last_error:
            logger.warning("cluster %s: cannot resolve %s", self.name, error)
        self.last_error = error
        self._update()

    async def _refresh(self) -> None:
        while True:
            await self.resolve()
            self.settled.set()
            # An unknown name is asked for again soon: in a Pod, DNS is often up a moment later than we are.
            await asyncio.sleep(self.config.dns_refresh if self.endpoints else min(1.0, self.config.dns_refresh))

    def _update(self) -> None:
        wanted = dict.fromkeys(address for addresses in self._resolved.values() for address in addresses)
        old = {endpoint.address: endpoint for endpoint in self.endpoints}
        if list(wanted) == list(old):
            return
        self.endpoints = tuple(old.pop(address) if address in old else self._endpoint(address) for address in wanted)
        for endpoint in old.values():
            endpoint.pool.close()

    def _endpoint(self, address: Address) -> Endpoint:
        return Endpoint(address, Pool(address, self._settings, self._timers, self._clock))
