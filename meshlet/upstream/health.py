"""Active health checks: each endpoint of a cluster is asked regularly whether it is well."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, cast

from meshlet.errors import ConnectFailure
from meshlet.upstream.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import HealthCheck
    from meshlet.upstream.endpoint import Endpoint

logger = logging.getLogger("meshlet.upstream")

# RFC 9112 section 4. The reason phrase may be missing, with or without the space before it.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t \x21-\x7e\x80-\xff]*)?")
_MAX_HEAD = 65536


class Unwell(Exception):
    """A check failed; says why in one line."""


class Judge:
    """Counts checks of one endpoint and decides. Only the very first check decides alone."""

    def __init__(self, config: HealthCheck) -> None:
        self.healthy = config.initially == "healthy"
        self._rise = config.healthy_threshold
        self._fall = config.unhealthy_threshold
        self._first = True
        self._against = 0  # checks in a row that say the opposite of what holds

    def judge(self, *, well: bool) -> bool:
        """Take the outcome of a check; return whether the endpoint is healthy."""
        if well == self.healthy:
            self._against = 0
        else:
            self._against += 1
            # Nobody knows better than the first check that an endpoint is well; that it is not may be chance.
            if self._against >= (self._rise if well else self._fall) or (self._first and well):
                self.healthy = well
                self._against = 0
        self._first = False
        return self.healthy


class HealthChecker:
    """Checks the endpoints of one cluster, each in a task of its own; sets `healthy` and then calls `on_change`."""

    def __init__(
        self, cluster: str, config: HealthCheck, random: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._random = random
        self._on_change = on_change
        host = config.host or cluster
        self._request: bytes | None = None
        if config.path is not None:
            lines = (f"GET {config.path} HTTP/1.1", f"Host: {host}", "User-Agent: meshlet-health", "Connection: close")
            self._request = "\r\n".join((*lines, "\r\n")).encode()
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def add(self, endpoint: Endpoint) -> None:
        """Begin to check an endpoint, at once."""
        if endpoint not in self._tasks:
            self._tasks[endpoint] = asyncio.get_running_loop().create_task(self._run(endpoint))

    def remove(self, endpoint: Endpoint) -> None:
        """Check an endpoint no more."""
        task = self._tasks.pop(endpoint, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """End all checks."""
        for endpoint in tuple(self._tasks):
            self.remove(endpoint)

    async def _run(self, endpoint: Endpoint) -> None:
        judge = Judge(self._config)
        while True:
            try:
                error = await self._ask(endpoint)
            except Exception:
                logger.exception("cluster %s: checking %s failed, which is a bug", self._cluster, endpoint.name)
                error = "the check itself failed"
            endpoint.checks_total += 1
            endpoint.check_failures_total += error is not None
            endpoint.health_error = error
            if judge.judge(well=error is None) != endpoint.healthy:
                endpoint.healthy = judge.healthy
                self._tell(endpoint)
                self._on_change()
            # A random part keeps the sidecars of many Pods from asking all together.
            await asyncio.sleep(self._config.interval * (1 + self._random() * self._config.jitter / 100))

    def _tell(self, endpoint: Endpoint) -> None:
        if endpoint.healthy:
            logger.info("cluster %s: endpoint %s is healthy", self._cluster, endpoint.name)
        else:
            logger.warning(
                "cluster %s: endpoint %s is unhealthy: %s", self._cluster, endpoint.name, endpoint.health_error
            )

    async def _ask(self, endpoint: Endpoint) -> str | None:
        """Check once. Return what is wrong."""
        config = self._config
        address = endpoint.address if config.port is None else endpoint.address.on(config.port)
        try:
            async with asyncio.timeout(config.timeout):
                asking = await connect(address, lambda: _Asking(self._request), config.timeout)
                try:
                    status = await asking.status
                finally:
                    asking.close()
        except TimeoutError:
            return f"no answer within {config.timeout:g} s"
        except (ConnectFailure, Unwell) as error:
            return str(error)
        return None if status is None or status in config.statuses else f"status {status}"


class _Asking(asyncio.Protocol):
    """One check on a connection of its own. Without a request, connecting is all of it."""

    def __init__(self, request: bytes | None) -> None:
        self._request = request
        self._received = b""
        self._transport: asyncio.Transport
        #: of the response, or None where none was asked for; Unwell where there is no telling
        self.status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._request is None:
            self.status.set_result(None)
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._received += data
        head, ended, _ = self._received.partition(b"\r\n\r\n")
        if not ended:
            if len(self._received) > _MAX_HEAD:
                self._fail(f"a response head of more than {_MAX_HEAD} bytes")
            return
        match = _STATUS_LINE.fullmatch(head.partition(b"\r\n")[0])
        if match is None:
            self._fail("an answer that is not HTTP/1")
        else:
            self.status.set_result(int(match[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self._fail("the connection was closed without an answer")

    def close(self) -> None:
        """End the connection, whatever is still to come on it."""
        self._transport.abort()
        if self.status.done() and not self.status.cancelled():
            self.status.exception()  # looked at, or asyncio would report it

    def _fail(self, reason: str) -> None:
        self.status.set_exception(Unwell(reason))
