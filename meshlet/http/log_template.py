"""Lines of a log with Envoy's command operators: `%OPERATOR%`, `%OPERATOR(argument)%`, `%OPERATOR(argument):length%`.

A template is parsed once, at config load. An operator is known by what it needs of an ended exchange (its sources) and
by a function that makes the operator's values of many exchanges out of the sources' values: a log takes the sources
while an exchange ends, and does the rest later, for a batch at once, one column after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from meshlet.http.template import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Column = Sequence[Any]
    Value = str | int | bytes | None

# As in nginx: what is not printable ASCII, the quote and the backslash become \xHH, so a field cannot end early.
_QUOTED = {code: f"\\x{code:02x}" for code in range(256) if not 0x20 <= code < 0x7F or chr(code) in '"\\'}


@dataclass(frozen=True, slots=True)
class Attribute:
    """What an exchange has as an attribute, in C."""

    name: str


@dataclass(frozen=True, slots=True)
class RequestField:
    """The first field of that name (lower case) of the request as it was passed on; bytes or None."""

    name: bytes


@dataclass(frozen=True, slots=True)
class ResponseField:
    """Likewise of the app's response."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Computed:
    """What takes a call for each exchange."""

    function: Callable[[Any], Any]


Source = Attribute | RequestField | ResponseField | Computed


class Kind(Enum):
    """What the values of an operator are; each may be None besides."""

    OURS = "numbers, or text that nobody but the config has a say in"
    TEXT = "text that may hold anything"
    PEER = "bytes that a client or an app has sent"


@dataclass(frozen=True, slots=True)
class Operator:
    """One placeholder. `convert` makes a column of values out of the columns of the sources; None: it is the first."""

    sources: tuple[Source, ...]
    convert: Callable[..., Column] | None = None
    kind: Kind = Kind.OURS
    length: int | None = None  # what is longer is cut

    def values(self, columns: Sequence[Column]) -> Column:
        """Return the values: numbers, text, bytes or None."""
        found = self.convert(*columns) if self.convert is not None else columns[0]
        cut = self.length
        return found if cut is None else [value[:cut] if value is not None else None for value in found]

    def typed(self, columns: Sequence[Column]) -> Column:
        """Return the values for JSON: numbers, text or None.

        Bytes are ASCII then, so that none becomes one of the characters beyond it which some readers take for a line's
        end.
        """
        found = self.values(columns)
        if self.kind is not Kind.PEER:
            return found
        return [value.decode("ascii", "backslashreplace") if value is not None else None for value in found]

    def written(self, columns: Sequence[Column]) -> Column:
        """Return the values for a line of text: numbers, or text that cannot end a quoted field; `-` for None."""
        found = self.values(columns)
        if self.kind is Kind.PEER:
            return _quoted(["-" if value is None else value.decode("latin-1") for value in found])
        if self.kind is Kind.TEXT:
            return _quoted(["-" if value is None else value for value in found])
        return ["-" if value is None else value for value in found]


class LogTemplate:
    """A parsed line, or value. `parts` are constant text and operators."""

    __slots__ = ("operators", "parts", "pattern")

    def __init__(self, parts: Sequence[str | Operator]) -> None:
        self.parts = tuple(parts)
        self.operators = tuple(part for part in parts if isinstance(part, Operator))
        #: for the operator `%` of strings: a `%s` for each of the operators
        self.pattern = "".join("%s" if isinstance(part, Operator) else part.replace("%", "%%") for part in parts)

    @property
    def sole(self) -> Operator | None:
        """The operator that the template consists of, if it is one."""
        return self.operators[0] if len(self.parts) == len(self.operators) == 1 else None


# An argument may hold percent signs: that of START_TIME does.
_PLACEHOLDER = re.compile(r"%(?:(?P<operator>[A-Z][A-Z0-9_]*)(?:\((?P<argument>[^()]*)\))?(?::(?P<length>[0-9]+))?)?%")


def parse(text: str) -> LogTemplate:
    """Parse a line or a value; one line end behind it is taken away, because every line gets one.

    Raises ValueError with what was expected where a placeholder is not one of those known, or where the text holds
    further line ends or other control characters.
    """
    from meshlet.http.log_operators import find

    text = text.removesuffix("\n")
    if not all(character.isprintable() or character == "\t" for character in text):
        raise ValueError("one line, without control characters")
    parts: list[str | Operator] = []
    for piece in pieces(text, _PLACEHOLDER, "%START_TIME%"):
        part = find(**piece.groupdict()) if isinstance(piece, re.Match) else piece
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
    return LogTemplate(parts)


def _quoted(values: list[str]) -> list[str]:
    # Nearly all are plain, and in C it takes less to look at all of them at once than at each.
    joined = " ".join(values)
    if joined.isascii() and joined.isprintable() and '"' not in joined and "\\" not in joined:
        return values
    return [value.translate(_QUOTED) for value in values]
