"""The operators that a log can have: Envoy's, as far as meshlet knows what they stand for, and a few of its own.

Envoy's documentation of "command operators" has their meaning; docs/access_log.md has the differences.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from meshlet.http.flags import LONG_NAMES
from meshlet.http.log_fields import of_path, of_query, of_request, of_response
from meshlet.http.log_template import Attribute, Computed, Kind, Operator
from meshlet.http.log_time import compile_format, iso_milliseconds, milliseconds
from meshlet.http.template import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.http.attempt import Attempt
    from meshlet.http.log_template import Column


class _Tried(Protocol):
    @property
    def tries(self) -> Sequence[Attempt]: ...


def find(operator: str, argument: str | None, length: str | None) -> str | Operator:
    """Return the operator, or the text of one that is constant. Raises ValueError with what was expected."""
    if operator in _WITH_ARGUMENT:
        cut = int(length[:6]) if length is not None else None  # no value is that long
        found = _WITH_ARGUMENT[operator](argument)
        if cut is None:
            return found
        return found[:cut] if isinstance(found, str) else replace(found, length=cut)
    if operator not in _PLAIN and operator not in _WITH_PARAMETER:
        known = ", ".join([*(f"{known}(…)" for known in _WITH_ARGUMENT), *_WITH_PARAMETER, *_PLAIN])
        raise ValueError(f"one of the placeholders {known}, not %{operator}%")
    if length is not None:
        raise ValueError(f"%{operator}% without a length")
    if operator in _WITH_PARAMETER:
        return _WITH_PARAMETER[operator](argument)
    if argument is not None:
        raise ValueError(f"%{operator}% with neither an argument nor a length")
    return _PLAIN[operator]


def _of_time(argument: str | None) -> Operator:
    return Operator((Attribute("started_wall"),), compile_format(argument) if argument else iso_milliseconds)


def _sent_for(durations: Column, responses: Column) -> Column:
    pairs = zip(durations, responses, strict=True)
    return [int((end - first) * 1000) if first is not None else None for end, first in pairs]


def _details(argument: str | None) -> Operator:
    if argument not in (None, "ALLOW_WHITESPACES"):
        raise ValueError(
            "%RESPONSE_CODE_DETAILS% or %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%, "
            f"not RESPONSE_CODE_DETAILS({argument})"
        )
    spaced = argument is not None

    def details(errors: Column, hosts: Column, statuses: Column) -> Column:
        return [
            (error if spaced else error.replace(" ", "_"))
            or ("via_upstream" if host is not None else "direct_response" if status else None)
            for error, host, status in zip(errors, hosts, statuses, strict=True)
        ]

    return Operator((Attribute("error"), Attribute("upstream_host"), Attribute("status")), details, Kind.TEXT)


def _connected(hosts: Column, flags: Column) -> Column:
    """Return the endpoints to which there was a connection."""
    return [host if "UF" not in flag else None for host, flag in zip(hosts, flags, strict=True)]


def _not_connected(errors: Column, flags: Column) -> Column:
    pairs = zip(errors, flags, strict=True)
    return [error.replace(" ", "_") if "UF" in flag and error else None for error, flag in pairs]


def _broken_connection(errors: Column, protocols: Column) -> Column:
    pairs = zip(errors, protocols, strict=True)
    return [error.replace(" ", "_") if protocol == "TCP" and error else None for error, protocol in pairs]


def _long_flags(column: Column) -> Column:
    return [",".join(map(_long_flag, flag.split(","))) if flag else "-" for flag in column]


def _long_flag(flag: str) -> str:
    short, colon, rest = flag.partition(":")
    return f"{LONG_NAMES.get(short, short)}{colon}{rest}"


def _hosts(column: Column) -> Column:
    return [host_of(address) if address is not None else None for address in column]


def _ports(column: Column) -> Column:
    return [_port(address) if address is not None else None for address in column]


def _port(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() and not address.startswith("unix:") else None


def _tries(ended: _Tried) -> str | None:
    return ",".join([f"{one.endpoint}={one.flag or one.status}" for one in ended.tries]) or None


def _environment(argument: str | None) -> str:
    if not argument:
        raise ValueError("%ENVIRONMENT(NAME)%")
    value = os.environ.get(argument, "-")
    return "".join([one if one.isprintable() else f"\\x{ord(one):02x}" for one in value])


def _or_none(column: Column) -> Column:
    return [text or None for text in column]


def _addresses(name: str, source: str) -> dict[str, Operator]:
    of = (Attribute(source),)
    return {
        f"{name}_ADDRESS": Operator(of),
        f"{name}_ADDRESS_WITHOUT_PORT": Operator(of, _hosts),
        f"{name}_PORT": Operator(of, _ports),
    }


_FLAG = Attribute("flag")
_TRACE = Attribute("trace")  # it is small, and made for one request
_UPSTREAM = (Attribute("upstream_host"), _FLAG)
_WITH_ARGUMENT: dict[str, Callable[[str | None], str | Operator]] = {
    "REQ": of_request,
    "RESP": of_response,
    "PATH": of_path,
    "QUERY_PARAM": of_query,
    "ENVIRONMENT": _environment,
}
_WITH_PARAMETER: dict[str, Callable[[str | None], Operator]] = {
    "START_TIME": _of_time,
    "RESPONSE_CODE_DETAILS": _details,
}
_PLAIN: dict[str, str | Operator] = {
    "BYTES_RECEIVED": Operator((Attribute("received"),)),
    "BYTES_SENT": Operator((Attribute("sent"),)),
    "DURATION": Operator((Attribute("duration"),), lambda column: [int(seconds * 1000) for seconds in column]),
    "REQUEST_DURATION": Operator((Attribute("request_seconds"),), milliseconds),
    "RESPONSE_DURATION": Operator((Attribute("response_seconds"),), milliseconds),
    "RESPONSE_TX_DURATION": Operator((Attribute("duration"), Attribute("response_seconds")), _sent_for),
    "RESPONSE_CODE": Operator((Attribute("status"),)),
    "RESPONSE_FLAGS": Operator((_FLAG,), lambda column: [flag or "-" for flag in column], Kind.TEXT),
    "RESPONSE_FLAGS_LONG": Operator((_FLAG,), _long_flags, Kind.TEXT),
    "PROTOCOL": Operator((Attribute("protocol"),)),
    "UPSTREAM_HOST": Operator((Attribute("upstream_host"),)),
    "UPSTREAM_REMOTE_ADDRESS": Operator(_UPSTREAM, _connected),
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": Operator(_UPSTREAM, lambda *columns: _hosts(_connected(*columns))),
    "UPSTREAM_REMOTE_PORT": Operator(_UPSTREAM, lambda *columns: _ports(_connected(*columns))),
    "UPSTREAM_CLUSTER": Operator((Attribute("cluster_name"),)),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": Operator((Attribute("attempts"),)),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": Operator((Attribute("error"), _FLAG), _not_connected, Kind.TEXT),
    **_addresses("DOWNSTREAM_REMOTE", "remote"),
    # What proxies before this one say of the client is in X-Forwarded-For only.
    **_addresses("DOWNSTREAM_DIRECT_REMOTE", "remote"),
    **_addresses("DOWNSTREAM_LOCAL", "local"),
    "ROUTE_NAME": Operator((Attribute("route_name"),)),
    "HOSTNAME": os.uname().nodename,
    "TRACE_ID": Operator(
        (_TRACE,), lambda column: [trace.trace_id if trace is not None else None for trace in column], Kind.PEER
    ),
    "SPAN_ID": Operator(
        (_TRACE,), lambda column: [trace.span_id if trace is not None else None for trace in column], Kind.PEER
    ),
    "STREAM_ID": Operator((Attribute("request_id"),), None, Kind.PEER),
    "CONNECTION_TERMINATION_DETAILS": Operator(
        (Attribute("error"), Attribute("protocol")), _broken_connection, Kind.TEXT
    ),
    # meshlet's own
    "LISTENER": Operator((Attribute("listener_name"),)),
    "DIRECTION": Operator((Attribute("direction"),)),
    "ROUTE": Operator((Attribute("route_label"),), None, Kind.TEXT),
    "ATTEMPTS": Operator((Attribute("attempts"),)),
    "TRIES": Operator((Computed(_tries),), None, Kind.TEXT),
    "UPSTREAM_SERVICE_TIME": Operator((Attribute("service_seconds"),), milliseconds),
    "ERROR": Operator((Attribute("error"),), _or_none, Kind.TEXT),
    "ACTED": Operator((Attribute("acted"),), lambda column: [",".join(acted) or None for acted in column], Kind.TEXT),
}
