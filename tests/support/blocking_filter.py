"""A filter that does what none may do: it holds the event loop up."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from meshlet.filters import Filter

if TYPE_CHECKING:
    from meshlet.filters import Call

FOREVER = 3600.0  # seconds


class Blocks(Filter):
    """Blocks the process for good, on request."""

    def on_request_head(self, call: Call) -> None:
        if call.request.path == "/block":
            time.sleep(FOREVER)


class BlocksWhenMade(Filter):
    """Blocks whoever makes it."""

    def __init__(self) -> None:
        super().__init__()
        sys.stdout.write("made\n")
        sys.stdout.flush()
        time.sleep(FOREVER)
