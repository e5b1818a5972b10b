"""Questions to DNS servers, with the time to live of the answers, which the system's resolver does not tell.

The only module that imports dnspython, and only once a question is asked.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlet.config.text_file import read_regular
from meshlet.threads import in_thread
from meshlet.upstream.discovery.base import RESOLUTION_DELAY, Late

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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


class _Answer(NamedTuple):
    """About one kind of record. Where there is an error, the hosts are those of the last good answer."""

    hosts: tuple[str, ...]
    ttl: float = _FOR_EVER
    error: DnsError | None = None


class Service(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class DnsClient:
    """Asks `resolvers`, or those of /etc/resolv.conf where there are none; search domains hold in either case.

    A and AAAA records are asked for at the same time, unless `family` wants only one of them. When one is known and
    the other is not a moment later, that comes late (RFC 8305 section 3): a server that never answers about AAAA
    delays nothing.
    """

    def __init__(self, resolvers: Sequence[Address] = (), family: str = "auto", hosts_file: str = "/etc/hosts") -> None:
        self._servers = tuple(resolvers)
        self._hosts_file = hosts_file
        self._resolver: Resolver | None = None
        self._kinds = {"ipv4": ("A",), "ipv6": ("AAAA",)}.get(family, ("A", "AAAA"))
        # by name and kind
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[bool]] = {}
        self.late = Late()

    async def look_up(self, hosts: Collection[str]) -> None:
        """Ask for the addresses of these names, and forget all other names."""
        for key in [key for key in self._asking if key[0] not in hosts]:
            self._asking.pop(key).cancel()
        self._answers = {key: answer for key, answer in self._answers.items() if key[0] in hosts}
        await asyncio.gather(*map(self._look_up, hosts))
        self.late.clear()

    def addresses(self, host: str) -> Addresses:
        """Return what is known of a name that was looked up. Raises DnsError where it has no address."""
        answers = [self._answers[host, kind] for kind in self._kinds if (host, kind) in self._answers]
        if any(answer.error is None for answer in answers):
            # Some servers deny the name where it only lacks the one kind of record.
            answers = [answer for answer in answers if not isinstance(answer.error, NoSuchName)]
        used = [answer for answer in answers if answer.hosts]
        # What one family cannot tell is no error while it never could, and the other one can.
        errors = "; ".join(dict.fromkeys(str(answer.error) for answer in used or answers if answer.error is not None))
        if not used:
            lacks = "neither A nor AAAA" if len(self._kinds) > 1 else f"no {self._kinds[0]}"
            raise DnsError(errors or f"{host} has {lacks} records")
        hosts = tuple(each for answer in used for each in answer.hosts)
        return Addresses(hosts, min(answer.ttl for answer in used), errors or None)

    def close(self) -> None:
        """Take back the questions that are not answered yet."""
        while self._asking:
            self._asking.popitem()[1].cancel()

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

    async def _look_up(self, host: str) -> None:
        known = await in_thread(self._without_asking, host)
        if known:
            for kind in self._kinds:
                self._answers[host, kind] = _Answer(tuple(each for each in known if (":" in each) == (kind == "AAAA")))
            return
        waiting = {self._question(host, kind) for kind in self._kinds}
        usable = False
        while waiting and not usable:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for asked in done:
                usable |= asked.result()
        if waiting:
            await asyncio.wait(waiting, timeout=RESOLUTION_DELAY)

    def _question(self, host: str, kind: str) -> asyncio.Task[bool]:
        """Ask, unless the last question has not been answered yet: of each kind there is one at most."""
        asking = self._asking.get((host, kind))
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._learn(host, kind))
            self._asking[host, kind] = asking
        return asking

    async def _learn(self, host: str, kind: str) -> bool:
        """Ask and remember the answer. Say whether it has addresses."""
        try:
            found = await self._ask(host, kind)
        except DnsError as error:
            answer = self._answers.get((host, kind), _Answer(()))._replace(error=error)
        else:
            hosts = tuple(sorted({str(record.address) for record in found.rrset or ()}))
            answer = _Answer(hosts, found.chaining_result.minimum_ttl)
        del self._asking[host, kind]
        self._answers[host, kind] = answer
        self.late.set()
        return bool(answer.hosts) and answer.error is None

    async def _ask(self, name: str, kind: str) -> Any:
        try:
            import dns.exception
            import dns.resolver
        except (OSError, ImportError) as error:  # no descriptor is left to load it with; the next question tries again
            raise DnsError(f"{name}: {error}") from error
        try:
            return await self._configured().resolve(name, kind, raise_on_no_answer=False, search=True)
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchName(f"there is no name {name}") from error
        except dns.resolver.LifetimeTimeout as error:
            raise DnsError(f"no answer about {name} within {_TIMEOUT:g} s") from error
        except dns.resolver.NoNameservers as error:
            raise DnsError(f"no server can tell about {name}") from error
        except (dns.exception.DNSException, ImportError, OSError, ValueError) as error:
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
            text = (read_regular(self._hosts_file) or b"").decode("utf-8", "replace")
        except OSError:
            return ()
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        return tuple(dict.fromkeys(fields[0] for fields in lines if name in map(str.lower, fields[1:])))
