"""What must hold between the parts of a config: unique names and addresses, references that lead somewhere."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from meshlet.config import values
from meshlet.config.mistakes import dotted, nearest, quoted
from meshlet.config.schema import ValueMatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshlet.config.mistakes import Path
    from meshlet.config.reader import Reader
    from meshlet.config.schema import (
        AccessLog,
        Cluster,
        Config,
        Discovery,
        Filter,
        HeaderRules,
        Listener,
        Match,
        RegexRewrite,
        Route,
    )
    from meshlet.config.units import Address


def check(config: Config, reader: Reader) -> None:
    """Note every mistake between the parts of `config`, as far as `reader` is sure of those parts."""
    _known_clusters(config, reader)  # before a name that stands twice becomes a mistake: it is known all the same
    _unique_names("listeners", config.listeners, reader)
    _unique_names("clusters", config.clusters, reader)
    _unique_addresses(config, reader)
    for index, listener in enumerate(config.listeners):
        _somewhere_to_go(listener, ("listeners", index), reader)
        _filters(listener.filters, ("listeners", index, "filters"), reader)
        for route_index, route in enumerate(listener.routes):
            _route(route, ("listeners", index, "routes", route_index), reader)
    for index, cluster in enumerate(config.clusters):
        _cluster(cluster, ("clusters", index), reader)
    _telemetry(config, reader)
    _time_to_drain(config, reader)


def matches_everything(match: Match) -> bool:
    """Tell whether no request can fail to match."""
    return match.prefix in (None, "/") and not (
        match.host or match.path or match.regex or match.method or match.headers or match.query
    )


def _route(route: Route, around: Path, reader: Reader) -> None:
    _one_of(route, around, ("cluster", "split", "redirect", "direct_response"), reader)
    _one_of(route.match, (*around, "match"), ("prefix", "path", "regex"), reader, least=0)
    for key in ("headers", "query"):
        _value_matches(getattr(route.match, key), (*around, "match", key), reader)
    if route.split and reader.sound((*around, "split")) and not any(share.weight for share in route.split):
        reader.mistake((*around, "split"), "weights that are all 0", "at least one above 0")
    if route.redirect is not None:
        _one_of(route.redirect, (*around, "redirect"), ("path", "prefix"), reader, least=0)
    if route.rewrite is not None:
        _one_of(route.rewrite, (*around, "rewrite"), ("path", "prefix", "regex"), reader, least=0)
        _regex_rewrite(route.rewrite.regex, (*around, "rewrite", "regex"), reader)
    _header_rules(route.request_headers, (*around, "request_headers"), reader, request=True)
    _header_rules(route.response_headers, (*around, "response_headers"), reader, request=False)
    if route.hedge is not None:
        _one_of(route.hedge, (*around, "hedge"), ("after", "percentile"), reader)
    if route.fault is not None:
        fault = (*around, "fault")
        _value_matches(route.fault.headers, (*fault, "headers"), reader)
        if (
            reader.sure(fault)
            and not reader.misunderstood(fault)
            and not _given(route.fault, fault, ("delay", "abort"), reader)
        ):
            reader.mistake(fault, "neither delay nor abort", "at least one of them")
    _without_effect(route, around, reader)
    cors = route.cors
    if cors is not None and cors.allow_credentials and "*" in cors.allow_origins:
        reader.mistake((*around, "cors", "allow_credentials"), "true with the origin *", "origins that are named")
    _filters(route.filters, (*around, "filters"), reader)


def _without_effect(route: Route, around: Path, reader: Reader) -> None:
    """Note what a route says about requests to a cluster where it answers by itself."""
    answer = next((key for key in ("redirect", "direct_response") if getattr(route, key) is not None), None)
    if answer is None or route.cluster is not None or route.split:
        return
    for key in ("rewrite", "mirror", "retry", "hedge"):
        if getattr(route, key) is not None and reader.sure((*around, key)):
            reader.mistake((*around, key), f"{key} and {answer}", f"only {answer}: no cluster gets the requests")


def _header_rules(rules: HeaderRules | None, around: Path, reader: Reader, *, request: bool) -> None:
    if rules is None:
        return
    for key in ("remove", "set", "append", "add"):
        for index, name in enumerate(getattr(rules, key)):
            path = (*around, key, index if key == "remove" else name)
            if not reader.sure(path):
                continue
            try:
                values.changed_field(name, request=request)
                if key == "append":
                    values.appended_field(name)
            except ValueError as error:
                reader.mistake(path, quoted(name), str(error))


def _regex_rewrite(rewrite: RegexRewrite | None, around: Path, reader: Reader) -> None:
    if rewrite is None or not (reader.sure((*around, "pattern")) and reader.sure((*around, "substitution"))):
        return
    try:
        values.references(rewrite.substitution, rewrite.pattern)
    except ValueError as error:
        reader.mistake((*around, "substitution"), quoted(rewrite.substitution), str(error))


def _cluster(cluster: Cluster, around: Path, reader: Reader) -> None:
    _one_of(cluster, around, ("endpoints", "discovery"), reader)
    if cluster.discovery is not None:
        _one_of(cluster.discovery, (*around, "discovery"), ("dns", "srv", "file"), reader)
        _bounds(cluster.discovery, (*around, "discovery"), ("min_refresh", "max_refresh"), reader)
        _family(cluster.discovery, (*around, "discovery"), reader)
    if cluster.outlier_detection is not None:
        times = ("base_ejection_time", "max_ejection_time")
        _bounds(cluster.outlier_detection, (*around, "outlier_detection"), times, reader)
    if cluster.hash_on is not None:
        _one_of(cluster.hash_on, (*around, "hash_on"), ("header", "cookie", "source"), reader)
    if not (reader.sure((*around, "balancer")) and reader.sure((*around, "hash_on"))):
        return
    hashes = cluster.balancer in ("ring-hash", "maglev")
    if hashes and cluster.hash_on is None:
        expected = f"a header, a cookie or source, by which {cluster.balancer} chooses"
        reader.mistake((*around, "hash_on"), "nothing", expected)
    elif cluster.hash_on is not None and not hashes:
        reader.mistake((*around, "hash_on"), f"the balancer {cluster.balancer}", "ring-hash or maglev beside this key")


def _family(discovery: Discovery, around: Path, reader: Reader) -> None:
    """Note where there is no name whose addresses could be of this family."""
    family = (*around, "family")
    if discovery.family == "auto" or not reader.sound(around):
        return
    if discovery.file is not None:
        reader.mistake(family, f"{discovery.family} beside file", "dns or srv beside this key")
    elif discovery.dns is not None and values.is_ip(discovery.dns.host):
        own = "ipv6" if ":" in discovery.dns.host else "ipv4"
        if discovery.family in ("ipv4", "ipv6") and discovery.family != own:
            reader.mistake(family, f"{discovery.family} beside {discovery.dns}", f"{own}, or a host name in dns")


def _bounds(struct: object, around: Path, keys: tuple[str, str], reader: Reader) -> None:
    """Note where the first of two durations is above the second."""
    (low, least), (high, most) = (((*around, key), getattr(struct, key)) for key in keys)
    if not (reader.sure(low) and reader.sure(high)) or least <= most:
        return
    if reader.given(high):
        reader.mistake(high, most.written, f"at least {keys[0]}, which is {least.written}")
    else:
        reader.mistake(low, least.written, f"at most {keys[1]}, {most.written} by default")


def _filters(filters: tuple[Filter, ...], around: Path, reader: Reader) -> None:
    for index, written in enumerate(filters):
        path = (*around, index)
        _one_of(written, path, ("python", "buffer", "compression"), reader)
        if written.config is not None and written.python is None and reader.sure((*path, "python")):
            reader.mistake((*path, "config"), "a config", "this key beside python only")


def _value_matches(matches: dict[str, str | ValueMatch], around: Path, reader: Reader) -> None:
    for name, match in matches.items():
        if isinstance(match, ValueMatch):
            _one_of(match, (*around, name), ("exact", "prefix", "regex", "present"), reader)


def _one_of(struct: object, around: Path, keys: tuple[str, ...], reader: Reader, *, least: int = 1) -> None:
    """Note where more than one of `keys` is given, or fewer than `least`."""
    if not reader.sure(around):
        return
    paths = {key: (*around, key) for key in keys}
    given = _given(struct, around, keys, reader)
    given.sort(key=lambda key: reader.line(paths[key]))
    names = f"{', '.join(keys[:-1])} and {keys[-1]}"
    if len(given) > 1:
        of = "them" if len(given) == len(keys) else names
        reader.mistake(paths[given[-1]], " and ".join(given), f"only one of {of}")
    elif len(given) < least and not reader.misunderstood(around):
        blank = next((key for key in keys if reader.given(paths[key])), None)
        if blank is None:
            reader.mistake(around, f"none of {names}", "one of them")
        else:
            found, expected = _BLANKS[getattr(struct, blank)]
            others = [key for key in keys if key != blank]
            either = f"{', '.join(others[:-1])} or {others[-1]}" if len(others) > 1 else others[0]
            reader.mistake(paths[blank], found, f"{expected}, or {either} in its place")


# What a key can hold and yet say nothing, in words, and what is expected in its place.
_BLANKS: dict[object, tuple[str, str]] = {
    None: ("nothing", "a value"),
    (): ("an empty list", "a list that is not empty"),
    False: ("false", "true"),
}


def _given(struct: object, around: Path, keys: tuple[str, ...], reader: Reader) -> list[str]:
    """Those of `keys` that say something. A mistaken value is left out of `struct`, but whoever wrote it meant it."""
    return [
        key
        for key in keys
        if getattr(struct, key) not in tuple(_BLANKS)
        or (key == "present" and getattr(struct, key) is False)
        or not reader.sure((*around, key))
    ]


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
    if config.telemetry.metrics.address is not None:
        yield ("telemetry", "metrics", "address"), config.telemetry.metrics.address


def _known_clusters(config: Config, reader: Reader) -> None:
    # A cluster whose name is mistaken may be the one that is meant.
    names = [("clusters", index, "name") for index in range(len(config.clusters))]
    if not all(map(reader.sure, (("clusters",), *names))):
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
            around = ("listeners", index, "routes", route_index)
            if route.cluster is not None:
                yield (*around, "cluster"), route.cluster
            if route.mirror is not None:
                yield (*around, "mirror", "cluster"), route.mirror.cluster
            for split_index, share in enumerate(route.split):
                yield (*around, "split", split_index, "cluster"), share.cluster
    if config.health is not None:
        for index, name in enumerate(config.health.require):
            yield ("health", "require", index), name


def _somewhere_to_go(listener: Listener, around: Path, reader: Reader) -> None:
    if not all(reader.sure((*around, key)) for key in ("protocol", "routes", "cluster")):
        return
    if listener.protocol != "tcp":
        if not listener.routes:
            reader.mistake((*around, "routes"), "no routes", f"at least one for protocol {listener.protocol}")
    elif listener.cluster is None and not any(
        route.cluster is not None and matches_everything(route.match) for route in listener.routes
    ):
        reader.mistake((*around, "cluster"), "nothing", "the cluster that gets the connections of protocol tcp")


def _telemetry(config: Config, reader: Reader) -> None:
    logs = config.telemetry.access_log
    if isinstance(logs, tuple):
        places: list[tuple[Path, AccessLog]] = [
            (("telemetry", "access_log", index), log) for index, log in enumerate(logs)
        ]
    else:
        places = [(("telemetry", "access_log"), logs)] if logs is not None else []
    for path, log in places:
        _one_of(log, path, ("path", "otlp_endpoint"), reader)
        if log.fields and log.format != "json" and reader.sure((*path, "format")):
            reader.mistake(
                (*path, "fields"), f"the format {quoted(log.format)}", "this key beside the format json only"
            )
    metrics = config.telemetry.metrics
    for key in ("duration_buckets", "size_buckets"):
        path = ("telemetry", "metrics", key)
        bounds = getattr(metrics, key)
        if reader.sound(path) and any(a >= b for a, b in pairwise(bounds)):
            reader.mistake(path, "bounds out of order", "each above the one before")
    if metrics.app is not None and metrics.address is None and reader.sure(("telemetry", "metrics", "address")):
        reader.mistake(("telemetry", "metrics", "app"), "no address beside it", "`address`, where they are served")


def _time_to_drain(config: Config, reader: Reader) -> None:
    _bounds(config.shutdown, ("shutdown",), ("grace", "timeout"), reader)
