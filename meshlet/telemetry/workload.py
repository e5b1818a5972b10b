"""Who this sidecar works for: the names that metrics and traces carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlet.config.schema import Workload

#: what a name is where nobody says it, as Istio has it
UNKNOWN = "unknown"

# What Kubernetes makes random names of: no vowels, and no digits that look like letters (apimachinery's util/rand).
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
# A Deployment's Pod is NAME-<hash of the template>-<5 random characters>; the hash is a number of 32 bits written in
# those characters.
_OF_DEPLOYMENT = re.compile(rf"(?P<name>.+)-{_RANDOM}{{6,10}}-{_RANDOM}{{5}}")
# A CronJob's is NAME-<minutes since 1970>-<5 random characters>.
_OF_CRON_JOB = re.compile(rf"(?P<name>.+)-[0-9]{{8,10}}-{_RANDOM}{{5}}")
# One of a DaemonSet, a ReplicaSet or a Job is NAME-<5 random characters>.
_OF_SET = re.compile(rf"(?P<name>.+)-{_RANDOM}{{5}}")
# One of a StatefulSet is NAME-<number>.
_OF_STATEFUL_SET = re.compile(r"(?P<name>.+)-(?:0|[1-9][0-9]*)")
_POD_NAMES = (_OF_CRON_JOB, _OF_DEPLOYMENT, _OF_SET, _OF_STATEFUL_SET)


class Identity(NamedTuple):
    """Each is `unknown` where nobody says it."""

    name: str = UNKNOWN  # of the workload: the Deployment, StatefulSet or the like
    namespace: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    cluster: str = UNKNOWN  # the Kubernetes cluster
    pod: str = UNKNOWN
    node: str = UNKNOWN


def resolve(config: Workload, env: Mapping[str, str]) -> Identity:
    """Say who the sidecar works for; the config goes before the environment. An empty variable is as good as none."""
    pod = env.get("POD_NAME") or ""
    name = (
        config.name
        or env.get("MESHLET_WORKLOAD_NAME")
        or env.get("OTEL_SERVICE_NAME")
        or workload_of_pod(pod)
        or UNKNOWN
    )
    return Identity(
        name=name,
        namespace=config.namespace or env.get("MESHLET_WORKLOAD_NAMESPACE") or env.get("POD_NAMESPACE") or UNKNOWN,
        app=config.app or env.get("MESHLET_APP") or name,
        version=config.version or env.get("MESHLET_VERSION") or UNKNOWN,
        cluster=config.cluster or env.get("MESHLET_CLUSTER") or UNKNOWN,
        pod=pod or UNKNOWN,
        node=env.get("NODE_NAME") or UNKNOWN,
    )


def workload_of_pod(pod: str) -> str:
    """Return a Pod's name without what its controller added to the workload's: a template's hash, random characters.

    A guess from the form alone: a Pod that nobody controls may be called like one of a Deployment.
    """
    for form in _POD_NAMES:
        match = form.fullmatch(pod)
        if match is not None:
            return match["name"]
    return pod
