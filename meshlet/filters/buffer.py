"""The filter that holds a request until all of its body is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.filters.base import Filter, Hold

if TYPE_CHECKING:
    from meshlet.config.schema import Buffer as BufferConfig
    from meshlet.filters.call import Call


class Buffer(Filter):
    """Spares the app slow uploads: it gets a request whole, with a Content-Length, or not at all."""

    def __init__(self, config: BufferConfig) -> None:
        self._hold = Hold(config.max_bytes)

    def on_request_head(self, call: Call) -> Hold:
        return self._hold
