"""One YAML scalar to the Python value that a field of the config asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import inspect

from meshlet.config.nodes import Node, Scalar
from meshlet.config.units import Address, Duration, RetryOn, Size

_PARSERS: dict[type, Callable[[object], Any]] = {cls: cls.parse for cls in (Duration, Size, Address, RetryOn)}


def read_scalar(kind: inspect.Type, node: Node) -> Any:
    """The value of type `kind` that the node holds. Raises ValueError with what was expected.

    A string's pattern is left to the check beside it, which can say in words what it wants.
    """
    value = node.value if isinstance(node, Scalar) else node
    if isinstance(kind, inspect.CustomType | inspect.NamedTupleType):
        return _PARSERS[kind.cls](value)
    if not _fits(kind, value):
        raise ValueError(expected(kind) + _advice(kind, node))
    return value


def expected(kind: inspect.Type) -> str:
    """What may be written where the config asks for `kind`, in words."""
    match kind:
        case inspect.StrType():
            return "text that is not empty" if kind.min_length else "text"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _range(kind.ge, kind.le)
        case inspect.FloatType():
            return "a number" + _range(kind.ge, kind.le)
    raise TypeError(f"the config has no values of type {kind}")


def _fits(kind: inspect.Type, value: object) -> bool:
    match kind:
        case inspect.StrType():
            return isinstance(value, str) and len(value) >= (kind.min_length or 0)
        case inspect.LiteralType():
            return value in kind.values
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            # A bool is an int to Python, but not to whoever wrote `true`.
            return isinstance(value, int) and not isinstance(value, bool) and _within(value, kind.ge, kind.le)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool) and _within(value, kind.ge, kind.le)
    raise TypeError(f"the config has no values of type {kind}")


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f" of at most {most}"
    return f" of at least {least}" if most is None else f" from {least} to {most}"


def _advice(kind: inspect.Type, node: Node) -> str:
    if not isinstance(kind, inspect.StrType) or not isinstance(node, Scalar) or isinstance(node.value, str | None):
        return ""
    return f'; put it in quotes: "{node.text[:60]}"'
