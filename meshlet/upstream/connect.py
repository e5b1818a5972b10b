"""Opening a connection to a destination: to its address, or to the first of its two that answers (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar

from meshlet.errors import ConnectFailure
from meshlet.upstream.destination import is_v6, told

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
            address, protocol = await _race(destination, addresses, factory, timeout)
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
    destination: Destination,
    addresses: tuple[Address, ...],
    factory: Callable[[], P],
    timeout: float,  # noqa: ASYNC109
) -> tuple[Address, P]:
    """Connect to all of these, each a while after the one before it or as soon as that has failed; keep one.

    Sockets are raced, not protocols: the one that loses is closed without anybody having been told of it.
    """
    attempts: dict[Address, OSError | None] = dict.fromkeys(addresses)
    destination.attempts = attempts
    try:
        async with asyncio.timeout(timeout):
            address, sock = await _first(attempts, min(_HEAD_START, timeout / len(addresses)))
            _, protocol = await asyncio.get_running_loop().create_connection(factory, sock=sock)
    except OSError as error:  # the timeout, or a failure where all have failed
        raise ConnectFailure(told(attempts, timeout)) from error
    finally:
        if destination.attempts is attempts:
            destination.attempts = None
    return address, protocol


async def _first(attempts: dict[Address, OSError | None], head_start: float) -> tuple[Address, socket.socket]:
    """Return the first socket that is connected; note failures. Raises one of them where all fail."""
    loop = asyncio.get_running_loop()
    tasks: dict[Address, asyncio.Task[socket.socket]] = {}
    left = list(attempts)
    try:
        while left or not all(task.done() for task in tasks.values()):
            if left:
                address = left.pop(0)
                tasks[address] = loop.create_task(_open(address))
            await asyncio.wait(
                [task for task in tasks.values() if not task.done()],
                timeout=head_start if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for address, task in tasks.items():
                if not task.done():
                    continue
                error = task.exception()
                if not isinstance(error, OSError):
                    return address, tasks.pop(address).result()
                attempts[address] = error
        raise next(error for error in attempts.values() if error is not None)
    finally:
        for task in tasks.values():
            _give_up(task)


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


def _give_up(task: asyncio.Task[socket.socket]) -> None:
    """End an attempt that nobody waits for any more. It closes its socket by itself, unless it has ended already."""
    if not task.cancel() and not task.cancelled() and task.exception() is None:
        task.result().close()
