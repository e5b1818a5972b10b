"""What an ended request or TCP connection tells those who record it: log, spans, explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.http.attempt import Attempt
    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.telemetry.tracing.context import Trace


class Record(Protocol):
    """Once its exchange has ended, nothing of it changes any more. It is large, so it may be kept for a moment only.

    It satisfies `http.template.Facts` as well, except that a TCP connection has no head.
    """

    @property
    def listener_name(self) -> str: ...
    @property
    def direction(self) -> str:
        """`inbound` or `outbound`."""
        ...

    @property
    def protocol(self) -> str:
        """`HTTP/1.1`, `HTTP/1.0` or `TCP`."""
        ...

    @property
    def route_name(self) -> str | None:
        """The route's name; None where it has none, or there is no route."""
        ...

    @property
    def route_label(self) -> str | None:
        """What the route is known by: its name, or else what it matches; None where there is no route."""
        ...

    @property
    def cluster_name(self) -> str | None: ...
    @property
    def upstream_host(self) -> str | None:
        """The address of the last try's endpoint."""
        ...

    @property
    def remote(self) -> str:
        """The client, `IP:PORT`, `[IPV6]:PORT` or `unix:`."""
        ...

    @property
    def remote_host(self) -> str:
        """The client's IP address."""
        ...

    @property
    def local(self) -> str:
        """Where the client's connection was accepted, in the form of `remote`."""
        ...

    # --- the messages; None or empty for TCP ---

    @property
    def head(self) -> RequestHead | None:
        """The request's head as it was passed on."""
        ...

    @property
    def method(self) -> bytes | None: ...
    @property
    def target(self) -> bytes | None:
        """As the client sent it, whatever was rewritten."""
        ...

    @property
    def host(self) -> bytes | None:
        """The Host field as the client sent it."""
        ...

    @property
    def scheme(self) -> bytes:
        """`http` or `https`, as the client has it."""
        ...

    @property
    def request_id(self) -> bytes | None: ...
    @property
    def response_head(self) -> ResponseHead | None:
        """The response head as it was sent, ours or the app's; None where there was none."""
        ...

    @property
    def status(self) -> int:
        """Of the response; 0 where the client got none."""
        ...

    @property
    def received(self) -> int:
        """Bytes of the request body, or from the TCP client."""
        ...

    @property
    def sent(self) -> int:
        """Bytes of the response body, or to the TCP client."""
        ...

    # --- how it went ---

    @property
    def flag(self) -> str:
        """Response flags, joined by commas; empty where all went well."""
        ...

    @property
    def error(self) -> str:
        """What went wrong, in one line; empty where nothing did."""
        ...

    @property
    def attempts(self) -> int:
        """How often the request was sent."""
        ...

    @property
    def tries(self) -> Sequence[Attempt]:
        """All tries in the order they ended, the last one included. Made on demand: ask for it once."""
        ...

    @property
    def acted(self) -> Sequence[str]:
        """What answered or failed in the app's stead: filters by their class, `rate limit`, `fault` and the like."""
        ...

    # --- times ---

    @property
    def started_wall(self) -> float:
        """When the request head was there, in unix seconds."""
        ...

    @property
    def duration(self) -> float:
        """Seconds from the request head to the end."""
        ...

    @property
    def request_seconds(self) -> float | None:
        """From the request head to its last byte; None where that never came."""
        ...

    @property
    def response_seconds(self) -> float | None:
        """From the request head to the app's response head; None where none came."""
        ...

    @property
    def service_seconds(self) -> float | None:
        """From the last try's request to its response head, as `x-envoy-upstream-service-time`; None likewise."""
        ...

    @property
    def trace(self) -> Trace | None:
        """The trace that it belongs to; None where tracing is off."""
        ...
