"""Endpoints without connections, and chance that repeats itself."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Self, cast
from unittest import mock

from meshlet.config.load import loads
from meshlet.config.schema import EndpointConfig
from meshlet.config.units import Address
from meshlet.timers import Timers
from meshlet.upstream.cluster import Cluster
from meshlet.upstream.destination import Destination
from meshlet.upstream.discovery import file
from meshlet.upstream.discovery.base import Found
from meshlet.upstream.endpoint import Endpoint
from tests.support.fakes import FakeLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.upstream.balancers.base import Balancer


def chance(seed: int = 1) -> Callable[[], float]:
    """Return a source of random numbers that gives the same in each run."""
    return random.Random(seed).random


def config(name: str, **details: Any) -> EndpointConfig:
    return EndpointConfig(address=Address.parse(name), **details)


def endpoint(number: int, *, weight: int = 1, **details: Any) -> Endpoint:
    found = Found(config(f"10.0.0.{number}:80", weight=weight, **details))
    return Endpoint(Destination(found.config.address), found, cast("Any", None))


def endpoints(*weights: int) -> list[Endpoint]:
    return [endpoint(number, weight=weight) for number, weight in enumerate(weights, 1)]


def arranged(balancer: Balancer, members: list[Endpoint], usable: list[Endpoint] | None = None) -> Balancer:
    balancer.update(members if usable is None else usable, members, 1.0)
    return balancer


async def _at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


class Bench:
    """A cluster on a fake loop; entered, the loop is the running one, and what threads do is done at once."""

    def __init__(self, *written: object, zone: str | None = None, **details: Any) -> None:
        self.loop = FakeLoop()
        self.timers = Timers(self.loop.time, self.loop.call_later)
        cluster = {"name": "app", **({"endpoints": list(written)} if written else {}), **details}
        text = {
            "listeners": [{"name": "in", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"}],
            "clusters": [cluster],
        }
        self.cluster = Cluster(loads(json.dumps(text), "test").clusters[0], self.timers, self.loop.time, zone=zone)

    def __enter__(self) -> Self:
        self._no_threads = mock.patch.object(file, "in_thread", _at_once)
        self._no_threads.start()
        asyncio.events._set_running_loop(cast("Any", self.loop))
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()
        self.loop.run()
        asyncio.events._set_running_loop(None)
        self._no_threads.stop()
        assert not self.loop.failures

    def __getitem__(self, index: int) -> Endpoint:
        return self.cluster.endpoints[index]

    def picks(self, count: int) -> dict[str, int]:
        """Return how often each endpoint was picked, by the last number of its address."""
        found: dict[str, int] = {}
        for _ in range(count):
            name = self.cluster.pick().name.partition(":")[0].rpartition(".")[2]
            found[name] = found.get(name, 0) + 1
        return found

    def finds(self, *configs: EndpointConfig, error: str | None = None) -> None:
        """Have discovery find endpoints."""
        self.cluster._update([Found(each) for each in configs], error)
