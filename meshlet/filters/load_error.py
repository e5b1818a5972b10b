"""The error of `load`, which the built-in filters raise too."""

from __future__ import annotations


class FilterLoadError(Exception):
    """A filter that cannot be used; its text is one line that says why."""


def one_line(error: Exception) -> str:
    """Return what somebody else's exception says, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
