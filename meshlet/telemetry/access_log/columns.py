"""What the operators of a log need of a batch of records: a column of values for each source."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from meshlet.http.grammar import OWS
from meshlet.http.log_template import Attribute, Computed, RequestField, ResponseField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from meshlet.http.head import RequestHead, ResponseHead
    from meshlet.http.log_template import Column, Operator, Source
    from meshlet.telemetry.record import Record

    Columns = Mapping[Source, Column]
    _Head = RequestHead | ResponseHead | None
    _Find = Callable[[_Head], tuple[bytes | None, ...]]


class Sources:
    """The sources of some operators, each once however many of them need it."""

    def __init__(self, operators: Iterable[Operator]) -> None:
        sources = dict.fromkeys(source for operator in operators for source in operator.sources)
        #: what gives one value of a record
        self._single: dict[Source, Callable[[Record], Any]] = {}
        of_request: list[RequestField] = []
        of_response: list[ResponseField] = []
        for source in sources:
            match source:
                case Attribute():
                    self._single[source] = attrgetter(source.name)
                case Computed():
                    self._single[source] = source.function
                case RequestField():
                    of_request.append(source)
                case ResponseField():
                    of_response.append(source)
        #: what is found in heads, all fields of one at once
        self._fields: list[tuple[Callable[[Record], _Head], Sequence[Source], _Find]] = []
        for head, wanted in (("head", of_request), ("response_head", of_response)):
            if wanted:
                self._fields.append((attrgetter(head), wanted, _finder([source.name for source in wanted])))

    def columns(self, records: Sequence[Record]) -> Columns:
        """Return the columns of a batch, which is not empty."""
        columns: dict[Source, Column] = {source: list(map(get, records)) for source, get in self._single.items()}
        for head, wanted, find in self._fields:
            found: list[Column] = list(zip(*(find(head(record)) for record in records), strict=True))
            columns |= dict(zip(wanted, found, strict=True))
        return columns


def _finder(names: Sequence[bytes]) -> _Find:
    """Make the function that finds fields in the lines of a head.

    Looking at each line in Python takes longer than joining them all and searching in C.
    """
    starts = [b"\n" + name + b":" for name in names]
    nothing = (None,) * len(names)

    def find(head: _Head) -> tuple[bytes | None, ...]:
        if head is None:
            return nothing
        block = b"\n".join(head.lines)
        lower = block.lower()
        return tuple([_value(block, at + len(start)) if (at := lower.find(start)) >= 0 else None for start in starts])

    return find


def _value(block: bytes, at: int) -> bytes:
    end = block.find(b"\n", at)
    return (block[at:end] if end >= 0 else block[at:]).strip(OWS)
