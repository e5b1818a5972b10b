"""What all kinds of discovery are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.schema import EndpointConfig


class Update(Protocol):
    """Who is told what was found."""

    def __call__(self, endpoints: Sequence[EndpointConfig] | None, error: str | None = None) -> None:
        """Take all endpoints there are now, or None for no news; `error` is what went wrong, as one line.

        The endpoints' addresses are no host names.
        """
        ...


class Discovery(Protocol):
    """Finds endpoints and goes on looking."""

    async def run(self, update: Update) -> None:
        """Tell `update` after each look, until cancelled (or for good, where nothing can change).

        What fails is told, never raised; the cluster keeps the endpoints that it has.
        """
        ...


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
