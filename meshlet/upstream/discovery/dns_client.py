"""Questions to DNS servers, with the time to live of the answers, which the system's resolver does not tell.

The only module that imports dnspython, and only once a question is asked.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dns.asyncresolver import Resolver

    from meshlet.config.units import Address

_TIMEOUT = 5.0  # seconds for a question, retries and all servers included
# What /etc/hosts says has no time to live, and is as good as for ever.
_FOR_EVER = 1e9


class DnsError(Exception):
    """There is no answer to be had; says why in one line."""


class NoSuchName(DnsError):
    """The servers say that there is no such name."""


class Addresses(NamedTuple):
    """What a name stands for: IP addresses in a stable order, good for `ttl` seconds.

    `error` tells of a part that could not be had; what it was before stands in for it.
    """

    hosts: tuple[str, ...]
    ttl: float
    error: str | None = None


class Service(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class DnsClient:
    """Asks `resolvers`, or those of /etc/resolv.conf where there are none; search domains hold in either case."""

    def __init__(self, resolvers: Sequence[Address] = (), hosts_file: str = "/etc/hosts") -> None:
        self._servers = tuple(resolvers)
        self._hosts_file = Path(hosts_file)
        self._resolver: Resolver | None = None
        self._last: dict[tuple[str, str], tuple[str, ...]] = {}

    async def addresses(self, host: str) -> Addresses:
        """Return what A and AAAA records say. Raises DnsError where there are none."""
        known = self._without_asking(host)
        if known:
            return Addresses(known, _FOR_EVER)
        hosts: list[str] = []
        ttl = _FOR_EVER
        errors: dict[str, None] = {}
        for kind, answer in zip(("A", "AAAA"), await self._both(host), strict=True):
            if isinstance(answer, DnsError):
                errors[str(answer)] = None
                hosts += self._last.get((host, kind), ())
                continue
            found = tuple(sorted({str(record.address) for record in answer.rrset or ()})) if answer is not None else ()
            self._last[host, kind] = found
            hosts += found
            if found:
                ttl = min(ttl, answer.chaining_result.minimum_ttl)
        if not hosts:
            raise DnsError("; ".join(errors) or f"{host} has neither A nor AAAA records")
        return Addresses(tuple(hosts), ttl, "; ".join(errors) or None)

    async def services(self, name: str) -> tuple[list[Service], float]:
        """Return the SRV records of a name and their time to live. Raises DnsError where there are none."""
        answer = await self._ask(name, "SRV")
        found = sorted(
            Service(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
            for record in answer.rrset or ()
            if record.target.labels != (b"",)  # RFC 2782: the root says that there is no such service
        )
        if not found:
            raise DnsError(f"{name} has no SRV records")
        return found, answer.chaining_result.minimum_ttl

    async def _both(self, host: str) -> list[Any]:
        results = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, DnsError):
                raise result
        # Some servers deny the name where it only lacks the one kind of record.
        known = [result for result in results if not isinstance(result, BaseException)]
        return [None if known and isinstance(result, NoSuchName) else result for result in results]

    async def _ask(self, name: str, kind: str) -> Any:
        import dns.exception
        import dns.resolver

        try:
            return await self._configured().resolve(name, kind, raise_on_no_answer=False, search=True)
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchName(f"there is no name {name}") from error
        except dns.resolver.LifetimeTimeout as error:
            raise DnsError(f"no answer about {name} within {_TIMEOUT:g} s") from error
        except dns.resolver.NoNameservers as error:
            raise DnsError(f"no server can tell about {name}") from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise DnsError(f"{name}: {' '.join(str(error).split())}") from error

    def _configured(self) -> Resolver:
        if self._resolver is None:
            import dns.asyncresolver
            import dns.nameserver
            import dns.resolver

            try:
                resolver = dns.asyncresolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.lifetime = _TIMEOUT
            if self._servers:
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(server.host, server.port) for server in self._servers
                ]
            self._resolver = resolver
        return self._resolver

    def _without_asking(self, host: str) -> tuple[str, ...]:
        """What getaddrinfo() knows before it asks a server: IP addresses, /etc/hosts, and localhost (RFC 6761)."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return (host,)
        name = host.rstrip(".").lower()
        found = self._in_hosts_file(name)
        if not found and (name == "localhost" or name.endswith(".localhost")):
            return ("127.0.0.1", "::1")
        return found

    def _in_hosts_file(self, name: str) -> tuple[str, ...]:
        try:
            text = self._hosts_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        return tuple(dict.fromkeys(fields[0] for fields in lines if name in map(str.lower, fields[1:])))
