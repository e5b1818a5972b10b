"""Opening a connection to a destination: to its address, or to the first of its two that answers (RFC 8305)."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, TypeVar

from meshlet.errors import ConnectFailure
from meshlet.upstream.destination import is_v6

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.units import Address
    from meshlet.upstream.destination import Destination

P = TypeVar("P", bound=asyncio.Protocol)

# RFC 8305 section 5, "Connection Attempt Delay": so long an address has before the next one is tried beside it.
_HEAD_START = 0.25  # seconds


async def connect(destination: Destination, factory: Callable[[], P], timeout: float) -> P:  # noqa: ASYNC109
    """Return the connected protocol.

    Raises ConnectFailure, which names each address that was tried and the cause, after `timeout` seconds at most.
    """
    addresses = destination.candidates()
    try:
        if len(addresses) == 1:
            address, protocol = addresses[0], await _dial(addresses[0], factory, timeout)
        else:
            address, protocol = await _race(addresses, factory, timeout)
    except ConnectFailure:
        destination.failed()
        raise
    destination.connected(address)
    return protocol


async def _dial(address: Address, factory: Callable[[], P], timeout: float) -> P:  # noqa: ASYNC109
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


async def _race(
    addresses: tuple[Address, ...],
    factory: Callable[[], P],
    timeout: float,  # noqa: ASYNC109
) -> tuple[Address, P]:
    """Connect to all of these, each a while after the one before it or as soon as that has failed; keep one.

    Sockets are raced, not protocols: the one that loses is closed without anybody having been told of it.
    """
    failures: dict[Address, OSError] = {}
    try:
        async with asyncio.timeout(timeout):
            address, sock = await _first(addresses, failures, min(_HEAD_START, timeout / len(addresses)))
            _, protocol = await asyncio.get_running_loop().create_connection(factory, sock=sock)
    except OSError as error:  # the timeout, or the last failure
        silent = f"no answer within {timeout:g} s"
        told = (f"{each}: {_reason(failures[each]) if each in failures else silent}" for each in addresses)
        raise ConnectFailure(f"connect to {', to '.join(told)}") from error
    return address, protocol


async def _first(
    addresses: tuple[Address, ...], failures: dict[Address, OSError], head_start: float
) -> tuple[Address, socket.socket]:
    """Return the first socket that is connected. Raises the last of the `failures` where all fail."""
    loop = asyncio.get_running_loop()
    attempts: dict[asyncio.Task[socket.socket], Address] = {}
    left = list(addresses)
    try:
        while left or len(failures) < len(addresses):
            if left:
                address = left.pop(0)
                attempts[loop.create_task(_open(address))] = address
            await asyncio.wait(
                [attempt for attempt in attempts if not attempt.done()],
                timeout=head_start if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt, address in attempts.items():
                error = attempt.exception() if attempt.done() else None
                if isinstance(error, OSError):
                    failures[address] = error
                elif attempt.done():
                    sock = attempt.result()
                    del attempts[attempt]
                    return address, sock
        raise next(reversed(failures.values()))
    finally:
        for attempt in attempts:
            _give_up(attempt)


async def _open(address: Address) -> socket.socket:
    family = socket.AF_INET6 if is_v6(address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY by the protocol
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _give_up(attempt: asyncio.Task[socket.socket]) -> None:
    """End an attempt that nobody waits for any more. It closes its socket by itself, unless it has ended already."""
    if not attempt.cancel() and not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _reason(error: OSError) -> str:
    # asyncio's own words for a refused connection hold no cause.
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
