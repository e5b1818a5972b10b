"""`meshlet validate`: tell whether `meshlet run` would take a config file, and if not, why not."""

from __future__ import annotations

import json

import click

from meshlet.config.load import ConfigError, load
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

    Exits with 0 when it is good; with 2 when it is not, after one line for each mistake on stderr.
    """
    try:
        counts, mistakes = _counts(load(file, check_filters)), []
    except ConfigError as error:
        counts, mistakes = {}, list(error.mistakes)
    if output == "json":
        report = {"file": file, "ok": not mistakes, **counts, "mistakes": [mistake._asdict() for mistake in mistakes]}
        click.echo(json.dumps(report, indent=2))
    elif mistakes:
        click.echo("\n".join(map(str, mistakes)), err=True)
    else:
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
