"""`meshlet run`: run the proxy, from a config file or from flags."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING

import click

from meshlet.config.load import ConfigError, load
from meshlet.config.schema import Admin, Cluster, Config, Listener, Match, Route
from meshlet.config.units import Address
from meshlet.config.values import endpoint_address, listen_address, loopback_address
from meshlet.filters.check import check_filters
from meshlet.telemetry.log import configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.runtime.plane import Plane

logger = logging.getLogger("meshlet")


class AddressType(click.ParamType[Address]):
    """HOST:PORT that passes one of the checks of the config file."""

    name = "HOST:PORT"

    def __init__(self, check: Callable[[Address], None]) -> None:
        self._check = check

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse it, or say what was expected."""
        if isinstance(value, Address):
            return value
        try:
            address = Address.parse(value)
            self._check(address)
        except ValueError as error:
            self.fail(f"found {value!r}, expected {error}", param, ctx)
        return address


@click.command(
    "run",
    epilog="Example: meshlet run --listen 127.0.0.1:8000 --app 127.0.0.1:8080 --admin 127.0.0.1:15000",
    short_help="Run the proxy.",
)
@click.option(
    "--listen", type=AddressType(listen_address), help="Where to accept connections; port 0 lets the kernel choose."
)
@click.option("--app", type=AddressType(endpoint_address), help="Where the app listens.")
@click.option("--admin", type=AddressType(loopback_address), help="Where to serve the admin port, on loopback.")
@click.option(
    "--app-protocol",
    type=click.Choice(["http1", "tcp"]),
    help="What the app speaks; by default each connection's first bytes say.",
)
@click.option("--config", "file", type=click.Path(), help="A config file, in place of the flags above.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes to run.")
def command(
    listen: Address | None,
    app: Address | None,
    admin: Address | None,
    app_protocol: str | None,
    file: str | None,
    workers: int,
) -> None:
    """Run the proxy, in the foreground, until SIGTERM or Ctrl-C."""
    if file is not None:
        if listen or app or admin or app_protocol:
            raise click.UsageError("--config stands alone: what the other flags say belongs into the file")
        config = _load(file)
    elif listen is not None and app is not None:
        config = from_flags(listen, app, admin, app_protocol)
    else:
        raise click.UsageError("expected --config FILE, or --listen HOST:PORT and --app HOST:PORT")
    configure(config.log.level, config.log.format, shared=workers > 1)
    raise SystemExit(_run(config, file, workers))


def _load(file: str) -> Config:
    try:
        return load(file, check_filters)
    except ConfigError as error:
        click.echo("\n".join(map(str, error.mistakes)), err=True)
        raise SystemExit(2) from error


def from_flags(listen: Address, app: Address, admin: Address | None, app_protocol: str | None) -> Config:
    """Return the config that the flags stand for."""
    return Config(
        listeners=(
            Listener(
                name="inbound",
                address=listen,
                protocol={None: "auto", "http1": "http", "tcp": "tcp"}[app_protocol],  # type: ignore[arg-type]
                cluster="app",
                routes=(Route(cluster="app", match=Match(prefix="/")),),
            ),
        ),
        clusters=(Cluster(name="app", endpoints=(app,)),),
        admin=Admin(address=admin) if admin is not None else None,
    )


def _run(config: Config, file: str | None, workers: int) -> int:
    import uvloop

    _raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, file, workers))
    except OSError as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback would not help the user
        return 1


async def _serve(config: Config, file: str | None, workers: int) -> int:
    from meshlet.runtime.service import Service

    return await Service(config, file, _plane(workers), workers=workers).run()


def _plane(workers: int) -> Plane:
    # Each way imports only what it needs: a supervisor carries no traffic, one process supervises none.
    if workers > 1:
        from meshlet.runtime.workers import Workers

        return Workers(workers)
    from meshlet.runtime.plane import DataPlane
    from meshlet.runtime.sockets import bind

    return DataPlane(bind)


def _raise_file_limit() -> None:
    """Use as many descriptors as we may: every request needs two connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
