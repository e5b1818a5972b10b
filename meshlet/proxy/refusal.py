"""What could not be read as a request, as logs and explanations have it; see `telemetry.record.Record`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.errors import ProxyError
    from meshlet.http.attempt import Attempt
    from meshlet.proxy.settings import ListenerSettings


class Refusal:
    """One refused message."""

    protocol = "HTTP/1.1"
    route_name = route_label = cluster_name = upstream_host = None
    head = method = target = host = response_head = trace = None
    scheme = b"http"
    received = sent = attempts = 0
    tries: tuple[Attempt, ...] = ()
    acted: tuple[str, ...] = ()
    duration = 0.0
    request_seconds = response_seconds = service_seconds = None

    def __init__(
        self,
        error: ProxyError,
        settings: ListenerSettings,
        addresses: tuple[str, str, str],
        request_id: bytes,
        wall_time: float,
    ) -> None:
        """`addresses`: the client's with its port, without, and the one that it has reached."""
        self.status = error.status
        self.flag = error.flag
        self.error = str(error)
        self.listener_name = settings.name
        self.direction = settings.direction
        self.remote, self.remote_host, self.local = addresses
        self.request_id = request_id
        self.started_wall = wall_time
