"""Where traces begin, go on and end: what an exchange asks for each request while tracing is on."""

from __future__ import annotations

from binascii import hexlify
from typing import TYPE_CHECKING, NamedTuple

from meshlet.http.head import field_value
from meshlet.telemetry.tracing.context import SAMPLED, W3C, Forms, Received, Trace, read, tail_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from meshlet.config.schema import Tracing
    from meshlet.http.attempt import Attempt
    from meshlet.http.head import RequestHead
    from meshlet.telemetry.record import Record
    from meshlet.telemetry.tracing.export import SpanExport

# The right-most seven bytes of a trace's id are what sampling goes by (Trace Context level 2), so that all who know the
# ratio agree on a trace.
_RANDOM_BITS = 56
_RANDOM_MASK = (1 << _RANDOM_BITS) - 1

# Bytes of what clients choose the length of: spans wait in memory while the collector is slow.
_LONGEST_TARGET = 2048
_LONGEST_VALUE = 512

# Not with the flag of level 2 that the id is random: whoever reads level 1 knows one flag, and 01 is what they compare.
_SAMPLED_TAIL = tail_of(SAMPLED, None)
_UNSAMPLED_TAIL = tail_of(0, None)


class Ended(NamedTuple):
    """What spans are made of: the values of a record, taken out while it ends."""

    trace_id: bytes
    parent_id: bytes | None
    span_id: bytes
    tracestate: bytes | None
    inbound: bool
    listener_name: str
    protocol: str
    route_name: str | None
    route_label: str | None
    cluster_name: str | None
    upstream_host: str | None
    remote: str
    remote_host: str
    local: str
    method: bytes
    target: bytes
    host: bytes | None
    scheme: bytes
    request_id: bytes | None
    user_agent: bytes | None
    status: int
    received: int
    sent: int
    flag: str
    error: str
    started_wall: float
    duration: float
    tries: tuple[Attempt, ...]


class Tracer:
    """Traces the requests of one direction.

    `random_bits(n)` returns an int of n random bits, as `random.getrandbits`. Without `export` the context is passed on
    and no span is made.
    """

    __slots__ = ("_export", "_forms", "_inbound", "_random_bits", "_threshold", "sample_errors")

    def __init__(
        self,
        config: Tracing,
        direction: Literal["inbound", "outbound"],
        export: SpanExport | None,
        random_bits: Callable[[int], int],
    ) -> None:
        self._inbound = direction == "inbound"
        self._export = export
        self._random_bits = random_bits
        self._threshold = round((1 - config.sample) * (1 << _RANDOM_BITS))
        forms = Forms("w3c" in config.formats, "b3" in config.formats, "b3-multi" in config.formats)
        self._forms = None if forms == W3C else forms
        #: failed requests end here even where their trace is not sampled
        self.sample_errors = config.sample_errors and export is not None

    def begin(self, head: RequestHead) -> Trace:
        """Find the request's place in its trace, or begin one; take the fields that told it out of `head.lines`."""
        if head.trace is not None:
            return self._continue(head, head.trace)
        # 2^-64 is the chance of an id that is all zero, and thereby invalid: a look at each would cost more.
        bits = self._random_bits(192)
        ids = hexlify(bits.to_bytes(24, "big"))
        if bits & _RANDOM_MASK >= self._threshold:
            return Trace(ids[16:], None, ids[:16], True, _SAMPLED_TAIL, None, self._forms)
        return Trace(ids[16:], None, ids[:16], False, _UNSAMPLED_TAIL, None, self._forms)

    def _continue(self, head: RequestHead, fields: list[bytes]) -> Trace:
        for line in fields:
            if line in head.lines:  # a Connection field may have named it away
                head.lines.remove(line)
        trace_id, parent_id, flags, tracestate, came = read(fields) or _NOTHING
        if trace_id is None:
            trace_id = hexlify(self._random_bits(128).to_bytes(16, "big"))
        if flags is None:
            flags = SAMPLED if int(trace_id, 16) & _RANDOM_MASK >= self._threshold else 0
        forms = None if came is W3C and self._forms is None else self._forms_for(came)
        tail = tail_of(flags, tracestate)
        return Trace(trace_id, parent_id, self._span_id(), bool(flags & SAMPLED), tail, tracestate, forms)

    def _span_id(self) -> bytes:
        return hexlify(self._random_bits(64).to_bytes(8, "big"))

    def _forms_for(self, came: Forms) -> Forms | None:
        ours = self._forms or W3C
        forms = Forms(
            ours.w3c or came.w3c, ours.single or came.single, ours.multi or came.multi, came.short, came.debug
        )
        return forms if forms.single or forms.multi or not forms.w3c else None

    def next_attempt(self, trace: Trace) -> None:
        """Give the trace another span id before a further attempt of its request, where each attempt is a span."""
        if not self._inbound:
            trace.renew(self._span_id())

    def end(self, record: Record, trace: Trace) -> None:
        """Have spans made of a request that has ended, where it is one that is recorded. Never waits.

        Worth a call only where `trace.sampled or tracer.sample_errors`.
        """
        export = self._export
        if export is None or not (trace.sampled or (self.sample_errors and (record.status >= 500 or record.flag))):
            return
        tries = tuple(record.tries)
        spans = 1 if self._inbound else len(tries) or 1
        if export.has_room(spans):
            export.put(self._ended(record, trace, tries), spans)

    def _ended(self, record: Record, trace: Trace, tries: tuple[Attempt, ...]) -> Ended:
        head, state = record.head, trace.tracestate
        agent = field_value(head.lines, b"user-agent") if head is not None else None
        return Ended(
            trace_id=trace.trace_id,
            parent_id=trace.parent_id,
            span_id=trace.span_id,
            tracestate=state if state is None or len(state) <= _LONGEST_VALUE else None,
            inbound=self._inbound,
            listener_name=record.listener_name,
            protocol=record.protocol,
            route_name=record.route_name,
            route_label=record.route_label,
            cluster_name=record.cluster_name,
            upstream_host=record.upstream_host,
            remote=record.remote,
            remote_host=record.remote_host,
            local=record.local,
            method=record.method or b"",
            target=(record.target or b"")[:_LONGEST_TARGET],
            host=_cut(record.host),
            scheme=record.scheme,
            request_id=_cut(record.request_id),
            user_agent=_cut(agent),
            status=record.status,
            received=record.received,
            sent=record.sent,
            flag=record.flag,
            error=record.error,
            started_wall=record.started_wall,
            duration=record.duration,
            tries=tries,
        )


def _cut(value: bytes | None) -> bytes | None:
    return value[:_LONGEST_VALUE] if value is not None else None


#: what a request that came without a valid context is taken for
_NOTHING = Received(None, None, None, None, Forms(w3c=False))
