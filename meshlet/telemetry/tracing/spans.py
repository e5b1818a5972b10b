"""Spans of an ended request, by OpenTelemetry's semantic conventions for HTTP. Imports OpenTelemetry.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/. An inbound request is one SERVER span. An outbound one is
a CLIENT span for each try, so that a retry shows; the spans of one request are siblings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from meshlet.telemetry.redact import REDACTED, redact_target

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from meshlet.http.attempt import Attempt
    from meshlet.telemetry.tracing.tracer import Ended

    Attributes = dict[str, str | int | float]

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?")
# The SDK knows the keys of Trace Context level 1 only, and complains about others in its log.
_TRACESTATE_KEY = re.compile(r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}")
_FLAGS = TraceFlags(TraceFlags.SAMPLED)


class _Outcome(NamedTuple):
    """How a request, or one try of it, ended."""

    status: int  # 0 where there was none
    flag: str
    reason: str  # why it failed
    fails_from: int  # the least status that is a failure to this kind of span

    @property
    def error_type(self) -> str | None:
        """The flag, where that says what failed, or else the status; None where nothing did.

        A try that has neither was given up because another was faster.
        """
        if self.status >= self.fails_from:
            return self.flag if self.flag and self.reason else str(self.status)
        # No response, or one that broke off after a good start.
        return self.flag or None if not self.status or (self.reason and self.status < 400) else None


def spans_of(ended: Ended, resource: Resource, scope: InstrumentationScope) -> list[ReadableSpan]:
    """Return the request's spans: one, or for an outbound request as many as it has tries."""
    maker = _Maker(ended, resource, scope)
    if ended.inbound:
        return [maker.server()]
    if not ended.tries:
        return [maker.client_without_try()]
    tries = sorted(ended.tries, key=lambda attempt: attempt.began)  # they came in the order they ended
    last = ended.tries[-1]
    return [maker.client(attempt, count, is_last=attempt is last) for count, attempt in enumerate(tries)]


class _Maker:
    """Makes the spans of one request."""

    def __init__(self, ended: Ended, resource: Resource, scope: InstrumentationScope) -> None:
        self._ended = ended
        self._resource = resource
        self._scope = scope
        self._trace_id = int(ended.trace_id, 16)
        self._state = _trace_state(ended.tracestate)
        self._method = _text(ended.method)
        # The conventions have another word for it (`url.query`).
        self._target = _text(redact_target(ended.target)).replace(REDACTED, "REDACTED")

    def server(self) -> ReadableSpan:
        ended = self._ended
        path, _, query = self._target.partition("?")
        attributes = self._common()
        attributes |= {
            "url.scheme": _text(ended.scheme),
            "url.path": "" if ended.method == b"CONNECT" else path,
            "http.request.body.size": ended.received,
            "http.response.body.size": ended.sent,
        }
        if ended.remote_host:
            attributes["client.address"] = ended.remote_host
        if query:
            attributes["url.query"] = query
        attributes |= _address("network.peer", ended.remote)
        if ended.user_agent is not None:
            attributes["user_agent.original"] = _text(ended.user_agent)
        if ended.route_name:
            attributes["http.route"] = ended.route_name
        if ended.upstream_host is not None:
            attributes["meshlet.upstream.address"] = ended.upstream_host
        if ended.tries:
            attributes["meshlet.attempts"] = len(ended.tries)
        outcome = _Outcome(ended.status, ended.flag, ended.error, fails_from=500)
        return self._span(ended.span_id, SpanKind.SERVER, attributes, outcome, (0.0, ended.duration))

    def client(self, attempt: Attempt, count: int, *, is_last: bool) -> ReadableSpan:
        ended = self._ended
        attributes = self._common() | self._to()
        attributes |= _address("network.peer", attempt.endpoint)
        if count:
            attributes["http.request.resend_count"] = count
        if attempt.connect is not None:
            attributes["meshlet.connect.duration"] = attempt.connect
        flag, reason = attempt.flag, attempt.reason
        if is_last:
            # What befell the request after its response began is no failure of the try in its own words.
            flag, reason = flag or ended.flag, reason or ended.error
            attributes |= {"http.request.body.size": ended.received, "http.response.body.size": ended.sent}
        outcome = _Outcome(attempt.status, flag, reason, fails_from=400)
        period = (attempt.began, attempt.ended)
        return self._span(attempt.span_id or ended.span_id, SpanKind.CLIENT, attributes, outcome, period)

    def client_without_try(self) -> ReadableSpan:
        ended = self._ended
        outcome = _Outcome(ended.status, ended.flag, ended.error, fails_from=400)
        attributes = self._common() | self._to()
        return self._span(ended.span_id, SpanKind.CLIENT, attributes, outcome, (0.0, ended.duration))

    def _common(self) -> Attributes:
        ended = self._ended
        known = self._method in _METHODS
        attributes: Attributes = {
            "http.request.method": self._method if known else "_OTHER",
            "network.protocol.version": ended.protocol.removeprefix("HTTP/"),
            "meshlet.listener": ended.listener_name,
        }
        if not known:
            attributes["http.request.method_original"] = self._method
        if ended.route_label:
            attributes["meshlet.route"] = ended.route_label
        if ended.cluster_name:
            attributes["meshlet.cluster"] = ended.cluster_name
        if ended.request_id is not None:
            attributes["meshlet.request_id"] = _text(ended.request_id)
        return attributes | self._server()

    def _server(self) -> Attributes:
        """Say what server was asked for: by its name where the request has one, else where it was accepted."""
        ended = self._ended
        authority = ended.target if ended.method == b"CONNECT" else ended.host
        if not authority:
            return _address("server", ended.local)
        attributes = _address("server", _text(authority))
        return {"server.port": 443 if ended.scheme == b"https" else 80} | attributes

    def _to(self) -> Attributes:
        """Say where a client's request goes, as its URL."""
        ended = self._ended
        authority = _text(ended.host) if ended.host else ended.local
        scheme = _text(ended.scheme)
        if ended.method == b"CONNECT":
            return {"url.full": f"{scheme}://{self._target}"}
        path, mark, query = self._target.partition("?")
        return {"url.full": f"{scheme}://{authority}{'' if path == '*' else path}{mark}{query}"}

    def _span(
        self, span_id: bytes, kind: SpanKind, attributes: Attributes, outcome: _Outcome, period: tuple[float, float]
    ) -> ReadableSpan:
        ended = self._ended
        if outcome.status:
            attributes["http.response.status_code"] = outcome.status
        if outcome.flag:
            attributes["meshlet.response_flags"] = outcome.flag
        status = Status(StatusCode.UNSET)
        if outcome.error_type:
            attributes["error.type"] = outcome.error_type
            # Nothing is said where the status code says it all.
            status = Status(StatusCode.ERROR, outcome.reason or None)
        elif outcome.reason:
            attributes["meshlet.reason"] = outcome.reason
        name = str(attributes["http.request.method"]) if self._method in _METHODS else "HTTP"
        route = attributes.get("http.route")
        parent = None
        if ended.parent_id is not None:
            parent = SpanContext(self._trace_id, int(ended.parent_id, 16), is_remote=True, trace_flags=_FLAGS)
        began, over = period
        start = int(ended.started_wall * 1e9)
        return ReadableSpan(
            name=f"{name} {route}" if route else name,
            context=SpanContext(
                self._trace_id, int(span_id, 16), is_remote=False, trace_flags=_FLAGS, trace_state=self._state
            ),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=status,
            start_time=start + int(began * 1e9),
            end_time=start + int(max(began, over) * 1e9),
            instrumentation_scope=self._scope,
        )


def _address(prefix: str, address: str) -> Attributes:
    """Split `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a Unix socket's path into the two attributes."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        path = address.removeprefix("unix:")  # a client has none
        return {f"{prefix}.address": path} if path else {}
    attributes: Attributes = {f"{prefix}.address": match["host"] or match["ipv6"] or ""}
    if match["port"] is not None:
        attributes[f"{prefix}.port"] = int(match["port"])
    return attributes


def _trace_state(header: bytes | None) -> TraceState | None:
    members = [member.partition("=")[::2] for member in _text(header).split(",")] if header is not None else []
    if not members or not all(_TRACESTATE_KEY.fullmatch(key) for key, _ in members):
        return None
    return TraceState(members)


def _text(data: bytes) -> str:
    # Targets and field values may hold any byte; protobuf's strings are UTF-8.
    return data.decode("utf-8", "replace")
