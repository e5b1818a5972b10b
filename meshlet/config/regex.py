"""Regular expressions of RE2, which match in linear time: no request can make one of them slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

# RE2's cache of states may grow to this much for each expression, by what clients send; its default of 8 MiB is more
# than the rest of a small sidecar.
_MEMORY = 1 << 20


class Match(Protocol):
    """Where an expression was found."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def group(self, number: int, /) -> bytes | None: ...


class Regex(Protocol):
    """A compiled expression for bytes."""

    @property
    def groups(self) -> int: ...
    def fullmatch(self, text: bytes, /) -> Match | None: ...
    def finditer(self, text: bytes, /) -> Iterable[Match]: ...


def compile_regex(pattern: str) -> Regex:
    """Compile an expression. Raises ValueError with RE2's words where it is none."""
    import re2  # type: ignore[import-untyped]  # a megabyte that only configs with an expression pay for

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    # `.` is any byte: bytes that are no UTF-8, or an encoded line feed, must not get a request past a rule for `.*`.
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    try:
        return cast("Regex", re2.compile(pattern.encode(), options=options))
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from error
