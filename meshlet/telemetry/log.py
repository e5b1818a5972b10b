"""meshlet's own log: one line for each event on stderr, as text or as JSON.

Code logs through `logging.getLogger(__name__)` and puts figures into `extra`; they become fields
of the JSON object and `key=value` behind a line of text.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, TextIO

import msgspec

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

# What would end a line or steer a terminal: C0 and C1 controls, line and paragraph separators. Lone surrogates,
# which file names may hold, cannot be written at all.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_own = logging.getLogger("meshlet")


def configure(level: str = "info", format: Format = "text", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send all logging of this process to `stream` (stderr unless given), replacing what was set up before.

    Raises ValueError for an unknown level.
    """
    set_level(level)
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Lines(_json if format == "json" else _text))
    logging.getLogger().handlers[:] = [handler]


def set_level(level: str) -> None:
    """Change the least level written; libraries write warnings and errors only, whatever the level.

    Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"expected one of {', '.join(LEVELS)}, not {escape(level)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    _own.setLevel(number)
    logging.getLogger().setLevel(max(number, logging.WARNING))


def get_level() -> str:
    """The least level written, one of LEVELS once `configure` or `set_level` was called."""
    return logging.getLevelName(_own.getEffectiveLevel()).lower()


def escape(text: str) -> str:
    r"""The text on one line: control characters as `\n`, `\x1b`, so that a client's bytes cannot forge a line."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{milliseconds:03d}Z"


# The access log asks about every request; nearly all of them share a second with the one before.
@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


Scalar = str | int | float | None
Fields = dict[str, Scalar]


class _Lines(logging.Formatter):
    def __init__(self, write: Callable[[Fields], str]) -> None:
        super().__init__()
        self._write = write

    def format(self, record: logging.LogRecord) -> str:
        fields: Fields = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                # An extra named like one of the four must not pass for it.
                fields[f"{name}_" if name in fields else name] = _scalar(value)
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = escape(self.formatException(record.exc_info))
        return self._write(fields)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, int | float):
        return value
    return escape(value.decode("latin-1") if isinstance(value, bytes) else str(value))


def _json(fields: Fields) -> str:
    return msgspec.json.encode(fields).decode()


def _text(fields: Fields) -> str:
    when, level, message = fields.pop("time"), str(fields.pop("level")), fields.pop("message")
    del fields["logger"]
    return " ".join([f"{when} {level:5} {message}", *(f"{name}={value}" for name, value in fields.items())])
