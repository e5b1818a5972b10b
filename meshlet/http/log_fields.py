"""The operators of a log that tell what is in the messages: fields, the target and its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote_to_bytes

from meshlet.http.fields import ATTRIBUTES, PSEUDO, first_value
from meshlet.http.log_template import Attribute, Computed, Kind, Operator, RequestField, ResponseField
from meshlet.http.log_time import milliseconds
from meshlet.http.template import field_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.http.head import RequestHead
    from meshlet.http.log_template import Column, Source


class _Ended(Protocol):
    """What computed sources look at; a TCP connection has no head."""

    @property
    def head(self) -> RequestHead | None: ...
    @property
    def target(self) -> bytes | None: ...
    @property
    def host(self) -> bytes | None: ...
    @property
    def remote_host(self) -> str: ...
    @property
    def scheme(self) -> bytes: ...


# --- fields ---


def of_request(argument: str | None) -> Operator:
    """Make the operator of REQ(NAME?ALTERNATIVE). Raises ValueError."""
    names = field_names("REQ", argument, _REQUEST_PSEUDO)
    return _ORIGINALS.get(tuple(names)) or _first_of([_request_source(name) for name in names])


def of_response(argument: str | None) -> Operator:
    """Make the operator of RESP(NAME?ALTERNATIVE). Raises ValueError."""
    return _first_of([_response_source(name) for name in field_names("RESP", argument, (b":status",))])


def _first_of(found: Sequence[Operator]) -> Operator:
    if len(found) == 1:
        return found[0]
    one, other = found
    # Either may convert what it takes, so each is asked for its own bytes.
    split = len(one.sources)

    def either(*columns: Column) -> Column:
        values = zip(_as_bytes(one, columns[:split]), _as_bytes(other, columns[split:]), strict=True)
        return [first if first is not None else second for first, second in values]

    return Operator((*one.sources, *other.sources), either, Kind.PEER)


def _as_bytes(operator: Operator, columns: Sequence[Column]) -> Column:
    values = operator.values(columns)
    if operator.kind is Kind.PEER:
        return values
    return [value.encode() if value is not None else None for value in values]


def _request_source(name: bytes) -> Operator:
    known = _REQUEST_PSEUDO.get(name) or _OWN_REQUEST_FIELDS.get(name)
    if known is not None:
        return Operator((known,), None, Kind.PEER)
    if name in ATTRIBUTES or name.startswith(b"x-envoy-"):
        value = first_value(name)

        def field(ended: _Ended) -> bytes | None:
            return value(ended.head) if ended.head is not None else None

        return Operator((Computed(field),), None, Kind.PEER)
    return Operator((RequestField(name),), None, Kind.PEER)


def _response_source(name: bytes) -> Operator:
    if name == b":status":
        return Operator((Attribute("status"),), lambda column: [str(status) if status else None for status in column])
    if name == b"x-envoy-upstream-service-time":
        # It is written for the client, and not among the app's.
        return Operator((Attribute("service_seconds"),), lambda column: _texts(milliseconds(column)))
    return Operator((ResponseField(name),), None, Kind.PEER)


def _texts(column: Column) -> Column:
    return [str(value) if value is not None else None for value in column]


def _path(ended: _Ended) -> bytes | None:
    return ended.head.target if ended.head is not None else None


def _authority(ended: _Ended) -> bytes | None:
    return PSEUDO[b":authority"](ended.head) if ended.head is not None else None


def _scheme(ended: _Ended) -> bytes | None:
    return ended.scheme if ended.head is not None else None


def _original_path(ended: _Ended) -> bytes | None:
    return ended.target if _path(ended) != ended.target else None


def _original_host(ended: _Ended) -> bytes | None:
    return ended.host if _authority(ended) != ended.host else None


def _forwarded_for(ended: _Ended) -> bytes | None:
    head = ended.head
    if head is None:
        return None
    peer = ended.remote_host.encode()
    return peer if head.forwarded_for is None else head.forwarded_for + b", " + peer


_TARGET = Attribute("target")
_REQUEST_PSEUDO: dict[bytes, Source] = {
    b":method": Attribute("method"),
    b":path": Computed(_path),
    b":authority": RequestField(b"host"),
    b":scheme": Computed(_scheme),
}
_OWN_REQUEST_FIELDS: dict[bytes, Source] = {
    b"x-envoy-original-path": Computed(_original_path),
    b"x-envoy-original-host": Computed(_original_host),
    b"x-forwarded-for": Computed(_forwarded_for),
    b"x-forwarded-proto": _REQUEST_PSEUDO[b":scheme"],
    b"x-request-id": Attribute("request_id"),
}


# What the client asked for, whether it was rewritten or not, by the names of REQ.
_ORIGINALS: dict[tuple[bytes, ...], Operator] = {
    (b"x-envoy-original-path", b":path"): Operator((_TARGET,), None, Kind.PEER),
    (b"x-envoy-original-host", b":authority"): Operator((Attribute("host"),), None, Kind.PEER),
}


# --- parts of the target ---


def of_path(argument: str | None) -> Operator:
    """Make the operator of PATH(QUERY:WHICH). Raises ValueError."""
    query, _, which = (argument or "").partition(":")
    sources: dict[str, Source] = {
        "": _TARGET,
        "ORIG_OR_PATH": _TARGET,
        "ORIG": Computed(_original_path),
        "PATH": Computed(_path),
    }
    if query not in ("", "WQ", "NQ") or which not in sources:
        raise ValueError(
            f"%PATH(QUERY:WHICH)% with WQ or NQ, and ORIG, PATH or ORIG_OR_PATH, not PATH({argument or ''})"
        )
    cut = _without_query if query == "NQ" else None
    return Operator((sources[which],), cut, Kind.PEER)


def _without_query(column: Column) -> Column:
    return [target.partition(b"?")[0] if target is not None else None for target in column]


def of_query(argument: str | None) -> Operator:
    """Make the operator of QUERY_PARAM(NAME), which is decoded as Envoy does. Raises ValueError."""
    if not argument:
        raise ValueError("%QUERY_PARAM(NAME)%")
    name = argument.encode()
    return Operator(
        (Computed(_path),),
        lambda column: [_parameter(target, name) if target is not None else None for target in column],
        Kind.PEER,
    )


def _parameter(target: bytes, name: bytes) -> bytes | None:
    for pair in target.partition(b"?")[2].partition(b"#")[0].split(b"&"):
        found, _, value = pair.partition(b"=")
        if unquote_to_bytes(found) == name:
            return unquote_to_bytes(value)
    return None
