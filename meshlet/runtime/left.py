"""What is left of a data plane at its end."""

from __future__ import annotations

from typing import NamedTuple


class Left(NamedTuple):
    """What did not end by itself."""

    connections: int
    hung: int = 0  # workers that had to be killed, with whatever they had
