"""Requests as HAR 1.2, the format that browsers' developer tools read and write.

http://www.softwareishard.com/blog/har-12-spec/ describes it; names of our own begin with an underscore, as it asks.
"""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

import meshlet

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: what an entry tells that HAR has no name for; under `_meshlet`
_OWN = (
    "request_id",
    "trace_id",
    "listener",
    "direction",
    "client",
    "route",
    "cluster",
    "endpoint",
    "attempts",
    "tries",
    "acted",
    "flag",
    "error",
    "tunnel",
    "aborted",
)


class HarFile:
    """Writes a HAR file entry by entry; it takes its place, whole and valid, when it is closed.

    Only its owner can read it. Raises OSError.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        descriptor, self._temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        self._file = os.fdopen(descriptor, "wb")
        self.count = 0
        creator = {"name": "meshlet", "version": meshlet.__version__}
        self._size = 0  # bytes that are whole entries: an interrupt may come within a write
        self._write(b'{"log":{"version":"1.2","creator":%b,"entries":[' % msgspec.json.encode(creator))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, Exception) and not self.count:
            self._file.close()
            Path(self._temporary).unlink()  # nothing came of it, so what is there stays
            return
        try:
            with self._file:
                self._file.seek(self._size)
                self._file.truncate()
                self._file.write(b"\n]}}\n")
            Path(self._temporary).replace(self._path)
        except BaseException:
            Path(self._temporary).unlink(missing_ok=True)
            raise

    def add(self, entry: dict[str, Any]) -> None:
        """Write one request of a tap."""
        self._write((b",\n" if self.count else b"\n") + msgspec.json.encode(har_entry(entry)))
        self.count += 1

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)


def har_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the HAR entry of a tap's."""
    started = datetime.fromtimestamp(entry["time"], UTC)
    host = entry["host"] or "unknown.invalid"  # an HTTP/1.0 client need not say
    target = host if entry["method"] == "CONNECT" else f"{host}{entry['target']}"
    return {
        "startedDateTime": started.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "time": _milliseconds(entry["duration"]),
        "request": _request(entry, f"{entry['scheme']}://{target}"),
        "response": _response(entry),
        "cache": {},
        "timings": _timings(entry),
        "_meshlet": {name: entry[name] for name in _OWN},
    }


def _request(entry: dict[str, Any], url: str) -> dict[str, Any]:
    request = entry["request"]
    headers = request["headers"]
    query = entry["target"].partition("?")[2]
    made: dict[str, Any] = {
        "method": entry["method"],
        "url": url,
        "httpVersion": entry["protocol"],
        "cookies": [],  # a tap hides them
        "headers": _named(headers),
        "queryString": _named(parse_qsl(query, keep_blank_values=True)),
        "headersSize": -1,
        "bodySize": entry["received"] if not entry["tunnel"] else 0,
    }
    body = request.get("body")
    if entry["received"] and not entry["tunnel"]:
        made["postData"] = {"mimeType": _first(headers, "content-type"), "params": [], "text": "", "_cut": True}
        if body is not None:
            made["postData"].update(_content(body, "_encoding"))
    return made


def _response(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the response; where there was none, the status is 0, as browsers have it."""
    response = entry["response"] or {"headers": [], "reason": ""}
    headers = response["headers"]
    sent = entry["sent"] if not entry["tunnel"] else 0
    content: dict[str, Any] = {"size": sent, "mimeType": _first(headers, "content-type") or "x-unknown"}
    body = response.get("body")
    if body is not None:
        content.update(_content(body, "encoding"))
    return {
        "status": entry["status"],
        "statusText": response["reason"],
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _named(headers),
        "content": content,
        "redirectURL": _first(headers, "location"),
        "headersSize": -1,
        "bodySize": sent,
    }


def _content(body: dict[str, Any], encoding: str) -> dict[str, Any]:
    content: dict[str, Any] = {"text": body["text"]} if "text" in body else {"text": body["base64"], encoding: "base64"}
    content["_cut"] = body["cut"]
    if body.get("redacted"):
        content["_redacted"] = True
    return content


def _timings(entry: dict[str, Any]) -> dict[str, float]:
    """Return send, wait and receive, which add up to the whole time; what is unknown is part of the wait."""
    whole = entry["duration"]
    send = min(entry["request_seconds"] or 0.0, whole)
    responded = entry["response_seconds"]
    wait = (whole if responded is None else max(send, min(responded, whole))) - send
    return {
        "send": _milliseconds(send),
        "wait": _milliseconds(wait),
        "receive": _milliseconds(max(0.0, whole - send - wait)),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _named(pairs: Any) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _values(headers: list[list[str]], name: str) -> list[str]:
    return [value for found, value in headers if found.lower() == name]


def _first(headers: list[list[str]], name: str) -> str:
    return next(iter(_values(headers, name)), "")
