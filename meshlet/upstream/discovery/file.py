"""Endpoints listed in a file, which something else writes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from meshlet.config.mistakes import ConfigError
from meshlet.config.nodes import NotYaml, parse
from meshlet.config.reader import Reader
from meshlet.config.schema import EndpointAddress, EndpointConfig
from meshlet.config.text_file import Unreadable, read_text, whole_file
from meshlet.threads import in_thread
from meshlet.upstream.discovery.names import Names, with_details
from meshlet.upstream.resolver import is_name

if TYPE_CHECKING:
    from meshlet.upstream.discovery.base import Update

_Signature = tuple[int, int, int, int]

_LOOK = 1.0  # seconds between two looks at the file


class EndpointsFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file may hold."""

    endpoints: Annotated[
        tuple[EndpointAddress | EndpointConfig, ...],
        Meta(description="HOST:PORT, [IPV6]:PORT, unix:/PATH, or with details as in the config"),
    ]


def read_endpoints(path: str) -> list[EndpointConfig]:
    """Return what the file lists. Raises ConfigError with all its mistakes, also where it cannot be read."""
    reader = Reader(path)
    try:
        found: EndpointsFile = reader.read(EndpointsFile, parse(read_text(path, "a list of endpoints")))
    except NotYaml as error:
        raise ConfigError((whole_file(path, error.line, error.found, error.expected),)) from error
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
        await self._read()
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
                await self._read()

    async def _read(self) -> None:
        try:
            # Thousands of endpoints take a tenth of a second, in which requests would wait.
            self._endpoints = await in_thread(read_endpoints, self._path)
        except (ConfigError, OSError) as error:
            if isinstance(error, Unreadable | OSError):
                self._read_as = None  # it is looked at again, though nobody may change it
            self._mistakes = "; ".join(map(str, error.mistakes)) if isinstance(error, ConfigError) else str(error)
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
