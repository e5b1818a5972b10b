"""The attacker, a process of its own: `python -m benchmarks.fairness.attacker NAME PORT SECONDS`.

It says "ready", reads from stdin when to begin (by the monotonic clock), attacks, and prints what it did.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

from benchmarks.fairness import attacks
from benchmarks.fairness.attacks import Attack
from benchmarks.fairness.pump import TICK, Engine, Pump, Ticks, connect, sleep_until


def main() -> None:
    """Attack once."""
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    attack = attacks.ALL[name]
    pumps = connect(port, [attack.script()] * attack.connections)
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    sleep_until(start)
    print(json.dumps(_attack(attack, port, pumps, start, start + seconds)))


def _attack(attack: Attack, port: int, pumps: list[Pump], start: float, end: float) -> dict[str, int | str]:
    done: Counter[str] = Counter()
    statuses = set[str]()
    engine, ticks = Engine(), Ticks(start)
    for pump in pumps:
        engine.add(pump)
    while (now := time.monotonic()) < end:
        gone = engine.bite(due) if (due := ticks.due(now)) else []
        gone += engine.poll(min(TICK, max(ticks.next - time.monotonic(), 0.0)))
        for pump in set(gone):
            _count(pump, done, statuses)
            engine.remove(pump)
            pumps.remove(pump)
            done["reopened"] += 1
            fresh = connect(port, [pump.script])
            engine.add(fresh[0])
            pumps += fresh
    for pump in pumps:
        _count(pump, done, statuses)
    return {**done, "statuses": " ".join(sorted(statuses))}


def _count(pump: Pump, done: Counter[str], statuses: set[str]) -> None:
    done["sent"] += pump.sent
    done["received"] += pump.received
    if pump.first.startswith(b"HTTP/"):
        statuses.add(pump.first[9:12].decode("ascii", "replace"))


if __name__ == "__main__":
    main()
