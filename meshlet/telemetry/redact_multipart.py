"""Hides secrets in multipart/form-data (RFC 7578) by the names of its parts, also where it is cut off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_REDACTED = b"[redacted]"
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>[^\s\";]+))", re.IGNORECASE)
_HEAD = re.compile(rb"^content-disposition[ \t]*:", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
# `name*` is not allowed there (section 4.2), but read by some.
_NAME = re.compile(rb'(?<![\w-])name\*?\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)|(?P<plain>[^\s;]*))', re.IGNORECASE)


def redact_multipart(data: bytes, content_type: str, hides: Callable[[str], bool]) -> bytes:
    """Return the form with the values of those parts replaced whose names `hides` says."""
    found = _BOUNDARY.search(content_type)
    # Without a boundary nobody else can tell either; then whatever looks like one ends a value.
    boundary = b"\n--" + ((found["quoted"] or found["plain"]).encode() if found is not None else b"")
    shown: list[bytes] = []
    done = at = 0
    while (head := _HEAD.search(data, at)) is not None:
        blank = _BLANK_LINE.search(data, head.end())
        if blank is None:
            break
        at = blank.end()
        if not any(hides(_name(each)) for each in _NAME.finditer(data, head.end(), at)):
            continue
        end = data.find(boundary, at - 1)  # an empty value has no line of its own
        end = len(data) if end < 0 else end - (data[end - 1 : end] == b"\r")
        if end > at:
            shown += data[done:at], _REDACTED
            done = at = end
    return b"".join((*shown, data[done:])) if done else data


def _name(match: re.Match[bytes]) -> str:
    # A quote in it is escaped by a backslash or as %22; neither is a letter.
    return (match["quoted"] or match["plain"] or b"").decode(errors="ignore")
