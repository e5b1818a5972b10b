"""The command `meshlet`; a subcommand's module is imported when it is called, and no other one.

So `meshlet run` does not wait for what only `meshlet demo` needs, and `meshlet --help` imports none.
"""

from __future__ import annotations

from importlib import import_module

import click

import meshlet

# The short help lives here, because click would import every command to ask for it.
COMMANDS = {
    "run": "Run the proxy.",
    "validate": "Check a config file and name every mistake in it.",
    "routes": "Tell which route takes a request, and why.",
    "schema": "Print the JSON Schema of the config file.",
    "top": "Watch rates, success and latency of routes and endpoints.",
    "tap": "Watch requests as they end.",
    "explain": "Tell why a request failed or took long.",
    "replay": "Send the requests of a HAR file again.",
    "demo": "Run an app, a sidecar and some traffic on this machine.",
}


class LazyGroup(click.Group):
    """A group whose command NAME is the object `command` of the module meshlet.cli.NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"meshlet.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: meshlet run --listen 127.0.0.1:8000 --app 127.0.0.1:8080",
)
@click.version_option(meshlet.__version__, prog_name="meshlet")
def main() -> None:
    """A sidecar proxy for Kubernetes Pods."""
