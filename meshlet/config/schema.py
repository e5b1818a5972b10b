"""What may be written in a config file: frozen, strict structs with a default for every key but addresses.

Unknown keys are errors. Durations are seconds and sizes are bytes once loaded (see `units`).
The descriptions here are the source of `docs/config.md` and of `meshlet schema`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from meshlet.config import values
from meshlet.config.units import Address, Duration, RetryOn, Size

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
NamedAddress = Annotated[Address, Meta(extra={"check": values.named_address})]
ResolverAddress = Annotated[Address, Meta(extra={"check": values.ip_address})]
EndpointAddress = Annotated[Address, Meta(extra={"check": values.endpoint_address})]
HostName = Annotated[str, Meta(extra={"check": values.host_name})]
HostPattern = Annotated[str, Meta(extra={"check": values.host_pattern})]
FieldName = Annotated[str, Meta(extra={"check": values.field_name})]
MatchedField = Annotated[str, Meta(extra={"check": values.matched_field})]
FieldTemplate = Annotated[str, Meta(extra={"check": values.field_template})]
Regex = Annotated[str, Meta(extra={"check": values.regex})]
Status = Annotated[int, Meta(ge=200, le=599)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Upgrade = Annotated[str, Meta(extra={"check": values.upgrade})]
HttpUrl = Annotated[str, Meta(extra={"check": values.http_url})]
StatusRange = Annotated[str, Meta(extra={"check": values.status_range})]

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


class ValueMatch(_Strict):
    """A condition on a header or a query parameter: exactly one of `exact`, `prefix`, `regex` and `present`."""

    exact: Annotated[str | None, Meta(description="the whole value")] = None
    prefix: Annotated[str | None, Meta(description="what the value begins with")] = None
    regex: Annotated[Regex | None, Meta(description="RE2 expression for the whole value")] = None
    present: Annotated[bool | None, Meta(description="whether it is there at all")] = None
    invert: Annotated[bool, Meta(description="the condition must not hold")] = False


HeaderMatches = dict[MatchedField, str | ValueMatch]


class Match(_Strict):
    """Which requests a route takes: every condition given must hold; none given matches all."""

    host: Annotated[
        HostPattern | Annotated[tuple[HostPattern, ...], Meta(min_length=1)] | None,
        Meta(description="host name without port, case ignored, or a list; `*.example.com` matches any name below"),
    ] = None
    prefix: Annotated[
        Path | None,
        Meta(description="path prefix on segment borders: `/v2` matches `/v2` and `/v2/x`, not `/v20`"),
    ] = None
    path: Annotated[Path | None, Meta(description="the whole path, without the query")] = None
    regex: Annotated[Regex | None, Meta(description="RE2 expression for the whole path, without the query")] = None
    method: Annotated[
        Method | Annotated[tuple[Method, ...], Meta(min_length=1)] | None,
        Meta(description="a method or a list of methods"),
    ] = None
    headers: Annotated[HeaderMatches, Meta(description="conditions by header name; text alone stands for `exact`")] = {}
    query: Annotated[
        dict[str, str | ValueMatch],
        Meta(description="conditions by query parameter, percent-decoded; text alone stands for `exact`"),
    ] = {}


class Split(_Strict):
    """One share of a weighted split."""

    cluster: Annotated[Name, Meta(description="the cluster that gets the share")]
    weight: Annotated[Weight, Meta(description="its share of the sum of all weights")]


class Redirect(_Strict):
    """A redirect; what is not given stays as it was asked for."""

    status: Annotated[Literal[301, 302, 303, 307, 308], Meta(description="status of the response")] = 301
    scheme: Annotated[Literal["http", "https"] | None, Meta(description="scheme of the new URL")] = None
    host: Annotated[HostName | None, Meta(description="host of the new URL")] = None
    port: Annotated[Port | None, Meta(description="port of the new URL")] = None
    path: Annotated[Path | None, Meta(description="the whole new path")] = None
    prefix: Annotated[Path | None, Meta(description="in place of the matched prefix (or of the whole path)")] = None
    strip_query: Annotated[bool, Meta(description="leave the query out")] = False


class DirectResponse(_Strict):
    """A response without asking any cluster."""

    status: Annotated[Status, Meta(description="status of the response")]
    body: Annotated[str, Meta(description="its body")] = ""
    content_type: Annotated[str, Meta(description="its content type", extra={"check": values.field_value})] = (
        "text/plain; charset=utf-8"
    )


class RegexRewrite(_Strict):
    """A rewrite of the path by a regular expression."""

    pattern: Annotated[Regex, Meta(description="RE2 expression; each match within the path is replaced")]
    substitution: Annotated[
        str, Meta(description="the replacement; `\\1` is the first group", extra={"check": values.substitution})
    ]


class Rewrite(_Strict):
    """What the app is asked for instead: at most one of `path`, `prefix` and `regex`, and a host."""

    path: Annotated[Path | None, Meta(description="the whole new path; the query stays")] = None
    prefix: Annotated[Path | None, Meta(description="in place of the matched prefix (or of the whole path)")] = None
    regex: Annotated[RegexRewrite | None, Meta(description="replacement in the path")] = None
    host: Annotated[
        Annotated[str, Meta(extra={"check": values.authority})] | None, Meta(description="the new Host field")
    ] = None


class HeaderRules(_Strict):
    """Changes to a head, in this order: `remove`, `set`, `append`, `add`.

    Values may hold Envoy's placeholders such as `%REQ(x-user)%`; see docs/routing.md. A value that comes out empty
    changes nothing.
    """

    remove: Annotated[tuple[FieldName, ...], Meta(description="all fields of these names go")] = ()
    set: Annotated[dict[FieldName, FieldTemplate], Meta(description="the only field of that name from now on")] = {}
    append: Annotated[
        dict[FieldName, FieldTemplate], Meta(description="put behind the field's value, after a comma; or added")
    ] = {}
    add: Annotated[dict[FieldName, FieldTemplate], Meta(description="one more field of that name")] = {}


class Mirror(_Strict):
    """Copies of requests to another cluster; their responses are thrown away."""

    cluster: Annotated[Name, Meta(description="the cluster that gets the copies")]
    percent: Annotated[Percent, Meta(description="share of the requests")] = 100.0


class Backoff(_Strict):
    """The pause before a retry: a random time below `base`, then 2, 4, 8 … times that, at most `max` (full jitter)."""

    base: Annotated[Timeout, Meta(description="upper bound of the first pause")] = Duration(0.025)
    max: Annotated[Timeout, Meta(description="upper bound of all pauses")] = Duration(0.25)


class Retry(_Strict):
    """When and how often a request is sent again.

    Whatever `on` says, a request that the app may have seen is only sent again where its method is idempotent, where
    it carries an `Idempotency-Key`, or where `non_idempotent` is set; and never once the client has got a byte.
    """

    attempts: Annotated[
        int, Meta(ge=0, le=100, description="how often a request is sent again at most, besides the first time")
    ] = 2
    on: Annotated[
        tuple[RetryOn, ...],
        Meta(
            description="`connect-failure`, `refused`, `reset`, `reset-before-response`, `5xx`, `gateway-error`, "
            "`retriable-4xx` or a status"
        ),
    ] = (RetryOn("connect-failure"), RetryOn("refused"))
    per_try_timeout: Annotated[
        Timeout | None, Meta(description="for one try, from its request's last byte to the response head")
    ] = None
    backoff: Annotated[Backoff, Meta(description="the pause before a retry")] = Backoff()
    max_retry_after: Annotated[
        Duration, Meta(description="longest pause that a `Retry-After` of the app can ask for; 0 ignores the field")
    ] = Duration(5.0)
    non_idempotent: Annotated[
        bool, Meta(description="send again what may be executed twice by that: the app has to bear it")
    ] = False
    max_body: Annotated[Size, Meta(description="request bodies beyond this are not kept, so never sent again")] = Size(
        65536
    )


class Hedge(_Strict):
    """A second try while the first one is still unanswered, for idempotent requests; the first answer wins."""

    after: Annotated[Timeout | None, Meta(description="how long the first try is waited for")] = None
    percentile: Annotated[
        Annotated[float, Meta(ge=50, le=99.9)] | None,
        Meta(description="or this percentile of the cluster's measured response times, such as 95"),
    ] = None


class RateLimit(_Strict):
    """A token bucket: `requests` in every `per`, and `burst` at once. Beyond it: 429, flag RL."""

    requests: Annotated[Count, Meta(description="requests that are let through in `per`")]
    per: Annotated[Timeout, Meta(description="the span that `requests` is for")] = Duration(1.0)
    burst: Annotated[Count | None, Meta(description="requests at once; none given: as `requests`")] = None
    header: Annotated[FieldName | None, Meta(description="a bucket for each value of this header")] = None
    source: Annotated[bool, Meta(description="a bucket for each client address")] = False
    max_keys: Annotated[Count, Meta(description="buckets kept at once; what has none shares one")] = 10_000
    report: Annotated[bool, Meta(description="`x-ratelimit-*` on all responses, not on a 429 alone")] = False


class Delay(_Strict):
    """An injected delay."""

    duration: Annotated[Timeout, Meta(description="how long the request is held")]
    percent: Annotated[Percent, Meta(description="share of the requests")] = 100.0


class Abort(_Strict):
    """An injected failure."""

    status: Annotated[Status, Meta(description="status of the response")]
    percent: Annotated[Percent, Meta(description="share of the requests")] = 100.0


class Fault(_Strict):
    """Faults on purpose, to see how callers bear them (flags DI and FI)."""

    delay: Annotated[Delay | None, Meta(description="hold requests")] = None
    abort: Annotated[Abort | None, Meta(description="fail requests, after their delay if any")] = None
    headers: Annotated[HeaderMatches, Meta(description="only requests with these headers")] = {}


class Cors(_Strict):
    """Which pages of other origins may call. Preflight requests of these are answered here, others go to the app."""

    allow_origins: Annotated[
        tuple[Annotated[str, Meta(extra={"check": values.origin})], ...],
        Meta(min_length=1, description="`https://app.example.com`, `https://*.example.com`, or `*` for all"),
    ]
    allow_methods: Annotated[tuple[Method, ...], Meta(description="methods that a page may use")] = (
        "GET",
        "HEAD",
        "POST",
    )
    allow_headers: Annotated[tuple[FieldName, ...], Meta(description="request headers that a page may set")] = ()
    expose_headers: Annotated[tuple[FieldName, ...], Meta(description="response headers that a page may read")] = ()
    allow_credentials: Annotated[bool, Meta(description="with cookies; not together with the origin `*`")] = False
    max_age: Annotated[Duration | None, Meta(description="how long a browser may remember a preflight")] = None


class Buffer(_Strict):
    """Hold a request until all of its body is there."""

    max_bytes: Annotated[Size, Meta(description="largest body that is held (413)")] = Size(1 << 20)


class Compression(_Strict):
    """Compress response bodies for clients that accept it."""

    algorithms: Annotated[
        tuple[Literal["br", "zstd", "gzip"], ...], Meta(min_length=1, description="the best first")
    ] = ("gzip",)
    min_bytes: Annotated[Size, Meta(description="smaller bodies are left as they are")] = Size(1024)
    content_types: Annotated[tuple[str, ...], Meta(min_length=1, description="content types that are compressed")] = (
        "text/html",
        "text/css",
        "text/plain",
        "text/xml",
        "application/javascript",
        "application/json",
        "application/xml",
        "image/svg+xml",
    )


class Filter(_Strict):
    """One filter of a chain: exactly one of `python`, `buffer` and `compression`."""

    python: Annotated[
        Annotated[str, Meta(extra={"check": values.python_class})] | None,
        Meta(description="`package.module:Class`, a subclass of `meshlet.filters.Filter`"),
    ] = None
    config: Annotated[Any, Meta(description="what the Python class takes as its config")] = None
    buffer: Annotated[Buffer | None, Meta(description="hold the request until its body is whole")] = None
    compression: Annotated[Compression | None, Meta(description="compress responses")] = None


class Route(_Strict):
    """One route: what it matches, and where and how its requests go.

    Exactly one of `cluster`, `split`, `redirect` and `direct_response` says what becomes of them.
    """

    name: Annotated[
        Name | None, Meta(description="shown by `meshlet routes check` and by `%ROUTE_NAME%` in header rules")
    ] = None
    match: Annotated[Match, Meta(description="which requests; the first route that matches wins")] = Match()
    cluster: Annotated[Name | None, Meta(description="the cluster that gets the requests")] = None
    split: Annotated[
        tuple[Split, ...],
        Meta(description="clusters that share the requests by weight; the same request id always goes to the same"),
    ] = ()
    redirect: Annotated[Redirect | None, Meta(description="send the client elsewhere")] = None
    direct_response: Annotated[DirectResponse | None, Meta(description="answer without asking a cluster")] = None
    rewrite: Annotated[Rewrite | None, Meta(description="what the app is asked for instead")] = None
    request_headers: Annotated[HeaderRules | None, Meta(description="changes to the request head")] = None
    response_headers: Annotated[HeaderRules | None, Meta(description="changes to the response head")] = None
    mirror: Annotated[Mirror | None, Meta(description="copies of the requests to another cluster")] = None
    timeout: Annotated[
        Duration,
        Meta(description="from the request's last byte to the response head (504, flag UT); 0 switches it off"),
    ] = Duration(15.0)
    idle_timeout: Annotated[
        Timeout | None, Meta(description="as `stream_idle_timeout` of the listener, which it takes the place of")
    ] = None
    retry: Annotated[
        Retry | None,
        Meta(
            description="none given: up to two other endpoints where no connection could be made, "
            "and nothing that the app may have seen"
        ),
    ] = None
    hedge: Annotated[Hedge | None, Meta(description="a second try while the first is unanswered")] = None
    deadline_header: Annotated[
        FieldName | None,
        Meta(description="tell the app here how many milliseconds are left; a smaller number from the client wins"),
    ] = None
    attempt_count: Annotated[bool, Meta(description="`x-envoy-attempt-count` in the request and in the response")] = (
        False
    )
    priority: Annotated[
        Literal["default", "high"], Meta(description="which limits of the circuit breaker hold for it")
    ] = "default"
    rate_limit: Annotated[RateLimit | None, Meta(description="local rate limit")] = None
    fault: Annotated[Fault | None, Meta(description="faults on purpose")] = None
    cors: Annotated[Cors | None, Meta(description="cross-origin requests of browsers")] = None
    filters: Annotated[tuple[Filter, ...], Meta(description="filters, after those of the listener")] = ()
    upgrades: Annotated[
        tuple[Upgrade, ...],
        Meta(description="protocols a client may switch to with `Upgrade`; others are answered without the switch"),
    ] = ("websocket",)
    connect: Annotated[bool, Meta(description="pass CONNECT on to the app and tunnel when it agrees")] = False
    max_body: Annotated[
        Size | None, Meta(description="largest request body (413); none given: that of the listener's limits")
    ] = None


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
        Timeout,
        Meta(description="no byte moved in either direction, the wait for a response included (504 or 408, flag SI)"),
    ] = Duration(300.0)
    tcp_idle_timeout: Annotated[Timeout, Meta(description="no byte moved through a TCP relay or tunnel")] = Duration(
        3600.0
    )
    detect_timeout: Annotated[
        Timeout,
        Meta(
            description="protocol auto: for a client silent for so long, the app is dialled if it is known to speak "
            "first; to bytes that may yet become HTTP, it is the time to do so"
        ),
    ] = Duration(0.1)


class Listener(_Strict):
    """A port that meshlet accepts connections on."""

    name: Annotated[Name, Meta(description="unique name, used in metrics and logs")]
    address: Annotated[ListenAddress, Meta(description="HOST:PORT to listen on; port 0 lets the kernel choose")]
    protocol: Annotated[
        Literal["auto", "http", "tcp"],
        Meta(
            description="`auto` decides by a connection's first bytes between HTTP/1 and TCP; "
            "see docs/operations.md#protocols"
        ),
    ] = "auto"
    direction: Annotated[
        Literal["inbound", "outbound"] | None,
        Meta(description="to the app, or from it; none given: `outbound` where the name begins so, else `inbound`"),
    ] = None
    cluster: Annotated[
        Name | None,
        Meta(
            description="cluster of what is not HTTP/1. None given: with `auto` that of the only route, where nothing "
            "could refuse or change a request, else what is not HTTP/1 gets 400; with `tcp` that of the last route "
            "which matches everything"
        ),
    ] = None
    routes: Annotated[tuple[Route, ...], Meta(description="tried in order; the first that matches wins")] = ()
    limits: Annotated[Limits, Meta(description="what one client may ask")] = Limits()
    rate_limit: Annotated[RateLimit | None, Meta(description="local rate limit of all its requests")] = None
    filters: Annotated[tuple[Filter, ...], Meta(description="filters of all its requests")] = ()
    trusted_peers: Annotated[
        tuple[Network, ...],
        Meta(
            description="networks, in CIDR notation, whose x-request-id and x-forwarded-proto are kept, and whose "
            "x-envoy-* request headers (retries and timeouts) are honoured"
        ),
    ] = PRIVATE_NETWORKS
    server_header: Annotated[
        Literal["keep", "set-if-absent", "overwrite"],
        Meta(description="the `server` field of responses: keep the app's, or set `meshlet`"),
    ] = "keep"


class HighPriority(_Strict):
    """Upper bounds for the requests of routes with `priority: high`, counted apart."""

    max_pending: Annotated[int, Meta(ge=0, le=1_000_000_000, description="requests waiting for a connection")] = 1024
    max_requests: Annotated[Count, Meta(description="requests in flight")] = 1024
    max_retries: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="retries in flight that count for the budget; a further bound"),
    ] = None


class CircuitBreaker(_Strict):
    """Upper bounds of what a cluster may hold at once; beyond them requests fail at once (503, flag UO)."""

    max_connections: Annotated[Count, Meta(description="connections, of all priorities together")] = 1024
    max_pending: Annotated[int, Meta(ge=0, le=1_000_000_000, description="requests waiting for a connection")] = 1024
    max_requests: Annotated[Count, Meta(description="requests in flight")] = 1024
    max_retries: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="retries in flight that count for the budget; a further bound"),
    ] = None
    high: Annotated[HighPriority, Meta(description="the bounds for routes of high priority")] = HighPriority()


class RetryBudget(_Strict):
    """How many retries may be in flight at once, so that retries never become the load that brings an app down.

    What no app has seen, such as a connection that is refused, is sent again without a place among them.
    """

    percent: Annotated[Percent, Meta(description="share of the cluster's requests in flight")] = 20.0
    min_concurrency: Annotated[int, Meta(ge=0, le=1_000_000, description="so many are always allowed")] = 10


class SuccessRate(_Strict):
    """Eject an endpoint that fails much more often than the others of its cluster do."""

    min_endpoints: Annotated[Count, Meta(description="endpoints with enough requests that there must be")] = 5
    min_requests: Annotated[Count, Meta(description="requests of an endpoint in an interval to be looked at")] = 100
    deviations: Annotated[
        float, Meta(ge=0, le=100, description="standard deviations below the mean at which an endpoint is ejected")
    ] = 1.9


class OutlierDetection(_Strict):
    """Take endpoints that fail out of the choice for a while. A count of 0 switches that reason off."""

    consecutive_5xx: Annotated[
        int, Meta(ge=0, le=1_000_000, description="5xx responses in a row; no response counts as one")
    ] = 5
    consecutive_gateway_failures: Annotated[
        int, Meta(ge=0, le=1_000_000, description="502, 503, 504 or no response in a row")
    ] = 0
    consecutive_local_failures: Annotated[
        int, Meta(ge=0, le=1_000_000, description="failed connects, resets and timeouts in a row")
    ] = 5
    success_rate: Annotated[SuccessRate | None, Meta(description="compare the endpoints' success rates")] = None
    interval: Annotated[
        Timeout, Meta(description="how often success rates are compared, and good endpoints forgiven an ejection")
    ] = Duration(10.0)
    base_ejection_time: Annotated[Timeout, Meta(description="times the ejections so far: how long one lasts")] = (
        Duration(30.0)
    )
    max_ejection_time: Annotated[Timeout, Meta(description="longest ejection")] = Duration(300.0)
    max_ejection_percent: Annotated[Percent, Meta(description="share of the endpoints that may be out at once")] = 50.0


class HealthCheck(_Strict):
    """Ask each endpoint regularly whether it is well: an HTTP GET where there is a `path`, else a TCP connection."""

    path: Annotated[Path | None, Meta(description="path to ask for; none given: connecting is enough")] = None
    host: Annotated[HostName | None, Meta(description="the Host field; none given: the cluster's name")] = None
    statuses: Annotated[tuple[Status, ...], Meta(min_length=1, description="statuses of a healthy endpoint")] = (200,)
    port: Annotated[Port | None, Meta(description="port to ask, where it is another one")] = None
    interval: Annotated[Timeout, Meta(description="between two checks of an endpoint")] = Duration(5.0)
    jitter: Annotated[Percent, Meta(description="random part of the interval that is added")] = 10.0
    timeout: Annotated[Timeout, Meta(description="for one check")] = Duration(1.0)
    unhealthy_threshold: Annotated[Count, Meta(description="failed checks in a row that make it unhealthy")] = 3
    healthy_threshold: Annotated[
        Count, Meta(description="good checks in a row that make it healthy again; the very first one always does")
    ] = 2
    initially: Annotated[Literal["healthy", "unhealthy"], Meta(description="before the first check")] = "unhealthy"


class EndpointConfig(_Strict):
    """One endpoint."""

    address: Annotated[EndpointAddress, Meta(description="HOST:PORT, [IPV6]:PORT or unix:/PATH")]
    weight: Annotated[Annotated[int, Meta(ge=1, le=1000)], Meta(description="its share beside the others'")] = 1
    zone: Annotated[str | None, Meta(description="where it runs; see `zone` of the whole config")] = None
    priority: Annotated[int, Meta(ge=0, le=100, description="used once those with a smaller number are unwell")] = 0


class Discovery(_Strict):
    """Where a cluster's endpoints come from: exactly one of `dns`, `srv` and `file`."""

    dns: Annotated[
        NamedAddress | None,
        Meta(description="HOST:PORT; its A and AAAA records, asked again when their TTL is over"),
    ] = None
    srv: Annotated[HostName | None, Meta(description="name of SRV records, such as `_http._tcp.reviews.shop`")] = None
    family: Annotated[
        Literal["auto", "ipv4", "ipv6", "all"],
        Meta(
            description="for `dns` and `srv`: only A or only AAAA records; `auto`: an address of each family is one "
            "endpoint, of which either is connected to; `all`: every address is an endpoint of its own"
        ),
    ] = "auto"
    file: Annotated[
        Annotated[str, Meta(extra={"check": values.file_path})] | None,
        Meta(description="YAML or JSON file with a list `endpoints`, read again when it changes"),
    ] = None
    resolvers: Annotated[
        tuple[ResolverAddress, ...], Meta(description="DNS servers; none given: those of /etc/resolv.conf")
    ] = ()
    min_refresh: Annotated[Timeout, Meta(description="shortest time until the next look, whatever the TTL")] = Duration(
        1.0
    )
    max_refresh: Annotated[Timeout, Meta(description="longest time until the next look, whatever the TTL")] = Duration(
        60.0
    )


class HashOn(_Strict):
    """What `ring-hash` and `maglev` choose by: exactly one of the three. Requests without it go anywhere."""

    header: Annotated[FieldName | None, Meta(description="value of this request header")] = None
    cookie: Annotated[FieldName | None, Meta(description="value of this cookie")] = None
    source: Annotated[bool, Meta(description="the client's address")] = False


class Cluster(_Strict):
    """A group of endpoints that serve the same thing, written down in `endpoints` or found by `discovery`."""

    name: Annotated[Name, Meta(description="unique name, used in routes, metrics and logs")]
    endpoints: Annotated[
        tuple[EndpointAddress | EndpointConfig, ...],
        Meta(description="HOST:PORT (names are resolved in the background), [IPV6]:PORT, unix:/PATH, or with details"),
    ] = ()
    discovery: Annotated[Discovery | None, Meta(description="find the endpoints elsewhere")] = None
    service: Annotated[
        HostName | None,
        Meta(description="host name of the service, for metrics; none given: that of `discovery`, or the name"),
    ] = None
    balancer: Annotated[
        Literal["round-robin", "random", "least-request", "peak-ewma", "ring-hash", "maglev"],
        Meta(description="how an endpoint is chosen for a request"),
    ] = "round-robin"
    hash_on: Annotated[HashOn | None, Meta(description="for `ring-hash` and `maglev`")] = None
    slow_start: Annotated[
        Duration, Meta(description="how long a new endpoint's share grows from a tenth to all of it; 0: at once")
    ] = Duration(0.0)
    panic_threshold: Annotated[
        Percent, Meta(description="with a smaller share of healthy endpoints, all are used; 0 switches that off")
    ] = 50.0
    connect_timeout: Annotated[Timeout, Meta(description="to open a connection (503, flag UF)")] = Duration(5.0)
    pending_timeout: Annotated[Timeout, Meta(description="to wait for a free connection (503, flag UO)")] = Duration(
        5.0
    )
    idle_timeout: Annotated[
        Timeout,
        Meta(description="pooled connection without a request; shortened where the app closes earlier"),
    ] = Duration(60.0)
    dns_refresh: Annotated[Timeout, Meta(description="how often host names in `endpoints` are resolved again")] = (
        Duration(5.0)
    )
    max_header_bytes: Annotated[HeaderBytes, Meta(description="header section of a response (502, flag UPE)")] = Size(
        65536
    )
    max_headers: Annotated[Count, Meta(description="header fields of a response (502, flag UPE)")] = 200
    circuit_breaker: Annotated[CircuitBreaker, Meta(description="upper bounds of the cluster")] = CircuitBreaker()
    retry_budget: Annotated[
        RetryBudget, Meta(description="how many retries may be in flight of what an app may have seen")
    ] = RetryBudget()
    outlier_detection: Annotated[
        OutlierDetection | None, Meta(description="take failing endpoints out; off unless given")
    ] = None
    health_check: Annotated[HealthCheck | None, Meta(description="ask endpoints; off unless given")] = None


class LogFilter(_Strict):
    """Which requests a log has: every condition given must hold."""

    status: Annotated[
        tuple[StatusRange, ...], Meta(description="one of these statuses: `404`, `5xx` or `400-499`; `0` for none")
    ] = ()
    min_duration: Annotated[Duration, Meta(description="it took at least so long")] = Duration(0.0)
    flags: Annotated[
        tuple[Annotated[str, Meta(extra={"check": values.log_flag})], ...],
        Meta(description="one of these response flags, such as `UF`; `any` for whatever flag"),
    ] = ()
    prefix: Annotated[tuple[Path, ...], Meta(description="the path begins so, on segment borders")] = ()
    not_prefix: Annotated[tuple[Path, ...], Meta(description="the path does not begin so")] = ()
    percent: Annotated[
        Percent, Meta(description="share of these requests; the same request id is logged everywhere or nowhere")
    ] = 100.0


class AccessLog(_Strict):
    """One line for each request and TCP connection."""

    path: Annotated[
        Annotated[str, Meta(min_length=1, extra={"check": values.file_path})] | None,
        Meta(description="file, `/dev/stdout` or `/dev/stderr`"),
    ] = None
    otlp_endpoint: Annotated[
        HttpUrl | None,
        Meta(description="or an OpenTelemetry collector that takes logs: `http://collector:4318`"),
    ] = None
    format: Annotated[
        Annotated[str, Meta(extra={"check": values.log_format})],
        Meta(
            description="`json`: one object; `text`: Envoy's default format; or a line with placeholders such as "
            "`%START_TIME%`"
        ),
    ] = "json"
    fields: Annotated[
        dict[
            Annotated[str, Meta(extra={"check": values.log_key})],
            Annotated[str, Meta(extra={"check": values.log_template})],
        ],
        Meta(description="with `json`: keys and, as placeholders, values; none given: see docs/access_log.md"),
    ] = {}
    filters: Annotated[
        tuple[LogFilter, ...], Meta(description="what is written: whatever one of these takes; none given: everything")
    ] = ()


class Metrics(_Strict):
    """Which metrics there are, and who gets them besides the admin port."""

    naming: Annotated[
        Literal["meshlet", "istio"],
        Meta(description="standard metrics are `meshlet_requests_total` and so on, or `istio_requests_total` …"),
    ] = "meshlet"
    duration_buckets: Annotated[
        tuple[Timeout, ...], Meta(min_length=1, description="upper bounds of the histograms of durations, ascending")
    ] = tuple(map(Duration, (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)))
    size_buckets: Annotated[
        tuple[Size, ...], Meta(min_length=1, description="upper bounds of the histograms of body sizes, ascending")
    ] = tuple(map(Size, (0, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 24, 1 << 28)))
    address: Annotated[
        ListenAddress | None,
        Meta(description="serve `/metrics` and `/stats/prometheus` here, in a Pod by convention on port 15020"),
    ] = None
    app: Annotated[
        HttpUrl | None,
        Meta(
            description="the app's own metrics, such as `http://127.0.0.1:8080/metrics`, for the answers of `address`"
        ),
    ] = None
    otlp_endpoint: Annotated[
        HttpUrl | None, Meta(description="OpenTelemetry collector that metrics are pushed to; off unless given")
    ] = None
    otlp_interval: Annotated[Timeout, Meta(description="how often they are pushed")] = Duration(60.0)


class Tracing(_Strict):
    """Spans of requests, for an OpenTelemetry collector. Where this key is, trace context is read and passed on."""

    otlp_endpoint: Annotated[
        HttpUrl | None,
        Meta(description="the collector, such as `http://collector:4318`; none given: no spans"),
    ] = None
    sample: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        Meta(description="share of the traces that begin here, 0 to 1; a context that comes in decides for itself"),
    ] = 0.01
    sample_errors: Annotated[
        bool, Meta(description="export spans of failed requests (5xx, or a flag) even where the trace is not sampled")
    ] = False
    formats: Annotated[
        tuple[Literal["w3c", "b3", "b3-multi"], ...],
        Meta(description="how the context is passed on, besides the forms that it came in"),
    ] = ("w3c",)
    attributes: Annotated[
        dict[str, str],
        Meta(description="further resource attributes of all spans, such as `deployment.environment.name`"),
    ] = {}


class Workload(_Strict):
    """What this sidecar's app is called in metrics and traces. What is not given comes from the environment."""

    name: Annotated[
        str | None,
        Meta(description="MESHLET_WORKLOAD_NAME, OTEL_SERVICE_NAME, or the Pod's name without its random part"),
    ] = None
    namespace: Annotated[str | None, Meta(description="MESHLET_WORKLOAD_NAMESPACE or POD_NAMESPACE")] = None
    app: Annotated[str | None, Meta(description="MESHLET_APP, or the name")] = None
    version: Annotated[str | None, Meta(description="MESHLET_VERSION")] = None
    cluster: Annotated[str | None, Meta(description="MESHLET_CLUSTER: the Kubernetes cluster")] = None


class Explain(_Strict):
    """The last failed and slow requests, kept in memory for `meshlet explain`."""

    keep: Annotated[int, Meta(ge=0, le=100_000, description="how many at most, per worker; 0 switches it off")] = 500
    max_bytes: Annotated[Size, Meta(description="memory for them at most")] = Size(1 << 20)
    slow: Annotated[Timeout, Meta(description="what took longer is kept although it went well")] = Duration(1.0)


class Tap(_Strict):
    """What `meshlet tap` may show."""

    redact: Annotated[
        tuple[FieldName, ...],
        Meta(
            description="names of header fields, parameters and JSON keys that are hidden, in any spelling, besides"
            " those of docs/tap.md"
        ),
    ] = ()
    max_body: Annotated[Size, Meta(description="bytes of each body that a tap can ask for; 0: none")] = Size(65536)


class Telemetry(_Strict):
    """What is recorded about the traffic, and where it goes."""

    access_log: Annotated[
        AccessLog | tuple[AccessLog, ...] | None, Meta(description="one log or several; off unless given")
    ] = None
    metrics: Annotated[Metrics, Meta(description="metrics are always kept; see docs/metrics.md")] = Metrics()
    tracing: Annotated[Tracing | None, Meta(description="off unless given: trace headers pass through untouched")] = (
        None
    )
    workload: Annotated[Workload, Meta(description="names for metrics and traces")] = Workload()
    explain: Annotated[Explain, Meta(description="the last failures")] = Explain()
    tap: Annotated[Tap, Meta(description="live view of requests")] = Tap()


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


class Workers(_Strict):
    """How the worker processes are looked after, where `--workers` asks for several."""

    hang_timeout: Annotated[
        Annotated[Duration, Meta(extra={"check": values.hang_timeout})],
        Meta(description="a worker whose event loop has stood still for so long is killed and replaced; `3s` at least"),
    ] = Duration(10.0)


class Config(_Strict):
    """A whole config file."""

    listeners: Annotated[tuple[Listener, ...], Meta(description="ports to accept connections on", min_length=1)]
    clusters: Annotated[tuple[Cluster, ...], Meta(description="groups of endpoints", min_length=1)]
    telemetry: Annotated[Telemetry, Meta(description="access log, metrics, traces")] = Telemetry()
    log: Annotated[Log, Meta(description="meshlet's own log")] = Log()
    admin: Annotated[Admin | None, Meta(description="off unless given")] = None
    health: Annotated[Health | None, Meta(description="off unless given")] = None
    shutdown: Annotated[Shutdown, Meta(description="how meshlet ends")] = Shutdown()
    reload: Annotated[Reload, Meta(description="how a changed file is noticed")] = Reload()
    workers: Annotated[Workers, Meta(description="how worker processes are looked after")] = Workers()
    zone: Annotated[
        str | None,
        Meta(description="where this sidecar runs: endpoints of the same zone are preferred while they are well"),
    ] = None
