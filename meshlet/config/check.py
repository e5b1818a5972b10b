"""What must hold between the parts of a config: unique names and addresses, references that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshlet.config.mistakes import Path, dotted, nearest, quoted
from meshlet.config.reader import Reader
from meshlet.config.schema import Cluster, Config, Listener, Match
from meshlet.config.units import Address


def check(config: Config, reader: Reader) -> None:
    """Note every mistake between the parts of `config`, as far as `reader` is sure of those parts."""
    _unique_names("listeners", config.listeners, reader)
    _unique_names("clusters", config.clusters, reader)
    _unique_addresses(config, reader)
    _known_clusters(config, reader)
    for index, listener in enumerate(config.listeners):
        _somewhere_to_go(listener, ("listeners", index), reader)
        for route_index, route in enumerate(listener.routes):
            _one_condition_on_the_path(route.match, ("listeners", index, "routes", route_index, "match"), reader)
    _time_to_drain(config, reader)


def matches_everything(match: Match) -> bool:
    """Tell whether no request can fail to match."""
    return match.prefix in (None, "/") and not (match.host or match.path or match.regex or match.method)


def _unique_names(key: str, items: Iterable[Listener | Cluster], reader: Reader) -> None:
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        path = (key, index, "name")
        if reader.sure(path) and first.setdefault(item.name, index) != index:
            reader.mistake(path, f"{quoted(item.name)}, which is {key}[{first[item.name]}] too", "a name of its own")


def _unique_addresses(config: Config, reader: Reader) -> None:
    first: dict[Address, str] = {}
    for path, address in _addresses(config):
        # Port 0 is a different port for each who asks.
        if not reader.sure(path) or not (address.port or address.path):
            continue
        owner = dotted(path[:-1])
        if first.setdefault(address, owner) != owner:
            reader.mistake(path, f"'{address}', where {first[address]} listens too", "an address of its own")


def _addresses(config: Config) -> Iterator[tuple[Path, Address]]:
    for index, listener in enumerate(config.listeners):
        yield ("listeners", index, "address"), listener.address
    if config.admin is not None:
        yield ("admin", "address"), config.admin.address
    if config.health is not None:
        yield ("health", "address"), config.health.address


def _known_clusters(config: Config, reader: Reader) -> None:
    if not reader.sure(("clusters",)):
        return
    known = {cluster.name for cluster in config.clusters}
    near: dict[str, str] = {}  # a renamed cluster may be missed by a thousand routes
    for path, name in _references(config):
        if reader.sure(path) and name not in known:
            if name not in near:
                near[name] = nearest(name, filter(None, known))
            reader.mistake(path, quoted(name), "the name of a cluster", near[name])


def _references(config: Config) -> Iterator[tuple[Path, str]]:
    for index, listener in enumerate(config.listeners):
        if listener.cluster is not None:
            yield ("listeners", index, "cluster"), listener.cluster
        for route_index, route in enumerate(listener.routes):
            yield ("listeners", index, "routes", route_index, "cluster"), route.cluster
    if config.health is not None:
        for index, name in enumerate(config.health.require):
            yield ("health", "require", index), name


def _somewhere_to_go(listener: Listener, around: Path, reader: Reader) -> None:
    if not all(reader.sure((*around, key)) for key in ("protocol", "routes", "cluster")):
        return
    if listener.protocol != "tcp":
        if not listener.routes:
            reader.mistake((*around, "routes"), "no routes", f"at least one for protocol {listener.protocol}")
    elif listener.cluster is None and not any(matches_everything(route.match) for route in listener.routes):
        reader.mistake((*around, "cluster"), "nothing", "the cluster that gets the connections of protocol tcp")


def _one_condition_on_the_path(match: Match, around: Path, reader: Reader) -> None:
    paths = {key: (*around, key) for key in ("prefix", "path", "regex")}
    # A condition that is mistaken is left out of `match`, but whoever wrote it meant it.
    given = [key for key, path in paths.items() if getattr(match, key) is not None or not reader.sure(path)]
    given.sort(key=lambda key: reader.line(paths[key]))
    if reader.sure(around) and len(given) > 1:
        reader.mistake(paths[given[-1]], " and ".join(given), "only one of prefix, path and regex")


def _time_to_drain(config: Config, reader: Reader) -> None:
    grace, timeout = ("shutdown", "grace"), ("shutdown", "timeout")
    shutdown = config.shutdown
    if not (reader.sure(grace) and reader.sure(timeout)) or shutdown.timeout >= shutdown.grace:
        return
    if reader.given(timeout):
        reader.mistake(timeout, shutdown.timeout.written, f"at least shutdown.grace, which is {shutdown.grace.written}")
    else:
        reader.mistake(
            grace, shutdown.grace.written, f"at most shutdown.timeout, {shutdown.timeout.written} by default"
        )
