"""The HTTP session of OpenTelemetry's exporters, which would read whatever a collector answers. Imports requests.

A collector is a peer like any other: an answer without an end must not become our memory.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest, Response

# An answer says at most why some of it was refused (OTLP, "Partial Success").
_MOST = 65536  # bytes


_CREDENTIAL_PROVIDER = re.compile(r"OTEL_PYTHON_EXPORTER_OTLP_HTTP_(?:[A-Z]+_)?CREDENTIAL_PROVIDER")


def bounded_session(env: Mapping[str, str] = os.environ) -> requests.Session | None:
    """Make a session that reads an answer of a known, small size and no other.

    None where the environment names a provider of credentials: that makes the exporters' sessions, and no other can.
    """
    if any(value and _CREDENTIAL_PROVIDER.fullmatch(name) for name, value in env.items()):
        return None
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Bounded())
    return session


class _Bounded(HTTPAdapter):
    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        """Send a request; the response has its body, as far as that is wanted."""
        response = super().send(request, *arguments, **(options | {"stream": True}))
        length = response.headers.get("content-length", "")
        whole = length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= _MOST
        body = response.raw.read(_MOST, decode_content=False) if whole else b""
        # What `requests` would keep after it had read the answer itself.
        response._content = body  # noqa: SLF001
        response._content_consumed = True  # noqa: SLF001
        if not whole:
            response.close()
        return response
