"""From an exchange to a relay: after 101 or a 2xx to CONNECT both connections carry bytes of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.proxy.relay import Relay

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from meshlet.config.schema import Limits
    from meshlet.proxy.settings import Runtime


def join(
    downstream: tuple[asyncio.Transport, bytes],
    upstream: tuple[asyncio.Transport, bytes],
    runtime: Runtime,
    limits: Limits,
    on_close: Callable[[int, int, str], None],
) -> Relay:
    """Relay between two transports, each given with the bytes that were received ahead of the tunnel."""
    relay = Relay(runtime, limits.tcp_idle_timeout, on_close)
    for end, (transport, _) in ((relay.downstream, downstream), (relay.upstream, upstream)):
        end.connection_made(transport)
        transport.set_protocol(end)
        transport.resume_reading()
    relay.start(downstream[1], upstream[1])
    return relay
