"""Taps: a live view of requests, taken inside the data plane, with secrets removed before anything leaves it.

`Taps` is what a process of the data plane has one of; `TapRead` is what a reader asks it again and again; the other
modules are its parts, and `har` is what commands make of the entries.
"""

from meshlet.telemetry.tap.filter import Came, TapFilter, parse_filter
from meshlet.telemetry.tap.hub import LEASE, MOST_ENTRIES, TapRead, Taps

__all__ = ["LEASE", "MOST_ENTRIES", "Came", "TapFilter", "TapRead", "Taps", "parse_filter"]
