"""The command: `python -m benchmarks.fairness`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import host, plot, proxies
from benchmarks.__main__ import end_in_order, names, positive
from benchmarks.errors import BenchmarkError
from benchmarks.fairness import attacks, report, run
from benchmarks.fairness.figures import Outcome
from benchmarks.fairness.plot import draw
from benchmarks.fairness.schedule import slices
from benchmarks.proxies import Proxy

RESULTS = Path(__file__).parents[1] / "results"
NAMES = ("meshlet", "envoy", "nginx")
BEFORE = "before"
ROUNDS, SECONDS = 3, 3
_EPILOG = "\n".join(
    [
        "example: python -m benchmarks.fairness --attack none,upload-chunks --proxy meshlet --rounds 1 --seconds 3",
        "",
        "attacks:",
        *(f"  {attack.name:20}{attack.title}" for attack in attacks.ALL.values()),
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save; 0 when everything was measured, whatever the figures are."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    end_in_order()
    try:
        chosen = _chosen(options)
        _check_tools(chosen)
        host.raise_open_files()
        outcomes = _measure(chosen, options)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.waits_text(outcomes), report.verdicts_text(outcomes), sep="\n\n")
    _save(outcomes, chosen, options, arguments)
    return 1 if any(outcome.failures for outcome in outcomes.values()) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fairness",
        description="How long a client waits for its answers while another peer attacks the proxy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everything = list(attacks.ALL)
    parser.add_argument(
        "--attack", type=names(everything), default=everything, metavar="A,B", help="default: all of those below"
    )
    parser.add_argument(
        "--proxy", type=names(NAMES), default=list(NAMES), metavar="A,B", help=f"default: {','.join(NAMES)}"
    )
    parser.add_argument("--rounds", type=positive, default=ROUNDS, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument(
        "--seconds", type=positive, default=SECONDS, metavar="N", help=f"of each attack; default {SECONDS}"
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="another checkout of meshlet, measured beside this one as `before`"
    )
    parser.add_argument("--meshlet-protocol", choices=("http", "auto"), default="http", help="of its HTTP listener")
    parser.add_argument(
        "--output", type=Path, metavar="JSON", help="default: results/fairness.json, of a part part.json"
    )
    options = parser.parse_args(arguments)
    whole = len(options.attack) == len(attacks.ALL) and len(options.proxy) == len(NAMES) and not options.against
    full = options.rounds >= ROUNDS and options.seconds >= SECONDS
    options.output = options.output or RESULTS / ("fairness.json" if whole and full else "part.json")
    return options


def _chosen(options: argparse.Namespace) -> list[Proxy]:
    chosen = [proxies.ALL[name] for name in options.proxy]
    if options.against:
        chosen.insert(1 if "meshlet" in options.proxy else 0, _before(options.against.resolve()))
    return chosen


def _before(folder: Path) -> Proxy:
    """The meshlet of another checkout, run by the same Python."""
    if not (folder / "meshlet" / "__main__.py").exists():
        raise BenchmarkError(f"--against: {folder} is no checkout of meshlet: it has no meshlet/__main__.py")
    # `python -m` looks into the current directory first.
    here = [proxies.tool("env"), "-C", str(folder)]
    meshlet = proxies.ALL["meshlet"]
    asked = [*here, sys.executable, "-m", "meshlet", "--version"]
    return replace(
        meshlet,
        name=BEFORE,
        command=lambda config: [*here, *meshlet.command(config)],
        version=lambda: proxies.version_of(asked, r"(\d+\.\d+\S*)"),
    )


def _check_tools(chosen: Sequence[Proxy]) -> None:
    absent = [proxies.missing_tool("nginx")]  # nginx is the backend, too
    absent += [proxy.missing() for proxy in chosen if proxy.name != "nginx"]
    if any(proxy.name == "nginx" for proxy in chosen):
        absent.append(proxies.missing_stream_module())
    if not plot.available():
        absent.append("matplotlib is not installed: pip install 'meshlet[bench]'")
    messages = [message for message in absent if message]
    if messages:
        raise BenchmarkError("\n".join(messages))


def _measure(chosen: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Outcome]:
    by_name = {proxy.name: proxy for proxy in chosen}
    outcomes = {name: Outcome() for name in options.attack}
    with (
        tempfile.TemporaryDirectory(prefix="meshlet-fairness-") as workdir,
        run.world(Path(workdir), host.choose_cores(), options.meshlet_protocol) as world,
    ):
        for number, attack, name in slices(options.attack, list(by_name), options.rounds):
            try:
                measured = run.measure(by_name[name], attacks.ALL[attack], world, options.seconds)
            except BenchmarkError as error:
                outcomes[attack].failures[name] = result = str(error)
            else:
                outcomes[attack].add(name, measured)
                result = f"p99 {measured.sample['p99_ms']:,.1f} ms"
            line = f"{time.strftime('%H:%M:%S')} round {number + 1}: {attack}, {name}: {result}"
            print(line, file=sys.stderr, flush=True)
    return outcomes


def _save(
    outcomes: Mapping[str, Outcome], chosen: Sequence[Proxy], options: argparse.Namespace, arguments: Sequence[str]
) -> None:
    circumstances = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.fairness", *arguments]),
        "host": host.describe(),
        "versions": {proxy.name: proxy.version() for proxy in chosen},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "meshlet_protocol": options.meshlet_protocol,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.document(outcomes, circumstances), indent=1)
    options.output.write_text(text + "\n", encoding="utf-8")
    picture = options.output.with_suffix(".svg")
    draw(outcomes, picture)
    print(f"wrote {options.output} and {picture}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
