"""What the app is asked for instead of what the client asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlet.config.regex import compile_regex
from meshlet.errors import BadRequest
from meshlet.http.grammar import parse_authority
from meshlet.routing.paths import compile_new_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.regex import Match as Found
    from meshlet.config.schema import Match, RegexRewrite, Rewrite
    from meshlet.http.head import RequestHead

_REFERENCE = re.compile(r"\\(\\|[0-9])")

# Each match is replaced in Python, on the event loop; no path that means well has so many.
_MOST_MATCHES = 256
_LONGEST = 65536  # bytes


def compile_rewrite(rewrite: Rewrite, match: Match) -> Callable[[RequestHead], None]:
    """Make the function that changes the head of a request that `match` has let through.

    The query stays. A CONNECT, whose target is no path, is left as it is; of `OPTIONS *` only the host is changed.
    The function raises BadRequest where a regular expression would make too much of a path.
    """
    if rewrite.regex is not None:
        new_path: Callable[[bytes], bytes] | None = _compile_regex_rewrite(rewrite.regex)
    else:
        new_path = compile_new_path(rewrite.path, rewrite.prefix, match)
    host = rewrite.host.encode() if rewrite.host is not None else None

    def apply(head: RequestHead) -> None:
        if head.method == b"CONNECT":
            return
        if new_path is not None and head.target != b"*":
            path, mark, query = head.target.partition(b"?")
            head.target = new_path(path) + mark + query
            # The version stays: without a Host field it is HTTP/1.0.
            head.lines[0] = b"%b %b %b" % (head.method, head.target, head.lines[0][-8:])
        if host is not None:
            _replace_host(head, host)

    return apply


def _replace_host(head: RequestHead, authority: bytes) -> None:
    line = b"Host: " + authority
    lines = head.lines
    for index, old in enumerate(lines):
        if old[:5].lower() == b"host:":
            lines[index] = line
            break
    else:
        lines[0] = b"%b %b HTTP/1.1" % (head.method, head.target)
        lines.insert(1, line)
    head.host = parse_authority(authority)


def _compile_regex_rewrite(rewrite: RegexRewrite) -> Callable[[bytes], bytes]:
    """Make the function that replaces every match in a path, from the left and without overlaps, as RE2 does it."""
    regex = compile_regex(rewrite.pattern)
    # Constant text and references by turns: text, reference, text, …
    pieces = [piece.encode() for piece in _REFERENCE.split(rewrite.substitution)]
    texts = pieces[::2]
    references = [None if piece == b"\\" else int(piece) for piece in pieces[1::2]]

    def substitution(found: Found) -> bytes:
        made = texts[0]
        for reference, text in zip(references, texts[1:], strict=True):
            made += (b"\\" if reference is None else found.group(reference) or b"") + text
        return made

    def replace(path: bytes) -> bytes:
        parts = []
        end = -1
        for count, found in enumerate(regex.finditer(path)):
            if count == _MOST_MATCHES:
                raise BadRequest(f"the path has more than {_MOST_MATCHES} places that its route rewrites", 414)
            if found.start() == found.end() == end:
                continue  # nothing, right behind a match: Python counts it as another one, RE2 does not
            parts += [path[max(end, 0) : found.start()], substitution(found)]
            end = found.end()
        made = b"".join(parts) + path[max(end, 0) :]
        if len(made) > _LONGEST:
            raise BadRequest(f"the path is rewritten to more than {_LONGEST} bytes", 414)
        # Whatever the expression did, a request target begins with a slash, and with one only, as above.
        return made if made[:1] == b"/" and (made[:2] != b"//" or path[:2] == b"//") else b"/" + made.lstrip(b"/")

    return replace
