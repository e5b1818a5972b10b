"""Reads a HAR file for `meshlet replay`: what of it can be sent again, and what not, and why."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from meshlet.telemetry.redact import REDACTED

_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/?#*]*)(?P<target>[^#]*)", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_HIDDEN_PAIR = re.compile(rf"(?:\A|(?<=[&;]))(?P<name>[^=&;]*)=[^&;]*?{re.escape(REDACTED)}[^&;]*(?:[&;]|\Z)")
_HIDDEN_PATH_PAIR = re.compile(rf"[;&](?P<name>[^=;&/]*)={re.escape(REDACTED)}(?=[;&/]|\Z)")

#: methods that only read (RFC 9110 section 9.2.1)
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: fields of one connection, and those that frame the body; they are made anew
_OWN = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: what names the recorded request; the replayed one is another
_IDENTITY = frozenset({"b3", "traceparent", "tracestate", "x-request-id"})


class Recorded(NamedTuple):
    """A request that can be sent again."""

    number: int  # its place in the file, from 1
    after: float  # seconds after the first request of the file
    method: str
    host: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int  # of the recorded response; 0 where there was none


class Recording(NamedTuple):
    """What a file holds."""

    requests: list[Recorded]
    skipped: Counter[str]  # requests that are not sent, by reason
    cut: int  # of these, those whose bodies are not all there
    hidden: Counter[str]  # fields and parameters that are left out because their values are hidden


class HarError(ValueError):
    """The file is no HAR."""


class _NotSentError(Exception):
    """The reason why one request is not sent."""


class _CutError(_NotSentError):
    """Its body is not all there."""


def read(path: str, *, unsafe: bool, allow_cut: bool) -> Recording:
    """Read a file. Raises OSError or HarError."""
    try:
        har = json.loads(Path(path).read_bytes())
        entries = har["log"]["entries"]
        times = [_time(entry) for entry in entries]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise HarError("not a HAR file: expected JSON with log.entries, each with startedDateTime") from error
    recording = Recording([], Counter(), 0, Counter())
    cut = 0
    first = min(times, default=0.0)
    for number, (entry, when) in enumerate(zip(entries, times, strict=True), 1):
        try:
            recorded = _recorded(entry, number, when - first, recording.hidden, allow_cut=allow_cut, unsafe=unsafe)
            recording.requests.append(recorded)
        except _NotSentError as error:
            recording.skipped[str(error)] += 1
            cut += isinstance(error, _CutError)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise HarError(f"log.entries[{number - 1}]: not a request as HAR has it ({error!r})") from error
    recording.requests.sort(key=lambda request: request.after)
    return recording._replace(cut=cut)


def _time(entry: Any) -> float:
    return datetime.fromisoformat(entry["startedDateTime"]).timestamp()


def _recorded(
    entry: Any, number: int, after: float, hidden: Counter[str], *, allow_cut: bool, unsafe: bool
) -> Recorded:
    request = entry["request"]
    method = request["method"]
    status = int(entry["response"]["status"])
    if method == "CONNECT" or status == HTTPStatus.SWITCHING_PROTOCOLS:
        raise _NotSentError("it began a tunnel")
    if not _TOKEN.fullmatch(method):
        raise _NotSentError("its method is none")
    if method not in SAFE and not unsafe:
        raise _NotSentError(f"{method} may change something; --unsafe sends it")
    url = _URL.fullmatch(request["url"])
    if url is None:
        raise _NotSentError("its URL is none")
    target = _without_hidden(url["target"] or "/", hidden)
    if not target.startswith("/") and not (target == "*" and method == "OPTIONS"):
        target = "/" + target
    body = _body(request, allow_cut=allow_cut)
    headers = tuple(_headers(request["headers"], hidden))
    # A path may hold raw UTF-8, which the client here does not send.
    return Recorded(number, after, method, url["authority"], quote(target, safe=_ASCII), headers, body, status)


def _without_hidden(target: str, hidden: Counter[str]) -> str:
    """Return the target without the parameters whose values are hidden."""
    if REDACTED not in target:
        return target

    def leave_out(match: re.Match[str]) -> str:
        hidden[f"{match['name']} in the URL"] += 1
        return ""

    path, _, query = target.partition("?")
    query = _HIDDEN_PAIR.sub(leave_out, query).rstrip("&;")
    return _HIDDEN_PATH_PAIR.sub(leave_out, path) + (f"?{query}" if query else "")


def _headers(fields: Any, hidden: Counter[str]) -> list[tuple[str, str]]:
    kept = []
    for field in fields:
        name, value = field["name"], field["value"]
        low = name.lower()
        if low in _OWN or low in _IDENTITY or low.startswith(("x-b3-", ":")):
            continue  # with a colon: the pseudo fields of HTTP/2, in files of browsers
        if REDACTED in value:
            hidden[low] += 1
        elif _TOKEN.fullmatch(name) and not re.search(r"[\r\n\0]", value):
            kept.append((name, value))
    return kept


def _body(request: Any, *, allow_cut: bool) -> bytes:
    post = request.get("postData")
    size = request.get("bodySize", -1)
    if post is None:
        if size > 0 and not allow_cut:
            raise _CutError("its body was not recorded; --allow-cut sends it without")
        return b""
    if (post.get("_cut") or post.get("_redacted")) and not allow_cut:
        raise _CutError("its body was cut, not recorded, or has hidden parts; --allow-cut sends what there is")
    text = post.get("text", "")
    if post.get("_encoding") == "base64" or post.get("encoding") == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise _NotSentError("its body is not the base64 that it is said to be") from error
    encoded: bytes = text.encode("utf-8", "surrogatepass")
    return encoded
