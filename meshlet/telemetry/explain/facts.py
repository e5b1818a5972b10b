"""What the hints ask of the facts of a request, which are those that `ring` hands out."""

from __future__ import annotations

from typing import Any

Facts = dict[str, Any]


def last_try(facts: Facts) -> Facts:
    """Return the last try; empty where there was none."""
    tries: list[Facts] = facts["tries"]
    return tries[-1] if tries else {}


def endpoint_of(facts: Facts) -> str:
    """Return the address of the endpoint that was asked last."""
    return last_try(facts).get("endpoint") or facts["endpoint"] or "the endpoint"


def in_words(seconds: float) -> str:
    """Return a time with its unit."""
    return f"{seconds:.3g} s"
