"""Hides secrets in JSON by their keys, be it whole, cut off, or not quite JSON.

What a tap has of a body may end anywhere, and peers send what they like; so nothing is parsed here. A key is whatever
stands in quotes before a colon. Which quotes open and which close need not be known for that, so nothing that comes
before can lead it astray: neither a line of JSON Lines that is broken nor the script around an object. In valid JSON it
finds the keys, and besides them what only looks so within strings, such as JSON in JSON.

It takes time in proportion to the size, and no recursion.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REDACTED = b"[redacted]"
_KEY = re.compile(rb'"(?P<name>[^"]*)"\s*:\s*')
# Strings come whole, as far as they are there; brackets and commas one by one; the rest does not matter.
_PIECE = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[^"{}\[\],]++|.', re.DOTALL)
_END_OF_STRING = re.compile(rb'(?<!\\)(?:\\\\)*+"')
_END_OF_KEY = re.compile(rb'"\s*:\s*')
_ESCAPE = re.compile(r"\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<char>.?))", re.DOTALL)
_LEVELS = 3  # of JSON in JSON whose keys may be written with escapes
_CLOSERS = {b"{": b"}", b"[": b"]"}
_ENDS = (b",", b"}", b"]")
_BACKSLASH = ord("\\")


def redact_json(data: bytes, hides: Callable[[str], bool]) -> bytes:
    """Return the text with the values of those keys replaced that `hides` says; objects and arrays as a whole."""
    shown: list[bytes] = []
    done = 0
    for start, end, shown_instead in _secrets(data, hides):
        if end > start:
            shown += data[done:start], shown_instead
            done = end
    return b"".join((*shown, data[done:])) if done else data


def _secrets(data: bytes, hides: Callable[[str], bool]) -> Iterator[tuple[int, int, bytes]]:
    """Yield where the values of secrets begin and end, and what stands there instead."""
    done = at = 0  # keys are looked for from `at` on, and do not begin before `done`
    while (match := _KEY.search(data, at)) is not None:
        closing = at = match.end("name")  # and perhaps the next one's opening quote
        nested = _is_escaped(data, closing)
        opening = match.start() if nested else _opening(data, match.start(), done)
        if not any(map(hides, _readings(data[opening + 1 : closing]))):
            continue
        start = match.end()
        if nested:
            end = _end_of_string(data, start)
            yield start, end, _REDACTED
            if (colon := _END_OF_KEY.match(data, end)) is None:
                done = at = max(at, end)
                continue
            start = colon.end()  # the string is a key itself
        end = _end_of_value(data, start)
        yield start, end, b'"%b"' % _REDACTED
        if end > start:
            done = at = end


def _readings(key: bytes) -> Iterator[str]:
    """Return what a key may be: without its escapes, and the escapes of JSON in JSON. A peer may skip wrong bytes."""
    text = key.decode(errors="ignore")
    for _ in range(_LEVELS):
        text = _ESCAPE.sub(_unescaped, text)
        yield text
        if "\\" not in text:
            return


def _unescaped(escape: re.Match[str]) -> str:
    if escape["code"]:
        return chr(int(escape["code"], 16))
    return " " if escape["char"] in "bfnrt" else escape["char"]


def _opening(data: bytes, quote: int, start: int) -> int:
    """Return where the string begins that `quote` belongs to: the quote itself may be a character of it."""
    while quote > start and _is_escaped(data, quote):
        quote = data.rfind(b'"', start, quote)
    return max(quote, start - 1)


def _is_escaped(data: bytes, at: int) -> bool:
    before = at
    while before and data[before - 1] == _BACKSLASH:
        before -= 1
    return (at - before) % 2 == 1


def _end_of_string(data: bytes, start: int) -> int:
    """Return where a string ends that `start` is in. What is JSON in JSON is hidden so far: its brackets may lie."""
    quote = _END_OF_STRING.search(data, start)
    return quote.end() - 1 if quote is not None else len(data)


def _end_of_value(data: bytes, start: int) -> int:
    """Return where the value ends: at a comma or a bracket that are not its own, or with the text."""
    end = len(data)
    closers: list[bytes] = []
    for piece in _PIECE.finditer(data, start):
        text = piece[0]
        if text in _CLOSERS:
            closers.append(_CLOSERS[text])
        elif closers:
            if text == closers[-1]:  # any other bracket is a mistake, and hidden
                closers.pop()
        elif text in _ENDS:
            end = piece.start()
            break
    return start + len(data[start:end].rstrip())
