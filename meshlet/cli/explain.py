"""`meshlet explain`: tell why a request failed or took long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from meshlet.cli.admin_client import AdminClient, admin_option
from meshlet.telemetry.explain.text import as_text

if TYPE_CHECKING:
    from meshlet.config.units import Address


@click.command(
    "explain",
    epilog="""\b
Examples:
  meshlet explain 6f1c2a0e-3f5d-4d8a-9d53-0b9c6f0f3a11
  meshlet explain --last
  meshlet explain --last 20 --output json | jq '.[] | {target, flag, error}'
  kubectl exec POD -c meshlet -- meshlet explain REQUEST_ID
""",
    short_help="Tell why a request failed or took long.",
)
@click.argument("request_id", required=False)
@click.option(
    "--last",
    type=click.IntRange(1, 1000),
    is_flag=False,
    flag_value=1,
    metavar="[N]",
    help="The last one that failed or was slow, or the last N, newest first.",
)
@admin_option
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A timeline for people, or one JSON document for programs.",
)
def command(request_id: str | None, last: int | None, admin: Address, output: str) -> None:
    """Tell why the request REQUEST_ID failed or took long: what happened when, and what to check.

    The id is that of the x-request-id header: the access log has it, and so have the answers of meshlet itself. The
    running meshlet is asked. It keeps the last requests that failed (5xx, or a response flag), took longer than
    telemetry.explain.slow, or needed more than one try. Exits with 1 where it knows nothing about the request.
    """
    if (request_id is None) == (last is None):
        raise click.UsageError("expected a REQUEST_ID, or --last")
    found = AdminClient(admin).get_json("/explain", {"id": request_id, "limit": last, "format": "json"})
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(as_text(found) or "no request has failed or was slow", nl=not found)
