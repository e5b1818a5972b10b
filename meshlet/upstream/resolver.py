"""Host names to addresses, through the system's resolver (so /etc/hosts, search domains and ndots hold)."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from concurrent.futures import Future

from meshlet.config.units import Address

_Addresses = tuple[Address, ...]

_THREADS = 4  # for the questions about each family


def is_name(address: Address) -> bool:
    """Say whether the address has a host name, not an IP address or a path."""
    if address.path or ":" in address.host:
        return False
    try:
        socket.inet_pton(socket.AF_INET, address.host)
    except OSError:
        return True
    return False


def resolve(address: Address, family: socket.AddressFamily = socket.AF_UNSPEC) -> asyncio.Future[_Addresses]:
    """Return the addresses that a host name stands for now, in a stable order; OSError where there are none.

    The loop's own threads will not do: uvloop asks about two names at a time, and what nobody answers takes the system
    ten seconds and more. So each family has its own threads, and those of one that is dead do not hold up the other.
    """
    return asyncio.wrap_future(_lanes[family].ask(address, family))


class _Lane:
    """A few threads, there while there is something to ask. A question under way does not hold up the process's end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[_Addresses], Address, int]] = deque()
        self._threads = 0

    def ask(self, address: Address, family: int) -> Future[_Addresses]:
        answer: Future[_Addresses] = Future()
        with self._lock:
            self._waiting.append((answer, address, family))
            if self._threads == _THREADS:
                return answer
            self._threads += 1
        threading.Thread(target=self._work, name="resolver", daemon=True).start()
        return answer

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                answer, address, family = self._waiting.popleft()
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(_getaddrinfo(address, family))
                except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
                    answer.set_exception(error)


def _getaddrinfo(address: Address, family: int) -> _Addresses:
    # As bytes: for text Python loads the codec `idna`, which fails without a descriptor left and takes a long label
    # for a mistake of the program.
    infos = socket.getaddrinfo(address.host.encode("ascii"), address.port, family, socket.SOCK_STREAM)
    return tuple(sorted({Address(str(info[4][0]), address.port) for info in infos}))


_lanes = {family: _Lane() for family in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)}
