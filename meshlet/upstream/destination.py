"""Where an endpoint is: one address, or one of each family, and which of the two to try first."""

from __future__ import annotations

import os

from meshlet.config.units import Address


class Families:
    """What the endpoints of one name learn together about its two families.

    Where the name has one address of each, both are one server's, and either will do at any time. Where it has more,
    DNS does not tell which belong to the same server, so the second address of an endpoint may well be its
    neighbour's. It stands in where a family is dead, not where a server is: once somebody has connected, only that
    family is used, until no endpoint of the name can be connected to.
    """

    __slots__ = ("_failed", "_members", "v6_works")

    def __init__(self) -> None:
        self._members: frozenset[Address] = frozenset()
        self._failed: set[Address] = set()  # members that could not be connected to since the last connection
        #: the family of the last connection; None: not known
        self.v6_works: bool | None = None

    def belong_to(self, members: frozenset[Address]) -> None:
        """Take the first addresses of all the name's endpoints."""
        self._members = members
        self._failed &= members

    @property
    def known(self) -> bool:
        """Whether only one family is to be used."""
        return len(self._members) > 1 and self.v6_works is not None

    def connected(self, *, v6: bool) -> None:
        """Somebody has connected over this family."""
        self.v6_works = v6
        self._failed.clear()

    def failed(self, member: Address) -> None:
        """The endpoint with this first address could not be connected to."""
        self._failed.add(member)
        if self._failed >= self._members and len(self._members) > 1:
            self._failed.clear()
            self.v6_works = None


class Destination:
    """Where one server is. Its first address is what it is called, whichever is connected to."""

    __slots__ = ("_families", "_other", "address", "attempts")

    def __init__(self, address: Address, other: Address | None = None, families: Families | None = None) -> None:
        """`other` is its address in the other family; `families` belongs to all endpoints of the same name."""
        self.address = address
        self._other = other
        self._families = families
        #: what has become so far of those of its addresses that are tried beside each other; None where none are
        self.attempts: dict[Address, OSError | None] | None = None

    def __str__(self) -> str:
        return str(self.address)

    def change(self, other: Address | None, families: Families | None) -> None:
        """Take what a later look has found beside the first address."""
        self._other = other
        self._families = families

    def on(self, port: int) -> Destination:
        """The same server on another port, where what is learned says nothing about this one.

        A Unix socket has no ports.
        """
        if self.address.path:
            return self
        first, *rest = (Address(address.host, port) for address in self.candidates())
        return Destination(first, rest[0], Families()) if rest else Destination(first)

    @property
    def preferred(self) -> str | None:
        """Which of its two addresses is tried first; None where it has only one."""
        return str(self.candidates()[0]) if self._other is not None else None

    def candidates(self) -> tuple[Address, ...]:
        """The addresses to try now, in order."""
        families, other = self._families, self._other
        if families is None or other is None:
            return (self.address,)
        both = (self.address, other)
        if families.v6_works is not None and families.v6_works != is_v6(self.address):
            both = (other, self.address)
        return both[:1] if families.known else both

    def silence(self, seconds: float) -> str:
        """What to say where there is no connection after so long."""
        if self.attempts is None:
            return f"no connection to {self.address} within {seconds:g} s"
        return told(self.attempts, seconds)

    def connected(self, address: Address) -> None:
        """Remember which of the candidates was connected to."""
        if self._families is not None:
            self._families.connected(v6=is_v6(address))

    def failed(self) -> None:
        """Remember that no candidate could be connected to."""
        if self._families is not None:
            self._families.failed(self.address)


def told(attempts: dict[Address, OSError | None], seconds: float) -> str:
    """What to say of attempts that failed, or were not answered for so long."""
    silent = f"no answer within {seconds:g} s"
    return f"connect to {', to '.join(f'{each}: {reason(error) or silent}' for each, error in attempts.items())}"


def reason(error: OSError | None) -> str:
    """The system's words for an error. asyncio's own do not say that a connection was refused."""
    if error is None:
        return ""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def is_v6(address: Address) -> bool:
    """Say of an IP address which family it is of."""
    return ":" in address.host
