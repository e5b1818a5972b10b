"""The command: `python -m benchmarks.chaos`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import host, plot, proxies
from benchmarks.__main__ import end_in_order, names, positive
from benchmarks.chaos import figures, report, run, schedule
from benchmarks.chaos.plot import draw
from benchmarks.chaos.run import Outcome
from benchmarks.errors import BenchmarkError

RESULTS = Path(__file__).parents[1] / "results"
REQUESTS, QUICK_REQUESTS = 10_000, 1_500
SEED = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, save; 0 when everything was measured, whatever the figures are."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    end_in_order()
    try:
        _check_tools(options)
        outcomes = _measure(options)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.figures_text(outcomes), report.checks_text(outcomes), sep="\n\n")
    for name, outcome in outcomes.items():
        print("", report.problems_text(name, outcome), sep="\n")
    _save(outcomes, options, arguments)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description="meshlet and Envoy before five apps that fail in all ways"
    )
    known = list(run.NAMES)
    parser.add_argument(
        "--proxies", type=names(known), default=known, metavar="A,B", help=f"default: {','.join(known)}"
    )
    parser.add_argument("--requests", type=positive, metavar="N", help=f"default {REQUESTS:,}; with --quick fewer")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of load and faults; default {SEED}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REQUESTS:,} requests")
    parser.add_argument("--output", type=Path, metavar="JSON", help="default: results/chaos.json, of a part part.json")
    options = parser.parse_args(arguments)
    options.requests = options.requests or (QUICK_REQUESTS if options.quick else REQUESTS)
    # The docs show `chaos`: always both proxies in full length.
    whole = len(options.proxies) == len(known) and options.requests >= REQUESTS
    options.output = options.output or RESULTS / ("chaos.json" if whole else "part.json")
    return options


def _check_tools(options: argparse.Namespace) -> None:
    absent = [proxies.ALL[name].missing() for name in options.proxies]
    if not plot.available():
        absent.append("matplotlib is not installed: pip install 'meshlet[bench]'")
    messages = [message for message in absent if message]
    if messages:
        raise BenchmarkError("\n".join(messages))


def _measure(options: argparse.Namespace) -> dict[str, Outcome]:
    outcomes = {}
    load = schedule.requests(options.seed, options.requests)
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="meshlet-chaos-") as workdir:
        for name in options.proxies:
            print(f"{time.strftime('%H:%M:%S')} {name}: {len(load):,} requests in calm, then in chaos", file=sys.stderr)
            outcomes[name] = asyncio.run(run.measure(proxies.ALL[name], load, options.seed, Path(workdir), core))
    return outcomes


def _save(outcomes: Mapping[str, Outcome], options: argparse.Namespace, arguments: Sequence[str]) -> None:
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.chaos", *arguments]),
        "host": host.describe(),
        "versions": {name: proxies.ALL[name].version() for name in outcomes},
        "requests": options.requests,
        "seed": options.seed,
        "proxies": {name: figures.document(outcome) for name, outcome in outcomes.items()},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    picture = options.output.with_suffix(".svg")
    draw(outcomes, picture)
    print(f"wrote {options.output} and {picture}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
