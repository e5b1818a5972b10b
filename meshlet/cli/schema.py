"""`meshlet schema`: what may stand in a config file, for editors and programs."""

from __future__ import annotations

import json

import click

from meshlet.config.json_schema import json_schema


@click.command("schema", epilog="Example: meshlet schema > meshlet.schema.json")
def command() -> None:
    """Print the JSON Schema (draft 2020-12) of the config file.

    An editor with YAML support checks and completes a config file that begins with the line
    `# yaml-language-server: $schema=meshlet.schema.json`.
    """
    click.echo(json.dumps(json_schema(), indent=2))
