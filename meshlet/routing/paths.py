"""What rewrites and redirects have in common: a new path in the place of the one that was matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import Match


def compile_new_path(path: str | None, prefix: str | None, match: Match) -> Callable[[bytes], bytes] | None:
    """Make the function from the path that was asked for to the new one; None where neither key is given.

    With `prefix`, what the route's prefix did not take stays behind the new one. Where the route matches a whole
    path, or an expression, the whole path is replaced; where it says nothing of the path, its prefix is `/`.
    """
    whole = path if path is not None else prefix if match.path is not None or match.regex is not None else None
    if whole is not None:
        new = whole.encode()
        return lambda _: new
    if prefix is None:
        return None
    return _in_place_of((match.prefix or "/").encode(), prefix.encode())


def _in_place_of(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    kept_from = len(old.rstrip(b"/"))
    base = new.rstrip(b"/")

    def replace(path: bytes) -> bytes:
        rest = path[kept_from:]
        if not rest or path == b"/":
            return new
        # A path that begins with `//` names another host to whoever resolves it as a reference (RFC 3986 section 4.2).
        return base + rest if base else b"/" + rest.lstrip(b"/")

    return replace
