"""The last failed and slow requests, in bounded memory, newest evict oldest.

Recording takes values out and nothing else: they are made readable, redacted and explained when somebody asks.
"""

from __future__ import annotations

from collections import deque
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlet.telemetry.explain.hints import reasons
from meshlet.telemetry.redact import printable, redact_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.config.schema import Explain
    from meshlet.http.attempt import Attempt
    from meshlet.telemetry.record import Record

    Dump = dict[str, Any]

# What is longer is cut. Characters, or bytes.
_LONGEST_TARGET = 1024
_LONGEST_NAME = 256  # host, request id
_LONGEST_ERROR = 512
# Of more than that, the first and the last ones are kept.
_MOST_TRIES = 16
_MOST_ACTED = 16

# What is kept of a request besides the texts whose length others decide: tuple, numbers, short texts; and of a try.
_ENTRY_BYTES = 1024
_TRY_BYTES = 320


class _Entry(NamedTuple):
    """What is kept of one request. The texts are still as they came."""

    size: int  # bytes of all of it
    time: float
    request_id: bytes | None
    trace_id: bytes | None
    listener: str
    direction: str
    protocol: str
    client: str
    method: bytes | None
    target: bytes | None
    host: bytes | None
    status: int
    flag: str
    error: str
    duration: float
    request_seconds: float | None
    response_seconds: float | None
    route: str | None
    cluster: str | None
    endpoint: str | None
    acted: tuple[str, ...]
    received: int
    sent: int
    attempts: int
    tries: tuple[Attempt, ...]
    left_out: int  # tries in the middle of them


class Explanations:
    """At most `config.keep` requests in at most `config.max_bytes`; whoever adds one decides that it is worth it.

    One `add` takes 2 µs (Python 3.11, one try); a request with 30 tries of long errors, all to be cut, 30 µs.
    """

    def __init__(self, config: Explain) -> None:
        self._keep = config.keep
        self._max_bytes = int(config.max_bytes)
        self._bytes = 0
        self._entries: deque[_Entry] = deque()  # oldest first

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """What the entries take, estimated from above."""
        return self._bytes

    def add(self, record: Record) -> None:
        """Keep what `record` tells now."""
        trace = record.trace
        entry = _entry(record, trace.trace_id if trace is not None else None)
        entries = self._entries
        entries.append(entry)
        self._bytes += entry.size
        while self._bytes > self._max_bytes or len(entries) > self._keep:
            self._bytes -= entries.popleft().size

    def find(self, request_id: str) -> list[Dump]:
        """Return what is known about a request, newest last: a client may use an id for several."""
        wanted = request_id.encode("utf-8", "surrogateescape")[:_LONGEST_NAME]
        return [_dump(entry) for entry in self._entries if entry.request_id == wanted]

    def recent(self, limit: int) -> list[Dump]:
        """Return the last ones, newest first."""
        newest = reversed(self._entries)
        return [_dump(entry) for entry, _ in zip(newest, range(limit), strict=False)]


def _entry(record: Record, trace_id: bytes | None) -> _Entry:
    target = record.target
    if target is not None and len(target) > _LONGEST_TARGET:
        target = target[:_LONGEST_TARGET]
    host = record.host
    if host is not None and len(host) > _LONGEST_NAME:
        host = host[:_LONGEST_NAME]
    request_id = record.request_id
    if request_id is not None and len(request_id) > _LONGEST_NAME:
        request_id = request_id[:_LONGEST_NAME]
    error = record.error
    if len(error) > _LONGEST_ERROR:
        error = error[:_LONGEST_ERROR]
    tries = record.tries
    all_tries = len(tries)
    size = _ENTRY_BYTES + getsizeof(target) + getsizeof(host) + getsizeof(request_id) + getsizeof(error)
    if all_tries:
        tries = _bounded(tries)
        for each in tries:
            size += _TRY_BYTES + getsizeof(each.reason)
    return _Entry(
        size,
        record.started_wall,
        request_id,
        trace_id,
        record.listener_name,
        record.direction,
        record.protocol,
        record.remote,
        record.method,
        target,
        host,
        record.status,
        record.flag,
        error,
        record.duration,
        record.request_seconds,
        record.response_seconds,
        record.route_label,
        record.cluster_name,
        record.upstream_host,
        tuple(record.acted[:_MOST_ACTED]),
        record.received,
        record.sent,
        record.attempts,
        tuple(tries),
        all_tries - len(tries),
    )


def _bounded(tries: Iterable[Attempt]) -> list[Attempt]:
    kept = [
        each if len(each.reason) <= _LONGEST_ERROR else each._replace(reason=each.reason[:_LONGEST_ERROR])
        for each in tries
    ]
    if len(kept) > _MOST_TRIES:
        del kept[_MOST_TRIES // 2 : -_MOST_TRIES // 2]
    return kept


def _dump(entry: _Entry) -> Dump:
    dump: Dump = {
        "time": entry.time,
        "request_id": _text(entry.request_id),
        "trace_id": _text(entry.trace_id),
        "listener": entry.listener,
        "direction": entry.direction,
        "protocol": entry.protocol,
        "client": entry.client,
        "method": _text(entry.method),
        "target": printable(redact_target(entry.target)) if entry.target is not None else None,
        "host": _text(entry.host),
        "status": entry.status,
        "flag": entry.flag,
        "error": printable(entry.error),
        "duration": entry.duration,
        "request_seconds": entry.request_seconds,
        "response_seconds": entry.response_seconds,
        "route": entry.route,
        "cluster": entry.cluster,
        "endpoint": entry.endpoint,
        "acted": list(entry.acted),
        "received": entry.received,
        "sent": entry.sent,
        "attempts": entry.attempts,
        "tries_left_out": entry.left_out,
        "tries": [_try_dump(entry, index) for index in range(len(entry.tries))],
    }
    dump["reasons"] = reasons(dump)
    return dump


def _try_dump(entry: _Entry, index: int) -> Dump:
    one = entry.tries[index]
    return {
        "number": index + 1 + (entry.left_out if index >= _MOST_TRIES // 2 else 0),
        "endpoint": one.endpoint,
        "began": one.began,
        "connection": _connection(one),
        "connect": one.connect,
        "first_byte": one.first_byte,
        "ended": one.ended,
        "status": one.status,
        "flag": one.flag,
        "reason": printable(one.reason),
    }


def _connection(one: Attempt) -> str | None:
    """Say what kind of connection the try had; None where it had none, or failed while it waited for it."""
    if one.connect is not None:
        never = one.flag and one.first_byte is None and one.connect >= one.ended - one.began
        return None if never else "new"
    if one.flag in ("UF", "UH", "UO") or one.reason.startswith("no free connection"):
        return None
    return "pooled"


def _text(raw: bytes | None) -> str | None:
    return printable(raw) if raw is not None else None
