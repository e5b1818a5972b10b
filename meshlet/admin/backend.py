"""What the admin port asks of the running meshlet: one process, or a supervisor that speaks for its workers."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from meshlet.telemetry.metrics import Family
from meshlet.telemetry.tap import TapRead
from meshlet.telemetry.traffic import Traffic

Dump = dict[str, Any]
"""A JSON-ready object: str, int, float, bool, None, and lists and dicts of these."""


class Readiness(Struct, frozen=True):
    """Whether traffic may come, and if not, why: one short sentence each."""

    ready: bool
    reasons: list[str] = []


class AdminBackend(Protocol):
    """All methods are coroutines, because the answer may have to come from other processes."""

    async def families(self) -> list[Family]:
        """All metrics at this moment."""

    async def readiness(self) -> Readiness:
        """Whether traffic may come."""

    async def clusters(self) -> list[Dump]:
        """One object for each cluster; lists of objects in it (endpoints) become rows of the table."""

    async def listeners(self) -> list[Dump]:
        """One object for each listener, shown like clusters."""

    async def traffic(self) -> Traffic:
        """Totals of routes and endpoints, for whoever watches them live."""

    async def history(self) -> list[Dump]:
        """The last 15 minutes, oldest first: what happened inbound and outbound in each span of 5 s."""

    async def explain(self, request_id: str) -> list[Dump]:
        """What is kept of a request that failed or was slow: one object each time, the newest last."""

    async def recent(self, limit: int) -> list[Dump]:
        """The last requests that failed or were slow, the newest first."""

    async def tap(self, read: TapRead) -> list[bytes]:
        """What has come for a tap since it was read last, opening it the first time: JSON objects."""

    async def config_dump(self) -> Dump:
        """The running config, its source and version, and how the last reload went."""

    async def server_info(self) -> Dump:
        """Version, uptime, workers and the like."""

    async def set_log_level(self, level: str) -> None:
        """Change the level of meshlet's own log, in the process that is asked as well; ValueError if unknown."""

    async def fail_readiness(self, failed: bool) -> None:
        """Tell probes to keep traffic away, or that all is well again; connections go on as they are."""

    async def drain_listeners(self) -> None:
        """Stop accepting connections; returns when it has begun."""

    async def quit(self) -> None:
        """End as SIGTERM does; returns when it has begun, so that the caller still gets an answer."""
