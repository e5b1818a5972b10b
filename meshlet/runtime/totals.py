"""What several workers tell, as if one process had told it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshlet.telemetry.metrics import Family, HistogramData, Sample, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from meshlet.telemetry.metrics import Labels

Dump = dict[str, Any]

# Numbers that say what something is, not how much of it there is.
_FACTS = frozenset({"weight", "priority"})


def total(parts: Sequence[Iterable[Family]]) -> list[Family]:
    """Add up the families of several processes. Spans of time do not add up: of those the longest counts."""
    return [_longest(family, parts) if _is_span(family) else family for family in merge(parts)]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What still holds after a process has ended: what it has counted, not what it had."""
    return [family for family in families if family.kind != "gauge"]


def _is_span(family: Family) -> bool:
    return family.kind == "gauge" and family.name.endswith("_seconds")


def _longest(family: Family, parts: Iterable[Iterable[Family]]) -> Family:
    found: dict[Labels, float | HistogramData] = {}
    for sample in _samples(family.name, parts):
        assert not isinstance(sample.value, HistogramData)
        before = found.get(sample.labels, 0.0)
        assert not isinstance(before, HistogramData)
        found[sample.labels] = max(before, sample.value)
    return Family(family.name, family.kind, family.help, [Sample(*item) for item in found.items()])


def _samples(name: str, parts: Iterable[Iterable[Family]]) -> Iterator[Sample]:
    return (sample for part in parts for family in part if family.name == name for sample in family.samples)


def add_up(parts: Iterable[Iterable[Dump]], *identity: str) -> list[Dump]:
    """Make one of the objects that agree on the keys of `identity`: numbers are added, lists of objects too.

    Objects in a list are the same where their address is. For anything else, and for what is the same in all processes,
    the first that says something is right.
    """
    groups: dict[tuple[Any, ...], list[Dump]] = {}
    for dump in (dump for part in parts for dump in part):
        groups.setdefault(tuple(dump.get(key) for key in identity), []).append(dump)
    return [{key: _one(key, [dump.get(key) for dump in group]) for key in group[0]} for group in groups.values()]


def _one(key: str, values: list[Any]) -> Any:
    said = [value for value in values if value is not None]
    match said:
        case []:
            return None
        case [int() | float(), *_] if not isinstance(said[0], bool) and key not in _FACTS:
            return sum(said)
        case [list(), *_]:
            return add_up(said, "address")
        case _:
            return said[0]
