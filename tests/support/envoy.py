"""The real Envoy, one listener before one app."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from benchmarks.processes import free_port
from benchmarks.proxies import ALL
from tests.support.http1 import Client
from tests.support.processes import Process, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKAGE = "type.googleapis.com/envoy.extensions"


@contextmanager
def envoy(folder: Path, app: str) -> Iterator[str]:
    """Envoy's address, for as long as the block lasts. Its settings are the defaults, with upgrades and trailers on."""
    missing = ALL["envoy"].missing()
    if missing is not None:
        pytest.fail(missing, pytrace=False)  # a wheel among the development dependencies, so never a reason to skip
    port = free_port()
    config = folder / "envoy.yaml"
    config.write_text(yaml.safe_dump(_config(port, app)), encoding="utf-8")
    process = Process(ALL["envoy"].command(config), folder / "envoy")
    with running(process):
        until(lambda: _accepts(port) or not process.running, 20)
        assert process.running, process.stderr
        yield f"127.0.0.1:{port}"


def _accepts(port: int) -> bool:
    try:
        Client(f"127.0.0.1:{port}").close()
    except ConnectionRefusedError:
        return False
    return True


def _config(port: int, app: str) -> dict[str, Any]:
    host, _, app_port = app.rpartition(":")
    manager = {
        "@type": f"{_PACKAGE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "use_remote_address": True,
        "http_protocol_options": {"enable_trailers": True, "accept_http_10": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_PACKAGE}.filters.http.router.v3.Router"},
            }
        ],
    }
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(app_port)}}}
    http_options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{_PACKAGE}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
        }
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "typed_extension_protocol_options": http_options,
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
                    },
                }
            ],
        }
    }
