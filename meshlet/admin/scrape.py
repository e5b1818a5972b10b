"""The metrics port: `/metrics` and `/stats/prometheus`, with the app's own metrics if it has any.

It may be reachable from outside the Pod, so it only tells, and is bounded in everything.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from meshlet.admin.lazy import LazyServer, name_of
from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from meshlet.admin.lazy import Serve

_log = logging.getLogger(__name__)

PATHS = ("/metrics", "/stats/prometheus")

_LOG_INTERVAL = 60.0  # seconds


class ScrapeServer(LazyServer):
    """Answers scrapers on a bound socket, which it owns from now on.

    `families` gives all metrics. `app` is the URL of the app's metrics, None where it has none; it may be changed at
    any time. Belongs to the event loop that `start` is called in.
    """

    def __init__(
        self,
        sock: socket.socket,
        families: Callable[[], Awaitable[list[Family]]],
        app: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(sock, self._load_app, f"the metrics port {name_of(sock)}")
        self.all_families = families
        self.app = app
        self._clock = clock
        self._logged: float | None = None
        # figures
        self.app_scrapes_total = 0
        self.app_failures_total = 0

    def _load_app(self) -> Serve:
        from meshlet.admin.scrape_app import make_serve

        return make_serve(self)

    def note_app(self, failure: str | None) -> None:
        """Count a scrape of the app; `failure` says what went wrong, if anything did."""
        self.app_scrapes_total += 1
        if failure is None:
            return
        self.app_failures_total += 1
        now = self._clock()
        if self._logged is None or now - self._logged >= _LOG_INTERVAL:
            self._logged = now
            _log.warning("cannot get the app's metrics from %s: %s", self.app, failure)

    def families(self) -> list[Family]:
        """Return what is counted about scrapes of the app; they belong among those that `families` gives."""
        scrapes = Family("meshlet_app_scrapes_total", "counter", "Times that the app was asked for its metrics.")
        scrapes.add(self.app_scrapes_total)
        failures = Family("meshlet_app_scrape_failures_total", "counter", "Times that it did not give them.")
        failures.add(self.app_failures_total)
        return [scrapes, failures]
