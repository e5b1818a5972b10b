"""Makes what peers sent fit to be shown: no credentials in it, and nothing that a terminal would obey."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from meshlet.telemetry.redact_json import redact_json
from meshlet.telemetry.secret_names import bare, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: what stands in place of a secret
REDACTED = "[redacted]"
_REDACTED = REDACTED.encode()

#: fields that hold a URL, of which only the secrets are hidden
_URL_FIELDS = frozenset(
    {
        "content-location",
        "location",
        "referer",
        "refresh",
        "x-envoy-original-path",
        "x-forwarded-uri",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
    }
)
# Some servers separate by `;` too, and a URL in a value has parameters of its own.
_PAIR = re.compile(rb"(?:^|[?;])(?P<name>[^=;?]*)=")
# A path may have parameters too (RFC 3986 section 3.3), such as `;jsessionid=`; `&` is a query's whose `?` is missing.
_PATH_PAIR = re.compile(rb"[;&](?P<name>[^=;&/]*)=(?P<value>[^;&/]+)")
# A password may hold an `@` although it should not.
_USER = re.compile(rb"(?:\A|(?<=[:=]))//[^/?#]*@")


class Redactor:
    """Says which names hide their values, and writes fields as text without these.

    `further`: names besides those that `is_secret` knows, in whatever spelling: `x-mine` is `X_Mine` and `xMine` too.
    """

    def __init__(self, further: Iterable[str] = ()) -> None:
        self._further = frozenset(map(bare, further))

    def hides(self, name: str) -> bool:
        """Say whether what has this name is a secret."""
        return is_secret(name) or bare(name) in self._further

    def fields(self, lines: Iterable[bytes]) -> list[tuple[str, str]]:
        """Return names and values of field lines, in their order."""
        found = []
        for line in lines:
            name, _, value = line.partition(b":")
            found.append((as_text(name), self._value(as_text(name), value.strip(b" \t"))))
        return found

    def _value(self, name: str, value: bytes) -> str:
        if name.lower() in _URL_FIELDS and bare(name) not in self._further:
            return as_text(redact_target(value, self.hides))
        return REDACTED if self.hides(name) else as_text(value)


def redact_target(target: bytes, hides: Callable[[str], bool] = is_secret) -> bytes:
    """Return a request target, or a URL, without its user and the secrets among its parameters."""
    target, hash_, fragment = target.partition(b"#")
    path, mark, query = target.partition(b"?")
    path = _without_user(path)
    if b"=" in path:
        path = _PATH_PAIR.sub(lambda pair: _path_pair(pair, hides), path)
    # What a client gets in a fragment is written like a query (RFC 6749 section 4.2.2).
    return path + mark + redact_pairs(query, hides) + hash_ + redact_pairs(fragment, hides)


def redact_pairs(pairs: bytes, hides: Callable[[str], bool] = is_secret) -> bytes:
    """Return a query string or a form with the values of secrets replaced, and those that are JSON with secrets."""
    return b"&".join([_pair(each, hides) for each in pairs.split(b"&")]) if b"=" in pairs else pairs


def _pair(text: bytes, hides: Callable[[str], bool]) -> bytes:
    """Return what stands between two `&`. A secret goes up to the end: what looks like another pair may be part of it.

    JSON with secrets are such as the `variables` of GraphQL, and the `payload` of a webhook.
    """
    text = _without_user(text)
    has_json = _has_json_secret(text, hides)
    for pair in _PAIR.finditer(text):
        if pair.end() < len(text) and (has_json or _is_secret(pair, hides)):
            return text[: pair.end()] + _REDACTED
    return text


def _path_pair(pair: re.Match[bytes], hides: Callable[[str], bool]) -> bytes:
    if not _is_secret(pair, hides):
        return pair[0]
    return pair.string[pair.start() : pair.start("value")] + _REDACTED


def _is_secret(pair: re.Match[bytes], hides: Callable[[str], bool]) -> bool:
    return hides(_unquoted(pair["name"]).decode(errors="ignore"))


def _has_json_secret(value: bytes, hides: Callable[[str], bool]) -> bool:
    if b'"' not in value and b"%22" not in value:
        return False
    plain = _unquoted(value)
    return redact_json(plain, hides) != plain


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _without_user(url: bytes) -> bytes:
    return _USER.sub(b"//%b@" % _REDACTED, url) if b"//" in url else url


def as_text(value: bytes) -> str:
    """Return what a peer sent as text, for whoever can tell text from commands: UTF-8, or else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def printable(raw: bytes | str) -> str:
    r"""Return text without control characters or the like: those, and what is not UTF-8, become \xHH or \uHHHH."""
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
