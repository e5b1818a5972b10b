"""What of a listener could refuse or change a request: rules, which only HTTP can be held to.

A key is a rule as soon as it differs from its default, unless it stands below. So a key that is new is one until
somebody has thought about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import fields

from meshlet.config.check import matches_everything

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshlet.config.schema import Config, Limits, Listener, Route

# What says where a connection comes and goes, how long is waited for whom, or how often a request is tried.
_NO_RULES = {
    "Listener": frozenset({"name", "address", "protocol", "direction", "cluster", "routes", "limits"}),
    "Limits": frozenset(
        {
            "max_connections",
            "head_timeout",
            "idle_timeout",
            "stream_idle_timeout",
            "tcp_idle_timeout",
            "detect_timeout",
        }
    ),
    "Route": frozenset(
        {
            "name",
            "match",
            "cluster",
            "timeout",
            "idle_timeout",
            "retry",
            "hedge",
            "attempt_count",
            "priority",
            "upgrades",
            "connect",
        }
    ),
}


def rules(listener: Listener) -> list[str]:
    """Return the keys that are rules, as they are found below the listener."""
    found = [*_written(listener), *(f"limits.{key}" for key in _written(listener.limits))]
    if len(listener.routes) > 1:
        return [*found, "routes"]  # each takes something from those behind it
    for route in listener.routes:
        found += (f"routes[0].{key}" for key in _rules_of(route))
    return found


def tcp_cluster(listener: Listener) -> str | None:
    """Return the name of the cluster that gets what is not HTTP, or None where nothing is relayed."""
    if listener.cluster is not None:
        return listener.cluster
    if listener.protocol == "tcp":
        catch_all = [route.cluster for route in listener.routes if route.cluster and matches_everything(route.match)]
        return catch_all[-1] if catch_all else None
    return listener.routes[0].cluster if listener.routes and not rules(listener) else None


def warnings(config: Config) -> list[str]:
    """Return what a config means that its writer may not have meant, one line each."""
    return [
        f"listeners[{index}].cluster: what is not HTTP goes to {listener.cluster} past {', '.join(found)}; "
        "leave `cluster` out to have it refused"
        for index, listener in enumerate(config.listeners)
        if listener.protocol == "auto" and listener.cluster is not None and (found := rules(listener))
    ]


def _rules_of(route: Route) -> Iterator[str]:
    yield from _written(route)
    if not matches_everything(route.match):
        yield "match"
    if not {"websocket", "*"} & set(route.upgrades):  # fewer than by default
        yield "upgrades"


def _written(struct: Listener | Limits | Route) -> Iterator[str]:
    """The keys that say something else than the default, and are no exception."""
    none = _NO_RULES[type(struct).__name__]
    return (
        each.name for each in fields(struct) if each.name not in none and getattr(struct, each.name) != each.default
    )
