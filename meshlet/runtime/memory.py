"""How the process treats its memory once it has started."""

from __future__ import annotations

import gc

# Larger than what the event loop reads at once (256 KiB), small enough to be no cost if it stays with the process.
_LARGEST_BUFFER = 1 << 20


def settle() -> None:
    """Call it when all that stays for good has been made."""
    # Freeing a block that was mapped on its own makes glibc raise the bounds past which it gives memory back to the
    # kernel (mallopt(3), M_MMAP_THRESHOLD, M_TRIM_THRESHOLD). Otherwise each large read would get fresh pages, and
    # clearing those cost 40 % of all CPU time of a download.
    bytearray(_LARGEST_BUFFER)
    # What was made so far need not be looked at by the collector again and again. And requests leave no cycles behind,
    # so that looking after every 700 new objects, as is the default, finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
