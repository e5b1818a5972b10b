"""What everything that is sent to an OpenTelemetry collector shares."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit, urlunsplit


def signal_url(endpoint: str, signal: Literal["traces", "metrics", "logs"]) -> str:
    """Return where a collector takes a signal by OTLP/HTTP, unless the endpoint names that already."""
    url, end = urlsplit(endpoint), f"/v1/{signal}"
    path = url.path.rstrip("/")
    return urlunsplit(url._replace(path=path if path.endswith(end) else path + end))
