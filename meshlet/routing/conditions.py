"""Conditions on header fields and query parameters, compiled.

They decide as Envoy does: of a repeated field one value that fits is enough, of a repeated query parameter only the
first counts, and where there is none, no condition on its value holds, an inverted one neither. Unlike in Envoy, the
names and values of query parameters are percent-decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from meshlet.config.regex import compile_regex
from meshlet.config.schema import ValueMatch
from meshlet.http.fields import all_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshlet.config.schema import Match
    from meshlet.http.head import RequestHead


class Condition(NamedTuple):
    """One condition: on the values that `values` finds, `test` says whether one fits."""

    what: str  # "header x-user"
    values: Callable[[RequestHead], list[bytes]]
    expected: str  # in words
    test: Callable[[bytes], bool] | None  # None: on its presence only
    present: bool
    invert: bool

    def holds(self, head: RequestHead) -> bool:
        """Say whether the request satisfies it."""
        values = self.values(head)
        test = self.test
        if test is None or not values:
            return test is None and bool(values) is self.present
        for value in values:
            if test(value):
                return not self.invert
        return self.invert

    def why_not(self, head: RequestHead) -> str | None:
        """Return why the request does not satisfy it, or None where it does."""
        if self.holds(head):
            return None
        values = self.values(head)
        if not values:
            return f"{self.what} is absent"
        if self.test is None:
            return f"{self.what} is present"
        shown = ", ".join(f'"{value.decode("utf-8", "backslashreplace")}"' for value in values)
        return f"{self.what} is {shown}, {'' if self.invert else 'not '}{self.expected}"


def compile_conditions(match: Match) -> tuple[Condition, ...]:
    """Compile the conditions of a route on header fields and on the query."""
    return compile_header_conditions(match.headers) + tuple(
        _condition(f"query parameter {name}", _parameter(name.encode()), value) for name, value in match.query.items()
    )


def compile_header_conditions(headers: Mapping[str, str | ValueMatch]) -> tuple[Condition, ...]:
    """Compile conditions on header fields."""
    return tuple(
        _condition(f"header {name.lower()}", all_values(name.lower().encode()), value)
        for name, value in headers.items()
    )


def all_hold(conditions: tuple[Condition, ...], head: RequestHead) -> bool:
    """Say whether a request satisfies all of them."""
    for condition in conditions:  # noqa: SIM110 (a generator would double the cost)
        if not condition.holds(head):
            return False
    return True


def _condition(what: str, values: Callable[[RequestHead], list[bytes]], match: str | ValueMatch) -> Condition:
    if isinstance(match, str):
        match = ValueMatch(exact=match)
    if match.present is not None:
        return Condition(what, values, "", None, match.present is not match.invert, invert=False)
    expected, test = _test(match)
    return Condition(what, values, expected, test, present=True, invert=match.invert)


def _test(match: ValueMatch) -> tuple[str, Callable[[bytes], bool]]:
    if match.regex is not None:
        regex = compile_regex(match.regex)
        return f"what {match.regex} matches", lambda value: regex.fullmatch(value) is not None
    if match.prefix is not None:
        prefix = match.prefix.encode()
        return f'beginning with "{match.prefix}"', lambda value: value.startswith(prefix)
    assert match.exact is not None  # the check of the config has made sure of one
    return f'"{match.exact}"', match.exact.encode().__eq__


def _parameter(name: bytes) -> Callable[[RequestHead], list[bytes]]:
    """Make the function that finds the value of a query parameter: the first of that name; "" where it has no `=`."""

    def value(head: RequestHead) -> list[bytes]:
        for pair in head.target.partition(b"?")[2].split(b"&"):
            found, _, value = pair.partition(b"=")
            if found == name or (b"%" in found and unquote_to_bytes(found) == name):
                return [unquote_to_bytes(value) if b"%" in value else value]
        return []

    return value
