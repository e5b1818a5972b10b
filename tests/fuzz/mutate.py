"""Small random changes. All come from the generator that is passed in, so a seed gives the same inputs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.corpus import PIECES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random


def mutated(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed after a few changes: many would leave nothing but refusals."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        data = _changed(random, data, seeds)
    return data


def _changed(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((1, 1, 1, 2, 4, 16)))
    match random.randrange(8):
        case 0:  # another byte
            return data[:start] + bytes((random.randrange(256),)) + data[start + 1 :]
        case 1:  # a bit turned over
            return (
                data[:start]
                + bytes(byte ^ (1 << random.randrange(8)) for byte in data[start : start + 1])
                + data[start + 1 :]
            )
        case 2:  # something cut out
            return data[:start] + data[end:]
        case 3:  # something twice
            return data[:end] + data[start:end] + data[end:]
        case 4:  # a line twice, or moved
            lines = data.splitlines(keepends=True)
            lines.insert(random.randint(0, len(lines)), random.choice(lines or [b""]))
            return b"".join(lines)
        case 5:  # the rest of another seed
            other = random.choice(seeds)
            return data[:start] + other[random.randint(0, len(other)) :]
        case _:  # what attacks are made of
            return data[:start] + random.choice(PIECES) + data[start:]


def some_cuts(random: Random, data: bytes) -> Iterator[list[bytes]]:
    """Byte by byte where that is not long, in two, and in a few pieces."""
    if len(data) < 400:
        yield [data[at : at + 1] for at in range(len(data))]
    at = random.randint(0, len(data))
    yield [piece for piece in (data[:at], data[at:]) if piece]
    marks = sorted(random.randint(0, len(data)) for _ in range(6))
    yield [piece for a, b in zip([0, *marks], [*marks, len(data)], strict=True) if (piece := data[a:b])]
