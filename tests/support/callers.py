"""Clients that send one request after another while a test does something to meshlet."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.support.http1 import Client
from tests.support.processes import until

if TYPE_CHECKING:
    from types import TracebackType


class Failure(NamedTuple):
    """A request without a 200."""

    begun: float  # time.monotonic()
    what: object


class Callers:
    """So many threads, from the block's begin to its end.

    With `keep_alive`, a connection is used until the answer says that it closes; with `obedient`, its caller then
    leaves, as one does that a load balancer has sent elsewhere.
    """

    def __init__(self, address: str, count: int = 4, *, keep_alive: bool, obedient: bool = False) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._obedient = obedient
        self._stop = threading.Event()
        self._answered = [0] * count
        self._threads = [threading.Thread(target=self._call, args=(index,)) for index in range(count)]
        self.failures: list[Failure] = []

    @property
    def answered(self) -> int:
        """How many requests went well."""
        return sum(self._answered)

    def go_on(self, number: int = 100) -> None:
        """Wait until so many more requests went well."""
        target = self.answered + number
        until(lambda: self.answered >= target, 20)

    def wait(self, timeout: float = 20.0) -> None:
        """Wait until all have left."""
        until(lambda: not any(thread.is_alive() for thread in self._threads), timeout)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads), "a caller does not end"

    def _call(self, index: int) -> None:
        client: Client | None = None
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                client = client or Client(self._address)
                response = client.get("/", *(() if self._keep_alive else ("Connection: close",)))
            except (OSError, EOFError) as error:
                self.failures.append(Failure(begun, error))
                closes = True
            else:
                closes = response.closes
                if response.status == 200:
                    self._answered[index] += 1
                else:
                    self.failures.append(Failure(begun, response))
            if closes and client is not None:
                client.close()
                client = None
            if closes and self._obedient:
                return
        if client is not None:
            client.close()
