"""A cluster at run time: its endpoints as they are now, and the choice among them."""

from __future__ import annotations

import asyncio
import logging
from random import random
from typing import TYPE_CHECKING

from meshlet.errors import NoEndpoint
from meshlet.http.head import HeadLimits
from meshlet.resilience.breaker import Breaker
from meshlet.resilience.outlier import REASONS, RETURNED, Monitor, OutlierDetector
from meshlet.resilience.quantile import LatencyQuantile
from meshlet.telemetry.metrics import DURATION_BOUNDS
from meshlet.upstream.balancers.keys import hash_key, key_function
from meshlet.upstream.balancers.make import make_balancer
from meshlet.upstream.balancers.peak_ewma import Ewma
from meshlet.upstream.destination import Destination
from meshlet.upstream.discovery.make import make_discovery
from meshlet.upstream.discovery.names import Names, with_details
from meshlet.upstream.endpoint import Endpoint
from meshlet.upstream.greeting import Greeting
from meshlet.upstream.health import HealthChecker
from meshlet.upstream.pool import Pool, PoolSettings, Room
from meshlet.upstream.resolver import is_name
from meshlet.upstream.slow_start import SlowStart
from meshlet.upstream.tiers import loads, tiers_of
from meshlet.upstream.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from meshlet.config.schema import Cluster as ClusterConfig
    from meshlet.http.head import RequestHead
    from meshlet.timers import Timers
    from meshlet.upstream.balancers.base import Balancer
    from meshlet.upstream.discovery.base import Found

logger = logging.getLogger("meshlet.upstream")

# After a bug in a discovery; it must not freeze the endpoints for good.
_PAUSE = 10.0  # seconds


class Cluster:
    """The endpoints of one cluster. They are found and watched by background tasks, never per request.

    `zone` is where this process runs. Whatever changes membership or health calls `_arrange`, so that `pick` finds its
    choice prepared.
    """

    def __init__(
        self,
        config: ClusterConfig,
        timers: Timers,
        clock: Callable[[], float],
        *,
        zone: str | None = None,
        bounds: tuple[float, ...] = DURATION_BOUNDS,
    ) -> None:
        """`bounds` are those of the endpoints' histograms, in seconds."""
        self.config = config
        self.name = config.name
        self.zone = zone
        self._bounds = bounds
        self._timers = timers
        self._clock = clock
        limits = config.circuit_breaker
        self._settings = PoolSettings(
            connect_timeout=config.connect_timeout,
            pending_timeout=config.pending_timeout,
            idle_timeout=config.idle_timeout,
            limits=HeadLimits(config.max_header_bytes, config.max_headers),
        )
        self.connections = Room(limits.max_connections)
        self.breakers = {
            "default": Breaker(limits, config.retry_budget),
            "high": Breaker(limits.high, config.retry_budget),
        }
        #: whether `pick` makes use of a key
        self.hashes = config.hash_on is not None
        self._key_of = key_function(config.hash_on) if config.hash_on is not None else None
        # who watches the endpoints
        self._quantiles: dict[float, LatencyQuantile] = {}
        self._detector: OutlierDetector[Endpoint] | None = None
        if config.outlier_detection is not None:
            self._detector = OutlierDetector(config.outlier_detection, clock, self._on_ejection)
        self._checker: HealthChecker | None = None
        if config.health_check is not None:
            self._checker = HealthChecker(config.name, config.health_check, random, self._arrange)
        self._slow_start: SlowStart | None = None
        if config.slow_start:
            self._slow_start = SlowStart(config.slow_start, timers, clock, self._arrange)
        # who there is
        self._discovery = make_discovery(config)
        self._discovering: asyncio.Task[None] | None = None
        self._found: list[Found] = []
        self.endpoints: tuple[Endpoint, ...] = ()
        self._answering: tuple[Endpoint, ...] | None = None  # endpoints, one of which has answered a request
        self.greeting = Greeting(self, timers, clock)
        self._up: set[Endpoint] = set()  # those that were available when the choice was last prepared
        self._founders: set[Endpoint] = set()  # of the first membership, never available so far
        self.last_error: str | None = None
        self.settled = asyncio.Event()  # its endpoints have been asked for once
        self._started = False
        # the choice, prepared
        self._balancers: dict[tuple[int, bool], Balancer] = {}
        self._only: Endpoint | None = None  # the one endpoint that there is to choose
        self._usual: Balancer | None = None  # what chooses where there is one tier, and no panic
        self._loaded: list[tuple[float, Balancer]] = []  # with the sum of the loads up to each
        self._candidates: tuple[Endpoint, ...] = ()
        self._panics = False
        # figures
        self.panics_total = 0  # requests sent without regard to health
        self.updates_total = 0
        self.update_failures_total = 0
        self._set_endpoints(Names().known(with_details(config.endpoints)))

    # --- per request ---

    def pick(self, key: int | None = None, tried: Collection[Endpoint] = ()) -> Endpoint:
        """Return the endpoint for the next request, rather one that is not in `tried`. Raises NoEndpoint.

        `key` is from `key_of`; only hashing balancers look at it.
        """
        if tried:
            other = self._other(tried)
            if other is not None:
                return other
        only = self._only
        if only is not None:
            return only
        usual = self._usual
        return usual.pick(key) if usual is not None else self._unusual(key)

    def has_other(self, tried: Collection[Endpoint]) -> bool:
        """Say whether there is an endpoint to choose that is not in `tried`."""
        return any(endpoint not in tried for endpoint in self._candidates)

    def key_of(self, head: RequestHead, remote_host: str) -> int | None:
        """Return what the request sticks to an endpoint by; for clusters that are `hashes` only.

        `remote_host` is the client's IP address. None: the request may go anywhere.
        """
        return self._key_of(head) if self._key_of is not None else hash_key(remote_host.encode())

    @property
    def connect_timeout(self) -> float:
        """Seconds."""
        return self._settings.connect_timeout

    @property
    def speaks_http(self) -> bool:
        """Whether one of its endpoints has answered a request. It is looked up: requests pay nothing for it."""
        if self._answering is not self.endpoints and any(any(endpoint.durations) for endpoint in self.endpoints):
            self._answering = self.endpoints
        return self._answering is self.endpoints

    def _unusual(self, key: int | None) -> Endpoint:
        if not self._loaded:
            raise NoEndpoint(self._why_none())
        self.panics_total += self._panics
        place = random()  # noqa: S311
        for limit, balancer in self._loaded:
            if place < limit:
                return balancer.pick(key)
        return self._loaded[-1][1].pick(key)

    def _other(self, tried: Collection[Endpoint]) -> Endpoint | None:
        """The less busy of two random endpoints that have not been tried."""
        untried = [endpoint for endpoint in self._candidates if endpoint not in tried]
        if not untried:
            return None
        one = untried.pop(int(random() * len(untried)))  # noqa: S311
        if untried:
            other = untried[int(random() * len(untried))]  # noqa: S311
            if other.active * one.share < one.active * other.share:
                one = other
        if one.ewma is not None and not one.active:
            one.ewma.begin(self._clock())
        return one

    def _why_none(self) -> str:
        reason = f": {self.last_error}" if self.last_error else ""
        if not self.endpoints:
            return f"no endpoint of cluster {self.name} is known{reason}"
        ejected = sum(endpoint.ejected for endpoint in self.endpoints)
        unhealthy = sum(not endpoint.healthy for endpoint in self.endpoints)
        return (
            f"none of the {len(self.endpoints)} endpoints of cluster {self.name} is available: "
            f"{unhealthy} unhealthy, {ejected} ejected{reason}"
        )

    def _in_flight(self) -> int:
        return sum(breaker.requests for breaker in self.breakers.values())

    # --- life ---

    def start(self) -> None:
        """Begin to look for endpoints and to check them. To start twice makes no difference."""
        if self._started:
            return
        self._started = True
        if self._detector is not None:
            self._timers.schedule(self._detector, self._detector.next_change())
        if self._checker is not None:
            for endpoint in self.endpoints:
                self._checker.add(endpoint)
        if self.config.discovery is None and not any(
            is_name(each.address) for each in with_details(self.config.endpoints)
        ):
            self.settled.set()
        else:
            self._discovering = asyncio.get_running_loop().create_task(self._discover())

    def close(self) -> None:
        """End the background tasks and idle connections; exchanges in flight end by themselves."""
        self.greeting.close()
        if self._discovering is not None:
            self._discovering.cancel()
        if self._checker is not None:
            self._checker.close()
        if self._slow_start is not None:
            self._slow_start.close()
        if self._detector is not None:
            self._timers.cancel(self._detector)
        for endpoint in self.endpoints:
            endpoint.watch = None  # how the last exchanges end must not set the detector's timer again
            endpoint.pool.close()

    def measure(self, percentile: float) -> LatencyQuantile:
        """Measure response times from now on; return the estimate of this percentile."""
        if percentile not in self._quantiles:
            self._quantiles[percentile] = LatencyQuantile(percentile)
            for endpoint in self.endpoints:
                endpoint.watch = self._watch(endpoint)
        return self._quantiles[percentile]

    @property
    def ejections_total(self) -> dict[str, int]:
        """How often outlier detection took endpoints out, by reason."""
        return self._detector.ejections_total if self._detector is not None else dict.fromkeys(REASONS, 0)

    @property
    def ejections_refused_total(self) -> int:
        """How often an endpoint stayed only because too many were out."""
        return self._detector.overflows_total if self._detector is not None else 0

    # --- membership ---

    async def _discover(self) -> None:
        while True:
            try:
                await self._discovery.run(self._update)
            except Exception:
                logger.exception("cluster %s: discovery failed, which is a bug", self.name)
            else:
                return
            self._update(None, "discovery failed")
            await asyncio.sleep(_PAUSE)

    def _update(self, endpoints: Sequence[Found] | None, error: str | None = None) -> None:
        """Take what discovery found; see `discovery.base.Update`."""
        self.updates_total += 1
        self.update_failures_total += error is not None
        if error is not None and error != self.last_error:
            logger.warning("cluster %s: %s", self.name, error)
        elif error is None and self.last_error is not None:
            logger.info("cluster %s: endpoints are known again", self.name)
        self.last_error = error
        if endpoints is not None:
            self._set_endpoints(endpoints)
        self.settled.set()

    def _set_endpoints(self, endpoints_found: Sequence[Found]) -> None:
        wanted: dict[str, Found] = {}
        for found in endpoints_found:
            wanted.setdefault(str(found.config.address), found)
        if list(wanted.values()) == self._found:
            return
        self._found = list(wanted.values())
        gone = {endpoint.name: endpoint for endpoint in self.endpoints}
        endpoints = []
        for name, found in wanted.items():
            endpoint = gone.pop(name, None)
            if endpoint is None:
                endpoint = self._new_endpoint(found)
            else:
                endpoint.configure(found)
                if self._slow_start is not None:
                    self._slow_start.set_share(endpoint)
            endpoints.append(endpoint)
        self.endpoints = tuple(endpoints)
        for endpoint in gone.values():
            self._remove(endpoint)
        self._arrange()

    def _new_endpoint(self, found: Found) -> Endpoint:
        address = Destination(found.config.address)
        pool = Pool(address, self._settings, self.connections, self._timers, self._clock)
        endpoint = Endpoint(address, found, pool, self._bounds)
        if not self.settled.is_set():
            self._founders.add(endpoint)
        if self._detector is not None:
            endpoint.monitor = self._detector.add(endpoint)
        if self.config.balancer == "peak-ewma":
            endpoint.ewma = Ewma(self._clock)
        endpoint.watch = self._watch(endpoint)
        if self.config.health_check is not None:
            endpoint.healthy = self.config.health_check.initially == "healthy"
        if self._checker is not None and self._started:
            self._checker.add(endpoint)
        return endpoint

    def _watch(self, endpoint: Endpoint) -> Watch | None:
        if endpoint.monitor is None and endpoint.ewma is None and not self._quantiles:
            return None
        return Watch(endpoint.monitor, endpoint.ewma, self._quantiles.values())

    def _remove(self, endpoint: Endpoint) -> None:
        endpoint.pool.close()
        self._up.discard(endpoint)
        self._founders.discard(endpoint)
        if self._checker is not None:
            self._checker.remove(endpoint)
        if self._slow_start is not None:
            self._slow_start.forget(endpoint)
        if self._detector is not None and endpoint.monitor is not None:
            self._detector.remove(endpoint.monitor)

    # --- health ---

    def _on_ejection(self, monitor: Monitor[Endpoint], reason: str, seconds: float) -> None:
        if reason == RETURNED:
            logger.info("cluster %s: endpoint %s is back after %g s", self.name, monitor.endpoint.name, seconds)
        else:
            logger.warning(
                "cluster %s: endpoint %s is ejected for %g s: %s", self.name, monitor.endpoint.name, seconds, reason
            )
            assert self._detector is not None
            self._timers.schedule(self._detector, self._detector.next_change())
        self._arrange()

    def _arrange(self) -> None:
        """Prepare the choice among the endpoints as they are now."""
        endpoints = self.endpoints
        if self._slow_start is not None:
            self._begin_slowly(self._slow_start)
        available = tuple(endpoint for endpoint in endpoints if endpoint.available)
        self._panics = 100 * len(available) < self.config.panic_threshold * len(endpoints)
        self._candidates = endpoints if self._panics else available
        self._only = self._usual = None
        self._loaded = []
        if not self._candidates:
            return
        tiers = tiers_of(endpoints, self.zone)
        ranks = {tier.rank for tier in tiers}
        self._balancers = {rank: balancer for rank, balancer in self._balancers.items() if rank in ranks}
        sum_ = 0.0
        for tier, load in zip(tiers, loads(tiers), strict=True):
            usable = tier.members if self._panics else tier.available
            if not load:
                continue
            balancer = self._balancers.get(tier.rank)
            if balancer is None:
                balancer = make_balancer(self.config.balancer, random, self._clock, self._in_flight)
                self._balancers[tier.rank] = balancer
            balancer.update(usable, tier.members, load)
            sum_ += load
            self._loaded.append((sum_, balancer))
        if len(self._loaded) == 1 and not self._panics:
            self._usual = self._loaded[0][1]
            if len(self._candidates) == 1:
                self._only = self._candidates[0]

    def _begin_slowly(self, slow_start: SlowStart) -> None:
        """Have endpoints begin that have become available, but for those that the cluster itself began with."""
        for endpoint in self.endpoints:
            if not endpoint.available:
                self._up.discard(endpoint)
                slow_start.forget(endpoint)
            elif endpoint not in self._up:
                self._up.add(endpoint)
                if endpoint in self._founders:
                    self._founders.discard(endpoint)
                else:
                    slow_start.begin(endpoint)
