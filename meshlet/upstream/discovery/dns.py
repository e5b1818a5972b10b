"""Endpoints found by DNS: the addresses of a name, or the services that SRV records name."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from meshlet.config.schema import EndpointConfig
from meshlet.config.units import Address
from meshlet.upstream.destination import Families
from meshlet.upstream.discovery.dns_client import DnsError
from meshlet.upstream.discovery.pairing import each_alone, paired

if TYPE_CHECKING:
    from meshlet.upstream.discovery.base import Found, Retries, Update
    from meshlet.upstream.discovery.dns_client import DnsClient, Service

Family = Literal["auto", "ipv4", "ipv6", "all"]


class _Records(ABC):
    """Asks again whenever the time to live of any part of the answer is over, and tells at once what comes late."""

    def __init__(self, client: DnsClient, retries: Retries, family: Family) -> None:
        self._endpoints_of = paired if family == "auto" else each_alone
        self._client = client
        self._retries = retries

    async def run(self, update: Update) -> None:
        """Look and tell, again and again."""
        clock = asyncio.get_running_loop().time
        with closing(self._client):
            while True:
                await self._look()
                due = clock() + self._retries.after(self._tell(update))
                while await self._client.late.within(due - clock()):
                    ttl = self._tell(update)
                    if ttl is not None:
                        due = min(due, clock() + self._retries.after(ttl))

    @abstractmethod
    async def _look(self) -> None:
        """Ask for everything once."""

    @abstractmethod
    def _tell(self, update: Update) -> float | None:
        """Tell what is known now. Return for how long that is good; None where something failed."""


class Dns(_Records):
    """All addresses of a name, with one port."""

    def __init__(self, address: Address, client: DnsClient, retries: Retries, family: Family = "auto") -> None:
        super().__init__(client, retries, family)
        self._config = EndpointConfig(address=address)
        self._families = Families()

    async def _look(self) -> None:
        await self._client.look_up([self._config.address.host])

    def _tell(self, update: Update) -> float | None:
        try:
            found = self._client.addresses(self._config.address.host)
        except DnsError as error:
            update(None, str(error))
            return None
        update(self._endpoints_of(self._config, found.hosts, self._families), found.error)
        return found.ttl if found.error is None else None


class Srv(_Records):
    """The targets of SRV records, with their ports, weights and priorities."""

    def __init__(self, name: str, client: DnsClient, retries: Retries, family: Family = "auto") -> None:
        super().__init__(client, retries, family)
        self._name = name
        self._services: list[Service] = []
        self._ttl = 0.0
        self._error: DnsError | None = None  # why they are those of the last good answer
        self._targets: dict[str, tuple[str, ...]] = {}  # the last good addresses
        self._families: dict[tuple[str, int], Families] = {}

    async def _look(self) -> None:
        try:
            self._services, self._ttl = await self._client.services(self._name)
        except DnsError as error:
            self._error = error
        else:
            self._error = None
            await self._client.look_up(dict.fromkeys(service.target for service in self._services))

    def _tell(self, update: Update) -> float | None:
        if self._error is not None:
            update(None, str(self._error))
            return None
        errors: list[str] = []
        ttls = [self._ttl]
        targets: dict[str, tuple[str, ...]] = {}
        for target in sorted({service.target for service in self._services}):
            try:
                found = self._client.addresses(target)
            except DnsError as error:
                errors.append(str(error))
                targets[target] = self._targets.get(target, ())
            else:
                targets[target] = found.hosts
                ttls.append(found.ttl)
                errors += [found.error] if found.error is not None else []
        self._targets = targets
        update(self._endpoints(), "; ".join(errors) or None)
        return min(ttls) if not errors else None

    def _endpoints(self) -> list[Found]:
        known = self._families
        self._families = {}
        endpoints: list[Found] = []
        for priority, weight, port, target in self._services:
            # RFC 2782 gives a weight of 0 "a very small chance".
            config = EndpointConfig(address=Address(target, port), priority=priority, weight=max(weight, 1))
            families = self._families[target, port] = known.get((target, port)) or Families()
            endpoints += self._endpoints_of(config, self._targets[target], families)
        return endpoints
