"""Endpoints listed in a file, which something else writes."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from meshlet.config.mistakes import ConfigError, Mistake
from meshlet.config.nodes import NotYaml, parse
from meshlet.config.reader import Reader
from meshlet.config.schema import EndpointAddress, EndpointConfig
from meshlet.upstream.discovery.names import Names, with_details
from meshlet.upstream.resolver import is_name

if TYPE_CHECKING:
    from meshlet.upstream.discovery.base import Update

_Signature = tuple[int, int, int, int]

_LOOK = 1.0  # seconds between two looks at the file
_MAX_BYTES = 4 * 1024 * 1024


class EndpointsFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file may hold."""

    endpoints: Annotated[
        tuple[EndpointAddress | EndpointConfig, ...],
        Meta(description="HOST:PORT, [IPV6]:PORT, unix:/PATH, or with details as in the config"),
    ]


def _opener(path: str, flags: int) -> int:
    # Opening a pipe would wait for whoever writes to it, and everything else with it.
    return os.open(path, flags | os.O_NONBLOCK)


def read_endpoints(path: str) -> list[EndpointConfig]:
    """Return what the file lists. Raises ConfigError with all its mistakes, also where it cannot be read."""
    data = b""
    try:
        with open(path, "rb", opener=_opener) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError((Mistake(path, 0, "(top level)", "something else", "a regular file"),))
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError((Mistake(path, 0, "(top level)", "more than 4 MiB", "a list of endpoints"),))
        reader = Reader(path)
        found: EndpointsFile = reader.read(EndpointsFile, parse(data.decode("utf-8-sig")))
    except OSError as error:
        mistake = Mistake(path, 0, "(top level)", (error.strerror or str(error)).lower(), "a file that can be read")
        raise ConfigError((mistake,)) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError((Mistake(path, line, "(top level)", "no UTF-8", "text in UTF-8"),)) from error
    except NotYaml as error:
        raise ConfigError((Mistake(path, error.line, "(top level)", error.found, error.expected),)) from error
    if reader.mistakes:
        raise ConfigError(tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line)))
    return with_details(found.endpoints)


class File:
    """Looks at the file through all symlinks, so that the swap by which a ConfigMap is updated is seen.

    Host names in it are resolved every `refresh` seconds.
    """

    def __init__(self, path: str, refresh: float) -> None:
        self._path = path
        self._refresh = refresh
        self._names = Names()
        self._endpoints: list[EndpointConfig] | None = None  # of the last good file
        self._mistakes: str | None = None
        # what the file was like when it was read, and at the last look
        self._read_as: _Signature | None = None
        self._seen: _Signature | None = None

    async def run(self, update: Update) -> None:
        """Read the file whenever it has changed."""
        clock = asyncio.get_running_loop().time
        names = self._names
        self._read_as = self._look()
        self._read()
        news = True
        resolve_at = 0.0
        while True:
            endpoints = self._endpoints or ()
            named = any(is_name(endpoint.address) for endpoint in endpoints)
            if news or (named and clock() >= resolve_at):
                error = await names.look_up(endpoints) if named else None
                resolve_at = clock() + self._refresh
                update(None if self._endpoints is None else names.known(endpoints), self._mistakes or error)
            await asyncio.sleep(_LOOK)
            news = self._changed()
            if news:
                self._read()

    def _read(self) -> None:
        try:
            self._endpoints = read_endpoints(self._path)
        except ConfigError as error:
            self._mistakes = "; ".join(map(str, error.mistakes))
        else:
            self._mistakes = None

    def _changed(self) -> bool:
        """Whether it is another file, or the same one written to and at rest since the last look."""
        now = self._look()
        before, self._seen = self._seen, now
        if now == self._read_as:
            return False
        # Whoever writes in place may be half done; a new file is there whole.
        if now is not None and self._read_as is not None and now[:2] == self._read_as[:2] and now != before:
            return False
        self._read_as = now
        return True

    def _look(self) -> _Signature | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
