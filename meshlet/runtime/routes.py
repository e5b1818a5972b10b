"""From a route of the config to what an exchange does with its requests.

What only some routes have is imported where one of them has it.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from meshlet.errors import BadRequest
from meshlet.http.answer import Answer
from meshlet.proxy.settings import HedgeSettings, MirrorSettings, RouteAction, Target
from meshlet.resilience.retry import DEFAULT_POLICY, RetryPolicy
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlet.config.schema import Filter as WrittenFilter
    from meshlet.config.schema import Hedge, Listener, RateLimit, Route
    from meshlet.filters.base import Filter
    from meshlet.filters.chain import Chain
    from meshlet.proxy.exchange import Exchange
    from meshlet.proxy.settings import ListenerStats, Step
    from meshlet.routing.header_rules import Rules
    from meshlet.routing.split import WeightedChoice
    from meshlet.runtime.kept import Kept
    from meshlet.upstream.cluster import Cluster


class Routes:
    """Compiles the routes of one listener."""

    def __init__(self, listener: Listener, clusters: Mapping[str, Cluster], stats: ListenerStats, kept: Kept) -> None:
        self._listener = listener
        self._clusters = clusters
        self._stats = stats
        self._kept = kept
        self._limit = self._rate_limit("", listener.rate_limit)
        self._filters = self._made("", listener.filters)

    def action(self, route: Route) -> RouteAction:
        """Return what becomes of the route's requests."""
        policy = RetryPolicy(route.retry) if route.retry is not None else DEFAULT_POLICY
        timeout = float(route.timeout) or NEVER
        limits = self._listener.limits
        idle_timeout = float(route.idle_timeout or limits.stream_idle_timeout) or NEVER
        early, late, response_rules = _rules(route)
        first = self._steps(route)
        last = tuple(_last_steps(route, early))
        chain = self._chain(route)
        target = self._target(route, route.cluster) if route.cluster is not None else None
        return RouteAction(
            name=route.name,
            label=route.name or _described(route),
            target=target,
            split=self._split(route) if route.split else None,
            stats=target.stats if target is not None else self._stats.for_requests(route.name or "", ""),
            steps=(*first, *last) if chain is None else first,
            chain=chain,
            last_steps=last if chain is not None else (),
            annotates=bool(late or route.attempt_count or route.deadline_header),
            attempt_rules=late,
            decorates=response_rules is not None or route.attempt_count,
            response_rules=response_rules,
            timeout=timeout,
            deadline=NEVER,
            soonest=float(min(timeout, policy.per_try_timeout or NEVER, idle_timeout)),
            idle_timeout=idle_timeout,
            policy=policy,
            accompanied=route.hedge is not None or route.mirror is not None,
            hedge=self._hedge(route, route.hedge) if route.hedge is not None else None,
            mirror=MirrorSettings(self._target(route, route.mirror.cluster), route.mirror.percent / 100)
            if route.mirror is not None
            else None,
            deadline_header=route.deadline_header.lower().encode() if route.deadline_header is not None else None,
            attempt_count=route.attempt_count,
            upgrades=frozenset(name.lower().encode() for name in route.upgrades),
            connect=route.connect,
            max_body=route.max_body if route.max_body is not None else limits.max_body,
        )

    def _steps(self, route: Route) -> tuple[Step, ...]:
        """Return what comes before a route's filters. CORS is first: pages can read a refusal that says who may."""
        steps: list[Step] = []
        if route.cors is not None:
            from meshlet.filters.cors import compile_cors

            steps.append(compile_cors(route.cors))
        steps += (*self._limit, *self._rate_limit(_place(route), route.rate_limit))
        if route.fault is not None:
            from meshlet.filters.fault import compile_fault

            steps.append(compile_fault(route.fault, random))
        return tuple(steps)

    def _rate_limit(self, place: str, written: RateLimit | None) -> tuple[Step, ...]:
        if written is None:
            return ()
        from meshlet.filters.rate_limit import compile_rate_limit

        return (self._kept.get((self._listener.name, place, "rate_limit"), written, compile_rate_limit),)

    def _chain(self, route: Route) -> Chain | None:
        filters = (*self._filters, *self._made(_place(route), route.filters))
        if not filters:
            return None
        from meshlet.filters.chain import Chain

        return Chain(filters)

    def _made(self, place: str, written: tuple[WrittenFilter, ...]) -> list[Filter]:
        if not written:
            return []
        from meshlet.filters.load import load_filter

        return [self._kept.get((self._listener.name, place, "filter"), each, load_filter) for each in written]

    def _target(self, route: Route, name: str) -> Target:
        cluster = self._clusters[name]
        return Target(cluster, cluster.breakers[route.priority], self._stats.for_requests(route.name or "", name))

    def _split(self, route: Route) -> WeightedChoice[Target]:
        from meshlet.routing.split import compile_split

        return compile_split(route.split, {share.cluster: self._target(route, share.cluster) for share in route.split})

    def _hedge(self, route: Route, hedge: Hedge) -> HedgeSettings:
        if hedge.percentile is None:
            return HedgeSettings(float(hedge.after) if hedge.after is not None else None, {})
        names = [share.cluster for share in route.split] + [route.cluster or ""]
        return HedgeSettings(
            None, {name: self._clusters[name].measure(hedge.percentile) for name in names if name in self._clusters}
        )


def _described(route: Route) -> str:
    """Return what a route without a name matches, in a few words."""
    match = route.match
    keys = ("host", "method", "prefix", "path", "regex")
    words = [f"{key} {value}" for key in keys if (value := getattr(match, key))]
    words += [f"{key} {', '.join(conditions)}" for key in ("headers", "query") if (conditions := getattr(match, key))]
    return " ".join(words) or "everything"


def _place(route: Route) -> str:
    """Return what a route is known by when the config changes around it."""
    return route.name or f"match {route.match}"


def _rules(route: Route) -> tuple[Rules | None, Rules | None, Rules | None]:
    """Return the rules for a request that hold at once, those that need an endpoint, and those for its response."""
    if route.request_headers is None and route.response_headers is None:
        return None, None, None
    from meshlet.routing.header_rules import compile_rules, split_rules

    early, late = split_rules(route.request_headers) if route.request_headers is not None else (None, None)
    return early, late, compile_rules(route.response_headers) if route.response_headers is not None else None


def _last_steps(route: Route, rules: Rules | None) -> list[Step]:
    """Return what comes last: an answer of the route's own, or the changes to what the app is asked."""
    steps: list[Step] = []
    if route.redirect is not None:
        from meshlet.routing.redirect import compile_redirect

        locate, status = compile_redirect(route.redirect, route.match), int(route.redirect.status)

        def redirect(exchange: Exchange, now: float) -> Answer:  # noqa: ARG001 (the interface of steps)
            return Answer(status, (b"location: " + locate(exchange.head, exchange.scheme),))

        steps.append(redirect)
    elif route.direct_response is not None:
        written = route.direct_response
        body = written.body.encode()
        fields = (b"content-type: " + written.content_type.encode(),) if body else ()

        def answer(exchange: Exchange, now: float) -> Answer:  # noqa: ARG001 (the interface of steps)
            return Answer(written.status, fields, body)

        steps.append(answer)
    else:
        if rules is not None:
            applied = rules

            def change_headers(exchange: Exchange, now: float) -> None:  # noqa: ARG001 (the interface of steps)
                applied.apply(exchange.head.lines, exchange)

            steps.append(change_headers)
        if route.rewrite is not None:
            from meshlet.routing.rewrite import compile_rewrite

            change = compile_rewrite(route.rewrite, route.match)

            def rewrite(exchange: Exchange, now: float) -> BadRequest | None:  # noqa: ARG001 (the interface of steps)
                exchange.keep_asked()
                try:
                    change(exchange.head)
                except BadRequest as error:
                    return error
                return None

            steps.append(rewrite)
    return steps
