"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Never

from benchmarks import fleet, host, plot, proxies, report, scenarios
from benchmarks.errors import BenchmarkError
from benchmarks.scenarios import Outcome, Run

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save; 0 when everything was measured, whatever the figures are."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    end_in_order()
    try:
        _check_tools(options)
        host.raise_open_files()
        outcomes = _measure(options)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    _print_tables(outcomes)
    _save(outcomes, options, arguments)
    return 1 if any(outcome.failures for outcome in outcomes.values()) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="meshlet side by side with Envoy, nginx and HAProxy"
    )
    for option, known in (("--scenarios", list(scenarios.ALL)), ("--proxies", list(proxies.ALL))):
        parser.add_argument(
            option, type=names(known), default=known, metavar="A,B", help=f"default: all of {', '.join(known)}"
        )
    parser.add_argument("--rounds", type=positive, metavar="N", help="default 5; with --quick 3")
    parser.add_argument("--slice", type=positive, metavar="SECONDS", help="default 2; with --quick 1")
    parser.add_argument("--quick", action="store_true", help="about two minutes: short slices, no warm-up")
    parser.add_argument("--output", type=Path, metavar="JSON", help="default: results/latest.json, of a part part.json")
    parser.add_argument("--meshlet-protocol", choices=("http", "auto"), default="http", help="of its HTTP listener")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.slice = options.slice or (1 if options.quick else 2)
    # The README shows `latest`: always a whole run in full length.
    whole = len(options.scenarios) == len(scenarios.ALL) and len(options.proxies) == len(proxies.ALL)
    options.output = options.output or RESULTS / ("latest.json" if whole and not options.quick else "part.json")
    return options


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """An argument's type: some of the known names, separated by commas."""

    def parse(text: str) -> list[str]:
        asked = text.split(",")
        unknown = [name for name in asked if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in asked]

    return parse


def positive(text: str) -> int:
    """An argument's type: a number above zero."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def end_in_order() -> None:
    """Leave by an exception on a signal, so that every `finally` on the way out ends what it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> Never:
    for further in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(further, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave proxies behind
    raise SystemExit(128 + number)


def _check_tools(options: argparse.Namespace) -> None:
    """All that is missing, at once and before anything has run for minutes."""
    absent = [proxies.missing_tool("wrk"), proxies.missing_tool("nginx")]  # nginx is the backend, too
    absent += [proxies.ALL[name].missing() for name in options.proxies if name != "nginx"]
    if "tcp" in options.scenarios and "nginx" in options.proxies:
        absent.append(proxies.missing_stream_module())
    if not plot.available():
        absent.append("matplotlib is not installed: pip install 'meshlet[bench]'")
    messages = [message for message in absent if message]
    if messages:
        raise BenchmarkError("\n".join(messages))


def _measure(options: argparse.Namespace) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    cores = host.choose_cores()
    with (
        tempfile.TemporaryDirectory(prefix="meshlet-bench-") as workdir,
        fleet.backend(Path(workdir), cores, options.meshlet_protocol) as app,
    ):
        chosen = [proxies.ALL[name] for name in options.proxies]
        run = Run(chosen, app, options.rounds, options.slice, warm_up=not options.quick, progress=_progress)
        for name in options.scenarios:
            scenario = scenarios.ALL[name]
            _progress(f"{name}: {scenario.title}")
            outcomes[name] = scenario.measure(run)
    return outcomes


def _progress(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _print_tables(outcomes: Mapping[str, Outcome]) -> None:
    fastest = report.fastest_loop(outcomes)
    for name, outcome in outcomes.items():
        print(report.scenario_text(scenarios.ALL[name], outcome, fastest), end="\n\n")
    print(report.bars_text(report.verdicts_of(outcomes)))


def _save(outcomes: Mapping[str, Outcome], options: argparse.Namespace, arguments: Sequence[str]) -> None:
    versions = {name: proxies.ALL[name].version() for name in options.proxies}
    circumstances = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *arguments]),
        "host": host.describe(),
        "versions": {**versions, "wrk": proxies.version_of([proxies.tool("wrk"), "-v"], r"wrk (?:debian/)?(\S+)")},
        "rounds": options.rounds,
        "slice_seconds": options.slice,
        "meshlet_protocol": options.meshlet_protocol,
    }
    document = report.document(outcomes, scenarios.ALL, circumstances)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    picture = options.output.with_suffix(".svg")
    samples = {name: outcome.samples for name, outcome in outcomes.items()}
    plot.draw(samples, report.verdicts_of(outcomes), versions, picture)
    _progress(f"wrote {options.output} and {picture}")


if __name__ == "__main__":
    sys.exit(main())
