"""`meshlet validate`: tell whether `meshlet run` would take a config file, and if not, why not."""

from __future__ import annotations

import json

import click

from meshlet.config.load import ConfigError, Mistake, load
from meshlet.config.rules import warnings
from meshlet.config.schema import Config
from meshlet.filters.check import check_filters


@click.command("validate", epilog="Example: meshlet validate config/sidecar.yaml", short_help="Check a config file.")
@click.argument("file", type=click.Path())
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON document on stdout for programs.",
)
def command(file: str, output: str) -> None:
    """Check the config FILE.

    Exits with 0 when it is good; with 2 when it is not, after one line for each mistake on stderr. A line there may
    also warn of what is good, but perhaps not meant.
    """
    counts: dict[str, int] = {}
    mistakes: list[Mistake] = []
    doubts: list[str] = []
    try:
        config = load(file, check_filters)
        counts, doubts = _counts(config), warnings(config)
    except ConfigError as error:
        mistakes += error.mistakes
    if output == "json":
        listed = [mistake._asdict() for mistake in mistakes]
        report = {"file": file, "ok": not mistakes, **counts, "mistakes": listed, "warnings": doubts}
        click.echo(json.dumps(report, indent=2))
    elif mistakes:
        click.echo("\n".join(map(str, mistakes)), err=True)
    else:
        for doubt in doubts:
            click.echo(f"{file}: warning: {doubt}", err=True)
        click.echo(
            f"{file}: ok, {', '.join(f'{count} {what if count != 1 else what[:-1]}' for what, count in counts.items())}"
        )
    if mistakes:
        raise SystemExit(2)


def _counts(config: Config) -> dict[str, int]:
    return {
        "listeners": len(config.listeners),
        "clusters": len(config.clusters),
        "routes": sum(len(listener.routes) for listener in config.listeners),
    }
