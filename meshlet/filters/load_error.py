"""The error of `load`, which the built-in filters raise too."""

from __future__ import annotations


class FilterLoadError(Exception):
    """A filter that cannot be used; its text is one line that says why."""
