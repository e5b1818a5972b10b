"""What goes wrong on purpose."""

from __future__ import annotations

from meshlet.errors import ProxyError


class RateLimited(ProxyError):
    """The client asks for more than a rate limit lets through. `fields` are lines of the response, without CRLF."""

    status = 429
    flag = "RL"

    def __init__(self, detail: str, fields: tuple[bytes, ...]) -> None:
        super().__init__(detail)
        self.fields = fields


class FaultAborted(ProxyError):
    """The config asks for this request to fail."""

    flag = "FI"

    def __init__(self, status: int) -> None:
        super().__init__("the config injects this failure")
        self.status = status
