"""Host names to addresses, through the system's resolver (so /etc/hosts, search domains and ndots hold)."""

from __future__ import annotations

import asyncio
import socket

from meshlet.config.units import Address


def is_name(address: Address) -> bool:
    """Say whether the address has a host name, not an IP address or a path."""
    if address.path or ":" in address.host:
        return False
    try:
        socket.inet_pton(socket.AF_INET, address.host)
    except OSError:
        return True
    return False


async def resolve(address: Address) -> tuple[Address, ...]:
    """Return the addresses that a host name stands for now, in a stable order. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return tuple(sorted({Address(str(info[4][0]), address.port) for info in infos}))
