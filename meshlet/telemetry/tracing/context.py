"""Trace context on its way through a proxy: W3C Trace Context (level 2) and B3, read and written as header lines.

https://www.w3.org/TR/trace-context-2/ and https://github.com/openzipkin/b3-propagation. What is invalid is dropped,
never mended: whoever comes next would read it differently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from meshlet.http.grammar import OWS

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLED = 0x01
#: the last seven bytes of the trace's id are random
RANDOM = 0x02

# A later version may have more fields behind another dash (section "Versioning of traceparent"); ff is forbidden.
_TRACEPARENT = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?",
    re.DOTALL,
)
_MEMBER = re.compile(rb"(?P<key>[a-z0-9][a-z0-9_\-*/@]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MOST_MEMBERS = 32
_W3C_FIELDS = frozenset({b"traceparent", b"tracestate"})

_B3_TRACE = rb"(?:(?!0{16})[0-9a-f]{16}|(?!0{32})[0-9a-f]{32})"
_B3_SPAN = rb"(?!0{16})[0-9a-f]{16}"
_B3 = re.compile(
    rb"(?P<decision>[01d])|(?P<trace>%b)-(?P<span>%b)(?:-(?P<state>[01d])(?:-%b)?)?" % (_B3_TRACE, _B3_SPAN, _B3_SPAN)
)
_B3_TRACE_ID = re.compile(_B3_TRACE)
_B3_SPAN_ID = re.compile(_B3_SPAN)
# Tracers from before there was a specification said it in words.
_B3_DECISIONS = {b"1": b"1", b"0": b"0", b"true": b"1", b"false": b"0"}


class Forms(NamedTuple):
    """How a context is written."""

    w3c: bool = True
    single: bool = False  # `b3`
    multi: bool = False  # `x-b3-traceid` and its like
    short: bool = False  # B3 ids of traces with 64 bits
    debug: bool = False  # B3: sampled, whatever anybody's ratio says


#: what most of the world writes
W3C = Forms()


class Received(NamedTuple):
    """What a peer sent. Without ids it is a decision about a trace that is still to begin."""

    trace_id: bytes | None  # 32 digits
    parent_id: bytes | None  # 16 digits
    flags: int | None  # of W3C; None where the decision is ours
    tracestate: bytes | None
    forms: Forms  # it came in


class Trace:
    """The place of one request in a trace. `sampled` and the ids are as they are passed on."""

    __slots__ = ("_forms", "_tail", "parent_id", "sampled", "span_id", "trace_id", "tracestate")

    def __init__(
        self,
        trace_id: bytes,
        parent_id: bytes | None,
        span_id: bytes,
        sampled: bool,
        tail: bytes,
        tracestate: bytes | None = None,
        forms: Forms | None = None,
    ) -> None:
        self.trace_id = trace_id  # 32 hexadecimal digits, lower case
        self.parent_id = parent_id  # 16, the span that called us; None where the trace begins here
        self.span_id = span_id  # 16, ours
        self.sampled = sampled
        self.tracestate = tracestate
        self._tail = tail  # as `tail_of` makes it
        self._forms = forms  # None: W3C alone

    def __repr__(self) -> str:
        return f"<Trace {self.trace_id.decode()} span={self.span_id.decode()} sampled={self.sampled}>"

    def renew(self, span_id: bytes) -> None:
        """Go by another span from here on: the next attempt's."""
        self.span_id = span_id

    def lines(self) -> bytes:
        """Return the header lines to send, each ending in CRLF."""
        if self._forms is None:
            return b"traceparent: 00-%b-%b-%b" % (self.trace_id, self.span_id, self._tail)
        return self._in_forms(self._forms)

    def _in_forms(self, forms: Forms) -> bytes:
        lines = b""
        if forms.w3c:
            lines = b"traceparent: 00-%b-%b-%b" % (self.trace_id, self.span_id, self._tail)
        trace_id = self.trace_id[16:] if forms.short else self.trace_id
        state = b"d" if forms.debug else b"%d" % self.sampled
        if forms.single:
            parent = b"-" + self.parent_id if self.parent_id is not None else b""
            lines += b"b3: %b-%b-%b%b\r\n" % (trace_id, self.span_id, state, parent)
        if forms.multi:
            lines += b"x-b3-traceid: %b\r\nx-b3-spanid: %b\r\n" % (trace_id, self.span_id)
            if self.parent_id is not None:
                lines += b"x-b3-parentspanid: %b\r\n" % self.parent_id
            # Debug says that it is sampled, so that must not be said as well.
            lines += b"x-b3-flags: 1\r\n" if forms.debug else b"x-b3-sampled: %b\r\n" % state
        return lines


_TAILS = tuple(b"%02x\r\n" % flags for flags in range(4))


def tail_of(flags: int, tracestate: bytes | None) -> bytes:
    """Return the end of a `traceparent` line, from its flags on, and the line of `tracestate`."""
    if tracestate is None:
        return _TAILS[flags]
    return b"%02x\r\ntracestate: %b\r\n" % (flags, tracestate)


def read(lines: Sequence[bytes]) -> Received | None:
    """Read the trace fields of a request, raw lines in the order they came; None where no valid context is among them.

    W3C wins over B3, and B3 in one field over B3 in several; the forms are all that came and are valid.
    """
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(OWS))
    w3c = _read_w3c(fields)
    if fields.keys() <= _W3C_FIELDS:
        return w3c
    single = _read_b3(fields.get(b"b3"))
    multi = _read_b3_multi(fields)
    found = w3c or single or multi
    if found is None:
        return None
    return found._replace(
        forms=found.forms._replace(w3c=w3c is not None, single=single is not None, multi=multi is not None)
    )


def _read_w3c(fields: dict[bytes, list[bytes]]) -> Received | None:
    values = fields.get(b"traceparent")
    if values is None or len(values) > 1:
        return None
    match = _TRACEPARENT.fullmatch(values[0])
    if match is None or (match["more"] is not None and match["version"] == b"00"):
        return None
    # Other flags are not ours to pass on: "Vendors MUST set those to zero".
    flags = int(match["flags"], 16) & (SAMPLED | RANDOM)
    state = fields.get(b"tracestate")
    tracestate = read_tracestate(state) if state is not None else None
    return Received(match["trace"], match["span"], flags, tracestate, W3C)


def read_tracestate(values: Sequence[bytes]) -> bytes | None:
    """Join the fields' values, in their order, into one; None where a member is invalid, or there are none or too many.

    Of members with the same key the first stays, which is the latest (section "Combined Header Value").
    """
    members: dict[bytes, bytes] = {}
    count = 0
    for member in b",".join(values).split(b","):
        member = member.strip(OWS)  # noqa: PLW2901
        if not member:
            continue
        count += 1
        match = _MEMBER.fullmatch(member)
        if match is None or count > _MOST_MEMBERS:
            return None
        members.setdefault(match["key"], member)
    return b",".join(members.values()) or None


def _read_b3(values: list[bytes] | None) -> Received | None:
    if values is None or len(values) > 1:
        return None
    match = _B3.fullmatch(values[0])
    if match is None:
        return None
    return _from_b3(match["trace"], match["span"], match["decision"] or match["state"])


def _read_b3_multi(fields: dict[bytes, list[bytes]]) -> Received | None:
    values = [
        fields.get(name)
        for name in (b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags")
    ]
    if any(value is not None and len(value) > 1 for value in values):
        return None
    trace_id, span_id, parent_id, sampled, flags = [value[0] if value is not None else None for value in values]
    state: bytes | None = None
    if sampled is not None:
        state = _B3_DECISIONS.get(sampled.lower())
        if state is None:
            return None
    if flags == b"1":
        state = b"d"
    if trace_id is None and span_id is None:
        return _from_b3(None, None, state) if state is not None else None
    if trace_id is None or span_id is None:
        return None
    if _B3_TRACE_ID.fullmatch(trace_id) is None or _B3_SPAN_ID.fullmatch(span_id) is None:
        return None
    if parent_id is not None and _B3_SPAN_ID.fullmatch(parent_id) is None:
        return None
    return _from_b3(trace_id, span_id, state)


def _from_b3(trace_id: bytes | None, span_id: bytes | None, state: bytes | None) -> Received:
    short = trace_id is not None and len(trace_id) == 16
    flags = None if state is None else 0 if state == b"0" else SAMPLED
    return Received(
        trace_id.rjust(32, b"0") if trace_id is not None else None,
        span_id,
        flags,
        None,
        Forms(short=short, debug=state == b"d"),
    )
