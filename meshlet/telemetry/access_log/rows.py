"""What a log takes of a record while that ends, and the columns of a batch of what was taken."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from meshlet.http.grammar import OWS
from meshlet.http.log_template import Attribute, Computed, RequestField, ResponseField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.http.log_template import Column, Operator, Source
    from meshlet.telemetry.record import Record

    Row = tuple[Any, ...]

# attrgetter returns a tuple only for two names and more.
_LEAST = (Attribute("started_wall"), Attribute("duration"))


class Layout:
    """Where in a row the values stand that some operators need.

    A row is `attributes(record)`, and behind it, where `rest` is not None, `rest(record)`.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        sources = dict.fromkeys((*_LEAST, *(source for operator in operators for source in operator.sources)))
        attributes = [source for source in sources if isinstance(source, Attribute)]
        computed = [source for source in sources if isinstance(source, Computed)]
        of_request = [source for source in sources if isinstance(source, RequestField)]
        of_response = [source for source in sources if isinstance(source, ResponseField)]
        order: list[Source] = [*attributes, *computed, *of_request, *of_response]
        self._places = {source: place for place, source in enumerate(order)}
        self.attributes: Callable[[Record], Row] = attrgetter(*(source.name for source in attributes))
        parts: list[Callable[[Record], Row]] = []
        if computed:
            parts.append(_all_of([source.function for source in computed]))
        if of_request:
            find = _finder([source.name for source in of_request])
            parts.append(lambda record: find(record.head))
        if of_response:
            find_in_response = _finder([source.name for source in of_response])
            parts.append(lambda record: find_in_response(record.response_head))
        self.rest = _together(parts)

    def columns(self, operator: Operator, columns: Sequence[Column]) -> list[Column]:
        """Return what an operator needs of the columns of a batch of rows."""
        return [columns[self._places[source]] for source in operator.sources]


def _all_of(functions: Sequence[Callable[[Record], Any]]) -> Callable[[Record], Row]:
    if len(functions) == 1:
        only = functions[0]
        return lambda record: (only(record),)
    return lambda record: tuple([function(record) for function in functions])


def _together(parts: Sequence[Callable[[Record], Row]]) -> Callable[[Record], Row] | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    first, second, *more = parts
    if not more:
        return lambda record: first(record) + second(record)
    third = more[0]
    return lambda record: first(record) + second(record) + third(record)


def _finder(names: Sequence[bytes]) -> Callable[[RequestHead | ResponseHead | None], Row]:
    """Make the function that finds fields in the lines of a head.

    Looking at each line in Python takes longer than joining them all and searching in C.
    """
    starts = [b"\n" + name + b":" for name in names]
    none = (None,)
    nothing = none * len(names)

    def find(head: RequestHead | ResponseHead | None) -> Row:
        if head is None:
            return nothing
        block = b"\n".join(head.lines)
        lower = block.lower()
        found: Row = ()
        for start in starts:
            at = lower.find(start)
            if at < 0:
                found += none
                continue
            at += len(start)
            end = block.find(b"\n", at)
            found += ((block[at:end] if end >= 0 else block[at:]).strip(OWS),)
        return found

    return find
