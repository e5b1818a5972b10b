"""meshlet and the real Envoy side by side: the same cases, each before scripted apps of its own."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.processes import free_port
from benchmarks.proxies import ALL
from tests.support.http1 import Client, Response
from tests.support.processes import Meshlet, Process, running, until, write_config
from tests.support.scripted_app import Act, ScriptedApp, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_PACKAGE = "type.googleapis.com/envoy.extensions"
Part = dict[str, Any]


def typed(name: str, **keys: Any) -> Part:
    """A message of one of Envoy's extensions."""
    return {"@type": f"{_PACKAGE}.{name}", **keys}


class Ask(NamedTuple):
    """A request. `x-case`, Host, and Content-Length where the body is not in chunks are added."""

    method: str = "GET"
    target: str = "/"
    fields: tuple[str, ...] = ()
    body: bytes = b""
    listener: str = "in"


GET = Ask()


class Route(NamedTuple):
    """One route in the words of both; without a `cluster`, `split` or the like it leads to the cluster `app`."""

    meshlet: Part
    envoy: Part  # of the whole route, with the action's part below `route`


class Logged(NamedTuple):
    """A line of the access log."""

    status: int
    flags: str
    attempts: int


class Side:
    """One of the two proxies, with its apps."""

    def __init__(self, name: str, apps: Mapping[str, ScriptedApp], places: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.apps = apps
        self.places = {**places, **{app: server.address for app, server in apps.items()}}  # what `@name` stands for
        self.addresses: dict[str, str] = {}  # of the proxy's listeners
        self._log = log

    def script(self, case: str, *acts: Act) -> None:
        """Have all apps play the same for a case."""
        for app in self.apps.values():
            app.script(case, *acts)

    def seen(self, case: str) -> list[Seen]:
        """What the apps saw of a case, in the order of time."""
        return sorted((seen for app in self.apps.values() for seen in app.seen(case)), key=lambda seen: seen.when)

    def client(self, listener: str = "in") -> Client:
        return Client(self.addresses[listener], 20)

    def send(self, client: Client, case: str, ask: Ask) -> None:
        """Send a request of a case."""
        sized = ask.body and "Transfer-Encoding: chunked" not in ask.fields
        length = (f"Content-Length: {len(ask.body)}",) if sized else ()
        lines = (f"{ask.method} {ask.target} HTTP/1.1", f"Host: {case}.test", f"x-case: {case}", *ask.fields, *length)
        client.send("\r\n".join([*lines, "", ""]).encode() + ask.body)

    def ask(self, case: str, ask: Ask = GET) -> Response:
        """Ask on a connection of its own."""
        with self.client(ask.listener) as client:
            self.send(client, case, ask)
            return client.response(ask.method)

    def logged(self, case: str, count: int = 1) -> list[Logged]:
        """The log's lines of a case, once there are so many."""
        until(lambda: len(self._logged(case)) >= count)
        return self._logged(case)

    def _logged(self, case: str) -> list[Logged]:
        read = _read_meshlet if self.name == "meshlet" else _read_envoy
        lines = self._log.read_text(encoding="utf-8").split("\n")[:-1] if self._log.exists() else []
        return [logged for found, logged in map(read, lines) if found == case]


def _read_meshlet(line: str) -> tuple[str, Logged]:
    entry = json.loads(line)
    case = entry["authority"].partition(".test")[0]
    return case, Logged(entry["response_code"], entry["response_flags"], entry["attempts"])


def _read_envoy(line: str) -> tuple[str, Logged]:
    case, status, flags, attempts = line.split(" ")
    return case, Logged(int(status), flags, int(attempts))


def in_parallel(calls: Sequence[Callable[[], object]], threads: int = 8) -> list[object]:
    """Make all calls, some at a time; return what they returned, or the exceptions they raised."""

    def caught(call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 (a failed case is its own test's business)
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(caught, calls))


class Plan(NamedTuple):
    """What both are configured with.

    In clusters `@name` stands for an app's address, `@closed` for one that refuses connections, and `@none` for a file
    with no endpoints.
    """

    routes: Mapping[str, Route]
    clusters: Mapping[str, Route]  # by name, in the words of both
    apps: tuple[str, ...] = ("app",)
    listeners: Mapping[str, Route] = {"in": Route({}, {})}
    filters: Sequence[Part] = ()  # of Envoy, before the router
    virtual_host: Mapping[str, Any] = MappingProxyType({})  # more of Envoy's
    telemetry: Part | None = None  # meshlet's, in place of the log that `Side.logged` reads


@contextmanager
def twins(folder: Path, plan: Plan, prepare: Callable[[Side], None] = lambda side: None) -> Iterator[tuple[Side, Side]]:
    """Start both, with apps, for as long as the block lasts. `prepare` is called when a side has its apps."""
    missing = ALL["envoy"].missing()
    if missing is not None:
        pytest.fail(missing, pytrace=False)  # a wheel among the development dependencies, so never a reason to skip
    nobody = write_config(folder / "none.yaml", {"endpoints": []})
    with ExitStack() as stack:
        sides = []
        for name, start in (("meshlet", _start_meshlet), ("envoy", _start_envoy)):
            # Bound but not listening: a connect is refused, and nobody else can take the port.
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            apps = {app: stack.enter_context(ScriptedApp(app)) for app in plan.apps}
            places = {"closed": f"127.0.0.1:{taken.getsockname()[1]}", "none": str(nobody)}
            side = Side(name, apps, places, folder / f"{name}.log")
            prepare(side)
            start(stack, folder, plan, side)
            sides.append(side)
        yield sides[0], sides[1]


def _filled(value: Any, side: Side) -> Any:
    """Put addresses in for their names."""
    if isinstance(value, dict):
        return {key: _filled(item, side) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, side) for item in value]
    if isinstance(value, str) and value.startswith("@") and len(value) > 1:
        return side.places[value[1:]]
    return value


# --- meshlet ---

_TO = ("cluster", "split", "redirect", "direct_response")


def _start_meshlet(stack: ExitStack, folder: Path, plan: Plan, side: Side) -> None:
    routes = []
    for name, route in plan.routes.items():
        match = {**route.meshlet.get("match", {})}
        match["headers"] = {**match.get("headers", {}), "x-case": name}
        to = {} if any(key in route.meshlet for key in _TO) else {"cluster": "app"}
        routes.append({**to, **route.meshlet, "match": match})
    config = {
        "listeners": [
            {"name": name, "address": "127.0.0.1:0", "protocol": "http", "routes": routes, **listener.meshlet}
            for name, listener in plan.listeners.items()
        ],
        "clusters": [{"name": name, **cluster.meshlet} for name, cluster in plan.clusters.items()],
        "telemetry": plan.telemetry or {"access_log": {"path": str(folder / "meshlet.log")}},
        "shutdown": {"grace": "0s"},
    }
    path = write_config(folder / "meshlet.yaml", _filled(config, side))
    process = Meshlet(["--config", path], folder / "meshlet")
    stack.enter_context(running(process))
    side.addresses = process.started().listeners


# --- Envoy ---


def _start_envoy(stack: ExitStack, folder: Path, plan: Plan, side: Side) -> None:
    ports = {name: free_port() for name in plan.listeners}
    virtual_host = {
        "name": "all",
        "domains": ["*"],
        **plan.virtual_host,
        "routes": [_envoy_route(name, route.envoy) for name, route in plan.routes.items()],
    }
    router = {"name": "router", "typed_config": typed("filters.http.router.v3.Router")}
    log = typed(
        "access_loggers.file.v3.FileAccessLog",
        path=str(folder / "envoy.log"),
        log_format={
            "text_format_source": {
                "inline_string": "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n"
            }
        },
    )
    listeners = []
    for name, listener in plan.listeners.items():
        manager = typed(
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix=name,
            use_remote_address=True,
            access_log=[{"name": "log", "typed_config": log}],
            route_config={"virtual_hosts": [virtual_host]},
            http_filters=[*plan.filters, router],
            # Envoy trusts nobody by default; meshlet trusts private addresses.
            internal_address_config={"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
        )
        chain = {"filters": [{"name": "http", "typed_config": {**manager, **listener.envoy}}]}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": ports[name]}}
        listeners.append({"name": name, "address": address, "filter_chains": [chain]})
    clusters = [_envoy_cluster(name, _filled(cluster.envoy, side)) for name, cluster in plan.clusters.items()]
    path = folder / "envoy.json"
    config = {"static_resources": {"listeners": listeners, "clusters": clusters}}
    path.write_text(json.dumps(config), encoding="utf-8")
    process = Process([*ALL["envoy"].command(path), "--file-flush-interval-msec", "20"], folder / "envoy")
    stack.enter_context(running(process))
    side.addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    until(lambda: all(map(_accepts, side.addresses.values())) or not process.running, 20)
    assert process.running, process.stderr[:1000]


def _accepts(address: str) -> bool:
    try:
        Client(address).close()
    except ConnectionRefusedError:
        return False
    return True


def _envoy_route(name: str, route: Part) -> Part:
    match = {"prefix": "/", **route.get("match", {})}
    for other in ("path", "path_separated_prefix", "safe_regex"):
        if other in match:
            match.pop("prefix", None)
    case = {"name": "x-case", "string_match": {"exact": name}}
    match["headers"] = [*match.get("headers", ()), case]
    if "redirect" in route or "direct_response" in route:
        return {**route, "match": match}
    action = {**route.get("route", {})}
    if "weighted_clusters" not in action:
        action.setdefault("cluster", "app")
    return {**route, "match": match, "route": action}


def _envoy_cluster(name: str, cluster: Part) -> Part:
    """`endpoints` is a list of addresses, or of pairs of an address and a weight."""
    parts = {**cluster}
    found = [{"endpoint": {"address": _socket(address)}} for address in parts.pop("endpoints", ())]
    limits = {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 1024, "max_retries": 1024}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": found}]},
        "circuit_breakers": {"thresholds": [limits]},
        **parts,
    }


def _socket(address: str) -> Part:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
