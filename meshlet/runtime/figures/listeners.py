"""Connections of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meshlet.proxy.listener import Listener
    from meshlet.proxy.settings import ListenerStats


def listener_families(stats: Mapping[str, ListenerStats], listeners: Iterable[Listener]) -> list[Family]:
    """Return what is counted about `stats`, and the connections of `listeners`, which may be several of one name."""
    accepted = Family("meshlet_listener_connections_total", "counter", "Connections accepted.")
    shed = Family("meshlet_listener_connections_shed_total", "counter", "Connections closed: too many were open.")
    errors = Family("meshlet_listener_accept_errors_total", "counter", "Connections that could not be accepted.")
    detected = Family("meshlet_listener_detected_total", "counter", "What connections of auto listeners were.")
    connections = Family("meshlet_listener_connections", "gauge", "Connections open.")
    for name, listener in stats.items():
        accepted.add(listener.accepted_total, listener=name)
        shed.add(listener.shed_total, listener=name)
        errors.add(listener.accept_errors_total, listener=name)
        for protocol, count in listener.detected.items():
            detected.add(count, listener=name, protocol=protocol)
    open_: dict[str, int] = dict.fromkeys(stats, 0)
    for running in listeners:
        open_[running.settings.name] += running.connections
    for name, number in open_.items():
        connections.add(number, listener=name)
    return [accepted, shed, errors, detected, connections]
