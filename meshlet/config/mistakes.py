"""What is wrong in a config file, one line each: where, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Path = tuple[str | int, ...]

_MAX_SHOWN = 60


class Mistake(NamedTuple):
    """One mistake; its str is `file:line: path: found X, expected Y`, always a single line.

    `line` is 0 where no line is to blame, as when the file cannot be read; `near` is the known name
    that was probably meant, or empty.
    """

    source: str
    line: int
    path: str
    found: str
    expected: str
    near: str = ""

    def __str__(self) -> str:
        source = self.source if self.source.isprintable() else quoted(self.source)
        where = f"{source}:{self.line}" if self.line else source
        hint = f' (did you mean "{self.near}"?)' if self.near else ""
        return f"{where}: {self.path}: found {self.found}, expected {self.expected}{hint}"


class ConfigError(Exception):
    """A config that cannot be used, with every mistake found in it, in the order of the file."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))


def quoted(text: str) -> str:
    """The text as it may be shown on one line of a log: escaped, quoted, and cut when long."""
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")


def dotted(path: Path) -> str:
    """`("listeners", 0, "name")` as `listeners[0].name`; what is no plain key comes quoted."""
    if not path:
        return "(top level)"
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _is_plain(step) else quoted(step))
    return text


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that `word` was probably meant to be, or an empty string."""
    try:
        import difflib  # here, because only a config with a mistake needs it
    except (OSError, ImportError):  # no descriptor is left to load it with; the mistake is told of without the hint
        return ""
    # Case and the two usual separators are the commonest slips; difflib would weigh them like any letter.
    plain = {_plain(name): name for name in names}
    import difflib  # which nobody needs whose config is right

    close = difflib.get_close_matches(_plain(word[:_MAX_SHOWN]), plain, n=1)
    return plain[close[0]] if close else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _is_plain(key: str) -> bool:
    return key.isascii() and key.replace("_", "").replace("-", "").isalnum() and len(key) <= _MAX_SHOWN
