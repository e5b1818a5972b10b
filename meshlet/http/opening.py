"""What a connection is, by the first bytes of its client.

| the bytes, in the order in which they are looked at            | verdict                              |
|----------------------------------------------------------------|--------------------------------------|
| 0x16 0x03                                                      | TLS                                  |
| the preface of HTTP/2                                          | HTTP2                                |
| `token SP target SP HTTP/1.`, perhaps after some empty lines   | HTTP                                 |
| a line: a method of HTTP, white space, …, `HTTP/` and a digit  | BROKEN                               |
| the same with a target or a line beyond its bound              | BROKEN                               |
| a line: `OPTIONS` …, `RTSP/1.0` and the like                   | TCP                                  |
| a line: a method of HTTP, anything else                        | SUSPECT                              |
| a line: a word, …, `HTTP/1.1` or another number                | SUSPECT                              |
| a token, a target or empty lines beyond their bounds           | SUSPECT                              |
| a control character within a method or an upper-case request   | SUSPECT                              |
| a control character, ` /`                                      | SUSPECT                              |
| what cannot become any of these                                | TCP                                  |
| what still can                                                 | UNKNOWN                              |

A verdict other than UNKNOWN is final, and the same however the bytes are cut into pieces.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from meshlet.http.grammar import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(Enum):
    """What the first bytes of a connection are."""

    HTTP = "http"
    BROKEN = "broken"  # HTTP that breaks the grammar: for the parser and its refusal, always
    SUSPECT = "suspect"  # perhaps that, perhaps something else: it depends on what the app is known to speak
    HTTP2 = "http2"
    TLS = "tls"
    TCP = "tcp"  # something else
    UNKNOWN = "unknown"  # too few bytes


_HTTP, _BROKEN, _SUSPECT, _HTTP2, _TLS, _TCP, _UNKNOWN = Verdict

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4
_TLS_HANDSHAKE = 0x16  # the type of the first record; version 3.x follows (RFC 8446 section 5.1)
_SPACE, _LINE_FEED = 0x20, 0x0A
_METHODS = frozenset(b"GET HEAD POST PUT DELETE PATCH OPTIONS CONNECT TRACE PROPFIND REPORT PRI".split())
_VERSION = b"HTTP/1."

# Empty lines before a request line are allowed (RFC 9112 section 2.2); blanks are what lenient apps skip.
_LONGEST_LEAD = 32  # bytes
_LONGEST_TOKEN = 128
# What a line may have besides its token and its target.
_REST_OF_LINE = 64

_BLANK = frozenset(b" \t\v\f\r\n")
_TOKEN = frozenset(TOKEN)
# Text protocols begin their lines with words; digits, brackets and signs begin lengths and documents.
_FIRST_OF_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz()/:;=?@\\,]}")
_FIRST_OF_TARGET = frozenset(b"/*hH")

# The request line of most connections, in their first piece.
_REQUEST = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}+ ([^\x00-\x20\x7f]++) HTTP/1\.")
_BLANKS = re.compile(rb"[ \t\v\f\r\n]*")
_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_TARGETS = re.compile(rb"[^\x00-\x20\x7f]*")
_LINE = re.compile(rb"[^\n]*")
_TEXT_LINE = re.compile(rb"[^\x00-\x08\n\x0e-\x1f\x7f]*")
_LIKE_A_VERSION = re.compile(rb"HTTP/[0-9]", re.IGNORECASE)
_JUST_A_VERSION = re.compile(rb"HTTP/[0-9](?:\.[0-9])?", re.IGNORECASE)
# The one method that they have in common with HTTP (RFC 7826, RFC 3261, RFC 3507).
_OPTIONS = b"OPTIONS"
_OTHER_VERSIONS = (b"RTSP/", b"SIP/", b"ICAP/")


def classify(data: bytes, longest_target: int = 16384) -> Verdict:
    """Say what a connection is that begins with `data`; see `Opening`."""
    return Opening(longest_target).look(data)


class Opening:
    """Looks at the first bytes of a connection as they come: at each of them once, and once more at a whole line."""

    __slots__ = ("_at", "_begin", "_longest_target", "_read", "_since", "_strict", "_upper", "method")

    def __init__(self, longest_target: int) -> None:
        """`longest_target`: bytes beyond which a target is none."""
        self._longest_target = longest_target
        # a plain function: a bound method of its own would be a reference cycle
        self._read: Callable[[Opening, bytes | bytearray], Verdict] = Opening._lead
        self._at = 0  # what comes before has been looked at
        self._begin = 0  # where the first word begins
        self._since = 0  # where what is being read began
        self._strict = False  # nothing but empty lines comes before the first word
        self._upper = False  # that word has capital letters only
        #: it begins with a method of HTTP and white space, so it was meant as a request
        self.method = False

    def look(self, data: bytes | bytearray) -> Verdict:
        """Return the verdict on `data`, all that has come so far: what it had last time, and more."""
        if not self._at:
            request = _REQUEST.match(data)
            if request is not None and request.end(1) - request.start(1) <= self._longest_target:
                return _HTTP
        if _PREFACE.startswith(data[: len(_PREFACE)]):
            return _UNKNOWN if len(data) < len(_PREFACE) else _HTTP2
        if data[0] == _TLS_HANDSHAKE:
            return _UNKNOWN if len(data) == 1 else _TLS if data[1] == 3 else _TCP
        while self._at < len(data):
            verdict = self._read(self, data)
            if verdict is not _UNKNOWN:
                return verdict
        return _UNKNOWN

    # --- the parts: each reads from `_at` on, and moves it to where the next one begins ---

    def _lead(self, data: bytes | bytearray) -> Verdict:
        self._at = self._begin = begin = _end(_BLANKS, data, self._at)
        if begin > _LONGEST_LEAD:
            return _SUSPECT
        if begin == len(data):
            return _UNKNOWN
        self._strict = data[:begin] == b"\r\n" * (begin // 2)
        first = data[begin]
        if first in _TOKEN:
            self._read = Opening._word
        elif first in _FIRST_OF_WORD:
            self._read = Opening._line
        elif first < _SPACE or first == 0x7F:
            self._read = Opening._control
        else:
            return _TCP
        return _UNKNOWN

    def _control(self, data: bytes | bytearray) -> Verdict:
        """A control character: a length, or in place of a method."""
        self._at = len(data)
        rest = data[self._begin + 1 : self._begin + 3]
        if rest and rest[0] != _SPACE:
            return _TCP
        if len(rest) < 2:
            return _UNKNOWN
        return _SUSPECT if rest[1] in _FIRST_OF_TARGET else _TCP

    def _word(self, data: bytes | bytearray) -> Verdict:
        self._at = end = _end(_TOKENS, data, self._at)
        if end - self._begin > _LONGEST_TOKEN:
            return _SUSPECT
        if end == len(data):
            return _UNKNOWN
        word = bytes(data[self._begin : end])
        self._upper = word.isalpha() and word.isupper()
        method = word in _METHODS
        if data[end] in _BLANK:
            self.method = method
            if data[end] == _SPACE and self._strict:
                self._at = self._since = end + 1
                self._read = Opening._target
                return _UNKNOWN
        elif data[end] < _SPACE or data[end] >= 0x7F:
            return _SUSPECT if method else _TCP
        return self._no_request()

    def _target(self, data: bytes | bytearray) -> Verdict:
        self._at = end = _end(_TARGETS, data, self._at)
        if end - self._since > self._longest_target:
            return _BROKEN if self.method else _SUSPECT
        if end == len(data):
            return _UNKNOWN
        if data[end] == _SPACE and end > self._since:
            self._at = self._since = end + 1
            self._read = Opening._version
            return _UNKNOWN
        if data[end] not in _BLANK and self._upper and not self.method:
            return _SUSPECT
        return self._no_request()

    def _version(self, data: bytes | bytearray) -> Verdict:
        version = data[self._since : self._since + len(_VERSION)]
        if version == _VERSION:
            return _HTTP
        if _VERSION.startswith(version):
            self._at = len(data)
            return _UNKNOWN
        self._at = self._since
        return self._no_request()

    def _no_request(self) -> Verdict:
        """The grammar is broken: whether as a request would be, the end of the line says."""
        self._read = Opening._line
        return _UNKNOWN

    def _line(self, data: bytes | bytearray) -> Verdict:
        if not self.method and data[self._begin] not in _FIRST_OF_WORD:
            return _TCP
        self._at = end = _end(_LINE if self.method else _TEXT_LINE, data, self._at)
        if end - self._begin > _LONGEST_TOKEN + self._longest_target + _REST_OF_LINE:
            return _BROKEN if self.method else _TCP
        if end == len(data):
            return _UNKNOWN
        if data[end] != _LINE_FEED:
            return _TCP
        line = bytes(data[self._begin : end])
        last = line.rsplit(None, 1)[-1]
        if not self.method:
            return _SUSPECT if _JUST_A_VERSION.fullmatch(last) else _TCP
        if _LIKE_A_VERSION.match(last):
            return _BROKEN
        return _TCP if line.startswith(_OPTIONS) and last.startswith(_OTHER_VERSIONS) else _SUSPECT


def _end(pattern: re.Pattern[bytes], data: bytes | bytearray, begin: int) -> int:
    """Where what the pattern takes ends; it takes any number of single bytes, so there is no way back."""
    match = pattern.match(data, begin)
    assert match is not None
    return match.end()
