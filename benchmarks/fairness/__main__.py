"""The command: `python -m benchmarks.fairness`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import host, proxies
from benchmarks.__main__ import end_in_order, names, positive
from benchmarks.errors import BenchmarkError
from benchmarks.fairness import attacks, run
from benchmarks.fairness.schedule import slices
from benchmarks.report import number, table

PROXIES = ("meshlet",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 when everything was measured, whatever the figures are."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    end_in_order()
    try:
        host.raise_open_files()
        _measure(options)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fairness",
        description="what a client's requests wait for while another peer attacks the proxy",
        epilog="example: python -m benchmarks.fairness --attack none,upload-chunks --proxy meshlet --rounds 1",
    )
    for option, known in (("--attack", list(attacks.ALL)), ("--proxy", list(PROXIES))):
        parser.add_argument(
            option, type=names(known), default=known, metavar="A,B", help=f"default: all of {', '.join(known)}"
        )
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="default 3")
    parser.add_argument("--seconds", type=positive, default=3, metavar="N", help="of each attack; default 3")
    parser.add_argument("--meshlet-protocol", choices=("http", "auto"), default="http", help="of its HTTP listener")
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace) -> None:
    rows = [
        ["attack", "proxy", "p50 ms", "p99 ms", "max ms", "failed", "direct p99", "cpu s", "sent MB", "received MB"]
    ]
    with (
        tempfile.TemporaryDirectory(prefix="meshlet-fairness-") as workdir,
        run.world(Path(workdir), host.choose_cores(), options.meshlet_protocol) as world,
    ):
        for slice_ in slices(options.attack, options.proxy, options.rounds):
            sample, done = run.measure(proxies.ALL[slice_.proxy], slice_.attack, world, options.seconds)
            print(f"{time.strftime('%H:%M:%S')} {slice_} {done}", file=sys.stderr, flush=True)
            shown = ("p50_ms", "p99_ms", "max_ms", "failed", "direct_p99_ms", "cpu_s")
            bytes_ = (number(done.get(name, 0) / 1e6, 1) for name in ("sent", "received"))
            rows.append([slice_.attack, slice_.proxy, *(number(sample[name], 2) for name in shown), *bytes_])
    print(table(rows))


if __name__ == "__main__":
    sys.exit(main())
