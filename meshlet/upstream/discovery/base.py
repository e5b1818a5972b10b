"""What all kinds of discovery are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.schema import EndpointConfig
    from meshlet.config.units import Address
    from meshlet.upstream.destination import Families


# RFC 8305 section 3: so long one family is waited for when the other one is known.
RESOLUTION_DELAY = 0.05  # seconds


class Found(NamedTuple):
    """An endpoint that was found: its address is no host name.

    `other` is an address in the other family, `families` what all endpoints of the same name share.
    """

    config: EndpointConfig
    other: Address | None = None
    families: Families | None = None


class Update(Protocol):
    """Who is told what was found."""

    def __call__(self, endpoints: Sequence[Found] | None, error: str | None = None) -> None:
        """Take all endpoints there are now, or None for no news; `error` is what went wrong, as one line."""
        ...


class Discovery(Protocol):
    """Finds endpoints and goes on looking."""

    async def run(self, update: Update) -> None:
        """Tell `update` after each look, until cancelled (or for good, where nothing can change).

        What fails is told, never raised; the cluster keeps the endpoints that it has.
        """
        ...


class Late(asyncio.Event):
    """Is set when a name is answered about. What a look has waited for is cleared at its end; the rest comes late."""

    async def within(self, seconds: float) -> bool:
        """Wait for what comes late, so long at most. Say whether something has come."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        self.clear()
        return True


class Retries:
    """When to look again after failures: soon, then less and less often."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._failures = 0

    def after(self, seconds: float | None) -> float:
        """Return the pause after a look: `seconds` as far as the bounds allow, or for a failure where that is None."""
        if seconds is not None:
            self._failures = 0
            return min(max(seconds, self._shortest), self._longest)
        self._failures += 1
        return float(min(self._shortest * 2 ** min(self._failures - 1, 30), self._longest))
