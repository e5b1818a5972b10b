"""A config file to a `Config`, or to every mistake in it with its line."""

from __future__ import annotations

import os
from collections.abc import Callable

from meshlet.config.check import check
from meshlet.config.mistakes import ConfigError, Mistake
from meshlet.config.nodes import NotYaml, parse
from meshlet.config.reader import Reader
from meshlet.config.schema import Config
from meshlet.config.text_file import Unreadable, read_text, whole_file

__all__ = ["ConfigError", "Mistake", "Unreadable", "load", "loads"]

Check = Callable[[Config, Reader], None]


def load(path: str | os.PathLike[str], *further: Check) -> Config:
    """Read the config file at `path`. Raises ConfigError with all its mistakes, also where it cannot be read.

    `further` are checks beyond what a config can tell by itself.
    """
    source = os.fspath(path)
    return loads(read_text(source, "a config file"), source, *further)


def loads(text: str, source: str, *further: Check) -> Config:
    """Read a config from YAML text; `source` is what its mistakes call it. Raises ConfigError with all of them."""
    reader = Reader(source)
    try:
        config: Config = reader.read(Config, parse(text))
    except NotYaml as error:
        raise ConfigError((whole_file(source, error.line, error.found, error.expected),)) from error
    for each in (check, *further):
        each(config, reader)
    if reader.mistakes:
        raise ConfigError(tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line)))
    return config
