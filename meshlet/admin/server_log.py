"""What aiohttp's servers may write into meshlet's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from typing import TypeAlias

    Adapter: TypeAlias = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter


class ServerLog(Adapter):
    """Notes malformed requests for `debug` only: whoever reaches the port could fill the log with tracebacks."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **settings: Any) -> None:
        """Write what a handler raised, as before, and not what a client did wrong."""
        if isinstance(exc_info, HttpProcessingError):
            self.debug(f"{msg}: %s", *args, exc_info)
        else:
            super().exception(msg, *args, exc_info=exc_info, **settings)


SERVER_LOG = ServerLog(logging.getLogger("aiohttp.server"), {})
