"""Whether the filters that a config names can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshlet.config.mistakes import Path
    from meshlet.config.reader import Reader
    from meshlet.config.schema import Config, Filter


def check_filters(config: Config, reader: Reader) -> None:
    """Note every filter that cannot be loaded, by making each of them once."""
    filters = list(_filters(config))
    if not filters:
        return
    from meshlet.filters.load import FilterLoadError, load_filter

    for path, written in filters:
        if not reader.sound(path) or (
            written.python is None and written.buffer is None and written.compression is None
        ):
            continue
        try:
            load_filter(written)
        except FilterLoadError as error:
            reader.mistake(path, f"a filter that cannot be loaded ({error})", "one that can be")


def _filters(config: Config) -> Iterator[tuple[Path, Filter]]:
    for index, listener in enumerate(config.listeners):
        around: Path = ("listeners", index)
        for number, written in enumerate(listener.filters):
            yield (*around, "filters", number), written
        for route_index, route in enumerate(listener.routes):
            for number, written in enumerate(route.filters):
                yield (*around, "routes", route_index, "filters", number), written
