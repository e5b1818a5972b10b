"""Makes what peers sent fit to be shown: no credentials in it, and nothing that a terminal would obey."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: what stands in place of a secret
REDACTED = "[redacted]"
_REDACTED = REDACTED.encode()

#: fields whose values are hidden, besides those whose names say that they are secrets
_FIELDS = frozenset(
    {
        b"authentication-info",
        b"cookie",
        b"cookie2",
        b"private-token",
        b"proxy-authentication-info",
        b"set-cookie",
        b"set-cookie2",
        b"x-auth-key",
        b"x-goog-iap-jwt-assertion",
        b"x-jwt",
    }
)
#: fields that hold a URL, of which only the secrets are hidden
_URL_FIELDS = frozenset(
    {
        b"content-location",
        b"location",
        b"referer",
        b"refresh",
        b"x-envoy-original-path",
        b"x-forwarded-uri",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-url",
    }
)
# Unmistakable wherever they stand in a name that is in lower case and without separators.
_PARTS = (
    *(b"accesskey", b"apikey", b"assertion", b"authorization", b"credential", b"passphrase", b"passwd", b"password"),
    *(b"privatekey", b"secret", b"sessid", b"sessionid", b"signature", b"token", b"verifier"),
)
# Only as words of a parameter's name: `auth_code` and `sv.sig`, and neither `keyword` nor `design`.
_WORDS = frozenset(
    {
        *(b"auth", b"bearer", b"code", b"hmac", b"jwt", b"key", b"otp", b"pass", b"pin", b"pw", b"pwd", b"saml"),
        *(b"sid", b"sig", b"ticket"),
    }
)
_SEPARATORS = bytes(set(range(128)) - set(string.ascii_letters.encode() + string.digits.encode()))
_WORD = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PAIR = re.compile(rb"(?P<before>^|[?&;])(?P<name>[^=&;?]*)=(?P<value>[^&;]+)")
# A path may have parameters too (RFC 3986 section 3.3), such as `;jsessionid=`; `&` is a query's whose `?` is missing.
_PATH_PAIR = re.compile(rb"(?P<before>[;&])(?P<name>[^=;&/]*)=(?P<value>[^;&/]+)")
# A password may hold an `@` although it should not.
_USER = re.compile(rb"(?:\A|(?<=:))//[^/?#]*@")


class Redactor:
    """Writes fields as text, without their secrets. `further`: names of fields to hide as well."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        self._further = frozenset(name.lower().encode() for name in further)

    def fields(self, lines: Iterable[bytes]) -> list[tuple[str, str]]:
        """Return names and values of field lines, in their order."""
        found = []
        for line in lines:
            name, _, value = line.partition(b":")
            found.append((as_text(name), self._value(name.lower(), value.strip(b" \t"))))
        return found

    def _value(self, name: bytes, value: bytes) -> str:
        if name in _FIELDS or name in self._further:
            return REDACTED
        # Those of CORS have no secrets, but -allow-credentials.
        if _has_secret_part(name) and not name.startswith(b"access-control-"):
            return REDACTED
        return as_text(redact_target(value) if name in _URL_FIELDS else value)


def redact_target(target: bytes) -> bytes:
    """Return a request target, or a URL, without its user and the secrets among its parameters."""
    target, hash_, fragment = target.partition(b"#")
    path, mark, query = target.partition(b"?")
    path = _without_user(path)
    if b"=" in path:
        path = _PATH_PAIR.sub(_hide, path)
    # What a client gets in a fragment is written like a query (RFC 6749 section 4.2.2).
    return path + mark + redact_pairs(query) + hash_ + redact_pairs(fragment)


def redact_pairs(pairs: bytes) -> bytes:
    """Return a query string or a form with the values of secrets replaced."""
    return _PAIR.sub(_hide, pairs) if b"=" in pairs else pairs


def _hide(match: re.Match[bytes]) -> bytes:
    name = unquote_to_bytes(match["name"].replace(b"+", b" "))
    if _has_secret_part(name.lower()) or any(word.lower() in _WORDS for word in _WORD.findall(name)):
        return b"%b%b=%b" % (match["before"], match["name"], _REDACTED)
    return b"%b%b=%b" % (match["before"], match["name"], _without_user(match["value"]))


def _without_user(url: bytes) -> bytes:
    return _USER.sub(b"//%b@" % _REDACTED, url) if b"//" in url else url


def _has_secret_part(name: bytes) -> bool:
    letters = name.translate(None, _SEPARATORS)
    return any(part in letters for part in _PARTS)


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
