"""meshlet's own log: one line for each event on stderr, as text or as JSON.

Code logs through `logging.getLogger(__name__)` and puts figures into `extra`; they become fields
of the JSON object and `key=value` behind a line of text.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from meshlet.telemetry.log_handler import LogHandler

if TYPE_CHECKING:
    from meshlet.telemetry.log_handler import LogHandler

Format = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

# What would end a line or steer a terminal: C0 and C1 controls, line and paragraph separators. Lone surrogates,
# which file names may hold, cannot be written at all.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLACES = 20  # the last ones of a traceback in short
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_own = logging.getLogger("meshlet")
_handler: LogHandler | None = None


def configure(
    level: str = "info",
    format: Format = "text",  # noqa: A002
    *,
    path: str = "/dev/stderr",
    shared: bool = False,
) -> None:
    """Send all that this process has to say to `path`, through a thread, replacing what was set up before.

    That is not only what is logged, but also what Python itself would print on stderr: a reader who stalls must not
    stall whoever prints. `shared`: other processes write to the same path.
    Raises ValueError for an unknown level, OSError where the path cannot be opened.
    """
    global _handler  # noqa: PLW0603 - like logging's own configuration, there is one for the process
    from meshlet.telemetry.log_handler import LogHandler

    set_level(level)
    # Of what logging and tracebacks need, the rest is loaded by now. Once descriptors have run out it is too late.
    for codec in ("ascii", "unicode_escape"):
        codecs.lookup(codec)
    if path == "/dev/stderr":
        _fill_gap()
    if _handler is not None:
        _handler.close()
    _handler = LogHandler(path, _Lines(_json if format == "json" else _text), shared=shared)
    logging.getLogger().handlers[:] = [_handler]
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    sys.unraisablehook = _on_unraisable
    threading.excepthook = _on_dead_thread


def lost_lines() -> dict[str, int]:
    """How many lines are not in the log, by reason; see LogHandler."""
    return _handler.lost() if _handler is not None else {}


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


def _fill_gap() -> None:
    """Open something in the place of a stderr that was closed: the next socket would get its number, and our lines."""
    try:
        os.fstat(2)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY)
        if fd != 2:
            os.dup2(fd, 2)
            os.close(fd)


# --- what Python would print ---


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _own.critical("ended by an exception", exc_info=(kind, error, trace))


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    error = unraisable.exc_value
    _own.error("%s: %r", unraisable.err_msg or "exception ignored in", unraisable.object, exc_info=error)


def _on_dead_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else "-"
    _own.error("thread %s was ended by an exception", name, exc_info=args.exc_value)


# --- lines ---


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
            "message": escape(_message(record)),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                # An extra named like one of the four must not pass for it.
                fields[f"{name}_" if name in fields else name] = _scalar(value)
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = escape(self.formatException(record.exc_info))
        return self._write(fields)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return a traceback; without lines of code where these cannot be had."""
        try:
            return super().formatException(ei)
        except Exception:  # noqa: BLE001 - no memory, no descriptors, an exception whose text raises another one
            return _short_trace(*ei)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the arguments, the rest may tell something
        return f"{record.msg} [{type(error).__name__}: its arguments cannot be written]"


def _short_trace(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> str:
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return "; ".join([*places[-_PLACES:], kind.__name__])


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
