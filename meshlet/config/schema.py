"""What may be written in a config file: frozen, strict structs with a default for every key but addresses.

Unknown keys are errors. Durations are seconds and sizes are bytes once loaded (see `units`).
The descriptions here are the source of `docs/config.md` and of `meshlet schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from meshlet.config import values
from meshlet.config.units import Address, Duration, Size

# `check` holds what a type cannot say; the loader calls it with the value (see `values`). A pattern stands beside it
# where JSON Schema can say the same.
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$",
        description="letters, digits, `.`, `_`, `-`",
        extra={"check": values.name},
    ),
]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Timeout = Annotated[Duration, Meta(extra={"check": values.above_zero})]
HeaderBytes = Annotated[Size, Meta(extra={"check": values.at_least(Size(1024))})]
Path = Annotated[str, Meta(pattern="^/", extra={"check": values.path})]
Method = Annotated[str, Meta(extra={"check": values.method})]
Network = Annotated[str, Meta(extra={"check": values.network})]
ListenAddress = Annotated[Address, Meta(extra={"check": values.listen_address})]

# Envoy keeps x-request-id and x-forwarded-proto of what it calls internal peers; these are the same ranges.
PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
)


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all config structs."""


class Match(_Strict):
    """Which requests a route takes: every condition given must hold; none given matches all."""

    host: Annotated[
        Annotated[str, Meta(extra={"check": values.host_pattern})] | None,
        Meta(description="host name without port, case ignored; `*.example.com` matches any name below"),
    ] = None
    prefix: Annotated[
        Path | None,
        Meta(description="path prefix on segment borders: `/v2` matches `/v2` and `/v2/x`, not `/v20`"),
    ] = None
    path: Annotated[Path | None, Meta(description="the whole path, without the query")] = None
    regex: Annotated[
        Annotated[str, Meta(extra={"check": values.regex})] | None,
        Meta(description="regular expression for the whole path, without the query"),
    ] = None
    method: Annotated[
        Method | Annotated[tuple[Method, ...], Meta(min_length=1)] | None,
        Meta(description="a method or a list of methods"),
    ] = None


class Route(_Strict):
    """One route: what it matches, and where and how its requests go."""

    cluster: Annotated[Name, Meta(description="the cluster that gets the requests")]
    match: Annotated[Match, Meta(description="which requests; the first route that matches wins")] = Match()
    timeout: Annotated[
        Duration,
        Meta(description="from the request's last byte to the response head (504, flag UT); 0 switches it off"),
    ] = Duration(15.0)
    upgrades: Annotated[
        tuple[Annotated[str, Meta(extra={"check": values.upgrade})], ...],
        Meta(description="protocols a client may switch to with `Upgrade`; others are answered without the switch"),
    ] = ("websocket",)
    connect: Annotated[bool, Meta(description="pass CONNECT on to the app and tunnel when it agrees")] = False
    max_body: Annotated[Size | None, Meta(description="largest request body (413); none given: no limit")] = None


class Limits(_Strict):
    """What one client may ask of a listener."""

    max_header_bytes: Annotated[
        HeaderBytes, Meta(description="header section of a request (431); trailers likewise (400)")
    ] = Size(65536)
    max_headers: Annotated[Count, Meta(description="header fields of a request (431); trailers likewise (400)")] = 100
    max_target_bytes: Annotated[Size, Meta(description="request target (414)")] = Size(16384)
    max_body: Annotated[Size | None, Meta(description="request body (413), where the route gives none")] = None
    max_connections: Annotated[Count, Meta(description="open connections; new ones beyond it are closed")] = 10_000
    max_requests_per_connection: Annotated[
        Count | None, Meta(description="requests after which a connection is told to close")
    ] = None
    head_timeout: Annotated[Timeout, Meta(description="to receive a whole request head (408)")] = Duration(10.0)
    idle_timeout: Annotated[Timeout, Meta(description="keep-alive connection without a request")] = Duration(3600.0)
    stream_idle_timeout: Annotated[
        Timeout, Meta(description="no byte of a request or response body moved in either direction")
    ] = Duration(300.0)
    tcp_idle_timeout: Annotated[Timeout, Meta(description="no byte moved through a TCP relay or tunnel")] = Duration(
        3600.0
    )
    detect_timeout: Annotated[
        Timeout,
        Meta(description="protocol auto: a client silent for so long has the app dialled; who speaks first decides"),
    ] = Duration(0.1)


class Listener(_Strict):
    """A port that meshlet accepts connections on."""

    name: Annotated[Name, Meta(description="unique name, used in metrics and logs")]
    address: Annotated[ListenAddress, Meta(description="HOST:PORT to listen on; port 0 lets the kernel choose")]
    protocol: Annotated[
        Literal["auto", "http", "tcp"],
        Meta(description="`auto` decides by a connection's first bytes between HTTP/1 and TCP"),
    ] = "auto"
    cluster: Annotated[
        Name | None,
        Meta(description="cluster of what is not HTTP; none given: that of the last route which matches everything"),
    ] = None
    routes: Annotated[tuple[Route, ...], Meta(description="tried in order; the first that matches wins")] = ()
    limits: Annotated[Limits, Meta(description="what one client may ask")] = Limits()
    trusted_peers: Annotated[
        tuple[Network, ...],
        Meta(description="networks whose x-request-id and x-forwarded-proto are kept, in CIDR notation"),
    ] = PRIVATE_NETWORKS
    server_header: Annotated[
        Literal["keep", "set-if-absent", "overwrite"],
        Meta(description="the `server` field of responses: keep the app's, or set `meshlet`"),
    ] = "keep"


class CircuitBreaker(_Strict):
    """Upper bounds of what a cluster may hold at once; beyond them requests fail at once (503, flag UO)."""

    max_connections: Annotated[Count, Meta(description="connections to each endpoint")] = 1024
    max_pending: Annotated[int, Meta(ge=0, le=1_000_000_000, description="requests waiting for a connection")] = 1024


class Cluster(_Strict):
    """A group of endpoints that serve the same thing."""

    name: Annotated[Name, Meta(description="unique name, used in routes, metrics and logs")]
    endpoints: Annotated[
        tuple[Annotated[Address, Meta(extra={"check": values.endpoint_address})], ...],
        Meta(description="HOST:PORT (names are resolved in the background), [IPV6]:PORT or unix:/PATH", min_length=1),
    ]
    balancer: Annotated[
        Literal["round-robin", "least-request"], Meta(description="how an endpoint is chosen for a request")
    ] = "round-robin"
    connect_timeout: Annotated[Timeout, Meta(description="to open a connection (503, flag UF)")] = Duration(5.0)
    pending_timeout: Annotated[Timeout, Meta(description="to wait for a free connection (503, flag UO)")] = Duration(
        5.0
    )
    idle_timeout: Annotated[
        Timeout,
        Meta(description="pooled connection without a request; shortened where the app closes earlier"),
    ] = Duration(60.0)
    dns_refresh: Annotated[Timeout, Meta(description="how often host names are resolved again")] = Duration(5.0)
    max_header_bytes: Annotated[HeaderBytes, Meta(description="header section of a response (502, flag UPE)")] = Size(
        65536
    )
    max_headers: Annotated[Count, Meta(description="header fields of a response (502, flag UPE)")] = 200
    circuit_breaker: Annotated[CircuitBreaker, Meta(description="upper bounds of the cluster")] = CircuitBreaker()


class AccessLog(_Strict):
    """One line for each request and TCP connection."""

    path: Annotated[
        str,
        Meta(description="file, `/dev/stdout` or `/dev/stderr`", min_length=1, extra={"check": values.file_path}),
    ]
    format: Annotated[Literal["json", "text"], Meta(description="one JSON object, or one line of text")] = "json"


class Telemetry(_Strict):
    """What is recorded about the traffic besides metrics, which are always kept."""

    access_log: Annotated[AccessLog | None, Meta(description="off unless given")] = None


class Log(_Strict):
    """meshlet's own log, on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="the least level written")] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="one line of text, or one JSON object")] = "text"


class Admin(_Strict):
    """The admin port: health, metrics, dumps, control. It has no authentication, so it is on loopback only."""

    address: Annotated[Address, Meta(description="a loopback address", extra={"check": values.loopback_address})]


class Health(_Strict):
    """A port that answers `/healthz/ready` and nothing else; it may be reachable from outside the Pod."""

    address: Annotated[ListenAddress, Meta(description="HOST:PORT, in a Pod by convention port 15021")]
    require: Annotated[
        tuple[Name, ...], Meta(description="clusters that must accept a connection before meshlet is ready")
    ] = ()


class Shutdown(_Strict):
    """How meshlet ends on SIGTERM."""

    grace: Annotated[
        Duration, Meta(description="not ready but still accepting, so that callers can learn of the end")
    ] = Duration(2.0)
    timeout: Annotated[
        Duration, Meta(description="from SIGTERM to the exit, whatever is still in flight; a Pod gives 30 s")
    ] = Duration(25.0)


class Reload(_Strict):
    """How a changed config file is noticed besides SIGHUP."""

    watch: Annotated[bool, Meta(description="look at the file, through symlinks, and reload when it changed")] = True
    interval: Annotated[Timeout, Meta(description="how often to look")] = Duration(1.0)


class Config(_Strict):
    """A whole config file."""

    listeners: Annotated[tuple[Listener, ...], Meta(description="ports to accept connections on", min_length=1)]
    clusters: Annotated[tuple[Cluster, ...], Meta(description="groups of endpoints", min_length=1)]
    telemetry: Annotated[Telemetry, Meta(description="access log")] = Telemetry()
    log: Annotated[Log, Meta(description="meshlet's own log")] = Log()
    admin: Annotated[Admin | None, Meta(description="off unless given")] = None
    health: Annotated[Health | None, Meta(description="off unless given")] = None
    shutdown: Annotated[Shutdown, Meta(description="how meshlet ends")] = Shutdown()
    reload: Annotated[Reload, Meta(description="how a changed file is noticed")] = Reload()
