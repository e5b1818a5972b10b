"""meshlet: a sidecar proxy for Kubernetes Pods, on asyncio and uvloop."""

__version__ = "0.1.0"
