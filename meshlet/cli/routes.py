"""`meshlet routes`: tell which route takes a request, and why those before it do not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from meshlet.config.load import ConfigError, load
from meshlet.errors import BadRequest
from meshlet.http.fields import PSEUDO
from meshlet.http.head import HeadLimits
from meshlet.http.request import parse_request
from meshlet.proxy.request_id import RequestIds
from meshlet.routing.redirect import compile_redirect
from meshlet.routing.rewrite import compile_rewrite
from meshlet.routing.split import compile_split
from meshlet.routing.table import RouteTable, compile_match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.schema import Config, Listener, Route
    from meshlet.http.head import RequestHead

_URL = re.compile(r"(?P<scheme>(?i:https?))://(?P<authority>[^/?]*)")


@click.group("routes", epilog='Example: meshlet routes check config/sidecar.yaml --request "GET http://reviews/v2/7"')
def command() -> None:
    """Look into the routes of a config file."""


@command.command(
    epilog='Example: meshlet routes check config/sidecar.yaml --request "GET http://reviews/v2/7" -H "x-user: alice"'
)
@click.argument("file", metavar="CONFIG", type=click.Path())
@click.option("--request", "line", required=True, metavar="'METHOD URL'", help="The request: a method, a space, a URL.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header; may be repeated.")
@click.option("--listener", "name", metavar="NAME", help="The listener it comes to; none given: all that take HTTP.")
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON document on stdout for programs.",
)
def check(file: str, line: str, headers: tuple[str, ...], name: str | None, output: str) -> None:
    """Tell which route of CONFIG takes a request, why those before it do not, and what becomes of the request.

    The request is taken to come from a trusted peer. A URL without a host needs a Host header. Exits with 0 when a
    route takes the request; with 1 when none does; with 2 when the config or a flag is wrong.
    """
    try:
        config = load(file)
    except ConfigError as error:
        click.echo("\n".join(map(str, error.mistakes)), err=True)
        raise SystemExit(2) from error
    outcomes = [_outcome(listener, line, headers) for listener in _listeners(config, name)]
    if output == "json":
        click.echo(json.dumps({"file": file, "listeners": [outcome.as_json() for outcome in outcomes]}, indent=2))
    else:
        click.echo("\n".join(text for outcome in outcomes for text in outcome.as_text()))
    if not any(outcome.taken for outcome in outcomes):
        raise SystemExit(1)


class _Outcome(NamedTuple):
    """What one listener does with the request."""

    listener: Listener
    reasons: list[tuple[int, str | None]]
    becomes: dict[str, Any]

    @property
    def taken(self) -> bool:
        return bool(self.reasons) and self.reasons[-1][1] is None

    def as_json(self) -> dict[str, Any]:
        tried = [
            {"route": number, "name": self.listener.routes[number].name, "reason": reason}
            for number, reason in self.reasons
        ]
        return {
            "listener": self.listener.name,
            "tried": tried,
            "route": self.reasons[-1][0] if self.taken else None,
            **self.becomes,
        }

    def as_text(self) -> list[str]:
        lines = [f"listener {self.listener.name}"]
        for number, reason in self.reasons:
            name = self.listener.routes[number].name
            lines.append(f"  routes[{number}]{f' ({name})' if name else ''}: {'yes' if reason is None else reason}")
        if not self.taken:
            return [*lines, "  no route: 404, flag NR"]
        return lines + [f"    {key.replace('_', ' ')}: {_written(value)}" for key, value in self.becomes.items()]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {share:g} %" for name, share in value.items())
    return str(value)


def _listeners(config: Config, name: str | None) -> list[Listener]:
    found = [listener for listener in config.listeners if listener.protocol != "tcp"]
    if name is not None:
        found = [listener for listener in found if listener.name == name]
    if not found:
        known = ", ".join(listener.name for listener in config.listeners if listener.protocol != "tcp") or "none"
        raise click.UsageError(
            f"no listener {name!r} that takes HTTP; there are: {known}" if name else "no listener takes HTTP"
        )
    return found


def _outcome(listener: Listener, line: str, headers: Sequence[str]) -> _Outcome:
    head, scheme = _parse(listener, line, headers)
    own_id = head.request_id
    if own_id is None:  # the listener gives every request one before it looks for a route
        head.request_id = RequestIds()(0.0)
    reasons = RouteTable([(compile_match(route.match), route) for route in listener.routes]).explain(head)
    taken = bool(reasons) and reasons[-1][1] is None
    becomes = _becomes(listener.routes[reasons[-1][0]], head, scheme, own_id) if taken else {}
    return _Outcome(listener, reasons, becomes)


def _parse(listener: Listener, line: str, headers: Sequence[str]) -> tuple[RequestHead, bytes]:
    """Parse the request as the listener would, and return it with its scheme."""
    method, _, target = line.partition(" ")
    url = _URL.match(target)
    fields = list(headers)
    if not any(field.lower().startswith("host:") for field in fields):
        authority = url["authority"] if url is not None else target if method == "CONNECT" else None
        fields += [f"host: {authority}"] if authority is not None else []
    limits = listener.limits
    try:
        head = parse_request(
            "\r\n".join([f"{line} HTTP/1.1", *fields]).encode(errors="surrogateescape"),
            HeadLimits(limits.max_header_bytes, limits.max_headers, limits.max_target_bytes),
        )
    except BadRequest as error:
        raise click.UsageError(f"listener {listener.name} refuses this request with {error.status}: {error}") from error
    return head, url["scheme"].lower().encode() if url is not None else b"http"


def _becomes(route: Route, head: RequestHead, scheme: bytes, own_id: bytes | None) -> dict[str, Any]:
    """Return what a route does with a request, in words and numbers."""
    if head.method == b"CONNECT" and not route.connect:
        return {"status": 405, "because": "the route does not allow CONNECT"}
    if route.redirect is not None:
        location = compile_redirect(route.redirect, route.match)(head, scheme)
        return {"status": route.redirect.status, "location": location.decode("utf-8", "backslashreplace")}
    if route.direct_response is not None:
        return {"status": route.direct_response.status, "body": route.direct_response.body}
    becomes: dict[str, Any] = {}
    if route.cluster is not None:
        becomes["cluster"] = route.cluster
    else:
        total = sum(share.weight for share in route.split)
        shares = dict.fromkeys((share.cluster for share in route.split), 0.0)
        for share in route.split:
            shares[share.cluster] += 100 * share.weight / total
        becomes["split"] = shares
        if own_id is not None:
            names = {share.cluster: share.cluster for share in route.split}
            becomes["cluster_of_this_request_id"] = compile_split(route.split, names).choose(own_id)
    if route.rewrite is not None:
        compile_rewrite(route.rewrite, route.match)(head)
        becomes["app_is_asked_for"] = head.target.decode("utf-8", "backslashreplace")
        becomes["at_host"] = (PSEUDO[b":authority"](head) or b"").decode("utf-8", "backslashreplace")
    return becomes
