"""Opening a connection to an address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from meshlet.errors import ConnectFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.units import Address

P = TypeVar("P", bound=asyncio.Protocol)


async def connect(address: Address, factory: Callable[[], P], timeout: float) -> P:  # noqa: ASYNC109
    """Return the connected protocol.

    Raises ConnectFailure, which names the address and the cause, after `timeout` seconds at most.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if address.path:
                _, protocol = await loop.create_unix_connection(factory, address.path)
            else:
                _, protocol = await loop.create_connection(factory, address.host, address.port)
    except TimeoutError as error:
        raise ConnectFailure(f"no connection to {address} within {timeout:g} s") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConnectFailure(f"connect to {address}: {reason}") from error
    return protocol
