"""The three formats of a log: a line of text, a JSON object, and a JSON object that becomes a log record of OTLP.

A formatter makes the lines of a batch of records, one column after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from meshlet.http.log_template import LogTemplate, parse
from meshlet.telemetry.access_log.columns import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meshlet.config.schema import AccessLog
    from meshlet.http.log_template import Column
    from meshlet.telemetry.access_log.columns import Columns
    from meshlet.telemetry.record import Record

#: `format: text`: Envoy's default format
TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
#: the keys of `format: json` where `fields` gives none
FIELDS = {
    "start_time": "%START_TIME%",
    "duration": "%DURATION%",
    "listener": "%LISTENER%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "authority": "%REQ(X-ENVOY-ORIGINAL-HOST?:AUTHORITY)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "upstream_host": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "attempts": "%ATTEMPTS%",
    "user_agent": "%REQ(USER-AGENT)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "route_name": "%ROUTE_NAME%",
    "response_code_details": "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%",
    "upstream_service_time": "%UPSTREAM_SERVICE_TIME%",
    "trace_id": "%TRACE_ID%",
}
# What stands for a request beside its attributes.
_SUMMARY = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%"

_encoder = msgspec.json.Encoder()


class Formatter(Protocol):
    """How records become lines."""

    def lines(self, records: Sequence[Record]) -> bytes:
        """Return ASCII lines, each with its end, for at least one record."""
        ...


def formatter(config: AccessLog) -> Formatter:
    """Make the formatter of a log; its templates have been validated with the config."""
    fields = {key: parse(text) for key, text in (config.fields or FIELDS).items()} if config.format == "json" else None
    if config.otlp_endpoint is not None:
        return Exported(parse(_SUMMARY if fields is not None else _text(config)), fields or {})
    return Json(fields) if fields is not None else Text(parse(_text(config)))


def _text(config: AccessLog) -> str:
    return TEXT if config.format == "text" else config.format


class Text:
    """Lines of text. What a peer sent cannot end a field in quotes, nor the line."""

    def __init__(self, template: LogTemplate) -> None:
        self._sources = Sources(template.operators)
        self._template = template
        self._pattern = template.pattern + "\n"

    def lines(self, records: Sequence[Record]) -> bytes:
        columns = self._sources.columns(records)
        values = _written(self._template, columns)
        pattern = self._pattern
        if not values:
            return pattern.replace("%%", "%").encode("ascii", "backslashreplace") * len(records)
        return "".join([pattern % row for row in zip(*values, strict=True)]).encode("ascii", "backslashreplace")


class Json:
    """One object for each row. The value of a key that is a sole operator keeps its type; what is absent is null."""

    def __init__(self, fields: Mapping[str, LogTemplate]) -> None:
        self._sources = Sources(operator for template in fields.values() for operator in template.operators)
        self._templates = tuple(fields.values())
        self._object = _struct(fields)

    def lines(self, records: Sequence[Record]) -> bytes:
        columns = self._sources.columns(records)
        values = [_typed(template, columns, len(records)) for template in self._templates]
        return _encode(lambda safe: _encoder.encode_lines(list(map(self._object, *map(safe, values)))))


class Exported:
    """What the exporter of OTLP reads: a time, a body, the ids of trace and span, and attributes."""

    def __init__(self, body: LogTemplate, fields: Mapping[str, LogTemplate]) -> None:
        head = {"time": parse("%START_TIME(%s.%6f)%"), "trace_id": parse("%TRACE_ID%"), "span_id": parse("%SPAN_ID%")}
        self._body = body
        self._head = tuple(head.values())
        self._fields = tuple(fields.values())
        operators = [operator for one in (body, *self._head, *self._fields) for operator in one.operators]
        self._sources = Sources(operators)
        self._attributes = _struct(fields)

    def lines(self, records: Sequence[Record]) -> bytes:
        columns = self._sources.columns(records)
        size = len(records)
        body = _mixed(self._body, _written(self._body, columns), size)
        head = [_typed(template, columns, size) for template in self._head]
        values = [_typed(template, columns, size) for template in self._fields]

        def encode(safe: Callable[[Column], Column]) -> bytes:
            attributes = list(map(self._attributes, *map(safe, values))) if values else [{}] * size
            return _encoder.encode_lines(list(zip(*head, safe(body), attributes, strict=True)))

        return _encode(encode)


def _struct(fields: Mapping[str, LogTemplate]) -> type[Any]:
    # The keys are whatever somebody likes, so they are not the names of the attributes.
    names = {f"field_{place}": key for place, key in enumerate(fields)}
    made: type[Any] = msgspec.defstruct("Line", [(name, Any) for name in names], rename=names)
    return made


def _written(template: LogTemplate, columns: Columns) -> list[Column]:
    return [operator.written([columns[source] for source in operator.sources]) for operator in template.operators]


def _typed(template: LogTemplate, columns: Columns, size: int) -> Column:
    sole = template.sole
    if sole is not None:
        return sole.typed([columns[source] for source in sole.sources])
    found = [operator.typed([columns[source] for source in operator.sources]) for operator in template.operators]
    return _mixed(template, [["-" if value is None else value for value in column] for column in found], size)


def _mixed(template: LogTemplate, values: Sequence[Column], size: int) -> Column:
    if not values:
        return ["".join(part for part in template.parts if isinstance(part, str))] * size
    return [template.pattern % row for row in zip(*values, strict=True)]


def _encode(encode: Callable[[Callable[[Column], Column]], bytes]) -> bytes:
    """Return JSON lines in ASCII, and without DEL, which terminals act upon though JSON allows it.

    `encode` is given a function for each column of text. Nearly all text is ASCII, so only where some was not is it
    looked at one by one.
    """
    try:
        lines = encode(_same)
    except UnicodeEncodeError:  # a lone surrogate: a file's name, or a message about one
        lines = b"\xff"
    if not lines.isascii():
        lines = encode(_ascii)
    return lines.replace(b"\x7f", b"\\u007f")


def _same(column: Column) -> Column:
    return column


def _ascii(column: Column) -> Column:
    return [
        value.encode("ascii", "backslashreplace").decode("ascii") if isinstance(value, str) else value
        for value in column
    ]
