"""deploy/grafana against a real Prometheus that scrapes meshlet, and what Istio's dashboards ask."""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from benchmarks.processes import free_port
from meshlet.example_app import ExampleApp
from meshlet.runtime.figures import worker_families
from tests.support import tools
from tests.support.http1 import Client, dial
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import Meshlet, Process, meshlet, running, until
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text(encoding="utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((GRAFANA / "alerts.yaml").read_text(encoding="utf-8"))

#: what Grafana's importer and its panels need of a dashboard of schemaVersion 39, and what would be a slip of ours
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "templating", "panels", "time"],
    "properties": {
        "id": {"type": "null"},  # the importer gives one
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "title": {"type": "string", "minLength": 1},
        "schemaVersion": {"const": 39},
        "templating": {
            "type": "object",
            "required": ["list"],
            "properties": {"list": {"type": "array", "items": {"required": ["name", "type", "query"]}}},
        },
        "panels": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "gridPos"],
                "properties": {
                    "type": {"enum": ["row", "timeseries", "stat", "heatmap"]},
                    "title": {"type": "string", "minLength": 1},
                    "gridPos": {
                        "required": ["h", "w", "x", "y"],
                        "properties": {
                            "h": {"type": "integer", "minimum": 1},
                            "w": {"type": "integer", "minimum": 1, "maximum": 24},
                            "x": {"type": "integer", "minimum": 0, "maximum": 23},
                            "y": {"type": "integer", "minimum": 0},
                        },
                    },
                },
                "if": {"properties": {"type": {"not": {"const": "row"}}}},
                "then": {
                    "required": ["datasource", "fieldConfig", "targets", "options"],
                    "properties": {
                        "datasource": {"$ref": "#/$defs/datasource"},
                        "fieldConfig": {
                            "required": ["defaults", "overrides"],
                            "properties": {"defaults": {"required": ["unit"]}},
                        },
                        "targets": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "required": ["refId", "expr", "datasource"],
                                "properties": {"datasource": {"$ref": "#/$defs/datasource"}},
                            },
                        },
                    },
                },
            },
        },
    },
    "$defs": {"datasource": {"const": {"type": "prometheus", "uid": "${datasource}"}}},
}

#: panels of what has not happened, or of workers
MAY_BE_EMPTY = {"Response flags", "Connections that ended badly", "Config reloads", "Workers"}


def panels() -> list[dict[str, Any]]:
    """All that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Title and expression of everything that the dashboard asks, with all variables at `All`."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    found += [(annotation["name"], annotation["expr"]) for annotation in DASHBOARD["annotations"]["list"]]
    return [(title, filled(expr)) for title, expr in found]


def filled(expr: str) -> str:
    expr = re.sub(r'"\$(?:job|pod|listener|cluster)"', '".*"', expr).replace("$__rate_interval", "1m")
    assert "$" not in expr, f"an unknown variable: {expr}"
    return expr


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}


# --- the files ---


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    Draft202012Validator(SCHEMA).validate(DASHBOARD)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} covers {taken[cell]}"
            taken[cell] = panel["title"]


def test_every_variable_is_used() -> None:
    text = json.dumps([panel["targets"] for panel in panels()])
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "job", "pod", "listener", "cluster"]
    assert all(f"${name}" in text or f"${{{name}}}" in text for name in names)


def test_every_alert_says_where_to_read_on() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, name
        page, _, section = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert section in [heading.lower().replace(" ", "-") for heading in headings], name


@pytest.mark.system("promtool")
def test_promtool_takes_the_alerts_and_their_tests_pass() -> None:
    tools.run("promtool", "check", "rules", GRAFANA / "alerts.yaml")
    tools.run("promtool", "test", "rules", GRAFANA / "alerts_test.yaml")


def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load((GRAFANA / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    tested = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert tested == alerts().keys()


# --- a Prometheus, and two sidecars: one with meshlet's names, one with Istio's ---


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression gives; the test fails where it is none."""
        try:
            with urllib.request.urlopen(self._url + urllib.parse.urlencode({"query": expr}), timeout=10) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def number(self, expr: str) -> float:
        """The value of an expression's first series; NaN where there is none."""
        found = self.ask(expr)
        return float(found[0]["value"][1]) if found else float("nan")


class Mesh(NamedTuple):
    prometheus: Prometheus
    sidecars: dict[str, Meshlet]  # by naming


def echo(sock: socket.socket) -> None:
    while data := sock.recv(4096):
        sock.sendall(data)


def talk(address: str) -> None:
    """One TCP connection, from begin to end."""
    with dial(address) as sock:
        sock.sendall(b"x" * 1000)
        received = 0
        while received < 1000:
            received += len(sock.recv(4096))


class Traffic:
    """Requests to each of these addresses, some fifty a second: Prometheus and two proxies share the machine."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = list(addresses)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(address)) for address in self._addresses]
            while not self._stop.wait(0.02):
                for client in clients:
                    client.get()


def config(naming: str, app: str, database: str, collector: str) -> dict[str, Any]:
    checked = {"path": "/", "interval": "1s"}
    return {
        "listeners": [
            {"name": "in", "address": "127.0.0.1:0", "routes": [{"cluster": "app", "name": "all"}]},
            {"name": "outbound", "address": "127.0.0.1:0", "routes": [{"cluster": "reviews"}]},
            {"name": "db", "address": "127.0.0.1:0", "protocol": "tcp", "cluster": "db"},
        ],
        "clusters": [
            {"name": "app", "endpoints": [app], "health_check": checked},
            {
                "name": "reviews",
                "endpoints": [app],
                "service": "reviews.shop.svc.cluster.local",
                "outlier_detection": {"consecutive_5xx": 1000},
            },
            {"name": "db", "endpoints": [database]},
        ],
        "telemetry": {
            "metrics": {"naming": naming, "otlp_endpoint": collector},
            "workload": {"name": "productpage", "namespace": "shop", "app": "productpage", "version": "v1"},
            "tracing": {"otlp_endpoint": collector},
        },
        "admin": {"address": "127.0.0.1:0"},
        "shutdown": {"grace": "0s"},
    }


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Both sidecars scraped twice a second, with traffic on all listeners as long as the tests last."""
    program = tools.require("prometheus")
    folder = tmp_path_factory.mktemp("grafana")
    with ExitStack() as stack:
        app, database = stack.enter_context(ExampleApp()), stack.enter_context(Server(echo))
        collector = stack.enter_context(OtlpSink())
        sidecars: dict[str, Meshlet] = {}
        for naming in ("meshlet", "istio"):
            own = folder / naming
            own.mkdir()
            sidecars[naming] = stack.enter_context(
                meshlet(own, config(naming, app.address, database.address, collector.url))
            )
            talk(sidecars[naming].listeners["db"])
        http = (each.listeners[name] for each in sidecars.values() for name in ("in", "outbound"))
        stack.enter_context(Traffic(http))
        prometheus = Prometheus(port := free_port())
        scrapes = [
            {
                "job_name": naming,
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [sidecar.admin], "labels": {"pod": f"pod-{naming}"}}],
            }
            for naming, sidecar in sidecars.items()
        ]
        settings = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": scrapes}
        path = folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [program, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
        process = Process([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus")
        stack.enter_context(running(process))
        until(lambda: "Server is ready" in process.stderr or not process.running, 30)
        assert process.running, process.stderr[-4000:]
        until(lambda: prometheus.number("count(sum_over_time(up[1m]) >= 2)") == len(sidecars), 30)
        for sidecar in sidecars.values():
            talk(sidecar.listeners["db"])
        until(lambda: prometheus.number("min(rate(meshlet_tcp_connections_closed_total[1m]))") > 0, 30)
        until(lambda: prometheus.number("min(rate(istio_tcp_connections_closed_total[1m]))") > 0, 30)
        yield Mesh(prometheus, sidecars)


@pytest.mark.system("prometheus")
def test_every_metric_of_dashboard_and_alerts_is_one_that_meshlet_has(mesh: Mesh) -> None:
    exposed = set()
    for line in mesh.sidecars["meshlet"].get("/stats/prometheus").text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            exposed |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    exposed |= {family.name for family in worker_families(0, 0, 0)}  # a supervisor's
    asked = " ".join([expr for _, expr in expressions()] + [rule["expr"] for rule in alerts().values()])
    asked += json.dumps(DASHBOARD["templating"])
    assert set(re.findall(r"\bmeshlet_\w+", asked)) - exposed == set()


@pytest.mark.system("prometheus")
def test_every_panel_shows_something(mesh: Mesh) -> None:
    empty = {title for title, expr in expressions() if not mesh.prometheus.ask(expr)}
    assert empty - MAY_BE_EMPTY == set()


@pytest.mark.system("prometheus")
def test_the_figures_of_the_overview_are_right(mesh: Mesh) -> None:
    by_title = {panel["title"]: filled(panel["targets"][0]["expr"]) for panel in reversed(panels())}
    assert mesh.prometheus.number(by_title["Requests"]) > 0
    assert mesh.prometheus.number(by_title["Success"]) == 1
    assert 0 < mesh.prometheus.number(by_title["p99"]) < 10
    assert mesh.prometheus.number(by_title["Clusters without endpoints"]) == 0
    assert mesh.prometheus.number(by_title["Sidecars ready"]) == 2


@pytest.mark.system("prometheus")
def test_no_alert_fires_while_all_is_well(mesh: Mesh) -> None:
    firing = [name for name, rule in alerts().items() if mesh.prometheus.ask(rule["expr"])]
    assert firing == []


# --- what Istio's own dashboards ask ---

_REPORTED = 'reporter=~"destination"'
_SENT = 'reporter=~"source"'
_SERVICE = 'destination_service=~"reviews.shop.svc.cluster.local"'
_WORKLOAD = 'destination_workload_namespace=~"shop",destination_workload=~"productpage"'
_CALLER = 'source_workload_namespace=~"shop",source_workload=~"productpage"'

#: in the manner of the mesh, service and workload dashboards (istio.io, "Visualizing Metrics with Grafana"): the
#: metrics, labels and label values that those rely on
ISTIO = {
    # mesh
    "volume": 'round(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])), 0.001)',
    "success": 'sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.."}[1m]))'
    ' / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m]))',
    "table": 'label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])) by (destination_workload,'
    ' destination_workload_namespace, destination_service), "both", ".", "destination_workload",'
    ' "destination_workload_namespace")',
    "table p90": "histogram_quantile(0.9, sum(rate(istio_request_duration_milliseconds_bucket"
    '{reporter=~"source|waypoint"}[1m])) by (le, destination_workload, destination_workload_namespace))',
    # service: what its callers see
    "client volume": f"sum(irate(istio_requests_total{{{_SENT},{_SERVICE}}}[1m]))",
    "client success": f'sum(irate(istio_requests_total{{{_SENT},{_SERVICE},response_code!~"5.*"}}[1m]))'
    f" / sum(irate(istio_requests_total{{{_SENT},{_SERVICE}}}[1m]))",
    "client p99": "histogram_quantile(0.99, sum(irate(istio_request_duration_milliseconds_bucket"
    f"{{{_SENT},{_SERVICE}}}[1m])) by (le)) / 1000",
    "by source": 'sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",'
    f"{_SENT},{_SERVICE},{_CALLER}}}[1m])) by (source_workload, source_workload_namespace, response_code)",
    "request sizes": f"histogram_quantile(0.5, sum(irate(istio_request_bytes_bucket{{{_SENT},{_SERVICE}}}[1m]))"
    " by (source_workload, source_workload_namespace, le))",
    "response sizes": f"histogram_quantile(0.5, sum(irate(istio_response_bytes_bucket{{{_SENT},{_SERVICE}}}[1m]))"
    " by (source_workload, source_workload_namespace, le))",
    # workload: what comes in, what goes out
    "inbound": f"sum(irate(istio_requests_total{{{_REPORTED},{_WORKLOAD}}}[1m]))",
    "inbound by status": 'sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",'
    f"{_REPORTED},{_WORKLOAD}}}[1m])) by (source_workload, source_workload_namespace, response_code)",
    "inbound p95": "histogram_quantile(0.95, sum(irate(istio_request_duration_milliseconds_bucket"
    f"{{{_REPORTED},{_WORKLOAD}}}[1m])) by (source_workload, source_workload_namespace, le)) / 1000",
    "outbound": f'sum(irate(istio_requests_total{{reporter="source",{_CALLER},{_SERVICE}}}[1m]))'
    " by (destination_service, response_code)",
    "outbound bytes": f'sum(irate(istio_response_bytes_sum{{reporter="source",{_CALLER}}}[1m]))'
    " by (destination_service)",
    # TCP
    "tcp received": f"sum(rate(istio_tcp_received_bytes_total{{{_REPORTED},{_WORKLOAD}}}[1m]))",
    "tcp sent": f"sum(rate(istio_tcp_sent_bytes_total{{{_REPORTED},{_WORKLOAD}}}[1m]))",
    "tcp connections": f"sum(rate(istio_tcp_connections_opened_total{{{_REPORTED}}}[1m]))"
    f" - sum(rate(istio_tcp_connections_closed_total{{{_REPORTED}}}[1m]))",
    # the drop-downs
    "services": "sum(istio_requests_total) by (destination_service)"
    " or sum(istio_tcp_sent_bytes_total) by (destination_service)",
    "apps": "count(istio_requests_total) by (destination_canonical_service, destination_canonical_revision,"
    " destination_app, destination_version, source_principal, destination_principal, request_protocol)",
}

MAY_BE_ZERO = {"request sizes", "tcp connections"}  # nobody sends a body; all that are opened are closed again


@pytest.mark.system("prometheus")
@pytest.mark.parametrize("what", ISTIO)
def test_istios_dashboards_find_their_series(mesh: Mesh, what: str) -> None:
    value = until(lambda: [each for each in mesh.prometheus.ask(ISTIO[what]) if each["value"][1] != "NaN"], 30)
    assert all(float(each["value"][1]) > 0 for each in value) or what in MAY_BE_ZERO
    # A label that is asked for by name is there, and says something.
    by = re.search(r"\bby \(([^()]+)\)", ISTIO[what])
    for name in (part.strip() for part in by[1].split(",")) if by is not None else ():
        assert name == "le" or all(each["metric"].get(name) for each in value), name


@pytest.mark.system("prometheus")
def test_istios_names_and_ours_count_the_same(mesh: Mesh) -> None:
    """Milliseconds are a thousandth of seconds."""
    ours = mesh.prometheus.number("sum(rate(meshlet_request_duration_seconds_sum[1m]))")
    theirs = mesh.prometheus.number("sum(rate(istio_request_duration_milliseconds_sum[1m]))")
    requests = mesh.prometheus.number("sum(rate(istio_requests_total[1m]))")
    assert (
        0.01
        < (theirs / 1000 / requests) / (ours / mesh.prometheus.number("sum(rate(meshlet_requests_total[1m]))"))
        < 100
    )
    assert not mesh.prometheus.ask('{__name__=~"meshlet_requests_total|meshlet_tcp_.*", job="istio"}')
    assert not mesh.prometheus.ask('{__name__=~"istio_.*", job="meshlet"}')
