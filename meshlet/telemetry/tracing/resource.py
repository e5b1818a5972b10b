"""Resource attributes: whose spans these are, in OpenTelemetry's names."""

from __future__ import annotations

import platform
import uuid
from typing import TYPE_CHECKING
from urllib.parse import unquote

from meshlet import __version__
from meshlet.telemetry.workload import UNKNOWN, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlet.config.schema import Workload

# What the semantic conventions say to derive `service.instance.id` in, where it comes from something that has a name.
_INSTANCES = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")

# As manifests usually name what they take from the downward API.
_DOWNWARD_API = {
    "k8s.pod.name": "POD_NAME",
    "k8s.pod.uid": "POD_UID",
    "k8s.pod.ip": "POD_IP",
    "k8s.namespace.name": "POD_NAMESPACE",
    "k8s.node.name": "NODE_NAME",
    "k8s.container.name": "CONTAINER_NAME",
}


def resource_attributes(
    further: Mapping[str, str], workload: Workload, env: Mapping[str, str], hostname: str | None = None
) -> dict[str, str]:
    """Return the attributes, all but `telemetry.sdk.version`, which the SDK knows.

    Later ones win: what the environment tells of the Pod, OTEL_RESOURCE_ATTRIBUTES, a name said outright (by the
    config, MESHLET_WORKLOAD_NAME or OTEL_SERVICE_NAME), and `further`, from the config. Empty values are left out.
    """
    identity = resolve(workload, env)
    found = {name: env.get(variable, "") for name, variable in _DOWNWARD_API.items()}
    found |= {
        "k8s.cluster.name": _known(identity.cluster),
        "service.name": _known(identity.name) or "unknown_service",
        "service.namespace": _known(identity.namespace),
        "service.version": _known(identity.version),
        "service.instance.id": _instance(identity.name, env, platform.node() if hostname is None else hostname),
    }
    found |= _listed(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if workload.name or env.get("MESHLET_WORKLOAD_NAME") or env.get("OTEL_SERVICE_NAME"):
        found["service.name"] = identity.name
    found |= {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.distro.name": "meshlet",
        "telemetry.distro.version": __version__,
    }
    found |= further
    return {name: value for name, value in found.items() if value}


def _known(name: str) -> str:
    return "" if name == UNKNOWN else name


def _instance(name: str, env: Mapping[str, str], hostname: str) -> str:
    # All workers of a sidecar are one instance; containers of one Pod are several.
    pod = env.get("POD_UID") or f"{env.get('POD_NAMESPACE', '')}/{env.get('POD_NAME') or hostname}"
    return str(uuid.uuid5(_INSTANCES, f"{pod}/{env.get('CONTAINER_NAME', '')}/{name}"))


def _listed(text: str) -> dict[str, str]:
    """Parse `name=value,name=value`; a value is percent-encoded. A list with a mistake in it is ignored as a whole."""
    found = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        if not equals and not name.strip():
            continue
        if not equals or not name.strip():
            return {}
        found[name.strip()] = unquote(value.strip())
    return found
