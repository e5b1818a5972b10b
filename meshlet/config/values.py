"""What a value of the config must satisfy beyond its type.

The structs of `schema` name these checks in `Meta(extra={"check": …})`. Each takes the value and
returns nothing, or raises ValueError with what was expected, the way `units` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from keyword import iskeyword

from meshlet.config.units import HOST_NAME, Address, Duration, Size
from meshlet.http.grammar import looks_like

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
# In lower case, as browsers send it (RFC 6454 section 6.1).
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?|null")
_AUTHORITY = re.compile(r"(?P<host>[^:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
# What a request target's path can hold once its query is cut off; a fragment is never sent (RFC 9112 section 3.2).
_PATH = re.compile(r"/[!\"$->@-~]*")

_STATUS_RANGE = re.compile(r"(?P<class>[1-5])xx|(?P<first>0|[1-9][0-9]{2})(?:-(?P<last>[1-9][0-9]{2}))?")
# What stands in JSON as it is.
_LOG_KEY = re.compile(r"[ !#-\[\]-~]+")
_SUBSTITUTION = re.compile(r"(?:[!\"$->@-\[\]-~]|\\[\\0-9])*")

_HOP = "this one is for one hop only"
_FRAMES = "this one frames the message"
_OWN = "meshlet writes this one itself"
# Header rules may not touch these: by name in lower case, the reason.
_RESERVED = {
    "connection": _HOP,
    "content-length": _FRAMES,
    "keep-alive": _HOP,
    "proxy-connection": _HOP,
    "te": _HOP,
    "trailer": _FRAMES,
    "transfer-encoding": _FRAMES,
    "upgrade": "`upgrades` of the route is for this one",
    "x-envoy-attempt-count": "`attempt_count` of the route is for this one",
}
_RESERVED_IN_REQUESTS = {
    "expect": _FRAMES,
    "host": "`rewrite.host` is for this one",
    "http2-settings": _HOP,
    "x-forwarded-for": _OWN,
    "x-forwarded-proto": _OWN,
    "x-request-id": _OWN,
}
_RESERVED_IN_RESPONSES = {"date": _OWN, "x-envoy-upstream-service-time": _OWN}
# What the codec takes out of a request and keeps nowhere.
_UNSEEN = frozenset({"connection", "http2-settings", "keep-alive", "proxy-connection", "te", "x-envoy-attempt-count"})


def name(value: str) -> None:
    """A name that is safe in a metric label, a log line and a file name."""
    if not _NAME.fullmatch(value):
        raise ValueError("a name of at most 128 letters, digits, `.`, `_` and `-`, with a letter or digit at both ends")


def host_pattern(value: str) -> None:
    """A host name, or `*.` and the host name whose subdomains are meant."""
    host = value.removeprefix("*.")
    if not HOST_NAME.fullmatch(host) or host.endswith("."):
        raise ValueError("a host name without a port, or *. and a host name; without the key every host matches")


def host_name(value: str) -> None:
    """A host name or an IP address, without a port."""
    if not (_is_ip_address(value) or _is_host_name(value)):
        raise ValueError("a host name or an IP address, without a port")


def authority(value: str) -> None:
    """What a Host field can hold."""
    match = _AUTHORITY.fullmatch(value)
    if (
        match is None
        or not (_is_host_name(match["host"]) or _is_ip_address(match["host"].strip("[]")))
        or (match["port"] is not None and not 0 < int(match["port"]) <= 65535)
    ):
        raise ValueError("HOST or HOST:PORT, an IPv6 address in brackets")


def field_name(value: str) -> None:
    """A header field name."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("a header name, which is a token of RFC 9110 such as x-user")


def matched_field(value: str) -> None:
    """The name of a request field that a condition can be on."""
    field_name(value)
    if value.lower() in _UNSEEN:
        raise ValueError("another header: this one is for one hop only, and no route sees it")


def changed_field(value: str, *, request: bool) -> None:
    """The name of a field that header rules may change, in requests or in responses."""
    field_name(value)
    name = value.lower()
    reserved = {**_RESERVED, **(_RESERVED_IN_REQUESTS if request else _RESERVED_IN_RESPONSES)}
    if name in reserved:
        raise ValueError(f"another header: {reserved[name]}")
    if looks_like(name.encode(), frozenset(key.encode() for key in reserved)):
        raise ValueError("another header: some servers read this one as a header that rules cannot change")


def appended_field(value: str) -> None:
    """The name of a field whose value can be a list (RFC 9110 section 5.3; RFC 6265 section 3)."""
    if value.lower() in ("cookie", "set-cookie"):
        raise ValueError("another header, or `add` in place of `append`: the value of this one is no list with commas")


def field_value(value: str) -> None:
    """A header field value (RFC 9110 section 5.5)."""
    if not _FIELD_VALUE.fullmatch(value):
        raise ValueError("a header value: printable ASCII without white space around it")


def field_template(value: str) -> None:
    """A header field value with placeholders; an empty one would do nothing."""
    field_value(value)
    if not value:
        raise ValueError("a header value that is not empty; `remove` takes a header away")
    from meshlet.http.template import parse

    parse(value)


def origin(value: str) -> None:
    """An origin (RFC 6454) whose host may begin with `*.`, or `*`."""
    match = _ORIGIN.fullmatch(value)
    if value != "*" and (match is None or int(match["port"] or 0) > 65535):
        raise ValueError("an origin such as https://app.example.com, https://*.example.com or *")


def python_class(value: str) -> None:
    """The place of a Python class."""
    module, _, name = value.partition(":")
    if not all(part.isidentifier() and not iskeyword(part) for part in (*module.split("."), name)):
        raise ValueError("package.module:Class")


def path(value: str) -> None:
    """A path as it can stand in a request target."""
    if not _PATH.fullmatch(value):
        raise ValueError(
            "a path that starts with / and holds neither ? nor #, nor white space; other characters percent-encoded"
        )


def file_path(value: str) -> None:
    """The path of a file."""
    if not value or not value.isprintable():
        raise ValueError("the path of a file, in printable characters")


def regex(value: str) -> None:
    """A regular expression of RE2, which takes linear time whatever it is matched against."""
    if not value.isascii():
        raise ValueError("a regular expression in ASCII, because a path holds other characters percent-encoded")
    from meshlet.config.regex import compile_regex

    try:
        compile_regex(value)
    except ValueError as error:
        raise ValueError(f"a regular expression of RE2 ({error})") from error


def substitution(value: str) -> None:
    """What a match in a path is replaced by: characters of a path, and references to groups."""
    if not _SUBSTITUTION.fullmatch(value):
        raise ValueError(r"characters of a path, and \0 to \9 for groups of the pattern; neither ?, # nor white space")


def references(value: str, pattern: str) -> None:
    """A substitution whose references are to groups that the pattern has; both are valid by themselves."""
    from meshlet.config.regex import compile_regex

    groups = compile_regex(pattern).groups
    for reference in re.findall(r"\\(\\|[0-9])", value):
        if reference != "\\" and int(reference) > groups:
            raise ValueError(f"references to groups that the pattern has, which are {groups}, so not \\{reference}")


def http_url(value: str) -> None:
    """A URL that can be asked in plain HTTP or HTTPS; credentials in it would end up in dumps."""
    from urllib.parse import urlsplit

    expected = "a URL such as http://127.0.0.1:4318, without a user or a fragment"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError as error:
        raise ValueError(expected) from error
    if (
        url.scheme not in ("http", "https")
        or not url.hostname
        or not value.isprintable()
        or " " in value
        or "@" in url.netloc
        or url.fragment
        or port == 0
    ):
        raise ValueError(expected)


def status_range(value: str) -> None:
    """A status, a class of statuses or a range of them."""
    parse_status_range(value)


def parse_status_range(value: str) -> range:
    """Return the statuses that `404`, `5xx` or `400-499` means. Raises ValueError."""
    match = _STATUS_RANGE.fullmatch(value)
    if match is None:
        raise ValueError("a status such as 404, a class such as 5xx, or a range such as 400-499")
    if match["class"]:
        first = int(match["class"]) * 100
        return range(first, first + 100)
    first = int(match["first"])
    last = int(match["last"] or first)
    if last < first:
        raise ValueError(f"a range that ends at {first} or above")
    return range(first, last + 1)


def log_format(value: str) -> None:
    """`json`, `text`, or a line with placeholders."""
    if value in ("json", "text"):
        return
    if "%" not in value:
        raise ValueError("json, text, or a line with placeholders such as %START_TIME%")
    log_template(value)


def log_template(value: str) -> None:
    """A line, or a value in it, with placeholders that a log can have."""
    from meshlet.http.log_template import parse

    parse(value)


def log_key(value: str) -> None:
    """A key of a log's JSON objects that every reader of them can be asked for."""
    if not _LOG_KEY.fullmatch(value):
        raise ValueError("a key of printable ASCII characters, without quotes and backslashes")


def log_flag(value: str) -> None:
    """A response flag, as a log's filter names it."""
    from meshlet.http.flags import LONG_NAMES

    flag, colon, filter_class = value.partition(":")
    if value != "any" and (flag not in LONG_NAMES or (colon and not (flag == "FE" and filter_class.isidentifier()))):
        raise ValueError(f"any, FE:Class for what a filter of that class raised, or one of {', '.join(LONG_NAMES)}")


def method(value: str) -> None:
    """A request method."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("a method, which is a token of RFC 9110 such as GET")


def upgrade(value: str) -> None:
    """A protocol name that clients may ask for with `Upgrade`."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("a protocol name, which is a token of RFC 9110 such as websocket")
    if value.lower() == "h2c":
        raise ValueError("another protocol: requests inside an h2c tunnel would pass by every route and limit")


def network(value: str) -> None:
    """A network in CIDR notation."""
    import ipaddress

    expected = "a network in CIDR notation such as 10.0.0.0/8 or fc00::/7"
    address, _, bits = value.partition("/")
    if not (bits.isascii() and bits.isdigit()):
        raise ValueError(expected)
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(expected) from error
    if meant.network_address != ipaddress.ip_address(address):
        raise ValueError(f"a network, which has no bits set after its prefix: {meant}")


def listen_address(value: Address) -> None:
    """An address that can be bound without asking a name server."""
    if not (value.path or value.host == "localhost" or is_ip(value.host)):
        raise ValueError("an IP address, localhost or unix:/PATH to listen on")


def loopback_address(value: Address) -> None:
    """An address that only this machine, or this Pod, can reach."""
    if not (value.path or value.host in ("localhost", "::1") or (is_ip(value.host) and value.host.startswith("127."))):
        raise ValueError("a loopback address such as 127.0.0.1:15000, because the port has no authentication")


def endpoint_address(value: Address) -> None:
    """An address that can be connected to."""
    if not value.path and value.port == 0:
        raise ValueError("a port between 1 and 65535")


def named_address(value: Address) -> None:
    """A host and a port."""
    if value.path or value.port == 0:
        raise ValueError("HOST:PORT, with a port between 1 and 65535")


def ip_address(value: Address) -> None:
    """An address that can be sent to without asking a name server."""
    if value.path or value.port == 0 or not is_ip(value.host):
        raise ValueError("IP:PORT, with a port between 1 and 65535")


def above_zero(value: Duration) -> None:
    """A duration that some time passes in."""
    if value <= 0:
        raise ValueError("a duration above 0")


def hang_timeout(value: Duration) -> None:
    """How long an event loop must have stood still before anybody may take it for dead."""
    if value < 3:
        raise ValueError("at least 3s: a busy worker must not be taken for one that hangs")


def at_least(least: Size) -> Callable[[Size], None]:
    """Make the check that a size is not below `least`."""

    def check(value: Size) -> None:
        if value < least:
            raise ValueError(f"a size of at least {least.written}")

    return check


def is_ip(host: str) -> bool:
    """Tell an IP address from a host name; `Address.parse` has made sure that it is one of the two."""
    return ":" in host or host.replace(".", "").isdigit()


def _is_host_name(value: str) -> bool:
    # What consists of digits and dots is an IP address or a slip.
    return HOST_NAME.fullmatch(value) is not None and (not value.replace(".", "").isdigit() or _is_ip_address(value))


def _is_ip_address(value: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value  # a zone means something on one machine only
