"""What may go wrong while measuring."""

from __future__ import annotations


class BenchmarkError(Exception):
    """One proxy could not be measured in one scenario, or the whole run is impossible; the message is for the user."""
