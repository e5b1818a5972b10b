"""The access log: one line for each request and TCP connection.

An entry is a plain tuple, in this order:

| field | type | |
|---|---|---|
| start | float | unix seconds |
| duration | float | seconds |
| listener | str | its name |
| cluster | str or None | its name, None where no route matched |
| protocol | str | `HTTP/1.1`, `HTTP/1.0`, `TCP` |
| method, target, host | bytes or None | as the client sent them |
| status | int | 0 for TCP |
| flag | str | response flags, empty where all went well |
| received, sent | int | bytes of body from the client and to it |
| downstream | str | the client's address |
| upstream | str or None | the endpoint's address |
| request_id | bytes or None | |
| attempts | int | how often the request was sent upstream |

JSON keys are Envoy's names of these fields. A line of text reads:
`[start] "method target protocol" status flags received sent duration-ms "downstream" "request id" "host"
"upstream" listener cluster attempts`, with `-` for what is not there.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from itertools import islice
from typing import Literal

import msgspec

from meshlet.telemetry.line_writer import LineWriter
from meshlet.telemetry.log import timestamp

Entry = tuple[
    float, float, str, str | None, str, bytes | None, bytes | None, bytes | None,
    int, str, int, int, str, str | None, bytes | None, int,
]  # fmt: skip

_CAPACITY = 16384  # entries waiting to be formatted
_INTERVAL = 0.1  # seconds
# A batch takes about half a millisecond to format; between two of them the loop serves its connections.
_BATCH = 128

# As in nginx: what is not printable ASCII, the quote and the backslash become \xHH, so a field cannot end early.
_PLAIN = re.compile(rb"[ !#-\[\]-~]*").fullmatch
_QUOTED = {code: f"\\x{code:02x}" for code in range(256) if not 0x20 <= code < 0x7F or chr(code) in '"\\'}


class AccessLog:
    """Takes entries in O(1) and writes them as lines in batches, off the path of the requests.

    Entries that find no room, because the reader of the log is too slow, are dropped and counted.
    `shared`: other processes write to the same path (see LineWriter).
    Raises OSError where `path` cannot be opened. Belongs to the event loop it is made in.
    """

    def __init__(self, path: str, format: Literal["json", "text"] = "json", *, shared: bool = False) -> None:  # noqa: A002
        self._writer = LineWriter(path, shared=shared)
        self._format = _json if format == "json" else _text
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry] = deque()
        self._flush_bound = self._flush
        self._timer: asyncio.Handle | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Entries that were never written."""
        return self._dropped + self._writer.lines_lost

    @property
    def errors(self) -> int:
        """Writes that failed."""
        return self._writer.errors

    def record(self, entry: Entry) -> None:
        """Note one entry; called on the path of every request."""
        if len(self._waiting) >= _CAPACITY:
            self._dropped += 1
            return
        self._waiting.append(entry)
        if self._timer is None:
            self._timer = self._loop.call_later(_INTERVAL, self._flush_bound)

    def reopen(self) -> None:
        """Continue in a new file after a rotation; raises OSError and keeps the old one where it cannot be opened."""
        self._drain()
        self._writer.reopen()

    async def close(self, grace: float = 1.0) -> None:
        """Write what waits, for at most `grace` seconds. Nothing may be recorded any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._drain()
        await self._writer.close(grace)

    def _flush(self) -> None:
        self._write_batch()
        self._timer = self._loop.call_soon(self._flush_bound) if self._waiting else None

    def _drain(self) -> None:
        while self._waiting:
            self._write_batch()

    def _write_batch(self) -> None:
        waiting = self._waiting
        if self._writer.full:
            self._dropped += len(waiting)
            waiting.clear()
            return
        batch = list(islice(waiting, _BATCH))
        for _ in batch:
            waiting.popleft()
        self._writer.write(self._format(batch))


class _Line(msgspec.Struct):
    start_time: str
    duration: int
    listener: str
    upstream_cluster: str | None
    protocol: str
    method: str | None
    path: str | None
    authority: str | None
    response_code: int
    response_flags: str
    bytes_received: int
    bytes_sent: int
    downstream_remote_address: str
    upstream_host: str | None
    request_id: str | None
    attempts: int


_encoder = msgspec.json.Encoder()


def _json(batch: list[Entry]) -> bytes:
    return _encoder.encode_lines(
        _Line(
            timestamp(start),
            int(duration * 1000),
            listener,
            cluster,
            protocol,
            _decode(method),
            _decode(target),
            _decode(host),
            status,
            flag or "-",
            received,
            sent,
            downstream,
            upstream,
            _decode(request_id),
            attempts,
        )
        for (
            start, duration, listener, cluster, protocol, method, target, host, status, flag, received, sent,
            downstream, upstream, request_id, attempts,
        ) in batch
    )  # fmt: skip


def _text(batch: list[Entry]) -> bytes:
    return "".join(
        f'[{timestamp(start)}] "{_quote(method)} {_quote(target)} {protocol}" {status} {flag or "-"} '
        f'{received} {sent} {int(duration * 1000)} "{downstream}" "{_quote(request_id)}" "{_quote(host)}" '
        f'"{upstream or "-"}" {listener} {cluster or "-"} {attempts}\n'
        for (
            start, duration, listener, cluster, protocol, method, target, host, status, flag, received, sent,
            downstream, upstream, request_id, attempts,
        ) in batch
    ).encode("ascii", "backslashreplace")  # fmt: skip


def _decode(value: bytes | None) -> str | None:
    # ASCII, so that no byte becomes one of the characters beyond it which some readers take for a line's end.
    return None if value is None else value.decode("ascii", "backslashreplace")


def _quote(value: bytes | None) -> str:
    if value is None:
        return "-"
    return value.decode("ascii") if _PLAIN(value) else value.decode("latin-1").translate(_QUOTED)
