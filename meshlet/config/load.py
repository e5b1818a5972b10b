"""A config file to a `Config`, or to every mistake in it with its line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from meshlet.config.check import check
from meshlet.config.mistakes import ConfigError, Mistake
from meshlet.config.nodes import NotYaml, parse
from meshlet.config.reader import Reader
from meshlet.config.schema import Config

__all__ = ["ConfigError", "Mistake", "load", "loads"]

Check = Callable[[Config, Reader], None]

# A thousand routes are some 100 KiB. Whatever is larger than this is not a config but a wrong path.
_MAX_BYTES = 4 * 1024 * 1024

_ADVICE = {
    errno.ENOENT: ("no such file", "a config file; check the path"),
    errno.EISDIR: ("a directory", "a config file; name the file inside it"),
    errno.EACCES: ("a file that may not be read", "one that this user may read; check its owner and mode"),
}


def load(path: str | os.PathLike[str], *further: Check) -> Config:
    """Read the config file at `path`. Raises ConfigError with all its mistakes, also where it cannot be read.

    `further` are checks beyond what a config can tell by itself.
    """
    source = os.fspath(path)
    try:
        with Path(source).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        number = error.errno if isinstance(error, OSError) else None
        found, expected = _ADVICE.get(number or 0, (f"an error ({error})", "a config file that can be read"))
        raise ConfigError((_whole_file(source, 0, found, expected),)) from error
    return loads(_decode(data, source), source, *further)


def loads(text: str, source: str, *further: Check) -> Config:
    """Read a config from YAML text; `source` is what its mistakes call it. Raises ConfigError with all of them."""
    reader = Reader(source)
    try:
        config: Config = reader.read(Config, parse(text))
    except NotYaml as error:
        raise ConfigError((_whole_file(source, error.line, error.found, error.expected),)) from error
    for each in (check, *further):
        each(config, reader)
    if reader.mistakes:
        raise ConfigError(tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line)))
    return config


def _decode(data: bytes, source: str) -> str:
    if len(data) > _MAX_BYTES:
        raise ConfigError((_whole_file(source, 0, "more than 4 MiB", "a config file"),))
    try:
        # Some editors begin a file with a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise ConfigError((_whole_file(source, line, found, "text in UTF-8"),)) from error


def _whole_file(source: str, line: int, found: str, expected: str) -> Mistake:
    return Mistake(source, line, "(top level)", found, expected)
