"""From a cluster's config to its discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.upstream.discovery.names import Static

if TYPE_CHECKING:
    from meshlet.config.schema import Cluster
    from meshlet.upstream.discovery.base import Discovery


def make_discovery(config: Cluster) -> Discovery:
    """Return what finds the cluster's endpoints."""
    found = config.discovery
    if found is None:
        return Static(config.endpoints, config.dns_refresh)
    if found.file is not None:
        from meshlet.upstream.discovery.file import File

        return File(found.file, config.dns_refresh)
    from meshlet.upstream.discovery.base import Retries
    from meshlet.upstream.discovery.dns import Dns, Srv
    from meshlet.upstream.discovery.dns_client import DnsClient

    client = DnsClient(found.resolvers, found.family)
    retries = Retries(found.min_refresh, found.max_refresh)
    if found.dns is not None:
        return Dns(found.dns, client, retries, found.family)
    assert found.srv is not None
    return Srv(found.srv, client, retries, found.family)
