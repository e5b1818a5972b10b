"""A body as a tap shows it: as text where it is text, else in base64, and without its secrets."""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from typing import TYPE_CHECKING, Any

from meshlet.http.head import field_value
from meshlet.telemetry.redact import REDACTED, as_text, redact_pairs
from meshlet.telemetry.redact_json import redact_json
from meshlet.telemetry.redact_multipart import redact_multipart

if TYPE_CHECKING:
    from meshlet.telemetry.redact import Redactor
    from meshlet.telemetry.tap.capture import Message

# The media types that are text although they are not called so.
_TEXT = re.compile(
    r"text/.*|.*[/+](?:json|xml|yaml)|"
    r"application/(?:ecmascript|graphql|javascript|x-javascript|x-ndjson|x-www-form-urlencoded|x-yaml)"
)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)")
# Control characters that text does not have; a terminal would obey them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FORM = "application/x-www-form-urlencoded"
# What has names for its values, which are always text.
_NAMED_TEXT = re.compile(rf".*json.*|{_FORM}")
# What may have any; it may also come without a type.
_NAMED = re.compile(rf"{_NAMED_TEXT.pattern}|multipart/.*|")
_LOOKS_LIKE_FORM = re.compile(rb"[\w.%+\[\]-]+=[^\s&]*(?:&|\Z)")
# Charsets in which a byte that is a quote or a backslash in ASCII is always that.
_LIKE_ASCII = re.compile(r"utf-?8|(?:us-)?ascii|iso-?8859-[0-9]+|latin-?1|(?:windows-|cp)125[0-9]")
_INFLATABLE = frozenset({"deflate", "gzip", "x-gzip"})
_ANY_WRAPPER = 32 + zlib.MAX_WBITS  # gzip's or zlib's


def shown(message: Message, size: int, limit: int, redactor: Redactor) -> dict[str, Any]:
    """Return what there is of a body of `size` bytes, at most `limit` of them.

    `cut`: not all of it is there; `redacted`: something of it is hidden.
    """
    data = bytes(message.body[:limit])
    cut = len(data) < size or not message.whole
    content_type = _field(message, b"content-type")
    coding = _field(message, b"content-encoding").lower()
    if coding not in {"", "identity"}:
        return _coded(data, coding, content_type, redactor, cut=cut, limit=limit)
    hidden = _without_secrets(data, content_type, redactor)
    if hidden is None:
        return _withheld(cut=cut)
    body = _written(hidden, content_type, cut=cut)
    return body if hidden == data else body | {"redacted": True}


def _coded(data: bytes, coding: str, content_type: str, redactor: Redactor, *, cut: bool, limit: int) -> dict[str, Any]:
    """Return a compressed body as it came, unless there are secrets in it: whoever sees it can inflate it, too."""
    as_it_came = {"cut": cut, "base64": base64.b64encode(data).decode("ascii")}
    named = data and _NAMED.fullmatch(_media_type(content_type)) is not None
    plain, all_of_it = _inflated(data, limit) if coding in _INFLATABLE else (None, False)
    if plain is None:
        return _withheld(cut=cut) if named else as_it_came
    hidden = _without_secrets(plain, content_type, redactor)
    if hidden is None:
        return _withheld(cut=cut)
    if hidden == plain and (all_of_it or not named):
        return as_it_came
    return _written(hidden, content_type, cut=cut or not all_of_it) | {"redacted": True}


def _inflated(data: bytes, limit: int) -> tuple[bytes | None, bool]:
    """Return what was compressed, at most `limit` bytes, and whether that is all; None where it was not compressed."""
    inflater = zlib.decompressobj(_ANY_WRAPPER)
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error:
        return None, False
    return plain[:limit], len(plain) <= limit and not inflater.unconsumed_tail and not inflater.unused_data


def _withheld(*, cut: bool) -> dict[str, Any]:
    return {"cut": cut, "text": REDACTED, "redacted": True}


def _without_secrets(data: bytes, content_type: str, redactor: Redactor) -> bytes | None:
    """Return a body without its secrets; None where it cannot be told what is in it."""
    media_type = _media_type(content_type)
    if _NAMED_TEXT.fullmatch(media_type) and (b"\0" in data or not _LIKE_ASCII.fullmatch(_charset(content_type))):
        return None
    if media_type.startswith("multipart/"):
        data = redact_multipart(data, content_type, redactor.hides)
    elif _LOOKS_LIKE_FORM.match(data):
        data = redact_pairs(data, redactor.hides)
    # Whatever it is called: scripts send JSON as text, and curl as a form.
    data = redact_json(data, redactor.hides)
    return redact_pairs(data, redactor.hides) if media_type == _FORM else data


def _written(data: bytes, content_type: str, *, cut: bool) -> dict[str, Any]:
    text = _decoded(data, content_type, cut=cut)
    if text is None:
        return {"cut": cut, "base64": base64.b64encode(data).decode("ascii")}
    return {"cut": cut, "text": text}


def _decoded(data: bytes, content_type: str, *, cut: bool) -> str | None:
    """Return what can be shown as text; None where it cannot."""
    media_type = _media_type(content_type)
    if media_type and not _TEXT.fullmatch(media_type):
        return None
    if _charset(content_type) not in {"utf-8", "utf8", "us-ascii"}:
        return None
    try:
        # The end may be within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _charset(content_type: str) -> str:
    found = _CHARSET.search(content_type.lower())
    return found[1] if found is not None else "utf-8"


def _field(message: Message, name: bytes) -> str:
    return as_text((field_value(message.lines, name) if message.lines else None) or b"")
