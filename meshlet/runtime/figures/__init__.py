"""The metrics of one process, read from the counters that the data plane keeps."""

from __future__ import annotations

from meshlet.runtime.figures.clusters import cluster_families
from meshlet.runtime.figures.listeners import listener_families
from meshlet.runtime.figures.process import (
    LoopLag,
    log_families,
    process_families,
    push_families,
    record_families,
    service_families,
    worker_families,
)
from meshlet.runtime.figures.requests import request_families

__all__ = [
    "LoopLag",
    "cluster_families",
    "listener_families",
    "log_families",
    "process_families",
    "push_families",
    "record_families",
    "request_families",
    "service_families",
    "worker_families",
]
