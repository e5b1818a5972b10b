"""Whether a proxy that is measured with its log and its tracing on has written and sent all of that."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

#: meshlet's default JSON, which Envoy's config spells out
FIELDS = frozenset(
    {
        "start_time", "duration", "listener", "upstream_cluster", "protocol", "method", "path", "authority",
        "response_code", "response_flags", "response_code_details", "bytes_received", "bytes_sent",
        "downstream_remote_address", "upstream_host", "upstream_service_time", "request_id", "trace_id", "attempts",
        "route_name", "user_agent", "x_forwarded_for",
    }
)  # fmt: skip
SAMPLED = 0.01
#: of both, in the directory of each
ACCESS_LOG = "access.log"
#: seconds after which what is left of a batch must have come: 5 in both, and some
SPANS_INTERVAL = 8.0

# A slice's last lines may still be in a proxy's buffer, and requests cut off by its end are logged but not counted.
_LINES_TOLERANCE = 0.02
_FEW_LINES = 1000
# Four standard deviations of the random choice, and something for what is never sent.
_SPANS_TOLERANCE = 0.1


@dataclass
class Evidence:
    """What one proxy left behind, summed over its slices."""

    requests: int = 0
    lines: int = 0
    fields: frozenset[str] = frozenset()

    def read(self, log: Path, requests: int) -> None:
        """Count a slice's lines, then empty the log: it would grow by some ten megabytes a second.

        Both proxies append, so they go on at the beginning.
        """
        self.requests += requests
        with log.open("rb+") as file:
            last = b""
            for line in file:
                self.lines += line.endswith(b"\n")
                last = line if line.endswith(b"\n") else last
            file.truncate(0)
        if last:
            self.fields = frozenset(json.loads(last))

    @property
    def spans(self) -> tuple[float, float]:
        """How many spans there may be, at least and at most."""
        expected = self.requests * SAMPLED
        tolerance = expected * _SPANS_TOLERANCE + 4 * math.sqrt(expected)
        return expected - tolerance, expected + tolerance

    def check(self, spans: int) -> None:
        """Raise if it has not done what it was measured with."""
        problems = [*_fields(self.fields)]
        if abs(self.lines - self.requests) > self.requests * _LINES_TOLERANCE + _FEW_LINES:
            problems.append(f"{self.lines} lines in its log for {self.requests} requests")
        least, most = self.spans
        if not least <= spans <= most:
            problems.append(f"{spans} spans where {least:.0f} to {most:.0f} were due")
        if problems:
            raise BenchmarkError("it does not do the same work: " + "; ".join(problems))


def _fields(found: frozenset[str]) -> Sequence[str]:
    # An object leaves out nothing for want of a value in either of them, so every line has every key.
    lacking = sorted(FIELDS - found)
    return [f"its log lacks {', '.join(lacking)}"] if lacking else []
