"""Everything that can go wrong with a request, as one exception hierarchy.

An error knows whose fault it is, the status a client would get for it, its response flag (Envoy's
names, so that existing dashboards and habits work) and whether nothing can have reached the app.
Nothing in here does I/O; `proxy.exchange` turns an error into a retry, a local reply or an abort.
"""

from __future__ import annotations

from enum import Enum


class Source(Enum):
    """Who caused an error."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    LOCAL = "local"


class ProxyError(Exception):
    """The base of all errors that end an exchange; `str(error)` says what happened in one line."""

    source = Source.LOCAL
    status = 500
    flag = ""
    #: The app cannot have seen any byte of the request, so sending it again is always safe.
    unseen = False
    #: header lines of the reply to it
    fields: tuple[bytes, ...] = ()


class BadRequest(ProxyError):
    """The client broke the protocol or a limit; its connection cannot be trusted any further."""

    source = Source.DOWNSTREAM
    status = 400
    flag = "DPE"

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


class HeadTimeout(BadRequest):
    """The client did not finish a request head in time."""

    flag = "DT"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, 408)


class DownstreamGone(ProxyError):
    """The client left before its exchange was over."""

    source = Source.DOWNSTREAM
    status = 0
    flag = "DC"


class StreamIdle(ProxyError):
    """No byte moved in either direction for too long."""

    status = 504
    flag = "SI"

    def __init__(self, detail: str, status: int = 504) -> None:
        super().__init__(detail)
        self.status = status


class NoRoute(ProxyError):
    """No route takes the request."""

    status = 404
    flag = "NR"

    def __init__(self, detail: str, status: int = 404) -> None:
        super().__init__(detail)
        self.status = status


class UpstreamError(ProxyError):
    """The base of what goes wrong between meshlet and the app."""

    source = Source.UPSTREAM
    status = 503


class NoEndpoint(UpstreamError):
    """The cluster has no endpoint to send to."""

    flag = "UH"
    unseen = True


class Overflow(UpstreamError):
    """The cluster's circuit breaker is at its limit."""

    flag = "UO"
    unseen = True
    #: another proxy in front of this one must not answer overload with retries
    fields = (b"x-envoy-overloaded: true",)


class ConnectFailure(UpstreamError):
    """No connection to the endpoint could be made."""

    flag = "UF"
    unseen = True


class UpstreamReset(UpstreamError):
    """The app closed the connection before its response was complete."""

    flag = "UC"


class UpstreamProtocolError(UpstreamError):
    """The app's response is malformed or ambiguous, so none of it can be passed on."""

    status = 502
    flag = "UPE"


class UpstreamTimeout(UpstreamError):
    """The app did not answer in time."""

    status = 504
    flag = "UT"


class QueueTimeout(UpstreamTimeout):
    """No connection became free in time: our own bound was met, which says nothing about the endpoint."""

    unseen = True
