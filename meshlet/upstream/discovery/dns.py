"""Endpoints found by DNS: the addresses of a name, or the services that SRV records name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshlet.config.schema import EndpointConfig
from meshlet.config.units import Address
from meshlet.upstream.discovery.dns_client import Addresses, DnsError

if TYPE_CHECKING:
    from meshlet.upstream.discovery.base import Retries, Update
    from meshlet.upstream.discovery.dns_client import DnsClient, Service


class Dns:
    """All addresses of a name, with one port."""

    def __init__(self, address: Address, client: DnsClient, retries: Retries) -> None:
        self._address = address
        self._client = client
        self._retries = retries

    async def run(self, update: Update) -> None:
        """Ask again whenever the answer's time to live is over."""
        host, port, path = self._address
        if path:
            update([EndpointConfig(address=self._address)])
            return
        while True:
            ttl = None
            try:
                found = await self._client.addresses(host)
            except DnsError as error:
                update(None, str(error))
            else:
                update([EndpointConfig(address=Address(each, port)) for each in found.hosts], found.error)
                ttl = found.ttl if found.error is None else None
            await asyncio.sleep(self._retries.after(ttl))


class Srv:
    """The targets of SRV records, with their ports, weights and priorities."""

    def __init__(self, name: str, client: DnsClient, retries: Retries) -> None:
        self._name = name
        self._client = client
        self._retries = retries
        self._targets: dict[str, tuple[str, ...]] = {}  # the last good addresses

    async def run(self, update: Update) -> None:
        """Ask again whenever the time to live of any part of the answer is over."""
        while True:
            ttl = None
            try:
                services, ttl = await self._client.services(self._name)
            except DnsError as error:
                update(None, str(error))
            else:
                errors, least = await self._look_up({service.target for service in services})
                update(self._endpoints(services), "; ".join(errors) or None)
                ttl = min(ttl, least) if not errors else None
            await asyncio.sleep(self._retries.after(ttl))

    async def _look_up(self, targets: set[str]) -> tuple[list[str], float]:
        """Resolve the targets. Return what failed, and the shortest time to live."""
        names = sorted(targets)
        answers = await asyncio.gather(*(self._client.addresses(name) for name in names), return_exceptions=True)
        errors: list[str] = []
        ttls: list[float] = []
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Addresses):
                self._targets[name] = answer.hosts
                ttls.append(answer.ttl)
                errors += [answer.error] if answer.error is not None else []
            elif isinstance(answer, DnsError):
                errors.append(str(answer))
            else:
                raise answer
        self._targets = {name: self._targets[name] for name in names if name in self._targets}
        return errors, min(ttls, default=0.0)

    def _endpoints(self, services: list[Service]) -> list[EndpointConfig]:
        return [
            # RFC 2782 gives a weight of 0 "a very small chance".
            EndpointConfig(address=Address(host, port), priority=priority, weight=max(weight, 1))
            for priority, weight, port, target in services
            for host in self._targets.get(target, ())
        ]
