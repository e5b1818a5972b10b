"""Header values with Envoy's placeholders: `%OPERATOR%`, `%OPERATOR(argument)%`, `%OPERATOR(argument):length%`.

A template is parsed once, at config load, into constant bytes and functions; rendering joins what they return. What
comes from a message holds no CR, LF or NUL, because the parsers refuse them, so the result is good for one field line.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Protocol

from meshlet.http.fields import PSEUDO, first_value
from meshlet.http.grammar import is_token
from meshlet.http.head import field_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from meshlet.http.head import RequestHead, ResponseHead

    Part = Callable[["Facts"], bytes | None]


class Facts(Protocol):
    """What placeholders stand for. None, or 0 attempts, is what is not known (yet); it renders as nothing."""

    @property
    def head(self) -> RequestHead: ...
    @property
    def response_head(self) -> ResponseHead | None: ...
    @property
    def remote(self) -> str:
        """The client, `IP:PORT`, `[IPV6]:PORT` or `unix:`."""
        ...

    @property
    def local(self) -> str:
        """Where the client's connection was accepted, in the same form."""
        ...

    @property
    def upstream_host(self) -> str | None:
        """The endpoint's address."""
        ...

    @property
    def cluster_name(self) -> str | None: ...
    @property
    def route_name(self) -> str | None: ...
    @property
    def attempts(self) -> int:
        """How often the request was sent, the try in question included."""
        ...

    @property
    def started_wall(self) -> float:
        """When the request came, in unix seconds."""
        ...


class Template:
    """A parsed value. `constant` is the whole of it where it has no placeholder."""

    __slots__ = ("_parts", "constant", "needs_upstream")

    def __init__(self, parts: list[bytes | Part], *, needs_upstream: bool) -> None:
        self._parts = tuple(parts)
        #: it has a placeholder that is known only once an endpoint has been chosen
        self.needs_upstream = needs_upstream
        constant = [part for part in parts if isinstance(part, bytes)]
        self.constant = b"".join(constant) if len(constant) == len(parts) else None

    def render(self, facts: Facts) -> bytes:
        """Return the value for one request or response."""
        return b"".join([part if isinstance(part, bytes) else part(facts) or b"" for part in self._parts])


_PLACEHOLDER = re.compile(r"%(?:(?P<operator>[A-Z][A-Z0-9_]*)(?:\((?P<argument>[^()%]*)\))?(?::(?P<length>[0-9]+))?)?%")


def parse(text: str) -> Template:
    """Parse a value. Raises ValueError with what was expected where a placeholder is not one of those known."""
    parts: list[bytes | Part] = []
    needs_upstream = False
    for piece in pieces(text, _PLACEHOLDER, "%REQ(x-user)%"):
        if isinstance(piece, str):
            parts.append(piece.encode())
        else:
            needs_upstream |= piece["operator"] in _OF_UPSTREAM
            parts.append(_part(piece["operator"], piece["argument"], piece["length"]))
    return Template([part for part in parts if part != b""], needs_upstream=needs_upstream)


def pieces(text: str, placeholder: re.Pattern[str], example: str) -> Iterator[str | re.Match[str]]:
    """Yield the constant parts of a text, `%%` made one percent sign, and the matches of its placeholders between them.

    A match of `placeholder` whose group `operator` is none stands for `%%`. Raises ValueError at what is neither.
    """
    position = 0
    while (at := text.find("%", position)) >= 0:
        yield text[position:at]
        match = placeholder.match(text, at)
        if match is None:
            raise ValueError(f"placeholders such as {example}, and %% for a percent sign, not {text[at : at + 40]!r}")
        yield match if match["operator"] is not None else "%"
        position = match.end()
    yield text[position:]


def field_names(operator: str, argument: str | None, pseudo: Collection[bytes]) -> list[bytes]:
    """Return the one or two names of an argument `NAME?ALTERNATIVE` in lower case: of fields, or among `pseudo`.

    Raises ValueError where it is none.
    """
    names = [name.lower().encode() for name in (argument or "").split("?")]
    if len(names) > 2 or not all(name in pseudo or is_token(name) for name in names):
        of_line = ", ".join(name.decode() for name in sorted(pseudo))
        raise ValueError(
            f"%{operator}(NAME)% or %{operator}(NAME?ALTERNATIVE)% with names of fields or {of_line}, "
            f"not {operator}({argument or ''})"
        )
    return names


def host_of(address: str) -> str:
    """Return an address without its port; `unix:` and the like as they are."""
    match = _ADDRESS.fullmatch(address)
    return match["host"] if match is not None else address


_ADDRESS = re.compile(r"\[?(?P<host>[^\[\]]*?)\]?:[0-9]+")


def _part(operator: str, argument: str | None, length: str | None) -> bytes | Part:
    if operator in _WITH_ARGUMENT:
        pseudo = PSEUDO if operator == "REQ" else _RESPONSE_PSEUDO
        part = _WITH_ARGUMENT[operator](field_names(operator, argument, pseudo))
        return part if length is None else _cut(part, int(length[:6]))  # no value is that long
    if operator not in _PLAIN:
        known = ", ".join([*(f"{name}(…)" for name in _WITH_ARGUMENT), *_PLAIN])
        raise ValueError(f"one of the placeholders {known}, not %{operator}%")
    if argument is not None or length is not None:
        raise ValueError(f"%{operator}% with neither an argument nor a length")
    return _PLAIN[operator]


def _cut(part: Part, length: int) -> Part:
    return lambda facts: (part(facts) or b"")[:length]


def _of_request(names: list[bytes]) -> Part:
    value = first_value(names[0])
    if len(names) == 1:
        return lambda facts: value(facts.head)
    alternative = first_value(names[1])

    def either(facts: Facts) -> bytes | None:
        found = value(facts.head)
        return found if found is not None else alternative(facts.head)

    return either


def _of_response(names: list[bytes]) -> Part:
    def value(facts: Facts) -> bytes | None:
        head = facts.response_head
        if head is None:
            return None
        for name in names:
            found = _status(facts) if name == b":status" else field_value(head.lines, name)
            if found is not None:
                return found
        return None

    return value


def _status(facts: Facts) -> bytes | None:
    return b"%d" % facts.response_head.status if facts.response_head is not None else None


def _remote_host(facts: Facts) -> bytes:
    return host_of(facts.remote).encode()


def _start_time(facts: Facts) -> bytes:
    seconds, milliseconds = divmod(int(facts.started_wall * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}Z".encode()


def _upstream_host(facts: Facts) -> bytes | None:
    return facts.upstream_host.encode() if facts.upstream_host is not None else None


_RESPONSE_PSEUDO = frozenset({b":status"})
_WITH_ARGUMENT: dict[str, Callable[[list[bytes]], Part]] = {"REQ": _of_request, "RESP": _of_response}
_PLAIN: dict[str, bytes | Part] = {
    "DOWNSTREAM_REMOTE_ADDRESS": lambda facts: facts.remote.encode(),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": _remote_host,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda facts: facts.local.encode(),
    "UPSTREAM_HOST": _upstream_host,
    "UPSTREAM_REMOTE_ADDRESS": _upstream_host,
    "UPSTREAM_CLUSTER": lambda facts: facts.cluster_name.encode() if facts.cluster_name is not None else None,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda facts: b"%d" % facts.attempts if facts.attempts else None,
    "ROUTE_NAME": lambda facts: facts.route_name.encode() if facts.route_name is not None else None,
    "RESPONSE_CODE": _status,
    "PROTOCOL": lambda facts: b"HTTP/1.%d" % facts.head.minor,
    "START_TIME": _start_time,
    "HOSTNAME": os.uname().nodename.encode(),
}
# The cluster is among them because a split may still have to choose it.
_OF_UPSTREAM = frozenset(
    {"UPSTREAM_HOST", "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_CLUSTER", "UPSTREAM_REQUEST_ATTEMPT_COUNT"}
)
